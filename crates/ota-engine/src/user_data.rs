//! Snapshots of the settings and the factory reset: what may happen when, and who is told. The work is the ports'.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use ota_core::{
    OtaError, Slot, SnapshotId, Timestamp,
    error::PortError,
    event::EventKind,
    job::Job,
    ports::{
        AuditOutcome, Carried, FactoryReset, RebootReason, ResetOrder, Restored, Snapshot, SnapshotCause,
        SnapshotOrder, Snapshots,
    },
    safety::SafetyStep,
};
use tokio::sync::oneshot;
use tracing::Instrument as _;

use crate::{
    Actor, Engine, EngineError,
    claim::{Claim, Claimant},
    effects::count_down,
    engine::Shared,
    facts::{FLOOR, ROLLED_BACK},
    guard::refuse_blocked,
    runner::{Message, blocking},
};

/// What everybody is refused with who wants to write.
const SCHEDULED: &str = "a factory reset is scheduled for the next boot";
/// The same after a boot that did not carry it out.
const NOT_CARRIED_OUT: &str = "a factory reset was scheduled and the last boot did not carry it out: enable \
                               ota-factory-reset.service, or take it back with `ota-gatewayd factory-reset --cancel`";
/// Pause before a reboot that safety holds back, or that did not start, is tried again.
const AGAIN: Duration = Duration::from_secs(5);
/// What has to be allowed for the reboot that erases.
const ERASE: [SafetyStep; 2] = [SafetyStep::Reset, SafetyStep::Reboot];
/// Settings that a reset does not set back: they refuse old releases, old times, old lists of retired keys, and to try by
/// itself what was rolled back.
const CARRIED: [&str; 4] = [FLOOR, "clock.floor", "keys.list_serial", ROLLED_BACK];

/// What is done with the data of the user, on a device that is set up for it.
#[derive(Clone, Default)]
pub struct UserData {
    /// The archives.
    pub snapshots: Option<Arc<dyn Snapshots>>,
    /// The factory reset.
    pub reset: Option<Arc<dyn FactoryReset>>,
    /// Whether each install begins with a snapshot, without which it does not go on.
    pub before_install: bool,
    /// Whether the gateway reboots by itself for a reset that was scheduled, as soon as safety allows.
    pub reboot_for_reset: bool,
}

/// A factory reset that was ordered and has not been carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingReset {
    /// The order; `None` when it does not read.
    pub order: Option<ResetOrder>,
    /// How it stands, as a sentence.
    pub message: String,
}

/// Requests.
impl Engine {
    /// All snapshots, newest first.
    ///
    /// # Errors
    /// `Unavailable` with `snapshots_not_configured`; `Internal`.
    pub async fn snapshots(&self) -> Result<Vec<Snapshot>, EngineError> {
        let snapshots = self.shared.snapshots()?;
        Ok(self.blocking(move |_| snapshots.list()).await??)
    }

    /// Saves the configured settings.
    ///
    /// # Errors
    /// `SystemBusy` (OTA_014) while a slot is written or another snapshot is at work; `InsufficientSpace` (OTA_003);
    /// `Unavailable` with `snapshots_not_configured`.
    pub async fn create_snapshot(
        &self,
        by: &Actor,
        description: Option<String>,
    ) -> Result<Snapshot, EngineError> {
        let snapshots = self.shared.snapshots()?;
        let claim = self.claim(Claimant::Snapshot).await?;
        let by = by.name.clone();
        self.blocking(move |shared| {
            let _claim = claim;
            let at = shared.ports.clock.wall();
            let order = SnapshotOrder { cause: SnapshotCause::Manual, by, description, at };
            Ok(snapshots.create(&order)?)
        })
        .await?
    }

    /// Puts the settings of a snapshot back. `identity`: age identities as text.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` on `identity` when one is needed; `SystemBusy` (OTA_014) while a slot is written or another
    /// snapshot is at work; `InvalidImage` (OTA_005), `ChecksumMismatch` (OTA_007), `InsufficientSpace` (OTA_003).
    pub async fn restore_snapshot(
        &self,
        id: SnapshotId,
        identity: Option<String>,
    ) -> Result<(Snapshot, Restored), EngineError> {
        let snapshots = self.shared.snapshots()?;
        let claim = self.claim(Claimant::Restore).await?;
        self.blocking(move |_| {
            let _claim = claim;
            let found = snapshots.list()?.into_iter().find(|known| known.id == id);
            let found = found.ok_or_else(|| EngineError::NotFound { what: format!("snapshot {id}") })?;
            if found.encrypted && identity.is_none() && !snapshots.has_identity() {
                let what = format!("{id} is encrypted, and the gateway holds no identity that opens it");
                return Err(EngineError::Invalid { field: "identity", what });
            }
            let restored = snapshots.restore(&id, identity.as_deref())?;
            Ok((found, restored))
        })
        .await?
    }

