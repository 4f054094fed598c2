//! The table of transitions, made by asking [`step`] about every state and every input.

use alloc::{format, string::String, vec, vec::Vec};

use super::{
    Counters, End, Failure, Held, Input, InstallOptions, Job, JobKind, JobState, Priority, Situation,
    Strategy, step,
};
use crate::{
    ByteCount, Sha256Digest, Slot, Timestamp,
    release::{ImageKind, Release, StagedImage, Vouched},
    safety::{Block, OnViolation},
};

/// `docs/job-states.md`: every state × every input that is taken, with the next state and the effects.
#[must_use]
pub fn markdown() -> String {
    let mut text = String::from(
        "# Job states\n\nMade by `ota_core::job::table::markdown` from the function that decides; a test fails when this \
         file is stale\n(`cargo xtask test`; `cargo xtask pages` writes it). A pair that is not listed is refused.\nStates and the words of the API: `downloading`, `installing`, … stand in the second column.\n\n",
    );
    for kind in [JobKind::Update, JobKind::Deployment, JobKind::Rollback] {
        text.push_str(&format!(
            "## {kind:?}\n\n| state | status | input | next state | effects |\n|---|---|---|---|---|\n"
        ));
        for state in states() {
            for input in inputs() {
                row(&mut text, kind, &state, &input);
            }
        }
        text.push('\n');
    }
    text
}

fn row(text: &mut String, kind: JobKind, state: &JobState, input: &Input) {
    let job = sample(kind, state.clone());
    let Ok(next) = step(&job, input.clone(), Timestamp::default()) else { return };
    let reference = step(&sample(JobKind::Update, state.clone()), input.clone(), Timestamp::default());
    let same = reference.is_ok_and(|r| r.effects == next.effects && r.job.state == next.job.state);
    if kind != JobKind::Update && same {
        return;
    }
    let effects: Vec<String> = next.effects.iter().map(super::Effect::name).collect();
    text.push_str(&format!(
        "| {} | {} | {} | {} | {} |\n",
        label(state),
        state.status().as_str(),
        input.name(),
        label(&next.job.state),
        effects.join(", ")
    ));
}

fn label(state: &JobState) -> String {
    let detail = match state {
        held if held.held().is_some() => match held.held() {
            Some(Held::ExternalReboot) => " (waits for a reboot)",
            Some(Held::Window) => " (waits for a window)",
            _ => " (held by safety)",
        },
        JobState::Confirming { unhealthy: Some(_) } => " (unhealthy)",
        JobState::FallingBack { end } | JobState::Undoing { end } => match end {
            End::RolledBack { .. } => " (rolled back)",
            End::Failed { .. } => " (failed)",
            End::Cancelled { .. } => " (cancelled)",
        },
        _ => "",
    };
    format!("{}{detail}", state.name())
}

/// One of every state, and of every variant of data that matters to a decision.
#[must_use]
pub fn states() -> Vec<JobState> {
    let why = || Failure::internal("example");
    let mut all = vec![
        JobState::Queued,
        JobState::Downloading { have: ByteCount::ZERO, held: None },
        JobState::Downloading { have: ByteCount::ZERO, held: Some(Held::Safety(Vec::new())) },
        JobState::Paused { have: ByteCount::ZERO },
        JobState::Verifying,
        JobState::Downloaded,
        JobState::Scheduled,
        JobState::Fencing { held: None },
        JobState::Fencing { held: Some(Held::Safety(Vec::new())) },
        JobState::Writing { written: ByteCount::ZERO, held: None },
        JobState::Writing { written: ByteCount::ZERO, held: Some(Held::Safety(Vec::new())) },
        JobState::Installed { held: None },
        JobState::Installed { held: Some(Held::Safety(Vec::new())) },
        JobState::Installed { held: Some(Held::Window) },
        JobState::Armed { held: None },
        JobState::Armed { held: Some(Held::Safety(Vec::new())) },
        JobState::Armed { held: Some(Held::ExternalReboot) },
        JobState::Armed { held: Some(Held::Window) },
        JobState::Rebooting,
        JobState::Confirming { unhealthy: None },
        JobState::Confirming { unhealthy: Some(why()) },
        JobState::Committing,
    ];
    for end in [
        End::RolledBack { why: why() },
        End::Failed { why: why() },
        End::Cancelled { reason: String::from("example") },
    ] {
        all.push(JobState::FallingBack { end: end.clone() });
        all.push(JobState::Undoing { end });
    }
    all.extend([
        JobState::Succeeded,
        JobState::Failed { why: why() },
        JobState::Cancelled { reason: String::from("example") },
        JobState::RolledBack { why: why() },
    ]);
    all
}

