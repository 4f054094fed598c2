//! The configuration of safety, as it is written, and the rules it means. Reading the file is left to `ota-gatewayd`.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::fmt::serde::unsigned_duration::friendly::compact::required as duration;
use ota_core::safety::{OnViolation, SafetyStep, Severity};
use serde::{Deserialize, Serialize};

use crate::{
    reading::Value,
    rules::{Condition, Rule},
    sources::SourceConfig,
    window::{Window, WindowConfig},
};

/// All of it: the section `safety` of the gateway's configuration.
///
/// Durations are written as people do, `"5s"`, `"1m 30s"`, `"50ms"`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SafetyConfig {
    /// What must hold.
    pub constraints: Vec<ConstraintConfig>,
    /// Where values come from.
    pub sources: Vec<SourceConfig>,
    /// Longest override, default one hour.
    #[serde(with = "duration")]
    pub max_override: Duration,
    /// Whether two people must agree to an override, default no.
    pub two_person_override: bool,
    /// What a violation does to work that is under way, where the constraint does not say: `hold_reboot` (default),
    /// `pause_write` or `abort`. Also what an inhibitor or a `service` window does.
    pub on_violation: OnViolation,
    /// Longest time that an inhibitor lasts without a renewal, default one hour.
    #[serde(with = "duration")]
    pub max_inhibit: Duration,
    /// When scheduled work may run, and when people are at the machine.
    pub windows: Vec<WindowConfig>,
}

impl Default for SafetyConfig {
    fn default() -> Self {
        let hour = Duration::from_secs(3600);
        Self {
            constraints: Vec::new(),
            sources: Vec::new(),
            max_override: hour,
            two_person_override: false,
            on_violation: OnViolation::default(),
            max_inhibit: hour,
            windows: Vec::new(),
        }
    }
}

/// One constraint.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConstraintConfig {
    /// Its name, unique, `[a-z0-9_.-]{1,64}`; stands in answers and alerts.
    pub name: String,
    /// Name of its source.
    pub source: String,
    /// What must hold.
    pub condition: ConditionConfig,
    /// Oldest sample that still counts, default 5 s. Must be longer than the `timeout` of its source and the longer of its `every`
    /// and `timeout` together.
    #[serde(with = "duration", default = "default_max_age")]
    pub max_age: Duration,
    /// For how long it must hold before it counts as ok, default 1 s. A violation counts at once.
    #[serde(with = "duration", default = "default_debounce")]
    pub debounce: Duration,
    /// What the sensor can measure; a number beyond it is no usable sample.
    #[serde(default)]
    pub plausible: Option<PlausibleConfig>,
    /// Which steps it holds back; default all but the download.
    #[serde(default = "default_blocks")]
    pub blocks: Vec<SafetyStep>,
    /// Whether an override may cover it, default yes.
    #[serde(default = "default_overridable")]
    pub overridable: bool,
    /// How much a violation matters, default `warning`.
    #[serde(default = "default_severity")]
    pub severity: Severity,
    /// What a violation does to work that is under way; the one of the section when it is not given.
    #[serde(default)]
    pub on_violation: Option<OnViolation>,
    /// Unit of the number, for people.
    #[serde(default)]
    pub unit: String,
    /// Sentence while it holds.
    #[serde(default)]
    pub message_ok: Option<String>,
    /// Sentence while it does not.
    #[serde(default)]
    pub message_violated: Option<String>,
    /// What the operator can do about it.
    #[serde(default)]
    pub resolution: Option<String>,
}

/// What must hold: exactly one of `equals`, `not_equals`, limits (`min`, `max` or both, `hysteresis`) and a rate of change
/// (`max_change` within `over`).
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConditionConfig {
    /// The value is this one.
    pub equals: Option<Value>,
    /// The value is another one, of the same type.
    pub not_equals: Option<Value>,
    /// The number is at least this.
    pub min: Option<f64>,
    /// The number is at most this.
    pub max: Option<f64>,
    /// How far inside the limits it must come back, default 0.
    pub hysteresis: Option<f64>,
    /// The number changes by no more than this …
    pub max_change: Option<f64>,
    /// … within this time.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::optional")]
    pub over: Option<Duration>,
}

