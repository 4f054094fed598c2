//! A job and the states it can be in.

use alloc::string::String;

use serde::{Deserialize, Serialize};

use crate::{
    ByteCount, DeploymentId, ErrorCode, JobId, OtaError, Slot, Timestamp,
    release::{Release, StagedImage, Vouched},
    safety::{Block, OnViolation},
};

/// One update, from the request to its end. This is the record that the journal keeps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Its name.
    pub id: JobId,
    /// Its name as a deployment, for uploaded images.
    pub deployment: Option<DeploymentId>,
    /// Where the image comes from.
    pub kind: JobKind,
    /// What it brings.
    pub release: Release,
    /// The slot the system ran from when the job was made; never written.
    pub source: Slot,
    /// The slot that receives the image.
    pub target: Slot,
    /// Share of speed and IO.
    pub priority: Priority,
    /// Whether a trusted signature over the image is required (policy may require it anyway).
    pub verify_signature: bool,
    /// The image in staging, once it is whole.
    pub image: Option<StagedImage>,
    /// Who vouches for it, once it is verified.
    pub vouched: Option<Vouched>,
    /// How it is to be installed, once that was asked for.
    pub install: Option<InstallOptions>,
    /// Where it stands.
    pub state: JobState,
    /// Somebody has said that the trial is good, and was told that this is known. Not asked of people a second time.
    #[serde(default)]
    pub confirmed_by_hand: bool,
    /// The gateway made it by its own initiative, and may install or replace it without being asked.
    #[serde(default)]
    pub by_itself: bool,
    /// Id of the request that made it, or that had it installed since; none for what the gateway does by itself.
    #[serde(default)]
    pub request_id: Option<String>,
    /// Loop guards.
    pub counters: Counters,
    /// The kernel's boot id when this record was written: the same id means that only the daemon restarted.
    pub boot_id: String,
    /// When it was asked for.
    pub created: Timestamp,
    /// When the install was asked for.
    pub install_started: Option<Timestamp>,
    /// When this record was written.
    pub updated: Timestamp,
}

impl Job {
    /// Whether it was asked for with the strategy that works inside `update` windows only.
    #[must_use]
    pub fn waits_for_windows(&self) -> bool {
        self.install.is_some_and(|options| options.strategy == Strategy::MaintenanceWindow)
    }
}

/// Where the image of a job comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobKind {
    /// An update server.
    Update,
    /// An upload.
    Deployment,
    /// The other slot, as it is.
    Rollback,
}

/// How often a job did what must not happen for ever. Limits: [`super::MAX_CHANGES`] and its siblings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Durable state changes that nobody asked for by hand.
    pub changes: u8,
    /// Starts of the install.
    pub installs: u8,
    /// Reboots into the trial.
    pub trials: u8,
}

/// How a job is to be installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstallOptions {
    /// When and how.
    pub strategy: Strategy,
    /// Whether the gateway restarts by itself once the slot is switched.
    pub reboot_after: bool,
    /// Whether a failed health check brings the old slot back. The boot loader's trial stays in any case.
    pub rollback_on_failure: bool,
}

/// When and how an install runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// Write the inactive slot in the background.
    #[default]
    Seamless,
    /// The same, started and rebooted inside the next `update` window.
    MaintenanceWindow,
    /// Full speed, reboot as soon as safety allows.
    Immediate,
}

/// Share of speed and IO priority.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names are the words of the contract")]
pub enum Priority {
    Low,
    #[default]
    Normal,
    High,
    Critical,
}

