//! The rules and the one function that judges them. Pure: the same world gives the same verdict, with reasons.

use std::{collections::BTreeSet, time::Duration};

use ota_core::{
    Timestamp,
    safety::{
        Block, ConstraintReport, ConstraintState, Limits, OnViolation, Opening, SafetyStep, Severity, Verdict,
    },
};

use crate::{
    inhibitors::Lease,
    reading::{Fault, Value},
    track::{Assessment, Track, Unmet},
};

/// A constraint, checked and ready to be judged. Made from [`crate::config::ConstraintConfig`].
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Its name, unique.
    pub name: String,
    /// Position of its source in the configuration.
    pub source: usize,
    /// What must hold.
    pub condition: Condition,
    /// Oldest sample that still counts.
    pub max_age: Duration,
    /// For how long it must hold before it counts as ok.
    pub debounce: Duration,
    /// What the sensor can measure at all; numbers beyond it are no usable sample.
    pub plausible: (f64, f64),
    /// Which steps it holds back.
    pub blocks: BTreeSet<SafetyStep>,
    /// Whether an override may cover it.
    pub overridable: bool,
    /// How much a violation matters.
    pub severity: Severity,
    /// What a violation does to work that is under way.
    pub on_violation: OnViolation,
    /// Unit of the number, for people.
    pub unit: String,
    /// Sentence while it holds.
    pub message_ok: String,
    /// Sentence while it does not.
    pub message_violated: String,
    /// What the operator can do.
    pub resolution: String,
}

/// What must hold of a value.
#[derive(Clone, Debug, PartialEq)]
pub enum Condition {
    /// It is this one.
    Equals(Value),
    /// It is another one than this, of the same type.
    NotEquals(Value),
    /// It is a number between the limits, each of which may be open. Once outside, it must come back by `hysteresis`.
    #[expect(missing_docs, reason = "said above")]
    Within { min: Option<f64>, max: Option<f64>, hysteresis: f64 },
    /// It is a number that changes by no more than `max_change` within `over`.
    #[expect(missing_docs, reason = "said above")]
    Steady { max_change: f64, over: Duration },
}

/// All that a verdict depends on.
#[derive(Clone, Copy, Debug)]
pub struct World<'a> {
    /// The rules.
    pub rules: &'a [Rule],
    /// What is remembered of each rule's samples, in the same order.
    pub tracks: &'a [Track],
    /// Names of the constraints that an active override covers.
    pub covered: &'a BTreeSet<String>,
    /// The `service` window that is open.
    pub service: Option<&'a Opening>,
    /// The leases that are held; those that have run out do not count.
    pub leases: &'a [Lease],
    /// What a lease or a `service` window does to work that is under way.
    pub on_violation: OnViolation,
    /// The monotonic clock.
    pub now: Duration,
    /// The wall clock at the same instant, for telling people when.
    pub wall: Timestamp,
}

/// The answer to "may this step happen now".
#[derive(Clone, Debug, PartialEq)]
pub enum Judgement {
    /// Yes.
    Allow,
    /// Not now; it may later, without anybody changing the configuration.
    Wait {
        /// Why, in the order of the configuration.
        reasons: Vec<Block>,
        /// Not before this, when every reason ends at a known time.
        earliest: Option<Timestamp>,
    },
    /// No: people are at the machine (OTA_015).
    Deny {
        /// Why, the window first.
        reasons: Vec<Block>,
        /// The window.
        service: Opening,
    },
}

impl Judgement {
    /// Why not; empty when it is allowed.
    #[must_use]
    pub fn reasons(&self) -> &[Block] {
        match self {
            Self::Allow => &[],
            Self::Wait { reasons, .. } | Self::Deny { reasons, .. } => reasons,
        }
    }

    /// The reasons, to be completed.
    pub(crate) fn reasons_mut(&mut self) -> &mut [Block] {
        match self {
            Self::Allow => &mut [],
            Self::Wait { reasons, .. } | Self::Deny { reasons, .. } => reasons,
        }
    }
}

impl From<Judgement> for Verdict {
    fn from(judgement: Judgement) -> Self {
        match judgement {
            Judgement::Allow => Self::default(),
            Judgement::Wait { reasons, earliest } => Self { blocks: reasons, service: None, earliest },
            Judgement::Deny { reasons, service } => {
                // More than the window may hold it back: only alone it says when.
                let earliest = (reasons.len() == 1).then_some(service.closes);
                Self { blocks: reasons, service: Some(service), earliest }
            }
        }
    }
}

/// Name under which an open `service` window stands among the reasons; it means OTA_015 and not OTA_002.
pub const SERVICE_WINDOW: &str = "service_window";

