//! `updates/…`: check, download, progress, install, cancel, pause, resume, confirm, reject, rollback; factory reset.

use jiff::Timestamp;
use ota_core::{event::Operation, job::JobState, release::Release};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::{
    auth::Secret,
    jobs::{JobError, Waiting},
    text,
    words::{JobStatus, Partition, Phase, Priority, Strategy},
};

/// Answer of `updates/check`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CheckResponse {
    /// Whether there is at least one.
    pub available: bool,
    /// Releases newer than the running version.
    pub updates: Vec<UpdateInfo>,
    /// How many update servers the gateway is configured with: with none, nothing is ever on offer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sources: Option<usize>,
}

/// A release on offer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UpdateInfo {
    /// Name of the release; `update_id` of a download.
    pub id: String,
    /// Firmware version it brings.
    pub version: String,
    /// What it changes, for people. Untrusted text: show it escaped.
    pub description: String,
    /// Length of the image in bytes.
    pub size: u64,
    /// When it was published; absent when the source does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release_date: Option<Timestamp>,
    /// Whether the publisher wants it installed soon.
    pub critical: bool,
    /// Whether it takes a reboot to become active.
    pub requires_reboot: bool,
    /// `sha256:` and the digest of the image.
    #[serde(default)]
    pub checksum: String,
    /// Name of the configured source it comes from.
    #[serde(default)]
    pub source: String,
}

impl From<&Release> for UpdateInfo {
    fn from(release: &Release) -> Self {
        Self {
            id: release.id.to_string(),
            version: release.version.to_string(),
            description: release.description.clone(),
            size: release.size.get(),
            release_date: release.release_date.map(text::time),
            critical: release.critical,
            requires_reboot: release.requires_reboot,
            checksum: format!("sha256:{}", release.sha256),
            source: release.source.clone(),
        }
    }
}

impl CheckResponse {
    /// What so many sources have on offer together.
    #[must_use]
    pub fn new(releases: &[Release], sources: usize) -> Self {
        let updates: Vec<_> = releases.iter().map(UpdateInfo::from).collect();
        Self { available: !updates.is_empty(), updates, sources: Some(sources) }
    }
}

const fn yes() -> bool {
    true
}

/// Body of `updates/download`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DownloadRequest {
    /// Which release.
    #[schema(pattern = r"^[A-Za-z0-9._:+-]{1,128}$")]
    pub update_id: String,
    /// If given, must be the release's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// `A` or `B`; the inactive partition when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_partition: Option<String>,
    /// Share of speed and IO; `normal` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<Priority>,
    /// `false` is refused unless the device's policy allows unsigned images.
    #[serde(default = "yes")]
    pub verify_signature: bool,
}

/// Answer of `updates/download`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DownloadResponse {
    /// `started`.
    pub status: String,
    /// The job that was made.
    pub job_id: String,
    /// `HH:MM:SS`.
    pub estimated_duration: String,
    /// The same in seconds.
    pub estimated_duration_seconds: u64,
    /// A sentence for people.
    pub message: String,
}

/// Query of `updates/progress`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ProgressQuery {
    /// Job or deployment; the active job when absent.
    #[serde(default)]
    pub job_id: Option<String>,
}

/// Answer of `updates/progress`. Also given for a job that has ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ProgressResponse {
    /// The job.
    pub job_id: String,
    /// Its other name, for a deployment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment_id: Option<String>,
    /// Where it stands.
    pub status: JobStatus,
    /// How far the current phase is.
    pub progress: ProgressNumbers,
    /// A sentence for people.
    pub current_operation: String,
    /// `HH:MM:SS` to the end of the current phase; an estimate at a nominal speed while none was measured.
    pub eta: String,
    /// The same in seconds; absent while no speed was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eta_seconds: Option<u64>,
    /// Version the job brings.
    pub version: String,
    /// Partition it writes.
    pub target_partition: Partition,
    /// Whether the job has ended.
    pub ended: bool,
    /// What the job waits for, if it waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_for: Option<Waiting>,
    /// Why the job failed, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<JobError>,
    /// When the record was last written.
    pub updated_at: Timestamp,
}

/// Numbers of a phase, and their human strings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ProgressNumbers {
    /// 0.0 to 100.0, of the current phase.
    pub percentage: f64,
    /// Bytes done in the current phase.
    pub bytes_downloaded: u64,
    /// Bytes to do in the current phase.
    pub bytes_total: u64,
    /// `5.2MB/s`.
    pub speed: String,
    /// The same as a number.
    pub bytes_per_second: u64,
}

/// The sentence of `current_operation` for what moves bytes.
#[must_use]
pub const fn operation_sentence(operation: Operation) -> &'static str {
    match operation {
        Operation::Downloading => "Downloading update package",
        Operation::Verifying => "Verifying the signature",
        Operation::WritingPartition => "Writing the inactive partition",
        Operation::ReadingBack => "Reading the partition back to compare",
    }
}