/// Where a job stands. Data lives in the variant that needs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum JobState {
    /// Recorded, nothing done yet.
    Queued,
    /// Bytes are arriving in staging.
    Downloading {
        /// Bytes that are in staging: durable ones while they arrive, all of them when it stands still.
        have: ByteCount,
        /// Why it stands still.
        #[serde(default)]
        held: Option<Held>,
    },
    /// The download stopped by request.
    Paused {
        /// Bytes that are in staging.
        have: ByteCount,
    },
    /// The signature is being checked.
    Verifying,
    /// Verified and whole in staging; waits for `install`.
    Downloaded,
    /// Waits for the next `update` window.
    Scheduled,
    /// Durable step 1–2: INSTALLING is recorded, the target is being made not bootable.
    Fencing {
        /// Why it has not begun.
        #[serde(default)]
        held: Option<Held>,
    },
    /// Durable step 3–4: the target is being written, then read back.
    Writing {
        /// Bytes written.
        written: ByteCount,
        /// Why it stands still.
        #[serde(default)]
        held: Option<Held>,
    },
    /// Durable steps 5–6: the slot holds the verified bytes; the switch is under way, or waits for safety.
    Installed {
        /// Why the switch waits.
        held: Option<Held>,
    },
    /// Durable step 7: the next boot is a trial of the target; waits for the reboot.
    Armed {
        /// Why the reboot waits.
        held: Option<Held>,
    },
    /// The reboot was asked for.
    Rebooting,
    /// Durable step 9, on the new slot: digest and health are being checked.
    Confirming {
        /// A check failed and `rollback_on_failure` is off: somebody has to judge the trial by hand.
        unhealthy: Option<Failure>,
    },
    /// Durable step 9, on the new slot: judged good; the environment is being confirmed.
    Committing,
    /// On the new slot: the environment is being set back to the old one, then the gateway reboots.
    FallingBack {
        /// How the job will end.
        end: End,
    },
    /// On the old slot: the environment is being set back to it.
    Undoing {
        /// How the job will end.
        end: End,
    },
    /// Ended: the new slot is confirmed.
    Succeeded,
    /// Ended without a change of the running slot.
    Failed {
        /// Why.
        why: Failure,
    },
    /// Ended by request.
    Cancelled {
        /// The reason that was given.
        reason: String,
    },
    /// Ended: the new slot was tried and given up; the old one runs.
    RolledBack {
        /// Why.
        why: Failure,
    },
}

/// What a job waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Held {
    /// Safety constraints.
    Safety(alloc::vec::Vec<Block>),
    /// Somebody else to reboot the gateway (`reboot_after: false`).
    ExternalReboot,
    /// The next `update` window: the one it was started in has closed.
    Window,
}

/// How a job that is being undone will end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "end", rename_all = "snake_case")]
pub enum End {
    /// As rolled back.
    RolledBack {
        /// Why.
        why: Failure,
    },
    /// As failed.
    Failed {
        /// Why.
        why: Failure,
    },
    /// As cancelled.
    Cancelled {
        /// The reason that was given.
        reason: String,
    },
}

impl From<End> for JobState {
    fn from(end: End) -> Self {
        match end {
            End::RolledBack { why } => Self::RolledBack { why },
            End::Failed { why } => Self::Failed { why },
            End::Cancelled { reason } => Self::Cancelled { reason },
        }
    }
}

/// Why a job failed, as it is kept and shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Code of the public table; none for failures that only the log explains.
    pub code: Option<ErrorCode>,
    /// The contract's word for `details.reason`, where it has one.
    pub reason: Option<String>,
    /// A sentence for people.
    pub message: String,
}

impl Failure {
    /// A failure without a public code.
    pub fn internal(message: impl Into<String>) -> Self {
        Self { code: None, reason: None, message: message.into() }
    }

    /// The same with the contract's word for it.
    pub fn because(reason: &str, message: impl Into<String>) -> Self {
        Self { code: None, reason: Some(reason.into()), message: message.into() }
    }
}

impl Failure {
    /// A job that safety ended, because the constraint says so (`on_violation = "abort"`).
    #[must_use]
    pub fn unsafe_now(blocks: &[Block]) -> Self {
        let decisive =
            blocks.iter().find(|block| block.on_violation == OnViolation::Abort).or(blocks.first());
        let message = decisive.map_or_else(String::new, |block| {
            alloc::format!("ended by safety: {} ({})", block.message, block.constraint)
        });
        Self { code: Some(ErrorCode::UpdateBlocked), reason: Some("safety".into()), message }
    }
}

impl From<&OtaError> for Failure {
    fn from(error: &OtaError) -> Self {
        let reason = match error {
            OtaError::SignatureInvalid { reason, .. } => Some(reason.as_str().into()),
            OtaError::ServerUnreachable { reason, .. } => Some(reason.as_str().into()),
            _ => None,
        };
        Self { code: Some(error.code()), reason, message: alloc::format!("{error}") }
    }
}

