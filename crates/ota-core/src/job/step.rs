//! The one function that decides what a job does next.

use alloc::{string::String, vec, vec::Vec};

use super::{
    Effect::{self, *},
    End, Failure, Held, Input, InstallOptions, Job, JobKind,
    JobState::{self, *},
    Situation::{self, *},
    Strategy,
};
use crate::{
    ByteCount, ErrorCode, Timestamp,
    event::{Outcome, Phase},
    release::{StagedImage, Vouched},
    safety::{Block, OnViolation},
};

/// Most durable state changes of one job that nobody asked for by hand. Source: `threat-model.md` R5.
pub const MAX_CHANGES: u8 = 32;
/// Most starts of the install of one job. Source: `durable-steps.md` section 3.
pub const MAX_INSTALLS: u8 = 3;
/// Most reboots into the trial of one job. Source: `threat-model.md` R5.
pub const MAX_TRIALS: u8 = 3;
/// A restart that finds this many changes gives the job up; what is left is enough to undo and end it.
const GIVE_UP_AT: u8 = MAX_CHANGES - 4;

/// The job afterwards, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// The job as it is now.
    pub job: Job,
    /// To be performed in this order.
    pub effects: Vec<Effect>,
}

/// The job does not take this input in this state. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a job in state {state} does not take {input}")]
pub struct Refused {
    /// Name of the state.
    pub state: &'static str,
    /// Name of the input.
    pub input: &'static str,
}

/// What `job` does on `input`.
///
/// Pure: the same arguments give the same answer. Every transition that changes the state durably asks for
/// [`Effect::Persist`] first. What changes the device is believed only when its outcome has come back as an input.
///
/// # Errors
/// [`Refused`] for every pair that the table in `docs/job-states.md` does not list.
pub fn step(job: &Job, input: Input, now: Timestamp) -> Result<Transition, Refused> {
    let refused = Refused { state: job.state.name(), input: input.name() };
    let counted = !input.is_request();
    let moved = match input {
        Input::Recovered { situation, new_boot } => recovered(job, situation, new_boot),
        Input::Install(options) => install(job, options),
        Input::Cancel { reason } => cancel(&job.state, reason),
        Input::Blocked(blocks) => blocked(&job.state, blocks),
        other => advance(job, other),
    };
    let Transition { mut job, mut effects } = moved.ok_or(refused)?.apply(job);
    if counted && job.state.name() != refused.state {
        job.counters.changes = job.counters.changes.saturating_add(1);
    }
    // An upload is its owner's: only a confirmed deployment takes it out of staging.
    if job.kind == JobKind::Deployment && job.state != Succeeded {
        effects.retain(|effect| *effect != DropImage);
    }
    job.updated = now;
    if job.install.is_some() && job.install_started.is_none() {
        job.install_started = Some(now);
    }
    Ok(Transition { job, effects })
}

/// A decision before it is put on the job.
struct Plan {
    /// `None`: the same state.
    state: Option<JobState>,
    edits: Vec<Edit>,
    effects: Vec<Effect>,
}

/// What changes in the record beside the state.
enum Edit {
    Image(StagedImage),
    Vouched(Vouched),
    Install(InstallOptions),
    CountInstall,
    CountTrial,
    ConfirmedByHand,
}

impl Plan {
    /// To another state, made durable before anything else.
    fn to(state: JobState, then: impl IntoIterator<Item = Effect>) -> Self {
        let effects = core::iter::once(Persist).chain(then).collect();
        Self { state: Some(state), edits: Vec::new(), effects }
    }

    /// To a state that need not survive a restart, because recovery finds it again.
    fn live(state: JobState, effects: impl IntoIterator<Item = Effect>) -> Self {
        Self { state: Some(state), ..Self::stay(effects) }
    }

    /// The same state.
    fn stay(effects: impl IntoIterator<Item = Effect>) -> Self {
        Self { state: None, edits: Vec::new(), effects: effects.into_iter().collect() }
    }

    fn editing(mut self, edit: Edit) -> Self {
        self.edits.push(edit);
        self
    }

