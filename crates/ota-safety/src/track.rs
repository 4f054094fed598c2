//! One constraint over time: folds samples into what is remembered of them, and says how the constraint stands at an
//! instant. Pure: samples and instants come in as arguments.
//!
//! Violated at once, "ok" only after the debounce; everything counts as violated until it is proven ok, also which side
//! of the hysteresis it is on.

use std::{collections::VecDeque, fmt, time::Duration};

use ota_core::safety::ConstraintState;

use crate::{
    reading::{Fault, Sample, Value},
    rules::{Condition, Rule},
};

/// How far ahead of our clock a sample may be stamped: clocks of other devices are never quite ours.
pub const FUTURE_TOLERANCE: Duration = Duration::from_secs(1);

/// Slices into which the window of a rate of change is cut; bounds the memory of a fast sensor.
const SLICES: u32 = 64;

/// What is remembered of a constraint's samples.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Track {
    newest: Option<Sample>,
    /// What the newest sample says by itself, whatever the time is.
    finding: Option<Unmet>,
    /// While every sample is within limits, without a gap.
    good: Option<Good>,
    slices: VecDeque<Slice>,
}

/// Samples within limits.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Good {
    since: Duration,
    /// Whether the sample before them was outside: seen so, and not merely unknown.
    was_outside: bool,
}

/// The span of values of a short time.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Slice {
    from: Duration,
    low: f64,
    high: f64,
}

/// Why a constraint does not hold.
#[derive(Clone, Debug, PartialEq)]
pub enum Unmet {
    /// Outside its limits.
    Outside,
    /// Within its limits, and not yet for long enough.
    Settling {
        /// When the debounce is over.
        until: Duration,
        /// Whether it was seen outside its limits right before; otherwise nobody knew anything of it.
        was_outside: bool,
    },
    /// The source gave no value.
    Fault(Fault),
    /// The newest sample is too old.
    Stale {
        /// How old it is.
        age: Duration,
    },
    /// Not a number, infinite, or beyond what the sensor can measure.
    Implausible,
    /// A word where a number is needed.
    WrongType,
    /// Watched for too short a time to tell a rate of change.
    Watching,
}

impl Unmet {
    /// Whether that is a violation or ignorance.
    #[must_use]
    pub const fn state(&self) -> ConstraintState {
        match self {
            Self::Outside | Self::Settling { .. } => ConstraintState::Violated,
            Self::Fault(_) | Self::Stale { .. } | Self::Implausible | Self::WrongType | Self::Watching => {
                ConstraintState::Unknown
            }
        }
    }
}

impl fmt::Display for Unmet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Outside => f.write_str("outside its limits"),
            Self::Settling { .. } => f.write_str("settling"),
            Self::Fault(fault) => fault.fmt(f),
            Self::Stale { .. } => f.write_str("stale"),
            Self::Implausible => f.write_str("implausible"),
            Self::WrongType => f.write_str("not a number"),
            Self::Watching => f.write_str("not watched for long enough"),
        }
    }
}

/// How a constraint stands at an instant.
#[derive(Clone, Debug, PartialEq)]
pub struct Assessment {
    /// Whether it holds, and if not, why.
    pub outcome: Result<(), Unmet>,
    /// When the answer changes by itself, if no sample comes.
    pub changes_at: Option<Duration>,
}

impl Assessment {
    /// The word on the wire.
    #[must_use]
    pub fn state(&self) -> ConstraintState {
        self.outcome.as_ref().map_or_else(Unmet::state, |()| ConstraintState::Ok)
    }
}

impl Track {
    /// The newest value, however old; `None` when the newest sample holds none.
    #[must_use]
    pub fn value(&self) -> Option<&Value> {
        self.newest.as_ref()?.outcome.as_ref().ok()
    }

    /// Takes in a sample that arrives at `now`. One that is older than the newest is passed over; a fault never is, nor is one
    /// that is stale already: then the sensor's clock or ours has been set, and nobody knows what holds.
    pub fn observe(&mut self, rule: &Rule, sample: Sample, now: Duration) {
        let mut sample = stamped(sample, now);
        let before = self.newest.as_ref().map(|newest| newest.taken_at);
        if before.is_some_and(|before| sample.taken_at < before) && sample.outcome.is_ok() {
            if now.saturating_sub(sample.taken_at) <= rule.max_age {
                return;
            }
            sample = Sample { outcome: Err(Fault::Old), taken_at: now };
        }
        let gap = before.is_none_or(|before| sample.taken_at.saturating_sub(before) > rule.max_age);
        if gap {
            self.good = None;
            self.slices.clear();
        }
        let was_outside = !gap && self.finding == Some(Unmet::Outside);
        self.finding = self.weigh(rule, &sample).err();
        // Nobody knows what the value did meanwhile: its window is watched anew.
        if matches!(self.finding, Some(Unmet::Fault(_) | Unmet::Implausible | Unmet::WrongType)) {
            self.slices.clear();
        }
        self.good = match self.finding {
            None => Some(self.good.unwrap_or(Good { since: sample.taken_at, was_outside })),
            Some(_) => None,
        };
        self.newest = Some(sample);
    }

