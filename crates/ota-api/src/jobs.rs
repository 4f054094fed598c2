//! `updates/jobs`: the history of jobs, newest first.

use jiff::Timestamp;
use ota_core::{
    job::{Failure, Held, Job, JobState},
    ports::JobPage,
    safety::Block,
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::{
    advice, text,
    words::{JobKind, JobStatus, Partition, Priority, Strategy},
};

/// Query of `updates/jobs`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct JobsQuery {
    /// Jobs to skip, newest first; 0 when absent.
    #[serde(default)]
    pub offset: Option<u64>,
    /// 1 to 200; 50 when absent.
    #[serde(default)]
    #[param(minimum = 1, maximum = 200)]
    pub limit: Option<u32>,
}

/// Answer of `updates/jobs`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct JobList {
    /// The jobs, newest first.
    pub jobs: Vec<JobInfo>,
    /// How many there are in all.
    pub total: u64,
    /// How many were skipped.
    pub offset: u64,
    /// How many were asked for at most.
    pub limit: u32,
}

impl JobList {
    /// A page as it was asked for.
    #[must_use]
    pub fn new(page: &JobPage, offset: u64, limit: u32) -> Self {
        Self { jobs: page.jobs.iter().map(JobInfo::from).collect(), total: page.total, offset, limit }
    }
}

/// A job as recorded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct JobInfo {
    /// The job.
    pub job_id: String,
    /// Its other name, for a deployment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment_id: Option<String>,
    /// Where the image comes from.
    pub kind: JobKind,
    /// Where it stands.
    pub status: JobStatus,
    /// A sentence for people.
    pub current_operation: String,
    /// Whether the job has ended.
    pub ended: bool,
    /// Which release.
    pub update_id: String,
    /// Version it brings.
    pub version: String,
    /// Length of its image in bytes.
    pub size: u64,
    /// `sha256:` and the digest of its image.
    pub checksum: String,
    /// The partition the system ran from when the job was made.
    pub source_partition: Partition,
    /// The partition that receives the image.
    pub target_partition: Partition,
    /// Share of speed and IO.
    pub priority: Priority,
    /// How it is to be installed, once that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub install: Option<InstallInfo>,
    /// Who vouches for the image; empty before the verification and for an allowed unsigned image.
    #[serde(default)]
    pub signers: Vec<String>,
    /// What the job waits for, if it waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_for: Option<Waiting>,
    /// Why the job failed, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<JobError>,
    /// The reason that was given for a cancel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel_reason: Option<String>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When the record was last written.
    pub updated_at: Timestamp,
}

impl From<&Job> for JobInfo {
    fn from(job: &Job) -> Self {
        let cancel_reason = match &job.state {
            JobState::Cancelled { reason } => Some(reason.clone()),
            _ => None,
        };
        Self {
            job_id: job.id.to_string(),
            deployment_id: job.deployment.as_ref().map(ToString::to_string),
            kind: job.kind.into(),
            status: job.state.status().into(),
            current_operation: crate::updates::state_sentence(&job.state).into(),
            ended: job.state.is_end(),
            update_id: job.release.id.to_string(),
            version: job.release.version.to_string(),
            size: job.release.size.get(),
            checksum: format!("sha256:{}", job.release.sha256),
            source_partition: job.source.into(),
            target_partition: job.target.into(),
            priority: job.priority.into(),
            install: job.install.map(InstallInfo::from),
            signers: job.vouched.iter().flat_map(|v| v.signers.iter().map(|s| s.name.clone())).collect(),
            waiting_for: Waiting::of(&job.state),
            failure: failure_of(job),
            cancel_reason,
            created_at: text::time(job.created),
            updated_at: text::time(job.updated),
        }
    }
}

/// How a job is installed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InstallInfo {
    /// When and how.
    pub strategy: Strategy,
    /// Whether the gateway restarts by itself.
    pub reboot_after: bool,
    /// Whether a failed health check brings the old partition back.
    pub rollback_on_failure: bool,
}

impl From<ota_core::job::InstallOptions> for InstallInfo {
    fn from(core: ota_core::job::InstallOptions) -> Self {
        Self {
            strategy: core.strategy.into(),
            reboot_after: core.reboot_after,
            rollback_on_failure: core.rollback_on_failure,
        }
    }
}

/// Why a job failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JobError {
    /// `OTA_001` to `OTA_015`; absent for failures that only the log explains.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Symbolic name of the code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The word of `details.reason`, where the condition has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// A sentence for people.
    pub message: String,
    /// What people can do about it.
    #[serde(default)]
    pub suggested_actions: Vec<String>,
    /// Id of the request that asked for it; the audit has it, and the log. Absent for what the gateway did by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

impl JobError {
    fn new(core: &Failure, request_id: Option<&String>) -> Self {
        Self {
            request_id: request_id.cloned(),
            code: core.code.map(|code| code.to_string()),
            name: core.code.map(|code| code.name().into()),
            reason: core.reason.clone(),
            message: core.message.clone(),
            suggested_actions: advice::of_failure(core).iter().map(|action| (*action).into()).collect(),
        }
    }
}

/// The failure that ended a job, or for which its trial waits to be judged by hand.
#[must_use]
pub fn failure_of(job: &Job) -> Option<JobError> {
    let why = match &job.state {
        JobState::Confirming { unhealthy: Some(why) } => Some(why),
        other => other.failure(),
    };
    why.map(|why| JobError::new(why, job.request_id.as_ref()))
}

/// What a job waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Waiting {
    /// `safety`, `reboot`, `window`, `judgement` or `resume`.
    pub reason: String,
    /// The constraints, when it is `safety`.
    #[serde(default)]
    pub constraints: Vec<Blocking>,
}

impl Waiting {
    /// What a job in `state` waits for.
    #[must_use]
    pub fn of(state: &JobState) -> Option<Self> {
        let plain = |reason: &str| Some(Self { reason: reason.into(), constraints: Vec::new() });
        match state {
            state if state.held().is_some() => match state.held()? {
                Held::Safety(blocks) => Some(Self {
                    reason: "safety".into(),
                    constraints: blocks.iter().map(Blocking::from).collect(),
                }),
                Held::ExternalReboot => plain("reboot"),
                Held::Window => plain("window"),
            },
            JobState::Scheduled => plain("window"),
            JobState::Paused { .. } => plain("resume"),
            JobState::Confirming { unhealthy: Some(_) } => plain("judgement"),
            _ => None,
        }
    }
}

/// One constraint that holds a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Blocking {
    /// Name of the constraint.
    pub constraint: String,
    /// The reading in a word or two, `moving`.
    pub status: String,
    /// A sentence for people.
    pub message: String,
    /// Since when it is so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detected_at: Option<Timestamp>,
    /// What the operator can do.
    pub resolution: String,
    /// `HH:MM:SS` it may last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimated_wait: Option<String>,
    /// The same in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimated_wait_seconds: Option<u64>,
}

impl From<&Block> for Blocking {
    fn from(block: &Block) -> Self {
        let wait = block.estimated_wait.map(text::wait_seconds);
        Self {
            constraint: block.constraint.clone(),
            status: block.status.clone(),
            message: block.message.clone(),
            detected_at: block.detected_at.map(text::time),
            resolution: block.resolution.clone(),
            estimated_wait: wait.map(text::hms),
            estimated_wait_seconds: wait,
        }
    }
}