    fn apply(self, job: &Job) -> Transition {
        let mut job = job.clone();
        if let Some(state) = self.state {
            job.state = state;
        }
        for edit in self.edits {
            match edit {
                Edit::Image(image) => job.image = Some(image),
                Edit::Vouched(vouched) => job.vouched = Some(vouched),
                Edit::Install(options) => job.install = Some(options),
                Edit::CountInstall => job.counters.installs = job.counters.installs.saturating_add(1),
                Edit::ConfirmedByHand => job.confirmed_by_hand = true,
                Edit::CountTrial => job.counters.trials = job.counters.trials.saturating_add(1),
            }
        }
        Transition { job, effects: self.effects }
    }
}

/// Requests that carry nothing, and outcomes of effects.
fn advance(job: &Job, input: Input) -> Option<Plan> {
    Some(match (&job.state, input) {
        (Queued, Input::Start) => start(job),
        (Downloading { have, .. }, Input::Pause) => Plan::to(Paused { have: *have }, [StopFetch]),
        (Paused { have }, Input::Resume) => Plan::to(downloading(*have), [StartFetch]),
        (Downloading { have, held: None }, Input::FetchProgress { have: now }) => {
            Plan::to(downloading(now.max(*have)), [])
        }
        (Downloading { have, held: Some(_) }, Input::Unblocked) => {
            Plan::live(downloading(*have), [StartFetch])
        }
        (Downloading { .. }, Input::Fetched(image)) => {
            Plan::to(Verifying, [VerifyImage]).editing(Edit::Image(image))
        }
        (Downloading { .. }, Input::FetchFailed(why)) => fail_download(why),
        (Verifying, Input::Verified(vouched)) => {
            Plan::to(Downloaded, [Announce(Phase::Download, Outcome::Success)])
                .editing(Edit::Vouched(vouched))
        }
        (Verifying, Input::VerifyFailed(why)) => {
            Plan::to(Failed { why }, [DropImage, Announce(Phase::Download, Outcome::Failed)])
        }
        (Verifying, Input::Written) if job.kind == JobKind::Rollback => {
            Plan::to(Installed { held: None }, [ArmSlot])
        }
        (Verifying, Input::WriteFailed(why)) if job.kind == JobKind::Rollback => fail_install(why),
        (Scheduled, Input::WindowOpen) => fence(),
        (Fencing { .. }, Input::Fenced) => Plan::to(writing(ByteCount::ZERO), [WriteSlot]),
        // The window may have closed while safety held it.
        (Fencing { .. }, Input::Unblocked) if job.waits_for_windows() => Plan::to(Scheduled, [AwaitWindow]),
        (Fencing { .. }, Input::Unblocked) => Plan::live(Fencing { held: None }, [FenceSlot]),
        (Fencing { .. }, Input::FenceFailed(why)) | (Writing { .. }, Input::WriteFailed(why)) => {
            fail_install(why)
        }
        (Writing { written, held }, Input::WriteProgress { written: now }) => {
            Plan::live(Writing { written: now.max(*written), held: held.clone() }, [])
        }
        (Writing { written, held: Some(_) }, Input::Unblocked) => {
            Plan::live(writing(*written), [ResumeWrite])
        }
        (Writing { .. }, Input::Written) => Plan::to(Installed { held: None }, [ArmSlot]),
        (Installed { .. }, Input::WindowClosed) => {
            Plan::live(Installed { held: Some(Held::Window) }, [AwaitWindow])
        }
        (Installed { held: Some(_) }, Input::Unblocked | Input::WindowOpen) => {
            Plan::live(Installed { held: None }, [ArmSlot])
        }
        (Installed { .. }, Input::Armed) => armed(job),
        (Installed { .. }, Input::ArmFailed(why)) => undo(End::Failed { why }),
        (Armed { held: None }, Input::WindowClosed) => {
            Plan::live(Armed { held: Some(Held::Window) }, [AwaitWindow])
        }
        (Armed { held: Some(Held::Safety(_)) }, Input::Unblocked)
        | (Armed { held: Some(Held::Window) }, Input::WindowOpen) => {
            Plan::live(Armed { held: None }, [Reboot])
        }
        (Armed { .. }, Input::RebootStarted) => Plan::to(Rebooting, []),
        (Armed { .. } | Rebooting, Input::RebootFailed(why)) => undo(End::Failed { why }),
        (Confirming { .. }, Input::HealthPassed) => Plan::to(Committing, [ConfirmSlot]),
        (Confirming { .. }, Input::HealthFailed(why)) => unhealthy(job, why),
        (Confirming { unhealthy: Some(_) }, Input::ConfirmByHand) => {
            Plan::to(Committing, [ConfirmSlot]).editing(Edit::ConfirmedByHand)
        }
        (Confirming { .. }, Input::RejectByHand { reason }) => {
            fall_back(End::RolledBack { why: Failure::because("rejected", reason) })
        }
        (Committing, Input::SlotConfirmed) => succeed(),
        (Committing, Input::ConfirmFailed(why)) => fall_back(End::RolledBack { why }),
        // Even when the environment could not be written: the boot loader's own count brings the old slot back.
        (FallingBack { .. }, Input::WentBack | Input::GoBackFailed(_) | Input::Unblocked) => {
            Plan::stay([RebootBack])
        }
        (FallingBack { .. }, Input::RebootFailed(_)) => Plan::stay([AwaitUnblocked]),
        (FallingBack { .. }, Input::RebootStarted) => Plan::stay([]),
        (Undoing { end }, Input::WentBack) => finish(end.clone()),
        // An end now would leave a switch behind that the next boot follows, whatever people were told.
        (Undoing { .. }, Input::GoBackFailed(_)) => Plan::stay([GoBackAgain]),
        _ => return None,
    })
}

