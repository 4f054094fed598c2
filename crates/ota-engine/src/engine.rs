//! The handle: what the HTTP edge and embedders call.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use ota_core::{
    Slot, UpdateId, Version,
    error::{OtaError, PortError, PortErrorKind},
    job::{Input, InstallOptions, Job, JobKind, JobStatus, Priority, Strategy},
    ports::{
        AuditLog, BootControl, Clock, HealthChecks, ImageExpectation, ImageFacts, ImageInspector, ImageStore,
        ImageVerifier, JobJournal, JobPage, Rebooter, SafetyGate, Settings, SlotFacts, SlotWriter,
        SystemProbe, UpdateSource,
    },
    release::Release,
    safety::{SafetyReport, SafetyStep},
};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use crate::{
    Actor, Bus, CancelRequest, DeployRequest, DownloadRequest, EngineError, InstallRequest, JobRef, JobView,
    PendingReset, RollbackRequest, Subscription, SystemView, UserData,
    live::Live,
    runner::{Create, Message, Request, Runner, blocking},
    totals::{Moved, Totals},
    vouch::{unchecked, unsigned},
};

/// Where the time of the last good check is kept: milliseconds since the epoch.
pub(crate) const LAST_GOOD_CHECK: &str = "check.last_good";

/// The adapters an engine works through.
#[derive(Clone)]
#[expect(missing_docs, reason = "each field is named like the port it holds")]
pub struct Ports {
    pub boot: Arc<dyn BootControl>,
    pub slots: Arc<dyn SlotWriter>,
    pub images: Arc<dyn ImageStore>,
    pub verifier: Arc<dyn ImageVerifier>,
    pub inspector: Arc<dyn ImageInspector>,
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
    /// Snapshots and factory reset, where there are any.
    pub user_data: UserData,
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
    /// What a confirmed boot does to the lowest version that may be installed.
    pub security_floor: SecurityFloor,
    /// Lowest version that may be installed, beside what confirmed boots have made of it.
    pub lowest_version: Option<Version>,
    /// Whether the digest of the running slot is compared with the record before the health checks.
    pub verify_slot_digest: bool,
    /// Shortest time between two questions to the update servers; who asks earlier gets the last answer again.
    pub check_pause: Duration,
}

/// What a confirmed boot does to the lowest version that may be installed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SecurityFloor {
    /// It rises to what the configuration says, and no further.
    #[default]
    Fixed,
    /// It rises to the confirmed version, so that no older one can be installed again.
    FollowConfirmed,
}

/// A handle to the running engine; cheap to clone.
#[derive(Clone)]
pub struct Engine {
    pub(crate) shared: Arc<Shared>,
    requests: mpsc::UnboundedSender<Message>,
}

/// What handle and runner both look at.
pub(crate) struct Shared {
    pub(crate) ports: Ports,
    pub(crate) config: EngineConfig,
    pub(crate) bus: Arc<Bus>,
    pub(crate) live: Live,
    pub(crate) moved: Moved,
    pub(crate) active: watch::Sender<Option<Job>>,
    pub(crate) releases: Mutex<Vec<(Release, usize)>>,
    /// One uploaded image is verified at a time.
    pub(crate) examining: Arc<Semaphore>,
    /// The packed image that was looked into last, and what is in it; see [`Shared::known_facts`].
    pub(crate) looked_into: Mutex<Option<(ImageExpectation, ImageFacts)>>,
    /// What excludes installs now; see [`crate::claim`].
    pub(crate) claimed: Mutex<Option<String>>,
    /// The factory reset that waits for a boot.
    pub(crate) reset: Mutex<Option<PendingReset>>,
    /// What the update servers last said. Locked while they are asked.
    checked: tokio::sync::Mutex<Option<Checked>>,
}

/// An answer of the update servers.
struct Checked {
    /// When, on the monotonic clock.
    at: Duration,
    found: Result<Vec<Release>, PortErrorKind>,
}

impl Shared {
    /// Which of the sources offers `id`; by the last check.
    pub(crate) fn release(&self, id: &UpdateId) -> Option<(Release, usize)> {
        let known = self.releases.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().find(|(release, _)| release.id == *id).cloned()
    }

