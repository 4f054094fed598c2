//! A dry run: what would happen now, what holds it back and until when. Changes nothing.

use std::time::Duration;

use ota_core::{
    job::{Job, JobKind, JobState, Strategy},
    release::refuse_below_floor,
    safety::{Opening, SafetyStep, Verdict},
};

use crate::{
    Engine, EngineError, JobRef,
    engine::Shared,
    guard::{refuse_blocked, step_of_the_whole},
};

/// What is asked about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExplainRequest {
    /// Which job; the active one, or an update that is still to be found, when it is not given.
    pub job: Option<JobRef>,
    /// How it would be installed; as it was asked for when it is not given.
    pub strategy: Option<Strategy>,
}

/// What would happen now.
#[derive(Debug)]
pub struct Explanation {
    /// The job it is about, if there is one.
    pub job: Option<Job>,
    /// How it is, or would be, installed.
    pub strategy: Strategy,
    /// The steps that are still to come, in order, with the verdict of this moment.
    pub steps: Vec<(SafetyStep, Verdict)>,
    /// From the first byte written to the confirmed slot, by what was measured on this device; for a job only.
    pub work: Option<Duration>,
    /// The `update` windows.
    pub window: WindowView,
    /// What would refuse an install whatever safety says, with the contract's word and a sentence.
    pub obstacles: Vec<(String, String)>,
    /// What has the gateway to itself for now, a snapshot for example. No job begins to write meanwhile.
    pub alone: Option<String>,
}

/// How a job stands to the `update` windows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WindowView {
    /// Whether it waits for them.
    pub needed: bool,
    /// The one that is open; of several the one that closes last.
    pub open: Option<Opening>,
    /// Whether the work would end before that one closes.
    pub fits: bool,
    /// The next one; none is announced while the wall clock is not believed.
    pub next: Option<Opening>,
    /// Whether the wall clock is believed; no window is open without that.
    pub clock_trusted: bool,
}

impl Engine {
    /// What would happen now.
    ///
    /// # Errors
    /// `JobNotFound` (OTA_013), `Internal` when the store cannot be read.
    pub async fn explain(&self, request: ExplainRequest) -> Result<Explanation, EngineError> {
        let job = match request.job {
            Some(name) => Some(self.progress(Some(name)).await?.job),
            None => self.active().borrow().clone(),
        };
        self.blocking(move |shared| shared.explanation(job, request.strategy)).await
    }

    /// The next `count` openings of all windows, those that are open now first.
    #[must_use]
    pub fn windows(&self, count: usize) -> Vec<Opening> {
        self.shared.ports.safety.windows(count)
    }

    /// Refuses what safety does not let through now, for operations that are no jobs.
    ///
    /// # Errors
    /// `UpdateBlocked` (OTA_002), `MaintenanceActive` (OTA_015).
    pub fn refuse_unsafe(&self, step: SafetyStep) -> Result<(), EngineError> {
        refuse_blocked(self.shared.ports.safety.judge(step))
    }
}

impl Shared {
    fn explanation(&self, job: Option<Job>, strategy: Option<Strategy>) -> Explanation {
        let asked = job.as_ref().and_then(|job| job.install).map(|options| options.strategy);
        let strategy = strategy.or(asked).unwrap_or_default();
        let work = job.as_ref().map(|job| self.expected_work(job));
        let steps = job.as_ref().map_or_else(|| SafetyStep::ALL.to_vec(), steps_ahead);
        let judged = steps.into_iter().map(|step| (step, self.ports.safety.judge(step))).collect();
        Explanation {
            strategy,
            steps: judged,
            work,
            window: self.window_view(strategy, work.unwrap_or_default()),
            obstacles: self.obstacles(job.as_ref()),
            alone: self.claimed(),
            job,
        }
    }

    fn window_view(&self, strategy: Strategy, work: Duration) -> WindowView {
        let report = self.ports.safety.report();
        WindowView {
            needed: strategy == Strategy::MaintenanceWindow,
            fits: self.ports.safety.fits_window(work),
            open: report.update_window,
            next: report.next_window,
            clock_trusted: report.clock_trusted,
        }
    }

    fn obstacles(&self, job: Option<&Job>) -> Vec<(String, String)> {
        let mut obstacles = Vec::new();
        let mut note = |error: EngineError| match error {
            EngineError::Ota(ota) => obstacles.push((ota.code().name().to_owned(), ota.to_string())),
            EngineError::Unavailable { reason, what } => obstacles.push((reason.to_owned(), what)),
            other => obstacles.push(("INTERNAL".to_owned(), other.to_string())),
        };
        if let Err(error) = self.ports.boot.ready() {
            note(error.into());
        }
        // A job that was installed already waits for it; a request is refused.
        if job.is_none_or(|job| job.state == JobState::Downloaded)
            && let Err(error) = self.refuse_claimed()
        {
            note(error);
        }
        if let Some(job) = job.filter(|job| !job.state.is_end() && job.kind != JobKind::Rollback)
            && let Err(error) = crate::runner::refuse_larger_than_slot(self, job.target, job.release.size)
        {
            note(error.into());
        }
        if let Some(job) = job {
            let version = &job.release.version;
            let refused = match job.kind {
                JobKind::Rollback => self.refuse_rollback_below_floor(job.target, version),
                _ => self.floor().and_then(|floor| Ok(refuse_below_floor(floor.as_ref(), version)?)),
            };
            if let Err(error) = refused {
                note(error.into());
            }
        }
        obstacles
    }
}

/// The steps that a job still has to take.
fn steps_ahead(job: &Job) -> Vec<SafetyStep> {
    use SafetyStep::{Download, Reboot, Switch, Write};
    let ahead: &[SafetyStep] = match &job.state {
        JobState::FallingBack { .. } => return vec![Reboot],
        JobState::Queued | JobState::Downloading { .. } | JobState::Paused { .. }
            if job.kind == JobKind::Update =>
        {
            &[Download, Write, Switch, Reboot]
        }
        JobState::Queued
        | JobState::Verifying
        | JobState::Downloaded
        | JobState::Scheduled
        | JobState::Fencing { .. }
        | JobState::Writing { .. } => &[Write, Switch, Reboot],
        JobState::Installed { .. } => &[Switch, Reboot],
        JobState::Armed { .. } | JobState::Rebooting => &[Reboot],
        _ => return Vec::new(),
    };
    let writes = job.kind != JobKind::Rollback;
    let ahead = ahead.iter().copied().filter(|step| writes || *step != Write);
    // What holds back the whole kind counts until the reboot.
    step_of_the_whole(job.kind).into_iter().chain(ahead).collect()
}
