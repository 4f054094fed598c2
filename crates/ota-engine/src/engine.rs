//! The handle: what the HTTP edge and embedders call.

use std::sync::Arc;

use ota_core::{
    JobId, Version,
    job::Job,
    ports::{
        AuditLog, BootControl, Clock, HealthChecks, ImageStore, ImageVerifier, JobJournal, JobPage, Rebooter, SafetyGate,
        Settings, SlotFacts, SlotWriter, SystemProbe, UpdateSource,
    },
    release::Release,
    safety::SafetyReport,
};
use tokio::sync::watch;

use crate::{
    Actor, Bus, CancelRequest, DownloadRequest, EngineError, InstallRequest, JobRef, JobView, Subscription, SystemView,
};

/// The adapters an engine works through.
#[derive(Clone)]
#[expect(missing_docs, reason = "each field is named like the port it holds")]
pub struct Ports {
    pub boot: Arc<dyn BootControl>,
    pub slots: Arc<dyn SlotWriter>,
    pub images: Arc<dyn ImageStore>,
    pub verifier: Arc<dyn ImageVerifier>,
    pub sources: Vec<Arc<dyn UpdateSource>>,
    pub journal: Arc<dyn JobJournal>,
    pub facts: Arc<dyn SlotFacts>,
    pub audit: Arc<dyn AuditLog>,
    pub settings: Arc<dyn Settings>,
    pub safety: Arc<dyn SafetyGate>,
    pub health: Arc<dyn HealthChecks>,
    pub rebooter: Arc<dyn Rebooter>,
    pub probe: Arc<dyn SystemProbe>,
    pub clock: Arc<dyn Clock>,
    /// Changes whenever a safety verdict may have changed.
    pub safety_changes: watch::Receiver<u64>,
}

/// Who this gateway is, for `system/status`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayIdentity {
    /// Host name or site name.
    pub name: String,
    /// Model that releases are made for.
    pub model: String,
    /// Serial number.
    pub serial: String,
}

/// How the engine behaves.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Who this gateway is.
    pub identity: GatewayIdentity,
    /// Version of the running system as its own files state it.
    pub running_version: Option<Version>,
    /// Tries of a trial boot, 1–3.
    pub tries: u8,
    /// Whether images that no trusted key signed may be installed at all.
    pub allow_unsigned: bool,
    /// Seconds between the announcement of a reboot and the reboot.
    pub reboot_countdown: u32,
    /// Whether the digest of the running slot is compared with the record before the health checks.
    pub verify_slot_digest: bool,
}

/// A handle to the running engine; cheap to clone.
#[derive(Clone)]
pub struct Engine {
    _todo: (),
}

#[expect(clippy::unused_async, clippy::missing_errors_doc, reason = "skeleton")]
impl Engine {
    /// Recovers what the last run left, then takes requests.
    pub async fn start(_ports: Ports, _config: EngineConfig) -> Result<Self, EngineError> {
        unreachable!()
    }
    /// Asks every source for releases newer than the running version.
    pub async fn check(&self) -> Result<Vec<Release>, EngineError> {
        unreachable!()
    }
    /// Starts a download.
    pub async fn download(&self, _by: &Actor, _request: DownloadRequest) -> Result<Job, EngineError> {
        unreachable!()
    }
    /// Installs a downloaded job.
    pub async fn install(&self, _by: &Actor, _request: InstallRequest) -> Result<Job, EngineError> {
        unreachable!()
    }
    /// Cancels a job.
    pub async fn cancel(&self, _by: &Actor, _request: CancelRequest) -> Result<Job, EngineError> {
        unreachable!()
    }
    /// Pauses a download; `None` is the active job.
    pub async fn pause(&self, _by: &Actor, _job: Option<JobRef>) -> Result<Job, EngineError> {
        unreachable!()
    }
    /// Goes on with a paused download; `None` is the active job.
    pub async fn resume(&self, _by: &Actor, _job: Option<JobRef>) -> Result<Job, EngineError> {
        unreachable!()
    }
    /// Judges a trial by hand.
    pub async fn judge_trial(&self, _by: &Actor, _good: bool, _reason: String) -> Result<Job, EngineError> {
        unreachable!()
    }
    /// A job and its live progress; `None` is the active job.
    pub async fn progress(&self, _job: Option<JobRef>) -> Result<JobView, EngineError> {
        unreachable!()
    }
    /// A page of the history, newest first; `limit` 1–200.
    pub async fn jobs(&self, _offset: u64, _limit: u32) -> Result<JobPage, EngineError> {
        unreachable!()
    }
    /// The gateway as a whole.
    pub async fn status(&self) -> Result<SystemView, EngineError> {
        unreachable!()
    }
    /// Every constraint as it stands.
    #[must_use]
    pub fn safety(&self) -> SafetyReport {
        unreachable!()
    }
    /// Whether a download, install … may start now is asked for each step by the engine itself; this is for display.
    #[must_use]
    pub fn bus(&self) -> &Arc<Bus> {
        unreachable!()
    }
    /// Events after `since` that are still in the ring, then new ones; `None`: new ones only.
    #[must_use]
    pub fn subscribe(&self, _since: Option<u64>) -> Subscription {
        unreachable!()
    }
    /// The job ids in use, for tests.
    #[must_use]
    pub fn active_job(&self) -> Option<JobId> {
        unreachable!()
    }
    /// Stops taking requests, stops what can be resumed, makes the rest durable.
    pub async fn shutdown(&self) {}
}