/// What a sensor can measure at all.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlausibleConfig {
    /// Lowest number it can give.
    pub min: f64,
    /// Highest number it can give.
    pub max: f64,
}

fn default_max_age() -> Duration {
    Duration::from_secs(5)
}

fn default_debounce() -> Duration {
    Duration::from_secs(1)
}

fn default_blocks() -> Vec<SafetyStep> {
    SafetyStep::ALL.into_iter().filter(|step| *step != SafetyStep::Download).collect()
}

fn default_overridable() -> bool {
    true
}

fn default_severity() -> Severity {
    Severity::Warning
}

/// The configuration contradicts itself. Nothing is judged by half of it.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SafetyConfigError {
    /// A name that cannot stand in answers and alerts.
    #[error("{name:?} is not a name: 1 to 64 of a-z, 0-9, _, - and .")]
    BadName {
        /// The name.
        name: String,
    },
    /// Two constraints or two sources of one name.
    #[error("the name {name:?} is given twice")]
    DuplicateName {
        /// The name.
        name: String,
    },
    /// A constraint whose source is not configured: it could never hold.
    #[error("constraint {constraint:?} names the source {source_name:?}, which is not configured")]
    UnknownSource {
        /// Name of the constraint.
        constraint: String,
        /// The name it gives.
        source_name: String,
    },
    /// A constraint that cannot be judged.
    #[error("constraint {constraint:?}: {why}")]
    BadConstraint {
        /// Name of the constraint.
        constraint: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A constraint that would be stale again and again though its source does as it should.
    #[error(
        "constraint {constraint:?}: max_age must be longer than {:?}: its source {source_name:?} is asked every {every:?} and \
         may take {timeout:?} to answer", slowest(*.every, *.timeout)
    )]
    Outpaced {
        /// Name of the constraint.
        constraint: String,
        /// Name of its source.
        source_name: String,
        /// Pause between two questions.
        every: Duration,
        /// Longest time for an answer.
        timeout: Duration,
    },
    /// A source that cannot be read.
    #[error("source {source_name:?}: {why}")]
    BadSource {
        /// Name of the source.
        source_name: String,
        /// What is wrong with it.
        why: String,
    },
    /// A window that cannot be told.
    #[error("window {window:?}: {why}")]
    BadWindow {
        /// Name of the window.
        window: String,
        /// What is wrong with it.
        why: String,
    },
}

impl SafetyConfig {
    /// The rules it means, in its order.
    ///
    /// # Errors
    /// [`SafetyConfigError`], the first contradiction.
    pub fn rules(&self) -> Result<Vec<Rule>, SafetyConfigError> {
        let mut sources = BTreeMap::new();
        for (index, source) in self.sources.iter().enumerate() {
            check_name(&source.name)?;
            if sources.insert(source.name.as_str(), index).is_some() {
                return Err(SafetyConfigError::DuplicateName { name: source.name.clone() });
            }
        }
        let mut names = BTreeSet::new();
        let mut rules = Vec::new();
        for constraint in &self.constraints {
            check_name(&constraint.name)?;
            if !names.insert(constraint.name.as_str()) {
                return Err(SafetyConfigError::DuplicateName { name: constraint.name.clone() });
            }
            let source =
                sources.get(constraint.source.as_str()).ok_or_else(|| SafetyConfigError::UnknownSource {
                    constraint: constraint.name.clone(),
                    source_name: constraint.source.clone(),
                })?;
            constraint.check_pace(&self.sources[*source])?;
            rules.push(constraint.rule(*source, self.on_violation)?);
        }
        Ok(rules)
    }

    /// The windows it means.
    pub(crate) fn windows(&self) -> Result<Vec<Window>, SafetyConfigError> {
        let mut names = BTreeSet::new();
        let mut windows = Vec::new();
        for window in &self.windows {
            check_name(&window.name)?;
            if !names.insert(window.name.as_str()) {
                return Err(SafetyConfigError::DuplicateName { name: window.name.clone() });
            }
            let bad = |why| SafetyConfigError::BadWindow { window: window.name.clone(), why };
            windows.push(window.parse().map_err(bad)?);
        }
        Ok(windows)
    }
}

fn check_name(name: &str) -> Result<(), SafetyConfigError> {
    let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-.".contains(c);
    if (1..=64).contains(&name.len()) && name.chars().all(fine) {
        return Ok(());
    }
    Err(SafetyConfigError::BadName { name: name.to_owned() })
}