    /// Schedules a factory reset for the next boot, with a backup of the settings before where one is wanted. The order
    /// is durable on return; the gateway reboots by itself if it is configured to.
    ///
    /// # Errors
    /// `FactoryResetNotAllowed` (OTA_011) by policy; `Unavailable` when the device is not set up for it; `SystemBusy`
    /// (OTA_014) with any job, restore or reset under way; `UpdateBlocked` (OTA_002) and `MaintenanceActive` (OTA_015)
    /// by what holds back `reset`; `InsufficientSpace` (OTA_003) for the backup.
    pub async fn factory_reset(&self, by: &Actor, backup: bool) -> Result<Option<Snapshot>, EngineError> {
        let reset = self.shared.reset()?;
        let asked = Arc::clone(&reset);
        self.blocking(move |_| asked.allowed()).await??;
        let claim = self.claim(Claimant::Reset).await?;
        refuse_blocked(self.shared.ports.safety.judge(SafetyStep::Reset))?;
        let (shared, by) = (Arc::clone(&self.shared), by.clone());
        // Not given up halfway when the one who asked is gone: what is ordered is also known to be ordered.
        blocking(move || shared.schedule_reset(&*reset, &by, backup, claim)).await
    }

    async fn claim(&self, who: Claimant) -> Result<Claim, EngineError> {
        let (tell, told) = oneshot::channel();
        self.send(Message::Claim(who, tell))?;
        told.await.map_err(|_| Self::stopped())?
    }
}

impl Shared {
    fn snapshots(&self) -> Result<Arc<dyn Snapshots>, EngineError> {
        self.ports.user_data.snapshots.clone().ok_or_else(|| EngineError::Unavailable {
            reason: "snapshots_not_configured",
            what: "snapshot.paths names nothing to save".into(),
        })
    }

    fn reset(&self) -> Result<Arc<dyn FactoryReset>, EngineError> {
        let why = || OtaError::FactoryResetNotAllowed { why: "this device has no factory reset".into() };
        self.ports.user_data.reset.clone().ok_or_else(|| why().into())
    }

    /// Backup, order, reboot. Blocking.
    fn schedule_reset(
        self: Arc<Self>,
        reset: &dyn FactoryReset,
        by: &Actor,
        backup: bool,
        claim: Claim,
    ) -> Result<Option<Snapshot>, EngineError> {
        let at = self.ports.clock.wall();
        let backup = if backup { Some(self.backup_for_reset(by, at)?) } else { None };
        let order = ResetOrder {
            by: by.name.clone(),
            role: by.role,
            address: by.address.clone(),
            request_id: by.request_id.clone(),
            at,
            boot_id: self.ports.boot.boot_id().into(),
            backup: backup.as_ref().map(|snapshot| snapshot.id.clone()),
            audit_end: self.audit_end()?,
            carried: self.carried()?,
        };
        reset.schedule(&order)?;
        claim.keep(SCHEDULED);
        tracing::warn!(by = order.by, "a factory reset is scheduled for the next boot");
        self.show_reset(Some(order), SCHEDULED.into());
        announce(&self, "factory_reset_scheduled", "Factory reset scheduled for next boot".into(), None);
        if self.ports.user_data.reboot_for_reset {
            tokio::runtime::Handle::current().spawn(reboot_to_reset(self).in_current_span());
        }
        Ok(backup)
    }