    /// How `rule` stands at `now`.
    #[must_use]
    pub fn assess(&self, rule: &Rule, now: Duration) -> Assessment {
        let Some(newest) = &self.newest else {
            return Assessment { outcome: Err(Unmet::Fault(Fault::NoSample)), changes_at: None };
        };
        if newest.taken_at > now + FUTURE_TOLERANCE {
            return Assessment { outcome: Err(Unmet::Fault(Fault::FutureStamped)), changes_at: None };
        }
        if let Some(unmet @ Unmet::Fault(_)) = &self.finding {
            return Assessment { outcome: Err(unmet.clone()), changes_at: None };
        }
        let age = now.saturating_sub(newest.taken_at);
        if age > rule.max_age {
            return Assessment { outcome: Err(Unmet::Stale { age }), changes_at: None };
        }
        self.assess_fresh(rule, now, newest.taken_at + rule.max_age)
    }

    fn assess_fresh(&self, rule: &Rule, now: Duration, stale_at: Duration) -> Assessment {
        match (&self.finding, self.good) {
            (Some(unmet), _) => Assessment { outcome: Err(unmet.clone()), changes_at: Some(stale_at) },
            (None, Some(good)) if now.saturating_sub(good.since) >= rule.debounce => {
                Assessment { outcome: Ok(()), changes_at: Some(stale_at) }
            }
            (None, good) => {
                let Good { since, was_outside } = good.unwrap_or(Good { since: now, was_outside: false });
                let until = since + rule.debounce;
                let settling = Unmet::Settling { until, was_outside };
                Assessment { outcome: Err(settling), changes_at: Some(until.min(stale_at)) }
            }
        }
    }

    /// What a sample says by itself.
    fn weigh(&mut self, rule: &Rule, sample: &Sample) -> Result<(), Unmet> {
        let value = sample.outcome.as_ref().map_err(|fault| Unmet::Fault(fault.clone()))?;
        if let Value::Number(number) = value {
            let (low, high) = rule.plausible;
            if !number.is_finite() || *number < low || *number > high {
                return Err(Unmet::Implausible);
            }
        }
        let holds = match &rule.condition {
            Condition::Equals(wanted) => value == wanted,
            Condition::NotEquals(unwanted) => same_type(value, unwanted)? && value != unwanted,
            Condition::Within { min, max, hysteresis } => {
                // Back within limits only past the hysteresis; the first sample counts as coming from outside.
                let margin = if self.good.is_some() { 0.0 } else { *hysteresis };
                let number = number(value)?;
                min.is_none_or(|min| number >= min + margin) && max.is_none_or(|max| number <= max - margin)
            }
            Condition::Steady { max_change, over } => {
                self.spread(number(value)?, sample.taken_at, *over)? <= *max_change
            }
        };
        if holds { Ok(()) } else { Err(Unmet::Outside) }
    }

    /// By how much the value has changed within `over`.
    fn spread(&mut self, value: f64, at: Duration, over: Duration) -> Result<f64, Unmet> {
        match self.slices.back_mut() {
            Some(slice) if at.saturating_sub(slice.from) < over / SLICES => {
                slice.low = slice.low.min(value);
                slice.high = slice.high.max(value);
            }
            _ => self.slices.push_back(Slice { from: at, low: value, high: value }),
        }
        let start = at.saturating_sub(over);
        // One slice from before the window stays: it shows that the window is watched from its start.
        while self.slices.get(1).is_some_and(|second| second.from <= start) {
            self.slices.pop_front();
        }
        let low = self.slices.iter().map(|s| s.low).fold(f64::INFINITY, f64::min);
        let high = self.slices.iter().map(|s| s.high).fold(f64::NEG_INFINITY, f64::max);
        let watched = self.slices.front().is_some_and(|first| at.saturating_sub(first.from) >= over);
        if watched { Ok(high - low) } else { Err(Unmet::Watching) }
    }
}

/// A stamp a little ahead of us is now; far ahead it is a fault, or it would outlive every true sample.
fn stamped(sample: Sample, now: Duration) -> Sample {
    if sample.taken_at > now + FUTURE_TOLERANCE {
        return Sample { outcome: Err(Fault::FutureStamped), taken_at: now };
    }
    Sample { taken_at: sample.taken_at.min(now), ..sample }
}

fn number(value: &Value) -> Result<f64, Unmet> {
    match value {
        Value::Number(number) => Ok(*number),
        Value::Bool(_) | Value::Text(_) => Err(Unmet::WrongType),
    }
}

/// "Not stopped" must not be met by a number that only shows that the sensor is another one.
fn same_type(value: &Value, other: &Value) -> Result<bool, Unmet> {
    let same = std::mem::discriminant(value) == std::mem::discriminant(other);
    if same { Ok(true) } else { Err(Unmet::WrongType) }
}

#[cfg(test)]
mod tests;
