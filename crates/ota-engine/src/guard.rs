//! What safety and windows do to the active job: what waits goes on, what should not go on stops, and people are told.
//!
//! Decides nothing by itself: verdicts come from the gate, what the job does with them is `ota_core::job::step`.

use std::time::Duration;

use ota_core::{
    error::OtaError,
    event::EventKind,
    job::{Held, Input, Job, JobKind, JobState},
    safety::{Block, ConstraintState, OnViolation, SafetyStep, Severity, Verdict},
};

use crate::{EngineError, engine::Shared, runner::Runner};

impl Runner {
    /// Looks again at what waits for safety or a window, stops what should not go on, and tells constraints that changed.
    pub(crate) async fn reconsider(&mut self) {
        self.tell_safety();
        if self.unrecordable.is_some() {
            // What the job would do next has to be recorded first.
            return;
        }
        let Some(job) = &self.active else { return };
        let news = match self.awaiting_window {
            Some(work) => window_news(&self.shared, job, work),
            None => safety_news(&self.shared, job, self.waiting),
        };
        // While something is alone, what waits goes on waiting.
        let alone = self.shared.claimed().is_some();
        let goes_on = |input: &Input| matches!(input, Input::Unblocked | Input::WindowOpen);
        if let Some(input) = news.filter(|input| !alone || !goes_on(input)) {
            if matches!(input, Input::Unblocked | Input::WindowOpen) {
                self.waiting = None;
                self.awaiting_window = None;
            }
            if matches!(input, Input::Blocked(_)) {
                // The next look asks again: an answer that could not be recorded does not count later.
                self.take(input).await;
            } else {
                self.outcome(self.epoch, input).await;
            }
        }
    }

    /// Marks the job as held, for those who watch; recovery finds the hold again.
    pub(crate) fn wait_for_safety(&mut self, job: &Job) {
        self.waiting = Some(match job.state {
            JobState::Downloading { .. } => SafetyStep::Download,
            JobState::Fencing { .. } | JobState::Writing { .. } => SafetyStep::Write,
            JobState::Installed { .. } => SafetyStep::Switch,
            _ => SafetyStep::Reboot,
        });
        self.tell_status(job);
    }

    /// Alerts for constraints that changed since they were last told.
    fn tell_safety(&mut self) {
        let report = self.shared.ports.safety.report();
        let first = self.told.is_empty();
        let action_required = self.active.as_ref().is_some_and(|job| job.install.is_some());
        for (index, constraint) in report.constraints.iter().enumerate() {
            // Always in the order of the configuration.
            let known =
                self.told.get(index).filter(|(name, _)| *name == constraint.name).map(|(_, state)| *state);
            if known == Some(constraint.state) || (first && constraint.state == ConstraintState::Ok) {
                continue;
            }
            let holds = constraint.state == ConstraintState::Ok;
            self.shared.bus.publish(EventKind::SafetyAlert {
                constraint: constraint.name.clone(),
                state: constraint.state,
                message: constraint.message.clone(),
                severity: if holds { Severity::Info } else { constraint.severity },
                action_required: !holds && action_required,
                suggested_action: if holds { String::new() } else { constraint.resolution.clone() },
            });
        }
        self.told = report.constraints.into_iter().map(|c| (c.name, c.state)).collect();
    }
}

/// What a change of safety means for `job`, which waits to do the step `waiting` or is at work.
fn safety_news(shared: &Shared, job: &Job, waiting: Option<SafetyStep>) -> Option<Input> {
    let (step, flows) = match &job.state {
        JobState::Downloading { .. } => (SafetyStep::Download, true),
        JobState::Writing { .. } => (SafetyStep::Write, true),
        _ => (waiting?, false),
    };
    let blocks = shared.held_back(steps_of(job, step));
    let reaction = OnViolation::strictest(&blocks);
    let may_go_on = if flows { reaction == OnViolation::HoldReboot } else { blocks.is_empty() };
    match waiting {
        Some(_) if may_go_on => Some(Input::Unblocked),
        // Also when it is held by something else than it was: people see why, and an `abort` counts at any time.
        Some(_) => {
            (held_by(job).is_some_and(|held| names(held) != names(&blocks))).then_some(Input::Blocked(blocks))
        }
        None => (!may_go_on).then_some(Input::Blocked(blocks)),
    }
}

fn held_by(job: &Job) -> Option<&[Block]> {
    match job.state.held() {
        Some(Held::Safety(blocks)) => Some(blocks),
        _ => None,
    }
}

fn names(blocks: &[Block]) -> Vec<&str> {
    blocks.iter().map(|block| block.constraint.as_str()).collect()
}

/// Whether the window that `job` waits for is there.
fn window_news(shared: &Shared, job: &Job, work: Duration) -> Option<Input> {
    let safety = &shared.ports.safety;
    let starts = job.state == JobState::Scheduled;
    let open = safety.fits_window(work)
        && (!starts || shared.held_back(steps_of(job, SafetyStep::Write)).is_empty());
    open.then_some(Input::WindowOpen)
}

/// What has to be allowed for `step` of `job`. As long as a job goes towards the other slot, what holds back its whole kind
/// counts at each of its steps.
pub(crate) fn steps_of(job: &Job, step: SafetyStep) -> impl Iterator<Item = SafetyStep> + use<> {
    [Some(step), step_of_the_whole(job.kind).filter(|_| towards_the_other_slot(job))].into_iter().flatten()
}

/// The step that stands for all of a job of this kind.
pub(crate) const fn step_of_the_whole(kind: JobKind) -> Option<SafetyStep> {
    match kind {
        JobKind::Update => None,
        JobKind::Deployment => Some(SafetyStep::Deploy),
        JobKind::Rollback => Some(SafetyStep::Rollback),
    }
}

/// Whether the job does what it was asked for, and does not undo it.
pub(crate) const fn towards_the_other_slot(job: &Job) -> bool {
    !matches!(job.state, JobState::FallingBack { .. } | JobState::Undoing { .. })
}

impl Shared {
    /// What holds back any of `steps` now, each constraint once.
    pub(crate) fn held_back(&self, steps: impl IntoIterator<Item = SafetyStep>) -> Vec<Block> {
        let mut held: Vec<Block> = Vec::new();
        for step in steps {
            let blocks = self.ports.safety.judge(step).blocks;
            let new: Vec<Block> = blocks
                .into_iter()
                .filter(|block| !names(&held).contains(&block.constraint.as_str()))
                .collect();
            held.extend(new);
        }
        held
    }
}

/// What a caller is told whose request safety does not let through.
pub(crate) fn refuse_blocked(verdict: Verdict) -> Result<(), EngineError> {
    let Verdict { blocks, service, .. } = verdict;
    match service {
        Some(window) => {
            Err(OtaError::MaintenanceActive { window: window.window, until: Some(window.closes) }.into())
        }
        None if blocks.is_empty() => Ok(()),
        None => Err(OtaError::UpdateBlocked(blocks).into()),
    }
}