/// Judges whether `step` may happen in `world`.
#[must_use]
pub fn judge(world: World<'_>, step: SafetyStep) -> Judgement {
    let mut reasons = Vec::new();
    let mut earliest = Some(world.now);
    for (rule, track) in world.pairs().filter(|(rule, _)| rule.blocks.contains(&step)) {
        let assessment = track.assess(rule, world.now);
        let Err(unmet) = &assessment.outcome else { continue };
        if world.covers(rule) {
            continue;
        }
        earliest = match unmet {
            Unmet::Settling { until, .. } => earliest.map(|earliest| earliest.max(*until)),
            _ => None,
        };
        reasons.push(Block::from(&world.report(rule, track, &assessment)));
    }
    for lease in world.leases.iter().filter(|lease| lease.holds(step, world.now)) {
        earliest = earliest.map(|earliest| earliest.max(lease.until()));
        reasons.push(lease.block(world.now, world.on_violation));
    }
    if let Some(service) = world.service.filter(|_| step != SafetyStep::Download) {
        reasons.insert(0, world.service_block(service));
        return Judgement::Deny { reasons, service: service.clone() };
    }
    if reasons.is_empty() {
        return Judgement::Allow;
    }
    Judgement::Wait { reasons, earliest: earliest.map(|at| world.wall + at.saturating_sub(world.now)) }
}

impl World<'_> {
    /// Every constraint as it stands. `since` and `estimated_wait` are history and left to the engine, but for a debounce
    /// that is running: its end is known.
    #[must_use]
    pub fn reports(&self) -> Vec<ConstraintReport> {
        self.pairs().map(|(rule, track)| self.report(rule, track, &track.assess(rule, self.now))).collect()
    }

    fn pairs(&self) -> impl Iterator<Item = (&Rule, &Track)> {
        self.rules.iter().zip(self.tracks)
    }

    fn service_block(&self, service: &Opening) -> Block {
        Block {
            constraint: SERVICE_WINDOW.into(),
            status: "active".into(),
            message: format!("Service window {} is active: people are at the machine", service.window),
            detected_at: Some(service.opens),
            resolution: "Wait until the service window closes".into(),
            estimated_wait: Some(service.closes.since(self.wall)),
            on_violation: self.on_violation,
        }
    }

    fn covers(&self, rule: &Rule) -> bool {
        rule.overridable && self.covered.contains(&rule.name)
    }

    fn report(&self, rule: &Rule, track: &Track, assessment: &Assessment) -> ConstraintReport {
        let settled_in = match &assessment.outcome {
            Err(Unmet::Settling { until, .. }) => Some(until.saturating_sub(self.now)),
            _ => None,
        };
        ConstraintReport {
            name: rule.name.clone(),
            state: assessment.state(),
            reading: reading(rule, track, assessment),
            value: number(track, assessment),
            unit: rule.unit.clone(),
            limits: limits(&rule.condition),
            message: message(rule, assessment),
            since: None,
            severity: rule.severity,
            overridable: rule.overridable,
            overridden: self.covers(rule) && assessment.state() != ConstraintState::Ok,
            blocks: rule.blocks.iter().copied().collect(),
            resolution: rule.resolution.clone(),
            estimated_wait: settled_in,
            on_violation: rule.on_violation,
        }
    }
}

/// What is plotted: nothing where the sample is not believed.
fn number(track: &Track, assessment: &Assessment) -> Option<f64> {
    let believed = matches!(assessment.outcome, Ok(()) | Err(Unmet::Outside | Unmet::Settling { .. }));
    track.value().filter(|_| believed).and_then(|value| match value {
        Value::Number(number) => Some(*number),
        _ => None,
    })
}

fn limits(condition: &Condition) -> Limits {
    match condition {
        Condition::Equals(wanted) => Limits { equals: Some(wanted.to_string()), ..Limits::default() },
        Condition::NotEquals(unwanted) => {
            Limits { not_equals: Some(unwanted.to_string()), ..Limits::default() }
        }
        Condition::Within { min, max, .. } => Limits { min: *min, max: *max, ..Limits::default() },
        Condition::Steady { max_change, over } => {
            Limits { max_change: Some((*max_change, *over)), ..Limits::default() }
        }
    }
}

/// `moving`, `78.5 °C`, `stale`, `stopped, settling`.
fn reading(rule: &Rule, track: &Track, assessment: &Assessment) -> String {
    let value = || match track.value() {
        Some(value) if rule.unit.is_empty() => value.to_string(),
        Some(value) => format!("{value} {}", rule.unit),
        None => Unmet::Fault(Fault::NoSample).to_string(),
    };
    match &assessment.outcome {
        Ok(()) | Err(Unmet::Outside) => value(),
        Err(unmet @ Unmet::Settling { .. }) => format!("{}, {unmet}", value()),
        Err(unmet) => unmet.to_string(),
    }
}

fn message(rule: &Rule, assessment: &Assessment) -> String {
    match &assessment.outcome {
        Ok(()) => rule.message_ok.clone(),
        Err(Unmet::Outside) => rule.message_violated.clone(),
        Err(Unmet::Settling { was_outside: true, .. }) => {
            format!("{} (back within limits, settling)", rule.message_violated)
        }
        // As behind a start: there was no violation that could be told.
        Err(Unmet::Settling { .. }) => {
            "Within limits, not yet for long enough (settling), counts as violated".into()
        }
        Err(unmet) => format!("No usable sample ({unmet}), counts as violated"),
    }
}