/// Safety holds a step back, or says during the work that it should not go on.
fn blocked(state: &JobState, blocks: Vec<Block>) -> Option<Plan> {
    let reaction = OnViolation::strictest(&blocks);
    let abort = reaction == OnViolation::Abort;
    let why = || Failure::unsafe_now(&blocks);
    Some(match state {
        // Nothing is written yet, and after a restart nothing has been heard of the sensors: just wait.
        Fencing { .. } => Plan::live(Fencing { held: Some(Held::Safety(blocks)) }, [AwaitUnblocked]),
        Downloading { .. } if abort => {
            // What arrived stays: the next job for the release goes on there.
            Plan::to(Failed { why: why() }, [StopFetch, Announce(Phase::Download, Outcome::Failed)])
        }
        Writing { .. } if abort => {
            Plan::to(Failed { why: why() }, [StopWrite, DropImage, Announce(Phase::Install, Outcome::Failed)])
        }
        Installed { .. } | Armed { .. } if abort => undo(End::Failed { why: why() }),
        Downloading { .. } | Writing { .. } if reaction == OnViolation::HoldReboot => Plan::stay([]),
        Downloading { have, .. } => Plan::live(
            Downloading { have: *have, held: Some(Held::Safety(blocks)) },
            [StopFetch, AwaitUnblocked],
        ),
        Writing { written, .. } => Plan::live(
            Writing { written: *written, held: Some(Held::Safety(blocks)) },
            [PauseWrite, AwaitUnblocked],
        ),
        Installed { .. } => Plan::live(Installed { held: Some(Held::Safety(blocks)) }, [AwaitUnblocked]),
        // Somebody else is to reboot: there is no step of ours to hold back.
        Armed { held: Some(Held::ExternalReboot) } => return None,
        Armed { .. } => Plan::live(Armed { held: Some(Held::Safety(blocks)) }, [AwaitUnblocked]),
        FallingBack { .. } => Plan::stay([AwaitUnblocked]),
        _ => return None,
    })
}

const fn downloading(have: ByteCount) -> JobState {
    Downloading { have, held: None }
}

const fn writing(written: ByteCount) -> JobState {
    Writing { written, held: None }
}

fn start(job: &Job) -> Plan {
    match job.kind {
        JobKind::Update => Plan::to(downloading(ByteCount::ZERO), [StartFetch]),
        JobKind::Deployment => Plan::to(Downloaded, []),
        JobKind::Rollback => Plan::to(Verifying, [CheckSlot]),
    }
}

