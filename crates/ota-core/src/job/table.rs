//! The table of transitions, made by asking [`step`] about every state and every input.

use alloc::{format, string::String, vec, vec::Vec};

use super::{
    Counters, End, Failure, Held, Input, InstallOptions, Job, JobKind, JobState, Priority, Situation,
    Strategy, step,
};
use crate::{
    ByteCount, Sha256Digest, Slot, Timestamp,
    release::{ImageKind, Release, StagedImage, Vouched},
};

/// `docs/job-states.md`: every state × every input that is taken, with the next state and the effects.
#[must_use]
pub fn markdown() -> String {
    let mut text = String::from(
        "# Job states\n\nMade by `ota_core::job::table::markdown` from the function that decides; a test fails when this \
         file is stale\n(`cargo xtask test`; `OTA_BLESS=1 cargo test -p ota-core` writes it). A pair that is not listed is \
         refused.\nStates and the words of the API: `downloading`, `installing`, … stand in the second column.\n\n",
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
        JobState::Installed { held: Some(_) } | JobState::Armed { held: Some(Held::Safety(_)) } => {
            " (held by safety)"
        }
        JobState::Armed { held: Some(Held::ExternalReboot) } => " (waits for a reboot)",
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
        JobState::Downloading { have: ByteCount::ZERO },
        JobState::Paused { have: ByteCount::ZERO },
        JobState::Verifying,
        JobState::Downloaded,
        JobState::Scheduled,
        JobState::Fencing,
        JobState::Writing { written: ByteCount::ZERO },
        JobState::Installed { held: None },
        JobState::Installed { held: Some(Held::Safety(Vec::new())) },
        JobState::Armed { held: None },
        JobState::Armed { held: Some(Held::Safety(Vec::new())) },
        JobState::Armed { held: Some(Held::ExternalReboot) },
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
        Input::Verified(Vouched { sha256: digest, size, signers: Vec::new() }),
        Input::VerifyFailed(why()),
        Input::WindowOpen,
        Input::Fenced,
        Input::FenceFailed(why()),
        Input::WriteProgress { written: ByteCount::ZERO },
        Input::Written,
        Input::WriteFailed(why()),
        Input::Armed,
        Input::ArmFailed(why()),
        Input::Blocked(Vec::new()),
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
        counters: Counters::default(),
        boot_id: String::new(),
        created: Timestamp::default(),
        install_started: None,
        updated: Timestamp::default(),
    }
}
