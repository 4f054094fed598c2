//! Requests as resolved: everything in them is already parsed and well-formed.

use ota_core::{
    DeploymentId, JobId, Slot, UpdateId, Version,
    error::OtaError,
    job::{InstallOptions, Priority},
    ports::Role,
    release::{Release, StagedImage, Vouched},
};

/// Who asks. Goes into the audit record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// Token name, `session:<name>`, `cert:<name>`, or `gateway` for what it does by itself.
    pub name: String,
    /// Role of the token.
    pub role: Option<Role>,
    /// Address the request came from.
    pub address: Option<String>,
    /// Request id.
    pub request_id: Option<String>,
}

impl Actor {
    /// The gateway itself.
    #[must_use]
    pub fn gateway() -> Self {
        Self { name: "gateway".into(), role: None, address: None, request_id: None }
    }

    /// Whether nobody asked: a token of that name has a role.
    pub(crate) fn is_gateway(&self) -> bool {
        *self == Self::gateway()
    }
}

/// Start a download.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DownloadRequest {
    /// Which release.
    pub update_id: UpdateId,
    /// If given, must be the release's.
    pub version: Option<Version>,
    /// If given, must be the inactive slot.
    pub target: Option<Slot>,
    /// Share of speed.
    pub priority: Priority,
    /// `false` is refused unless the device's policy allows unsigned images.
    pub verify_signature: bool,
}

/// Install a downloaded job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstallRequest {
    /// Which job.
    pub job: JobRef,
    /// How.
    pub options: InstallOptions,
}

/// Cancel a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CancelRequest {
    /// Which job.
    pub job: JobRef,
    /// Why; goes into the record.
    pub reason: String,
}

/// Install an uploaded image that was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeployRequest {
    /// What it is: version label, description, size, digest, format.
    pub release: Release,
    /// Where it lies: the file as it was uploaded, with its trailer where it has one.
    pub image: StagedImage,
    /// What the verifier said of exactly these bytes.
    pub vouched: Vouched,
    /// If given, must be the inactive slot.
    pub target: Option<Slot>,
    /// How.
    pub options: InstallOptions,
}

/// Go back to the version in the other slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RollbackRequest {
    /// If given, must be the version in the other slot.
    pub target_version: Option<Version>,
}

/// A job by either of its names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobRef {
    /// `OTA-JOB-…`
    Job(JobId),
    /// `DEP-…`
    Deployment(DeploymentId),
}

impl JobRef {
    /// Parses either name.
    ///
    /// # Errors
    /// `JobNotFound` (OTA_013): a malformed name is the name of no job.
    pub fn parse(text: &str) -> Result<Self, OtaError> {
        text.parse()
            .map(Self::Job)
            .or_else(|_| text.parse().map(Self::Deployment))
            .map_err(|_| OtaError::JobNotFound { id: text.chars().take(64).collect(), ended: false })
    }
}

impl std::fmt::Display for JobRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Job(id) => id.fmt(f),
            Self::Deployment(id) => id.fmt(f),
        }
    }
}