/// One of every input.
#[must_use]
pub fn inputs() -> Vec<Input> {
    let why = || Failure::internal("example");
    let digest = Sha256Digest([0; 32]);
    let size = ByteCount(1);
    let options = |strategy| InstallOptions { strategy, reboot_after: true, rollback_on_failure: true };
    let mut all = vec![
        Input::Start,
        Input::Pause,
        Input::Resume,
        Input::Install(options(Strategy::Seamless)),
        Input::Cancel { reason: String::from("example") },
        Input::ConfirmByHand,
        Input::RejectByHand { reason: String::from("example") },
        Input::FetchProgress { have: ByteCount::ZERO },
        Input::Fetched(StagedImage { name: example_name(), size, sha256: digest }),
        Input::FetchFailed(why()),
        Input::Verified(Vouched {
            sha256: digest,
            size,
            signers: Vec::new(),
            checksummed: false,
            trust: String::new(),
        }),
        Input::VerifyFailed(why()),
        Input::WindowOpen,
        Input::WindowClosed,
        Input::Fenced,
        Input::FenceFailed(why()),
        Input::WriteProgress { written: ByteCount::ZERO },
        Input::Written,
        Input::WriteFailed(why()),
        Input::Armed,
        Input::ArmFailed(why()),
        Input::Blocked(Vec::new()),
        Input::Blocked(vec![block(OnViolation::PauseWrite)]),
        Input::Blocked(vec![block(OnViolation::Abort)]),
        Input::Unblocked,
        Input::RebootStarted,
        Input::RebootFailed(why()),
        Input::HealthPassed,
        Input::HealthFailed(why()),
        Input::SlotConfirmed,
        Input::ConfirmFailed(why()),
        Input::WentBack,
        Input::GoBackFailed(why()),
    ];
    all.extend(
        [
            Situation::OnOld,
            Situation::OnOldSwitched,
            Situation::OnOldTriesUsed,
            Situation::OnNewTrial,
            Situation::OnNewConfirmed,
            Situation::Lost,
        ]
        .map(|situation| Input::Recovered { situation, new_boot: true }),
    );
    all
}

fn block(on_violation: OnViolation) -> Block {
    Block {
        constraint: String::from("example"),
        status: String::from("moving"),
        message: String::from("example"),
        detected_at: None,
        resolution: String::new(),
        estimated_wait: None,
        on_violation,
    }
}

fn example_name() -> crate::ImageName {
    "example.squashfs".parse().unwrap_or_else(|_| unreachable!("a constant name"))
}

/// A job of `kind` in `state`, installed with the default options and a reboot.
#[must_use]
pub fn sample(kind: JobKind, state: JobState) -> Job {
    let release = Release {
        id: "example".parse().unwrap_or_else(|_| unreachable!("a constant id")),
        version: "v5.0.5".parse().unwrap_or_else(|_| unreachable!("a constant version")),
        description: String::new(),
        size: ByteCount(1),
        sha256: Sha256Digest([0; 32]),
        release_date: None,
        critical: false,
        requires_reboot: true,
        kind: ImageKind::Squashfs,
        source: String::from("example"),
        deltas: Vec::new(),
        unpacked_size: None,
    };
    Job {
        id: crate::JobId::from_number(1),
        deployment: None,
        kind,
        release,
        source: Slot::A,
        target: Slot::B,
        priority: Priority::Normal,
        verify_signature: true,
        image: None,
        vouched: None,
        install: Some(InstallOptions {
            strategy: Strategy::Seamless,
            reboot_after: true,
            rollback_on_failure: true,
        }),
        state,
        confirmed_by_hand: false,
        by_itself: false,
        request_id: None,
        counters: Counters::default(),
        boot_id: String::new(),
        created: Timestamp::default(),
        install_started: None,
        updated: Timestamp::default(),
    }
}
