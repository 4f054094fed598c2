//! A safety gate whose constraints are set by hand.

use std::time::Duration;

use ota_core::{
    Timestamp,
    ports::SafetyGate,
    safety::{
        Block, ConstraintReport, ConstraintState, Limits, OnViolation, Opening, OverrideReport, SafetyReport,
        SafetyStep, Severity, Verdict, WindowKind,
    },
};

use crate::watch::Watch;

/// Allows everything until a constraint is violated.
#[derive(Debug, Default)]
pub struct FakeGate {
    state: Watch<State>,
}

#[derive(Debug, Default)]
struct State {
    constraints: Vec<ConstraintReport>,
    window: Option<Opening>,
    next_window: Option<Opening>,
    longest_work: Option<Duration>,
    service: Option<Opening>,
    people_before: Option<SafetyStep>,
    active_override: Option<OverrideReport>,
    judged: Vec<SafetyStep>,
    reports: usize,
    planned: Vec<(usize, String, Vec<SafetyStep>)>,
}

impl FakeGate {
    /// `constraint` is violated from now on and holds back `steps`.
    pub fn violate(&self, constraint: &str, steps: &[SafetyStep]) {
        self.state.update(|state| state.set(constraint, ConstraintState::Violated, steps));
    }

    /// `constraint` is violated as soon as `n` more judgements have been given.
    pub fn violate_after(&self, n: usize, constraint: &str, steps: &[SafetyStep]) {
        self.state.update(|state| {
            let at = state.judged.len() + n;
            state.planned.push((at, constraint.into(), steps.into()));
        });
    }

    /// `constraint` holds from now on.
    pub fn clear(&self, constraint: &str) {
        self.state.update(|state| {
            let blocks = state.constraints.iter().find(|c| c.name == constraint).map(|c| c.blocks.clone());
            state.set(constraint, ConstraintState::Ok, &blocks.unwrap_or_default());
        });
    }

    /// Whether an `update` window is open, and when the next one opens.
    pub fn set_window(&self, active: bool, next: Option<Timestamp>) {
        let window = active.then(|| night(Timestamp::from_secs(0), Timestamp::from_secs(4_000_000_000)));
        let next = next.map(|opens| night(opens, opens + Duration::from_secs(3600)));
        self.state.update(|state| (state.window, state.next_window) = (window, next));
    }

    /// The open window closes after that much work.
    pub fn close_window_after(&self, work: Duration) {
        self.state.update(|state| state.longest_work = Some(work));
    }

    /// `constraint`, which must have been set, does that to work under way.
    pub fn react(&self, constraint: &str, reaction: OnViolation) {
        self.state.update(|state| {
            let named = state.constraints.iter_mut().filter(|c| c.name == constraint);
            named.for_each(|c| c.on_violation = reaction);
        });
    }

    /// Whether people are at the machine until `closes`.
    pub fn set_service(&self, closes: Option<Timestamp>) {
        self.state.update(|state| state.service = closes.map(shift));
    }

    /// People come to the machine right before `step` is asked about the next time.
    pub fn people_come_before(&self, step: SafetyStep) {
        self.state.update(|state| state.people_before = Some(step));
    }

    /// The override that is on; it lets nothing pass by itself.
    pub fn set_override(&self, active: Option<OverrideReport>) {
        self.state.update(|state| state.active_override = active);
    }

    /// Every step that was asked about, in order.
    pub fn judged(&self) -> Vec<SafetyStep> {
        self.state.with(|state| state.judged.clone())
    }

    /// How often everything was asked about.
    pub fn reports(&self) -> usize {
        self.state.with(|state| state.reports)
    }

    /// Waits until `step` has been asked about `n` times.
    pub async fn until_judged(&self, step: SafetyStep, n: usize) {
        self.state
            .until(|state| (state.judged.iter().filter(|asked| **asked == step).count() >= n).then_some(()))
            .await;
    }
}