/// The word for a job's state in the user's API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names are the words of the contract")]
pub enum JobStatus {
    Queued,
    Downloading,
    Paused,
    Verifying,
    Downloaded,
    Scheduled,
    Installing,
    Rebooting,
    Confirming,
    Succeeded,
    Failed,
    Cancelled,
    RolledBack,
}

impl JobStatus {
    /// Each of them, in the order in which a job goes through them.
    pub const ALL: [Self; 13] = [
        Self::Queued,
        Self::Downloading,
        Self::Paused,
        Self::Verifying,
        Self::Downloaded,
        Self::Scheduled,
        Self::Installing,
        Self::Rebooting,
        Self::Confirming,
        Self::Succeeded,
        Self::Failed,
        Self::Cancelled,
        Self::RolledBack,
    ];

    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Downloading => "downloading",
            Self::Paused => "paused",
            Self::Verifying => "verifying",
            Self::Downloaded => "downloaded",
            Self::Scheduled => "scheduled",
            Self::Installing => "installing",
            Self::Rebooting => "rebooting",
            Self::Confirming => "confirming",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::RolledBack => "rolled_back",
        }
    }

    /// Whether nothing follows.
    #[must_use]
    pub const fn is_end(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled | Self::RolledBack)
    }
}

impl JobState {
    /// The word for it in the user's API.
    #[must_use]
    pub const fn status(&self) -> JobStatus {
        match self {
            Self::Queued => JobStatus::Queued,
            Self::Downloading { .. } => JobStatus::Downloading,
            Self::Paused { .. } => JobStatus::Paused,
            Self::Verifying => JobStatus::Verifying,
            Self::Downloaded => JobStatus::Downloaded,
            Self::Scheduled => JobStatus::Scheduled,
            Self::Fencing { .. } | Self::Writing { .. } | Self::Installed { .. } | Self::Undoing { .. } => {
                JobStatus::Installing
            }
            Self::Armed { .. } | Self::Rebooting | Self::FallingBack { .. } => JobStatus::Rebooting,
            Self::Confirming { .. } | Self::Committing => JobStatus::Confirming,
            Self::Succeeded => JobStatus::Succeeded,
            Self::Failed { .. } => JobStatus::Failed,
            Self::Cancelled { .. } => JobStatus::Cancelled,
            Self::RolledBack { .. } => JobStatus::RolledBack,
        }
    }

    /// Name of the variant, for refusals and the table.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Queued => "Queued",
            Self::Downloading { .. } => "Downloading",
            Self::Paused { .. } => "Paused",
            Self::Verifying => "Verifying",
            Self::Downloaded => "Downloaded",
            Self::Scheduled => "Scheduled",
            Self::Fencing { .. } => "Fencing",
            Self::Writing { .. } => "Writing",
            Self::Installed { .. } => "Installed",
            Self::Armed { .. } => "Armed",
            Self::Rebooting => "Rebooting",
            Self::Confirming { .. } => "Confirming",
            Self::Committing => "Committing",
            Self::FallingBack { .. } => "FallingBack",
            Self::Undoing { .. } => "Undoing",
            Self::Succeeded => "Succeeded",
            Self::Failed { .. } => "Failed",
            Self::Cancelled { .. } => "Cancelled",
            Self::RolledBack { .. } => "RolledBack",
        }
    }

    /// Whether nothing follows.
    #[must_use]
    pub const fn is_end(&self) -> bool {
        self.status().is_end()
    }

    /// What the job waits for, if it waits in the middle of its work.
    #[must_use]
    pub const fn held(&self) -> Option<&Held> {
        match self {
            Self::Downloading { held, .. }
            | Self::Fencing { held }
            | Self::Writing { held, .. }
            | Self::Installed { held }
            | Self::Armed { held } => held.as_ref(),
            _ => None,
        }
    }

    /// The failure that ended the job, if one did.
    #[must_use]
    pub const fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Failed { why } | Self::RolledBack { why } => Some(why),
            _ => None,
        }
    }
}