    /// Version of the running system: its own files first, then what we wrote there.
    pub(crate) fn running_version(&self) -> Version {
        self.config.running_version.clone().or_else(|| self.recorded_version()).unwrap_or_else(zero)
    }

    fn recorded_version(&self) -> Option<Version> {
        let slot = self.ports.boot.booted()?;
        self.ports.facts.slot(slot).ok()?.version
    }
}

/// Older than everything, for a system that does not tell its version: every release is newer.
fn zero() -> Version {
    "0.0.0".parse().unwrap_or_else(|_| unreachable!("a constant version"))
}

impl Engine {
    /// Recovers what the last run left, then takes requests.
    ///
    /// # Errors
    /// `Internal` when the store cannot be read at all. A device that cannot be updated (environment unreadable, slot
    /// unknown) is no error here: it is shown in [`Engine::status`].
    pub async fn start(ports: Ports, config: EngineConfig) -> Result<Self, EngineError> {
        let bus = Bus::new(Arc::clone(&ports.journal), Arc::clone(&ports.clock));
        let shared = Arc::new(Shared {
            ports,
            config,
            bus,
            live: Live::default(),
            moved: Moved::default(),
            active: watch::Sender::new(None),
            releases: Mutex::default(),
            examining: Arc::new(Semaphore::new(1)),
            looked_into: Mutex::default(),
            claimed: Mutex::default(),
            reset: Mutex::default(),
            checked: tokio::sync::Mutex::default(),
        });
        let (requests, inbox) = mpsc::unbounded_channel();
        shared.take_up_reset().await?;
        let runner = Runner::recover(Arc::clone(&shared), requests.clone()).await?;
        tokio::spawn(runner.run(inbox));
        Ok(Self { shared, requests })
    }

    /// Asks every source for releases newer than the running version. The first source wins on equal ids. They are asked
    /// by one at a time, and who asks within [`check_pause`](EngineConfig::check_pause) of the last answer gets that again.
    ///
    /// # Errors
    /// The first source's error when none answered: `ServerUnreachable` (OTA_009), `SignatureInvalid` (OTA_006),
    /// `InvalidImage` (OTA_005).
    pub async fn check(&self) -> Result<Vec<Release>, EngineError> {
        let now = || self.shared.ports.clock.monotonic();
        let mut last = self.shared.checked.lock().await;
        let fresh = |last: &&Checked| now().saturating_sub(last.at) < self.shared.config.check_pause;
        if let Some(last) = last.as_ref().filter(fresh) {
            return last.found.clone().map_err(|kind| PortError::from(kind).into());
        }
        let found = self.ask_sources().await?;
        let kept = found.as_ref().map(Clone::clone).map_err(|error| error.kind().clone());
        *last = Some(Checked { at: now(), found: kept });
        Ok(found?)
    }

    /// How many sources it was given.
    #[must_use]
    pub fn sources(&self) -> usize {
        self.shared.ports.sources.len()
    }

    /// Nobody's fault is the outer error; what the sources said is the inner result.
    async fn ask_sources(&self) -> Result<Result<Vec<Release>, PortError>, EngineError> {
        let running = self.blocking(Shared::running_version).await?;
        let mut found: Vec<(Release, usize)> = Vec::new();
        let mut failure = None;
        let mut answered = false;
        for (index, source) in self.shared.ports.sources.iter().enumerate() {
            match source.check(&running).await {
                Ok(releases) => {
                    answered = true;
                    for release in releases {
                        if found.iter().all(|(known, _)| known.id != release.id) {
                            found.push((release, index));
                        }
                    }
                }
                Err(error) => {
                    tracing::warn!(error = error.chain(), "an update source did not answer usefully");
                    failure = failure.or(Some(error));
                }
            }
        }
        if let (false, Some(error)) = (answered, failure) {
            return Ok(Err(error));
        }
        *self.shared.releases.lock().unwrap_or_else(PoisonError::into_inner) = found.clone();
        self.blocking(|shared| {
            let now = shared.ports.clock.wall().as_millis().to_string();
            if let Err(error) = shared.ports.settings.set_value(LAST_GOOD_CHECK, Some(&now)) {
                tracing::warn!(error = error.chain(), "the time of the last good check was not recorded");
            }
        })
        .await?;
        Ok(Ok(found.into_iter().map(|(release, _)| release).collect()))
    }

