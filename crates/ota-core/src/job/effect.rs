//! What the driver is asked to do.

use crate::event::{Outcome, Phase};

/// One thing to do. The driver performs effects in the order given; the outcome of each comes back as an
/// [`Input`](super::Input). All are safe to ask for twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Make the job record durable. Nothing after it may happen before it has.
    Persist,
    /// Fetch the image into staging, from the last durable byte. → `FetchProgress`, `Fetched`, `FetchFailed`
    StartFetch,
    /// Stop fetching; what is durable stays.
    StopFetch,
    /// Check the signature over the staged bytes. → `Verified`, `VerifyFailed`
    VerifyImage,
    /// Tell when an `update` window is open; of a job that is to be started, one that it fits into. → `WindowOpen`
    AwaitWindow,
    /// Ask safety, then make the target not bootable and the source first, in one environment write. → `Fenced`,
    /// `Blocked`, `FenceFailed`
    FenceSlot,
    /// Write the staged image to the target, hash it as written, read it back, compare. → `WriteProgress`, `Written`,
    /// `WriteFailed`
    WriteSlot,
    /// Let the write stand still after the chunk it is at.
    PauseWrite,
    /// Let the write go on.
    ResumeWrite,
    /// Stop writing. The target stays not bootable.
    StopWrite,
    /// Check the digest of the slot that a rollback goes to. → `Written`, `WriteFailed`
    CheckSlot,
    /// Ask safety and the window of a scheduled job, then make the target a trial in one environment write. → `Armed`,
    /// `Blocked`, `WindowClosed`, `ArmFailed`
    ArmSlot,
    /// Ask safety and the window of a scheduled job, then restart the gateway. → `RebootStarted`, `Blocked`,
    /// `WindowClosed`, `RebootFailed`
    Reboot,
    /// Tell when what blocked is gone. → `Unblocked`
    AwaitUnblocked,
    /// Compare the running slot with the record, then run the health checks. → `HealthPassed`, `HealthFailed`
    CheckHealth,
    /// Confirm the running slot in one environment write. → `SlotConfirmed`, `ConfirmFailed`
    ConfirmSlot,
    /// Set the environment back to the source slot, the target not bootable, in one write. → `WentBack`, `GoBackFailed`
    GoBack,
    /// The same after a pause. → `WentBack`, `GoBackFailed`
    GoBackAgain,
    /// Restart into the old slot; safety is asked as for any reboot. → `RebootStarted`, `Blocked`, `RebootFailed`
    RebootBack,
    /// Record the new version of the target slot, the last update, and raise the security floor.
    RecordSuccess,
    /// Delete the staged image.
    DropImage,
    /// Tell that a phase ended.
    Announce(Phase, Outcome),
}

impl Effect {
    /// Name for the table.
    #[must_use]
    pub fn name(&self) -> alloc::string::String {
        match self {
            Self::Announce(phase, outcome) => alloc::format!("Announce({phase:?} {outcome:?})"),
            other => alloc::format!("{other:?}"),
        }
    }
}