fn install(job: &Job, options: InstallOptions) -> Option<Plan> {
    let plan = match (&job.state, options.strategy) {
        (Downloaded, Strategy::MaintenanceWindow) => Plan::to(Scheduled, [AwaitWindow]),
        (Downloaded | Scheduled, Strategy::Seamless | Strategy::Immediate) => fence(),
        (Armed { held: Some(Held::ExternalReboot) }, _) if options.reboot_after => {
            Plan::to(Armed { held: None }, [Reboot])
        }
        // Who does not want to wait for the next window any more.
        (Installed { held: Some(Held::Window) }, Strategy::Seamless | Strategy::Immediate) => {
            Plan::to(Installed { held: None }, [ArmSlot])
        }
        (Armed { held: Some(Held::Window) }, Strategy::Seamless | Strategy::Immediate) => {
            Plan::to(Armed { held: None }, [Reboot])
        }
        _ => return None,
    };
    Some(plan.editing(Edit::Install(options)))
}

fn cancel(state: &JobState, reason: String) -> Option<Plan> {
    let phase = Phase::Download;
    Some(match state {
        Queued | Downloading { .. } | Paused { .. } | Verifying | Downloaded => {
            Plan::to(Cancelled { reason }, [StopFetch, DropImage, Announce(phase, Outcome::Cancelled)])
        }
        Scheduled | Fencing { .. } | Writing { .. } => Plan::to(
            Cancelled { reason },
            [StopWrite, DropImage, Announce(Phase::Install, Outcome::Cancelled)],
        ),
        // The switch may be done or under way: setting it back is right in both cases.
        Installed { .. } | Armed { .. } => undo(End::Cancelled { reason }),
        _ => return None,
    })
}

fn fence() -> Plan {
    Plan::to(Fencing { held: None }, [FenceSlot]).editing(Edit::CountInstall)
}

fn armed(job: &Job) -> Plan {
    let plan = if job.install.is_some_and(|options| options.reboot_after) {
        Plan::to(Armed { held: None }, [Reboot])
    } else {
        Plan::to(Armed { held: Some(Held::ExternalReboot) }, [])
    };
    plan.editing(Edit::CountTrial)
}

fn unhealthy(job: &Job, why: Failure) -> Plan {
    if job.install.is_none_or(|options| options.rollback_on_failure) {
        fall_back(End::RolledBack { why })
    } else {
        Plan::to(Confirming { unhealthy: Some(why) }, [])
    }
}

fn fall_back(end: End) -> Plan {
    Plan::to(FallingBack { end }, [GoBack])
}

fn undo(end: End) -> Plan {
    Plan::to(Undoing { end }, [GoBack])
}

fn finish(end: End) -> Plan {
    let outcome = match end {
        End::RolledBack { .. } => Outcome::RolledBack,
        End::Failed { .. } => Outcome::Failed,
        End::Cancelled { .. } => Outcome::Cancelled,
    };
    Plan::to(end.into(), [DropImage, Announce(Phase::Install, outcome)])
}

fn succeed() -> Plan {
    Plan::to(Succeeded, [DropImage, RecordSuccess, Announce(Phase::Install, Outcome::Success)])
}

/// What belongs to the end of an install beside its record, for a start that finds it missing: a cut came right behind the record.
/// Nothing is told once more.
#[must_use]
pub fn after_end(job: &Job) -> Vec<Effect> {
    match (&job.state, job.kind) {
        (Succeeded, _) => vec![DropImage, RecordSuccess],
        // Its owner's, see above.
        (_, JobKind::Deployment) => Vec::new(),
        (state, _) if state.is_end() => vec![DropImage],
        _ => Vec::new(),
    }
}

/// What arrived stays in staging when only the network failed: the next job for the release goes on there.
fn fail_download(why: Failure) -> Plan {
    let announce = Announce(Phase::Download, Outcome::Failed);
    let keep = matches!(why.code, Some(ErrorCode::NetworkError | ErrorCode::ServerUnreachable));
    let effects = if keep { vec![announce] } else { vec![DropImage, announce] };
    Plan::to(Failed { why }, effects)
}

fn fail_install(why: Failure) -> Plan {
    Plan::to(Failed { why }, [DropImage, Announce(Phase::Install, Outcome::Failed)])
}