    /// Starts a download of a release on offer.
    ///
    /// # Errors
    /// `NotFound` for an unknown release; `Invalid` when `version` is not the release's; `UpdateInProgress` (OTA_001),
    /// `SystemBusy` (OTA_014), `InvalidPartition` (OTA_008), `SignatureInvalid` (OTA_006) by policy, `UpdateBlocked`
    /// (OTA_002), `InsufficientSpace` (OTA_003), and those of [`Engine::check`] when the release was not seen yet.
    pub async fn download(&self, by: &Actor, request: DownloadRequest) -> Result<Job, EngineError> {
        // Busy comes before everything that takes time: a thousand racing calls ask the server at most once each.
        self.refuse_if_busy()?;
        let (release, source) = match self.shared.release(&request.update_id) {
            Some(found) => found,
            None => {
                self.check().await?;
                self.shared
                    .release(&request.update_id)
                    .ok_or_else(|| EngineError::NotFound { what: format!("update {}", request.update_id) })?
            }
        };
        if let Some(version) = request.version.as_ref().filter(|version| **version != release.version) {
            return Err(EngineError::Invalid {
                field: "version",
                what: format!("update {} is {}, not {version}", release.id, release.version),
            });
        }
        let target = self.inactive_slot(request.target)?;
        if !request.verify_signature && !self.shared.config.allow_unsigned {
            return Err(unchecked().into());
        }
        let create = Create {
            release,
            source: Some(source),
            kind: JobKind::Update,
            target,
            priority: request.priority,
            verify_signature: request.verify_signature || !self.shared.config.allow_unsigned,
            image: None,
            vouched: None,
            install: None,
            by_itself: by.is_gateway(),
        };
        self.request(Request::Create(Box::new(create)), by).await
    }

    /// Installs an uploaded image. The slot receives exactly the bytes that were verified, whatever lies in staging by
    /// then.
    ///
    /// # Errors
    /// `UpdateInProgress` (OTA_001), `SystemBusy` (OTA_014), `InvalidPartition` (OTA_008), `SignatureInvalid` (OTA_006)
    /// for an unsigned image by policy, `UpdateBlocked` (OTA_002), `InsufficientSpace` (OTA_003), `InvalidImage`
    /// (OTA_005) below the security floor, `Unavailable` when the boot environment cannot be used.
    pub async fn deploy(&self, by: &Actor, request: DeployRequest) -> Result<Job, EngineError> {
        self.refuse_if_busy()?;
        let target = self.inactive_slot(request.target)?;
        if request.vouched.signers.is_empty() && !self.shared.config.allow_unsigned {
            return Err(unsigned().into());
        }
        if request.options.strategy != Strategy::MaintenanceWindow {
            self.refuse_unsafe(SafetyStep::Deploy)?;
        }
        self.blocking(|shared| shared.ports.boot.ready()).await??;
        let create = Create {
            release: request.release,
            source: None,
            kind: JobKind::Deployment,
            target,
            priority: Priority::Normal,
            verify_signature: !request.vouched.signers.is_empty(),
            image: Some(request.image),
            vouched: Some(request.vouched),
            install: Some(request.options),
            by_itself: false,
        };
        self.request(Request::Create(Box::new(create)), by).await
    }

