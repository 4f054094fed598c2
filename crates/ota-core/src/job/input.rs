//! What a job can be told.

use alloc::{string::String, vec::Vec};

use crate::{
    ByteCount,
    job::{Failure, InstallOptions},
    release::{StagedImage, Vouched},
    safety::{Block, OnViolation},
};

/// A request, an outcome of an effect, or what was found after a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "each is named by the effect or request it belongs to; `Effect` documents the pairs"
)]
pub enum Input {
    // Requests.
    Start,
    Pause,
    Resume,
    Install(InstallOptions),
    Cancel {
        reason: String,
    },
    /// The trial is judged good by hand.
    ConfirmByHand,
    /// The trial is judged bad by hand.
    RejectByHand {
        reason: String,
    },
    // Outcomes.
    FetchProgress {
        have: ByteCount,
    },
    Fetched(StagedImage),
    FetchFailed(Failure),
    Verified(Vouched),
    VerifyFailed(Failure),
    WindowOpen,
    /// The window of a scheduled job is closed.
    WindowClosed,
    Fenced,
    FenceFailed(Failure),
    WriteProgress {
        written: ByteCount,
    },
    Written,
    WriteFailed(Failure),
    Armed,
    ArmFailed(Failure),
    /// Safety holds the step back, or says during the work that it should not go on.
    Blocked(Vec<Block>),
    Unblocked,
    RebootStarted,
    RebootFailed(Failure),
    HealthPassed,
    HealthFailed(Failure),
    SlotConfirmed,
    ConfirmFailed(Failure),
    WentBack,
    GoBackFailed(Failure),
    /// After a restart. `new_boot`: the kernel's boot id differs from the record's; otherwise only the daemon restarted
    /// and nothing about a boot may be concluded.
    Recovered {
        situation: Situation,
        new_boot: bool,
    },
}

impl Input {
    /// Name of the variant, for refusals and the table.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Start => "Start",
            Self::Pause => "Pause",
            Self::Resume => "Resume",
            Self::Install(_) => "Install",
            Self::Cancel { .. } => "Cancel",
            Self::ConfirmByHand => "ConfirmByHand",
            Self::RejectByHand { .. } => "RejectByHand",
            Self::FetchProgress { .. } => "FetchProgress",
            Self::Fetched(_) => "Fetched",
            Self::FetchFailed(_) => "FetchFailed",
            Self::Verified(_) => "Verified",
            Self::VerifyFailed(_) => "VerifyFailed",
            Self::WindowOpen => "WindowOpen",
            Self::WindowClosed => "WindowClosed",
            Self::Fenced => "Fenced",
            Self::FenceFailed(_) => "FenceFailed",
            Self::WriteProgress { .. } => "WriteProgress",
            Self::Written => "Written",
            Self::WriteFailed(_) => "WriteFailed",
            Self::Armed => "Armed",
            Self::ArmFailed(_) => "ArmFailed",
            Self::Blocked(blocks) => match OnViolation::strictest(blocks) {
                OnViolation::HoldReboot => "Blocked",
                OnViolation::PauseWrite => "Blocked(pause_write)",
                OnViolation::Abort => "Blocked(abort)",
            },
            Self::Unblocked => "Unblocked",
            Self::RebootStarted => "RebootStarted",
            Self::RebootFailed(_) => "RebootFailed",
            Self::HealthPassed => "HealthPassed",
            Self::HealthFailed(_) => "HealthFailed",
            Self::SlotConfirmed => "SlotConfirmed",
            Self::ConfirmFailed(_) => "ConfirmFailed",
            Self::WentBack => "WentBack",
            Self::GoBackFailed(_) => "GoBackFailed",
            Self::Recovered { situation: Situation::OnOld, .. } => "Recovered(OnOld)",
            Self::Recovered { situation: Situation::OnOldSwitched, .. } => "Recovered(OnOldSwitched)",
            Self::Recovered { situation: Situation::OnOldTriesUsed, .. } => "Recovered(OnOldTriesUsed)",
            Self::Recovered { situation: Situation::OnNewTrial, .. } => "Recovered(OnNewTrial)",
            Self::Recovered { situation: Situation::OnNewConfirmed, .. } => "Recovered(OnNewConfirmed)",
            Self::Recovered { situation: Situation::Lost, .. } => "Recovered(Lost)",
        }
    }

    /// Whether a person or program asked for it; such changes do not count against the loop guard.
    #[must_use]
    pub const fn is_request(&self) -> bool {
        matches!(
            self,
            Self::Start
                | Self::Pause
                | Self::Resume
                | Self::Install(_)
                | Self::Cancel { .. }
                | Self::ConfirmByHand
                | Self::RejectByHand { .. }
        )
    }
}

/// Where the device woke up, seen from a job. Made by [`super::situation`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Situation {
    /// On the source slot; the environment does not name the target for the next boot.
    OnOld,
    /// On the source slot; the environment still has a trial of the target to come.
    OnOldSwitched,
    /// On the source slot; the boot loader used up the target's tries and came back.
    OnOldTriesUsed,
    /// On the target, on trial.
    OnNewTrial,
    /// On the target, no trial: it is confirmed.
    OnNewConfirmed,
    /// On neither, or the environment cannot be read: nothing may be written.
    Lost,
}