/// After a restart: ask again for what was under way, or undo it. Source: `durable-steps.md` section 3.
fn recovered(job: &Job, situation: Situation, new_boot: bool) -> Option<Plan> {
    if job.state.is_end() {
        return None;
    }
    if situation == Lost {
        return Some(Plan::stay([]));
    }
    let on_new = matches!(situation, OnNewTrial | OnNewConfirmed);
    if job.counters.changes >= GIVE_UP_AT {
        return Some(give_up(&job.state, on_new));
    }
    Some(match &job.state {
        FallingBack { end } if on_new => fall_back(end.clone()),
        FallingBack { end } => undo(end.clone()),
        Undoing { end } if on_new => fall_back(end.clone()),
        Undoing { .. } => Plan::stay([GoBack]),
        Confirming { .. } | Committing => trial_found(job, situation),
        Installed { .. } | Armed { .. } | Rebooting if on_new => {
            Plan::to(Confirming { unhealthy: None }, [CheckHealth])
        }
        Installed { .. } | Armed { .. } | Rebooting => switch_found(job, situation, new_boot),
        _ if on_new => fail_install(Failure::because(
            "running_slot_changed",
            "the gateway was started from the slot that this job was to write",
        )),
        Fencing { .. } | Writing { .. } if job.counters.installs >= MAX_INSTALLS => {
            fail_install(Failure::because("install_attempts", "the install was cut off three times"))
        }
        // It writes the whole slot once more, and the window may have closed meanwhile.
        Fencing { .. } | Writing { .. } if job.waits_for_windows() => Plan::to(Scheduled, [AwaitWindow]),
        Fencing { .. } | Writing { .. } => fence(),
        Queued => start(job),
        Downloading { have, .. } => Plan::live(downloading(*have), [StartFetch]),
        Verifying if job.kind == JobKind::Rollback => Plan::stay([CheckSlot]),
        Verifying => Plan::stay([VerifyImage]),
        Scheduled => Plan::stay([AwaitWindow]),
        _ => Plan::stay([]),
    })
}

/// Woken up while the new slot was being judged.
fn trial_found(job: &Job, situation: Situation) -> Plan {
    match (situation, &job.state) {
        (OnNewConfirmed, _) => succeed(),
        (OnNewTrial, Confirming { unhealthy: Some(_) }) => Plan::stay([]),
        (OnNewTrial, Committing) if job.confirmed_by_hand => Plan::stay([ConfirmSlot]),
        // Health that was seen before a restart is not believed after it.
        (OnNewTrial, _) => Plan::to(Confirming { unhealthy: None }, [CheckHealth]),
        _ => undo(End::RolledBack {
            why: Failure::because("trial_lost", "the new slot started but was left before it was confirmed"),
        }),
    }
}

/// Woken up on the old slot after the new one was written.
fn switch_found(job: &Job, situation: Situation, new_boot: bool) -> Plan {
    match (situation, &job.state) {
        (OnOld, Installed { .. }) => Plan::stay([ArmSlot]),
        (OnOldSwitched, Installed { .. }) => armed(job),
        (OnOldSwitched, Armed { held: Some(Held::ExternalReboot) }) if !new_boot => Plan::stay([]),
        (OnOldSwitched, _) if !new_boot => Plan::live(Armed { held: None }, [Reboot]),
        (OnOldSwitched, _) if job.counters.trials < MAX_TRIALS => {
            Plan::to(Armed { held: None }, [Reboot]).editing(Edit::CountTrial)
        }
        (OnOldSwitched, _) => undo(End::RolledBack {
            why: Failure::because("not_tried", "the boot loader did not start the new slot in three reboots"),
        }),
        _ => undo(End::RolledBack {
            why: Failure::because(
                "did_not_boot",
                "the new slot did not start; the boot loader came back by itself",
            ),
        }),
    }
}

fn give_up(state: &JobState, on_new: bool) -> Plan {
    let why = Failure::because("loop_guard", "the job changed state too often and was given up");
    match state {
        _ if on_new => fall_back(End::Failed { why }),
        Queued
        | Downloading { .. }
        | Paused { .. }
        | Verifying
        | Downloaded
        | Scheduled
        | Fencing { .. }
        | Writing { .. } => fail_install(why),
        FallingBack { end } | Undoing { end } => undo(end.clone()),
        _ => undo(End::Failed { why }),
    }
}