    /// Goes back to the version in the other slot, through a trial boot like any other switch.
    ///
    /// # Errors
    /// `RollbackNotAvailable` (OTA_012) when the other slot is empty, not bootable or not at `target_version`;
    /// `UpdateInProgress` (OTA_001), `SystemBusy` (OTA_014), `UpdateBlocked` (OTA_002), `Unavailable`.
    pub async fn rollback(&self, by: &Actor, request: RollbackRequest) -> Result<Job, EngineError> {
        self.refuse_if_busy()?;
        self.refuse_unsafe(SafetyStep::Rollback)?;
        let target = self.inactive_slot(None)?;
        let release =
            self.blocking(move |shared| shared.release_in(target, request.target_version)).await??;
        let create = Create {
            release,
            source: None,
            kind: JobKind::Rollback,
            target,
            priority: Priority::Normal,
            verify_signature: true,
            image: None,
            vouched: None,
            install: Some(InstallOptions {
                strategy: Strategy::Immediate,
                reboot_after: true,
                rollback_on_failure: true,
            }),
            by_itself: false,
        };
        self.request(Request::Create(Box::new(create)), by).await
    }

    /// Installs a downloaded job, or reboots into one that waits for it.
    ///
    /// # Errors
    /// `JobNotFound` (OTA_013), `SystemBusy` (OTA_014) when it is not in a state to be installed, `UpdateBlocked`
    /// (OTA_002), `Unavailable` when the boot environment cannot be used.
    pub async fn install(&self, by: &Actor, request: InstallRequest) -> Result<Job, EngineError> {
        self.request(Request::Install(request), by).await
    }

    /// Cancels a job, also after the switch of slots, which is then undone.
    ///
    /// # Errors
    /// `JobNotFound` (OTA_013), `SystemBusy` (OTA_014) once the reboot has begun.
    pub async fn cancel(&self, by: &Actor, request: CancelRequest) -> Result<Job, EngineError> {
        self.request(Request::Input(Some(request.job), Input::Cancel { reason: request.reason }), by).await
    }

    /// Pauses a download; `None` is the active job.
    ///
    /// # Errors
    /// `JobNotFound` (OTA_013), `SystemBusy` (OTA_014) when it is not downloading.
    pub async fn pause(&self, by: &Actor, job: Option<JobRef>) -> Result<Job, EngineError> {
        self.request(Request::Input(job, Input::Pause), by).await
    }

    /// Goes on with a paused download; `None` is the active job.
    ///
    /// # Errors
    /// `JobNotFound` (OTA_013), `SystemBusy` (OTA_014) when it is not paused.
    pub async fn resume(&self, by: &Actor, job: Option<JobRef>) -> Result<Job, EngineError> {
        self.request(Request::Input(job, Input::Resume), by).await
    }

    /// Judges a trial by hand.
    ///
    /// # Errors
    /// `JobNotFound` (OTA_013) without an active job, `SystemBusy` (OTA_014) when there is no trial to judge.
    pub async fn judge_trial(&self, by: &Actor, good: bool, reason: String) -> Result<Job, EngineError> {
        let input = if good { Input::ConfirmByHand } else { Input::RejectByHand { reason } };
        self.request(Request::Input(None, input), by).await
    }

    /// A job and its live progress; `None` is the active job.
    ///
    /// # Errors
    /// `JobNotFound` (OTA_013).
    pub async fn progress(&self, job: Option<JobRef>) -> Result<JobView, EngineError> {
        let active = self.shared.active.borrow().clone();
        match (active, job) {
            (Some(active), wanted) if wanted.as_ref().is_none_or(|w| is(&active, w)) => {
                Ok(JobView { job: active, live: self.shared.live.now() })
            }
            (_, None) => Err(OtaError::JobNotFound { id: String::new(), ended: false }.into()),
            (_, Some(wanted)) => {
                let id = wanted.to_string();
                let job = self.blocking(move |shared| shared.find(&wanted)).await??;
                let job = job.ok_or(OtaError::JobNotFound { id, ended: false })?;
                Ok(JobView { job, live: None })
            }
        }
    }

    /// A page of the history, newest first; `limit` 1–200.
    ///
    /// # Errors
    /// `Internal` when the store cannot be read.
    pub async fn jobs(&self, offset: u64, limit: u32) -> Result<JobPage, EngineError> {
        Ok(self.blocking(move |shared| shared.ports.journal.page(offset, limit.clamp(1, 200))).await??)
    }

    /// The gateway as a whole.
    ///
    /// # Errors
    /// `Internal` when the store cannot be read.
    pub async fn status(&self) -> Result<SystemView, EngineError> {
        self.blocking(Shared::view).await?
    }