/// The longest that a healthy source leaves between two samples: one that took its whole time is followed by another such one, which
/// is not asked for before the first has come.
fn slowest(every: Duration, timeout: Duration) -> Duration {
    every.max(timeout).saturating_add(timeout)
}

impl ConstraintConfig {
    /// Whether a sample of a healthy source is always followed by another one in time.
    fn check_pace(&self, source: &SourceConfig) -> Result<(), SafetyConfigError> {
        match source.pace() {
            Some((every, timeout)) if self.max_age <= slowest(every, timeout) => {
                let (constraint, source_name) = (self.name.clone(), source.name.clone());
                Err(SafetyConfigError::Outpaced { constraint, source_name, every, timeout })
            }
            _ => Ok(()),
        }
    }

    fn rule(&self, source: usize, on_violation: OnViolation) -> Result<Rule, SafetyConfigError> {
        let bad = |why| SafetyConfigError::BadConstraint { constraint: self.name.clone(), why };
        if self.max_age.is_zero() {
            return Err(bad("max_age is zero: every sample would be stale"));
        }
        if self.blocks.is_empty() {
            return Err(bad("blocks nothing"));
        }
        let plausible = self.plausible.map_or((f64::MIN, f64::MAX), |range| (range.min, range.max));
        if plausible.0.is_nan() || plausible.1.is_nan() || plausible.0 > plausible.1 {
            return Err(bad("the plausible range is empty"));
        }
        let text =
            |given: &Option<String>, default: &str| given.clone().unwrap_or_else(|| default.to_owned());
        Ok(Rule {
            name: self.name.clone(),
            source,
            condition: self.condition.parse().map_err(bad)?,
            max_age: self.max_age,
            debounce: self.debounce,
            plausible,
            blocks: self.blocks.iter().copied().collect(),
            overridable: self.overridable,
            severity: self.severity,
            on_violation: self.on_violation.unwrap_or(on_violation),
            unit: self.unit.clone(),
            message_ok: text(&self.message_ok, "Within limits"),
            message_violated: text(&self.message_violated, "Outside its limits"),
            resolution: text(&self.resolution, "Wait until the constraint clears"),
        })
    }
}

impl ConditionConfig {
    fn parse(&self) -> Result<Condition, &'static str> {
        let limits = self.min.is_some() || self.max.is_some() || self.hysteresis.is_some();
        let rate = self.max_change.is_some() || self.over.is_some();
        let kinds = [self.equals.is_some(), self.not_equals.is_some(), limits, rate];
        if kinds.iter().filter(|given| **given).count() != 1 {
            return Err(
                "the condition must be exactly one of equals, not_equals, min/max, max_change with over",
            );
        }
        if let Some(value) = &self.equals {
            return Ok(Condition::Equals(value.clone().normalised()));
        }
        if let Some(value) = &self.not_equals {
            return Ok(Condition::NotEquals(value.clone().normalised()));
        }
        if limits { self.limits() } else { self.rate() }
    }

    fn limits(&self) -> Result<Condition, &'static str> {
        let hysteresis = self.hysteresis.unwrap_or(0.0);
        if self.min.is_none() && self.max.is_none() {
            return Err("hysteresis needs min or max");
        }
        if [self.min, self.max, Some(hysteresis)].into_iter().flatten().any(|n| !n.is_finite())
            || hysteresis < 0.0
        {
            return Err("limits must be finite and hysteresis not negative");
        }
        if let (Some(min), Some(max)) = (self.min, self.max)
            && min + hysteresis > max - hysteresis
        {
            return Err("nothing lies between the limits, hysteresis taken off");
        }
        Ok(Condition::Within { min: self.min, max: self.max, hysteresis })
    }

    fn rate(&self) -> Result<Condition, &'static str> {
        match (self.max_change, self.over) {
            (Some(max_change), Some(over))
                if max_change.is_finite() && max_change >= 0.0 && !over.is_zero() =>
            {
                Ok(Condition::Steady { max_change, over })
            }
            _ => Err("a rate of change needs max_change, not negative, and over, longer than zero"),
        }
    }
}

#[cfg(test)]
mod tests;