    pub(crate) fn pending_reset(&self) -> Option<PendingReset> {
        self.reset.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn show_reset(&self, order: Option<ResetOrder>, message: String) {
        let pending = PendingReset { order, message };
        *self.reset.lock().unwrap_or_else(PoisonError::into_inner) = Some(pending);
    }

    /// An order that an earlier run left excludes everything for as long as this daemon runs.
    fn claim_for_reset(&self, order: Option<ResetOrder>, message: String) {
        self.set_claimed(Some(message.clone()));
        self.show_reset(order, message);
    }

    fn backup_for_reset(&self, by: &Actor, at: Timestamp) -> Result<Snapshot, EngineError> {
        let order =
            SnapshotOrder { cause: SnapshotCause::FactoryReset, by: by.name.clone(), description: None, at };
        Ok(self.snapshots()?.create(&order)?)
    }

    /// Number and hash of the audit's last record; nothing where the log is empty or broken.
    fn audit_end(&self) -> Result<Option<(u64, String)>, PortError> {
        let Ok(count) = self.ports.audit.verify_chain()? else { return Ok(None) };
        let last = self.ports.audit.records(count.saturating_sub(1), 1)?;
        Ok(last.into_iter().next().map(|record| (record.seq, record.hash)))
    }

    fn carried(&self) -> Result<Carried, PortError> {
        let mut settings = Vec::new();
        for name in CARRIED {
            settings.extend(self.ports.settings.value(name)?.map(|value| (name.to_owned(), value)));
        }
        let slot = |slot| self.ports.facts.slot(slot).map(|record| (slot, record));
        Ok(Carried {
            settings,
            slots: vec![slot(Slot::A)?, slot(Slot::B)?],
            last_update: self.ports.facts.last_update()?,
            job_number: self.ports.journal.next_number()?,
            event_number: self.ports.journal.reserve_events(1)?,
        })
    }

    /// Takes up an order that an earlier run left: nothing is written until it is carried out.
    pub(crate) async fn take_up_reset(self: &Arc<Self>) -> Result<(), EngineError> {
        let Some(reset) = self.ports.user_data.reset.clone() else { return Ok(()) };
        let order = match blocking(move || Ok(reset.pending())).await? {
            Ok(None) => return Ok(()),
            Ok(Some(order)) => order,
            Err(error) => {
                // Somebody may have asked for the reset: nothing is written, and people see why.
                tracing::error!(error = error.chain(), "the order of a factory reset does not read");
                self.claim_for_reset(None, format!("the order of a factory reset does not read: {error}"));
                return Ok(());
            }
        };
        if order.boot_id == self.ports.boot.boot_id() {
            self.claim_for_reset(Some(order), SCHEDULED.into());
            if self.ports.user_data.reboot_for_reset {
                tokio::spawn(reboot_to_reset(Arc::clone(self)));
            }
        } else {
            // Rebooting again would change nothing.
            tracing::error!(by = order.by, "{NOT_CARRIED_OUT}");
            self.claim_for_reset(Some(order), NOT_CARRIED_OUT.into());
        }
        Ok(())
    }

    /// A snapshot before the first byte is written to a slot, if there is to be one. Blocking.
    pub(crate) fn snapshot_before_install(&self, job: &Job) -> Result<(), PortError> {
        let data = &self.ports.user_data;
        let Some(snapshots) = data.snapshots.as_ref().filter(|_| data.before_install) else { return Ok(()) };
        let order = SnapshotOrder {
            cause: SnapshotCause::BeforeInstall,
            by: "gateway".into(),
            description: Some(format!("before {} of job {}", job.release.version, job.id)),
            at: self.ports.clock.wall(),
        };
        let made = snapshots.create(&order);
        let told = match &made {
            Ok(snapshot) => snapshot.id.to_string(),
            Err(error) => error.to_string(),
        };
        let outcome = if made.is_ok() { AuditOutcome::Ok } else { AuditOutcome::Failed };
        self.audit_own(order.at, "snapshots.create", outcome, Some(job), Some(told));
        made.map(drop)
    }
}

/// Announces the reboot and carries it out, as soon as safety allows.
async fn reboot_to_reset(shared: Arc<Shared>) {
    let mut changes = shared.ports.safety_changes.clone();
    let mut told = false;
    let held = || Some(shared.held_back(ERASE)).filter(|blocks| !blocks.is_empty());
    loop {
        let mut blocks = held();
        if blocks.is_none() {
            let countdown = shared.config.reboot_countdown;
            let message = format!("System reboot scheduled in {countdown} seconds, for a factory reset");
            announce(&shared, "reboot_scheduled", message, Some(countdown));
            // Whoever counts along has to hear that it is held again.
            told = false;
            blocks = count_down(&shared, countdown, held).await;
        }
        let asked = Arc::clone(&shared);
        if blocks.is_none() && matches!(blocking(move || Ok(asked.restart_to_reset())).await, Ok(true)) {
            return;
        }
        if let Some(blocks) = blocks.filter(|_| !told) {
            told = true;
            let names: Vec<&str> = blocks.iter().map(|block| block.constraint.as_str()).collect();
            let message = format!("The factory reset waits for safety: {}", names.join(", "));
            announce(&shared, "factory_reset_waiting", message, None);
        }
        tokio::select! {
            Ok(()) = changes.changed() => {}
            () = tokio::time::sleep(AGAIN) => {}
        }
    }
}

fn announce(shared: &Shared, event: &str, message: String, countdown: Option<u32>) {
    shared.bus.publish(EventKind::System { event: event.into(), message, countdown });
}

impl Shared {
    /// Whether nothing more is to be done: the reboot is under way, or somebody took the order back. Blocking.
    fn restart_to_reset(&self) -> bool {
        match self.ports.user_data.reset.as_ref().map(|reset| reset.pending()) {
            Some(Ok(Some(_))) => {}
            // It may still be there, and the next boot erases: nothing may begin meanwhile.
            Some(Err(error)) => {
                tracing::error!(error = error.chain(), "the order of a factory reset does not read");
                return false;
            }
            Some(Ok(None)) | None => {
                tracing::warn!("the factory reset was taken back");
                self.note_taken_back();
                self.set_claimed(None);
                *self.reset.lock().unwrap_or_else(PoisonError::into_inner) = None;
                return true;
            }
        }
        // Safety in the same breath as the restart.
        if !self.held_back(ERASE).is_empty() {
            return false;
        }
        match self.ports.rebooter.reboot(RebootReason::FactoryReset) {
            Ok(()) => true,
            Err(error) => {
                tracing::error!(error = error.chain(), "the reboot for a factory reset did not start");
                false
            }
        }
    }

    /// Who took it back did so beside the gateway, and may have left no record.
    fn note_taken_back(&self) {
        let (at, reason) = (self.ports.clock.wall(), Some("the order is no longer there".into()));
        self.audit_own(at, "factory-reset.taken_back", AuditOutcome::Ok, None, reason);
    }
}