impl State {
    fn set(&mut self, name: &str, state: ConstraintState, steps: &[SafetyStep]) {
        self.constraints.retain(|old| old.name != name);
        self.constraints.push(report(name, state, steps));
    }
}

fn shift(closes: Timestamp) -> Opening {
    Opening { window: "shift".into(), kind: WindowKind::Service, opens: Timestamp::from_secs(0), closes }
}

fn night(opens: Timestamp, closes: Timestamp) -> Opening {
    Opening { window: "night".into(), kind: WindowKind::Update, opens, closes }
}

fn report(name: &str, state: ConstraintState, steps: &[SafetyStep]) -> ConstraintReport {
    let holds = state == ConstraintState::Ok;
    ConstraintReport {
        name: name.into(),
        state,
        reading: if holds { "ok" } else { "moving" }.into(),
        value: None,
        unit: String::new(),
        limits: Limits::default(),
        message: if holds { format!("{name} holds") } else { format!("{name} is violated") },
        since: None,
        severity: Severity::Warning,
        overridable: true,
        overridden: false,
        blocks: steps.into(),
        resolution: format!("bring {name} back within its limits"),
        estimated_wait: None,
        on_violation: OnViolation::HoldReboot,
    }
}

impl SafetyGate for FakeGate {
    fn judge(&self, step: SafetyStep) -> Verdict {
        self.state.update(|state| {
            let count = state.judged.len();
            let (due, later): (Vec<_>, Vec<_>) = state.planned.drain(..).partition(|plan| plan.0 <= count);
            state.planned = later;
            for (_, name, steps) in due {
                state.set(&name, ConstraintState::Violated, &steps);
            }
            state.judged.push(step);
            if state.people_before.take_if(|before| *before == step).is_some() {
                state.service = Some(shift(Timestamp::from_secs(4_000_000_000)));
            }
            let blocking = |c: &&ConstraintReport| {
                c.state != ConstraintState::Ok && !c.overridden && c.blocks.contains(&step)
            };
            let service = state.service.clone().filter(|_| step != SafetyStep::Download);
            let window = service
                .iter()
                .map(|_| Block::from(&report("service_window", ConstraintState::Violated, &[])));
            let blocks = window.chain(state.constraints.iter().filter(blocking).map(Block::from)).collect();
            Verdict { blocks, service, earliest: None }
        })
    }

    fn report(&self) -> SafetyReport {
        self.state.update(|state| state.reports += 1);
        self.state.with(|state| SafetyReport {
            constraints: state.constraints.clone(),
            active_override: state.active_override.clone(),
            proposed_override: None,
            update_window: state.window.clone(),
            next_window: state.next_window.clone(),
            inhibitors: Vec::new(),
            service_window: state.service.clone(),
            clock_trusted: true,
        })
    }

    fn fits_window(&self, work: Duration) -> bool {
        self.state
            .with(|state| state.window.is_some() && state.longest_work.is_none_or(|longest| work <= longest))
    }

    fn windows(&self, count: usize) -> Vec<Opening> {
        self.state.with(|state| state.service.iter().take(count).cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_violation_holds_back_its_steps_until_it_is_cleared() {
        let gate = FakeGate::default();
        gate.violate("crane_motion", &[SafetyStep::Reboot]);
        assert!(gate.judge(SafetyStep::Write).allowed());
        assert_eq!(gate.judge(SafetyStep::Reboot).blocks[0].constraint, "crane_motion");
        gate.clear("crane_motion");
        assert!(gate.judge(SafetyStep::Reboot).allowed());
    }

    #[test]
    fn a_violation_can_be_planned_between_two_judgements() {
        let gate = FakeGate::default();
        gate.violate_after(1, "load", &[SafetyStep::Switch]);
        assert!(gate.judge(SafetyStep::Switch).allowed());
        assert!(!gate.judge(SafetyStep::Switch).allowed());
    }
}