/// The sentence of `current_operation` for a state in which no bytes move.
#[must_use]
pub const fn state_sentence(state: &JobState) -> &'static str {
    match state {
        JobState::Queued => "Waiting to start",
        JobState::Downloading { .. } => "Downloading update package",
        JobState::Paused { .. } => "Download paused",
        JobState::Verifying => "Verifying the signature",
        JobState::Downloaded => "Downloaded and verified; ready to install",
        JobState::Scheduled => "Waiting for the next update window",
        JobState::Fencing { held: None } => "Making the inactive partition not bootable",
        JobState::Fencing { held: Some(_) } => "Nothing written yet; the install waits",
        JobState::Writing { .. } => "Writing the inactive partition",
        JobState::Installed { held: None } => "Switching partitions",
        JobState::Installed { held: Some(_) } => "Written; the switch waits",
        JobState::Armed { held: None } => "Switched; about to reboot",
        JobState::Armed { held: Some(_) } => "Switched; the reboot waits",
        JobState::Rebooting => "Rebooting into the new version",
        JobState::Confirming { unhealthy: None } => "Checking the health of the new version",
        JobState::Confirming { unhealthy: Some(_) } => "Unhealthy; waiting to be judged by hand",
        JobState::Committing => "Confirming the new version",
        JobState::FallingBack { .. } => "Going back to the old version",
        JobState::Undoing { .. } => "Undoing the switch",
        JobState::Succeeded => "Update installed and confirmed",
        JobState::Failed { .. } => "Update failed",
        JobState::Cancelled { .. } => "Update cancelled",
        JobState::RolledBack { .. } => "Rolled back to the old version",
    }
}

/// Body of `updates/install`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InstallRequest {
    /// Job or deployment.
    pub job_id: String,
    /// When and how; `seamless` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy: Option<Strategy>,
    /// Whether the gateway restarts by itself once the partition is switched.
    #[serde(default)]
    pub reboot_after: bool,
    /// Whether a failed health check brings the old partition back.
    #[serde(default = "yes")]
    pub rollback_on_failure: bool,
    /// The PIN; needed where the gateway's `pin.require_for` has `install`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin: Option<Secret>,
}

/// Answer of `updates/install`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InstallResponse {
    /// `installing` or `scheduled`.
    pub status: String,
    /// A sentence for people.
    pub message: String,
    /// Whether it takes a reboot to become active.
    pub requires_reboot: bool,
    /// `HH:MM:SS`.
    pub estimated_duration: String,
    /// The same in seconds.
    pub estimated_duration_seconds: u64,
    /// The job.
    pub job_id: String,
}

/// Body of `updates/cancel`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CancelRequest {
    /// Job or deployment.
    pub job_id: String,
    /// Why; goes into the record.
    #[serde(default)]
    pub reason: Option<String>,
}

/// Body of `updates/pause` and `updates/resume`; may be absent as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JobRequest {
    /// Job or deployment; the active job when absent.
    #[serde(default)]
    pub job_id: Option<String>,
}

/// Body of `updates/confirm` and `updates/reject`; may be absent as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JudgeRequest {
    /// Why; goes into the record.
    #[serde(default)]
    pub reason: Option<String>,
}

/// Answer of requests that change a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JobResponse {
    /// What became of the job: `cancelled`, `paused`, `downloading`, `confirmed`, …
    pub status: String,
    /// A sentence for people.
    pub message: String,
    /// The job.
    pub job_id: String,
}

/// Body of `updates/rollback`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RollbackRequest {
    /// If given, must be the version in the other partition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_version: Option<String>,
    /// Why; goes into the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The PIN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin: Option<Secret>,
}

/// Answer of `updates/rollback`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RollbackResponse {
    /// `rollback_started`.
    pub status: String,
    /// A sentence for people.
    pub message: String,
    /// `HH:MM:SS`.
    pub estimated_duration: String,
    /// The same in seconds.
    pub estimated_duration_seconds: u64,
    /// The job that was made.
    pub job_id: String,
}

/// The only `confirmation` of a `factory-reset`.
pub const RESET_CONFIRMATION: &str = "I understand this will erase all data";

/// Body of `factory-reset`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FactoryResetRequest {
    /// The PIN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin: Option<Secret>,
    /// Whether settings are saved before.
    #[serde(default)]
    pub backup_settings: bool,
    /// Exactly `I understand this will erase all data`.
    #[serde(default)]
    pub confirmation: String,
}

/// Answer of `factory-reset`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FactoryResetResponse {
    /// `reset_scheduled`.
    pub status: String,
    /// A sentence for people.
    pub message: String,
    /// Whether it waits for a reboot.
    pub reboot_required: bool,
    /// Name of the backup that was made, if one was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<String>,
}

/// The phase a job status belongs to.
#[must_use]
pub const fn phase_of(status: JobStatus) -> Phase {
    match status {
        JobStatus::Queued
        | JobStatus::Downloading
        | JobStatus::Paused
        | JobStatus::Verifying
        | JobStatus::Downloaded => Phase::Download,
        _ => Phase::Install,
    }
}