    /// Sums for those who watch.
    ///
    /// # Errors
    /// `Internal` when the store cannot be read.
    pub async fn totals(&self) -> Result<Totals, EngineError> {
        Ok(self.blocking(Shared::totals).await??)
    }

    /// Every constraint as it stands.
    #[must_use]
    pub fn safety(&self) -> SafetyReport {
        self.shared.ports.safety.report()
    }

    /// Who this gateway is.
    #[must_use]
    pub fn identity(&self) -> &GatewayIdentity {
        &self.shared.config.identity
    }

    /// The stream of events, for those who publish to it.
    #[must_use]
    pub fn bus(&self) -> &Arc<Bus> {
        &self.shared.bus
    }

    /// Events after `since` that are still in the ring, then new ones; `None`: new ones only.
    #[must_use]
    pub fn subscribe(&self, since: Option<u64>) -> Subscription {
        self.shared.bus.subscribe(since)
    }

    /// A mark of the keys and rules by which images are judged now; see [`ota_core::ports::ImageVerifier::trust`].
    #[must_use]
    pub fn trust(&self) -> String {
        self.shared.ports.verifier.trust()
    }

    /// The job that has not ended, and its changes.
    #[must_use]
    pub fn active(&self) -> watch::Receiver<Option<Job>> {
        self.shared.active.subscribe()
    }

    /// Stops taking requests, stops what can be resumed, and returns when the device is at rest.
    pub async fn shutdown(&self) {
        let (tell, told) = oneshot::channel();
        if self.requests.send(Message::Shutdown(tell)).is_ok() {
            let _ = told.await;
        }
    }

    fn refuse_if_busy(&self) -> Result<(), EngineError> {
        self.shared.active.borrow().as_ref().map_or(Ok(()), |job| Err(EngineError::from(busy(job))))?;
        self.shared.refuse_claimed()
    }

    pub(crate) fn inactive_slot(&self, wanted: Option<Slot>) -> Result<Slot, EngineError> {
        let Some(booted) = self.shared.ports.boot.booted() else {
            return Err(EngineError::Unavailable {
                reason: "booted_slot_unknown",
                what: "the kernel command line names no configured slot".into(),
            });
        };
        match wanted {
            Some(slot) if slot == booted => Err(OtaError::running_slot(slot).into()),
            _ => Ok(!booted),
        }
    }

    pub(crate) async fn request(&self, request: Request, by: &Actor) -> Result<Job, EngineError> {
        let (tell, told) = oneshot::channel();
        tracing::info!(actor = by.name, request = request.name(), "request");
        self.send(Message::Request(request, by.request_id.clone(), tracing::Span::current(), tell))?;
        told.await.map_err(|_| Self::stopped())?
    }

    pub(crate) fn send(&self, message: Message) -> Result<(), EngineError> {
        self.requests.send(message).map_err(|_| Self::stopped())
    }

    pub(crate) fn stopped() -> EngineError {
        EngineError::Unavailable {
            reason: "shutting_down",
            what: "the daemon is stopping; ask again after its restart".into(),
        }
    }

    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared) -> T + Send + 'static,
    ) -> Result<T, EngineError> {
        let shared = Arc::clone(&self.shared);
        blocking(move || Ok(work(&shared))).await
    }
}

/// Whether `job` goes by this name.
pub(crate) fn is(job: &Job, name: &JobRef) -> bool {
    match name {
        JobRef::Job(id) => job.id == *id,
        JobRef::Deployment(id) => job.deployment.as_ref() == Some(id),
    }
}

/// The refusal that an active job causes: with a reboot pending it is not the job but the gateway that is busy.
pub(crate) fn busy(job: &Job) -> OtaError {
    match job.state.status() {
        JobStatus::Rebooting | JobStatus::Confirming => {
            OtaError::SystemBusy { with: format!("{} of job {}", job.state.status().as_str(), job.id) }
        }
        _ => OtaError::UpdateInProgress { running: job.id.clone() },
    }
}
