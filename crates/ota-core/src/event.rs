//! What the gateway tells those who watch. Numbers only: percent, speed and durations as text are made at the edge.

use alloc::string::String;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    ByteCount, JobId, Timestamp, Version,
    safety::{ConstraintState, Severity},
};

/// One event. `seq` grows by one per event and never repeats in the life of a device; it may skip over a restart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Position in the stream of this device.
    pub seq: u64,
    /// When it happened.
    pub at: Timestamp,
    /// What happened.
    pub kind: EventKind,
}

/// The five kinds of the user's API. `Progress` may be thinned out, the others are never dropped on our side.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum EventKind {
    /// Bytes moved.
    Progress(Progress),
    /// The gateway as a whole changed state.
    StatusChange {
        /// The new state.
        system: SystemState,
        /// A sentence for people.
        message: String,
        /// How much it matters.
        severity: Severity,
    },
    /// A constraint changed while something depends on it.
    SafetyAlert {
        /// Name of the constraint.
        constraint: String,
        /// Its new state.
        state: ConstraintState,
        /// A sentence for people.
        message: String,
        /// How much it matters.
        severity: Severity,
        /// Whether a job is being held by it.
        action_required: bool,
        /// What the operator can do.
        suggested_action: String,
    },
    /// A phase the client asked for has ended.
    JobComplete {
        /// Which job.
        job: JobId,
        /// Which phase.
        phase: Phase,
        /// How it ended.
        outcome: Outcome,
        /// A sentence for people.
        message: String,
        /// Version the job brings.
        version: Version,
        /// Length of its image.
        size: ByteCount,
        /// Time the phase took.
        duration: Duration,
    },
    /// Something else, by name: `reboot_scheduled`, `override_expired`, `events_dropped`, …
    System {
        /// Its name.
        event: String,
        /// A sentence for people.
        message: String,
        /// Seconds until it takes effect.
        countdown: Option<u32>,
    },
}

impl EventKind {
    /// Whether this event may be dropped for a reader that cannot keep up.
    #[must_use]
    pub const fn may_be_thinned(&self) -> bool {
        matches!(self, Self::Progress(Progress { last: false, .. }))
    }
}

/// How far the current phase of a job is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Which job.
    pub job: JobId,
    /// What it is doing.
    pub operation: Operation,
    /// Bytes done in this operation.
    pub current: ByteCount,
    /// Bytes to do in this operation.
    pub total: ByteCount,
    /// Recent speed, when known.
    pub bytes_per_second: Option<u64>,
    /// The last one of this operation.
    pub last: bool,
}

/// What moves bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// From the update server to staging.
    Downloading,
    /// Through the signature check.
    Verifying,
    /// From staging to the slot.
    WritingPartition,
    /// From the slot, past the page cache, to compare.
    ReadingBack,
}

impl Operation {
    /// The word of `current_operation` on `ws`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Downloading => "downloading",
            Self::Verifying => "verifying",
            Self::WritingPartition => "writing_partition",
            Self::ReadingBack => "reading_back",
        }
    }
}

/// The gateway as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names are the words of the contract")]
pub enum SystemState {
    Idle,
    Downloading,
    Updating,
    RebootPending,
    Rebooting,
    Confirming,
    Degraded,
}

impl SystemState {
    /// The word of `system_status`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Downloading => "downloading",
            Self::Updating => "updating",
            Self::RebootPending => "reboot_pending",
            Self::Rebooting => "rebooting",
            Self::Confirming => "confirming",
            Self::Degraded => "degraded",
        }
    }
}

/// A part of a job that a client asks for as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Up to the verified image in staging.
    Download,
    /// Up to the confirmed boot.
    Install,
}

/// How a phase ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names are the words of the contract")]
pub enum Outcome {
    Success,
    Failed,
    Cancelled,
    RolledBack,
}
