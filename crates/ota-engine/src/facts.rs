//! What is recorded beside the job: slots, the last update, versions that were rolled back. Blocking.

use ota_core::{
    JobId, Slot, Timestamp, Version,
    error::{OtaError, PortError, PortErrorKind},
    event::{Outcome, SystemState},
    job::{Failure, Job, JobKind, JobStatus},
    ports::{AuditEntry, AuditOutcome, BootStatus, ImageExpectation, LastUpdate, SlotRecord, SlotState},
    release::{ImageKind, Release},
};

use crate::{
    EngineError, JobRef, SlotView, SystemView,
    engine::{LAST_GOOD_CHECK, Shared, is},
};

/// Versions that were tried and given up, one per line.
pub(crate) const ROLLED_BACK: &str = "rolled_back.versions";
/// Records among which the end of a job is looked for after a cut: between the two a start writes a few at most.
const SINCE_A_CUT: u32 = 64;
/// Lowest version that may be installed.
pub(crate) const FLOOR: &str = "floor.version";

/// A port's error as the failure of a job.
pub(crate) fn failure(error: &PortError) -> Failure {
    match error.kind() {
        PortErrorKind::Ota(ota) => Failure::from(ota),
        PortErrorKind::Unavailable { reason, what } => Failure::because(reason, what.clone()),
        PortErrorKind::Io(_) => Failure::internal(error.chain()),
    }
}

/// What the audit calls the state that a job has come to.
fn state_action(job: &Job) -> String {
    format!("job.{}", job.state.status().as_str())
}

impl Shared {
    /// A job by either of its names.
    pub(crate) fn find(&self, name: &JobRef) -> Result<Option<Job>, PortError> {
        match name {
            JobRef::Job(id) => self.ports.journal.job(id),
            JobRef::Deployment(id) => {
                let Some(number) = id.number() else { return Ok(None) };
                let found = self.ports.journal.job(&JobId::from_number(number))?;
                Ok(found.filter(|job| is(job, name)))
            }
        }
    }

    /// Notes a boot of the running slot, once per boot, with the version that the system itself states.
    pub(crate) fn note_boot(&self) -> Result<(), PortError> {
        let Some(slot) = self.ports.boot.booted() else { return Ok(()) };
        let mut record = self.ports.facts.slot(slot)?;
        let boot_id = self.ports.boot.boot_id();
        if record.last_boot_id.as_deref() == Some(boot_id) {
            return Ok(());
        }
        record.boot_count = record.boot_count.saturating_add(1);
        record.last_boot = Some(self.ports.clock.wall());
        record.last_boot_id = Some(boot_id.into());
        record.version = self.config.running_version.clone().or(record.version);
        if record.state == SlotState::Empty {
            record.state = SlotState::Good;
        }
        self.ports.facts.set_slot(slot, &record)
    }

    /// The target is about to be written: whatever was in it is gone.
    pub(crate) fn slot_spoiled(&self, slot: Slot) -> Result<(), PortError> {
        self.edit(slot, |record| {
            *record = SlotRecord { state: SlotState::Bad, ..kept(record) };
        })
    }

    /// The target holds the verified bytes, or what they unpack to.
    pub(crate) fn slot_written(&self, job: &Job, holds: ImageExpectation) -> Result<(), PortError> {
        self.edit(job.target, |record| {
            *record = SlotRecord {
                version: Some(job.release.version.clone()),
                sha256: Some(holds.sha256),
                size: Some(holds.size),
                state: SlotState::Trial,
                ..kept(record)
            };
        })
    }

    /// The target is confirmed. Only now may the floor rise: before, the fallback slot could fall below it.
    pub(crate) fn slot_confirmed(&self, job: &Job) -> Result<(), PortError> {
        self.edit(job.target, |record| record.state = SlotState::Good)?;
        self.edit(job.source, |record| {
            if record.state != SlotState::Empty {
                record.state = SlotState::Good;
            }
        })
    }

    /// The target was tried, or was to be tried, and is not to be booted.
    pub(crate) fn slot_given_up(&self, slot: Slot) -> Result<(), PortError> {
        self.edit(slot, |record| record.state = SlotState::Bad)
    }

    /// The target was to be written. Where that had not begun, it is as good as it was.
    pub(crate) fn slot_left(&self, slot: Slot) -> Result<(), PortError> {
        self.edit(slot, |record| {
            if record.state != SlotState::Good {
                record.state = SlotState::Bad;
            }
        })
    }

    fn edit(&self, slot: Slot, change: impl FnOnce(&mut SlotRecord)) -> Result<(), PortError> {
        let mut record = self.ports.facts.slot(slot)?;
        change(&mut record);
        self.ports.facts.set_slot(slot, &record)
    }

    /// What the gateway did by itself, or for the request that last had its job go on. An audit that cannot be written stops no job
    /// that is under way; sensitive requests are refused meanwhile.
    pub(crate) fn audit_own(
        &self,
        at: Timestamp,
        action: &str,
        outcome: AuditOutcome,
        job: Option<&Job>,
        reason: Option<String>,
    ) {
        let entry = AuditEntry {
            actor: "gateway".into(),
            role: None,
            address: None,
            action: action.into(),
            outcome,
            request_id: job.and_then(|job| job.request_id.clone()),
            job: job.map(|job| job.id.clone()),
            reason,
        };
        if let Err(error) = self.ports.audit.append(at, &entry) {
            tracing::error!(error = error.chain(), action, "missing from the audit");
        }
    }

    /// The state that a job has come to.
    pub(crate) fn audit_state(&self, job: &Job) {
        let failure = job.state.failure();
        let outcome = if failure.is_some() { AuditOutcome::Failed } else { AuditOutcome::Ok };
        let reason = failure.map(|why| why.message.clone());
        self.audit_own(job.updated, &state_action(job), outcome, Some(job), reason);
    }

    /// The same for an end after which a cut may have come: nothing where it is there already.
    pub(crate) fn audit_end_once(&self, job: &Job) -> Result<(), PortError> {
        let audit = &self.ports.audit;
        let (action, newest) = (state_action(job), audit.newest()?);
        let told = audit.records(newest.saturating_sub(SINCE_A_CUT.into()), SINCE_A_CUT)?;
        let is_it = |entry: &AuditEntry| entry.job.as_ref() == Some(&job.id) && entry.action == action;
        if !told.iter().any(|record| is_it(&record.entry)) {
            self.audit_state(job);
        }
        Ok(())
    }

    /// The newest job, where its install has ended and what is noted of that is not complete: the last update comes last.
    pub(crate) fn unnoted_end(&self) -> Result<Option<Job>, PortError> {
        let newest = self.ports.journal.page(0, 1)?.jobs.into_iter().next();
        let Some(job) = newest.filter(|job| job.install.is_some() && job.state.is_end()) else {
            return Ok(None);
        };
        // By its number where that is known: the clock may have been set back since, or not be set yet.
        let is_it = |last: LastUpdate| last.job.map_or(last.at >= job.updated, |noted| noted == job.id);
        let noted = self.ports.facts.last_update()?.is_some_and(is_it);
        Ok((!noted).then_some(job))
    }

    /// How an install ended, as the last update; by the time of its record, so that noting it once more changes nothing.
    pub(crate) fn record_end(&self, job: &Job, outcome: Outcome) -> Result<(), PortError> {
        let status = match outcome {
            Outcome::Success => "success",
            Outcome::Failed => "failed",
            Outcome::Cancelled => "cancelled",
            Outcome::RolledBack => "rolled_back",
        };
        if outcome == Outcome::RolledBack {
            self.remember_rolled_back(&job.release.version)?;
        }
        let version = job.release.version.clone();
        let last = LastUpdate { version, at: job.updated, status: status.into(), job: Some(job.id.clone()) };
        self.ports.facts.set_last_update(&last)
    }

    /// Who goes back by hand does not want the newer version by itself again, either.
    pub(crate) fn remember_left(&self, job: &Job) -> Result<(), PortError> {
        let version = |slot| self.ports.facts.slot(slot).map(|record| record.version);
        match (version(job.source)?, version(job.target)?) {
            (Some(left), Some(now)) if job.kind == JobKind::Rollback && left > now => {
                self.remember_rolled_back(&left)
            }
            _ => Ok(()),
        }
    }

    /// A version that was rolled back is not tried again by itself.
    fn remember_rolled_back(&self, version: &Version) -> Result<(), PortError> {
        let mut known = self.ports.settings.value(ROLLED_BACK)?.unwrap_or_default();
        let line = version.semver().to_string();
        if known.lines().all(|known| known != line) {
            known.push_str(&line);
            known.push('\n');
            self.ports.settings.set_value(ROLLED_BACK, Some(&known))?;
        }
        Ok(())
    }

    /// Refuses to go back to `version` in `slot` where it is below the security floor.
    pub(crate) fn refuse_rollback_below_floor(&self, slot: Slot, version: &Version) -> Result<(), PortError> {
        let Some(floor) = self.floor()?.filter(|floor| version < floor) else { return Ok(()) };
        let why = format!("slot {slot} holds {version}, which is below the security floor {floor}");
        Err(OtaError::RollbackNotAvailable { why }.into())
    }

    /// What a rollback to `slot` would bring, if that is possible.
    pub(crate) fn release_in(&self, slot: Slot, wanted: Option<Version>) -> Result<Release, EngineError> {
        let none = |why: String| EngineError::Ota(OtaError::RollbackNotAvailable { why });
        self.ports.boot.ready()?;
        let record = self.ports.facts.slot(slot)?;
        let boot = self.ports.boot.status()?;
        let Some(version) = record.version.filter(|_| record.state != SlotState::Empty) else {
            return Err(none(format!("slot {slot} is empty")));
        };
        if !boot.slot(slot).bootable || record.state == SlotState::Bad {
            return Err(none(format!("slot {slot} with {version} is not bootable")));
        }
        if let Some(wanted) = wanted.filter(|wanted| *wanted != version) {
            return Err(none(format!("slot {slot} holds {version}, not {wanted}")));
        }
        self.refuse_rollback_below_floor(slot, &version)?;
        // Without a record of them, nobody knows whether the bytes are still those that were good.
        let (Some(sha256), Some(size)) = (record.sha256, record.size) else {
            let cure = "tell the gateway what is in it with `ota-gatewayd provision`";
            return Err(none(format!("no digest is recorded of {version} in slot {slot}: {cure}")));
        };
        Ok(Release {
            id: "rollback".parse().unwrap_or_else(|_| unreachable!("a constant id")),
            description: format!("Rollback to {version} in slot {slot}"),
            version,
            size,
            sha256,
            release_date: None,
            critical: false,
            requires_reboot: true,
            kind: ImageKind::Raw,
            source: "local".into(),
            deltas: Vec::new(),
            unpacked_size: None,
        })
    }

    /// The lowest version that may be installed, if one is set.
    pub(crate) fn floor(&self) -> Result<Option<Version>, PortError> {
        Ok(self.risen_floor()?.max(self.config.lowest_version.clone()))
    }

    fn risen_floor(&self) -> Result<Option<Version>, PortError> {
        Ok(self.ports.settings.value(FLOOR)?.and_then(|text| text.parse().ok()))
    }

    /// Raises the floor to `version` if that is above it.
    pub(crate) fn raise_floor(&self, version: &Version) -> Result<(), PortError> {
        if self.risen_floor()?.is_none_or(|floor| *version > floor) {
            self.ports.settings.set_value(FLOOR, Some(&version.to_string()))?;
        }
        Ok(())
    }

    /// The gateway as a whole.
    pub(crate) fn view(&self) -> Result<SystemView, EngineError> {
        let active_job = self.active.borrow().clone();
        let boot = self.ports.boot.status();
        let degraded: Vec<_> = against(self.ports.boot.ready(), "env_unreadable")
            .into_iter()
            .chain(against(self.ports.journal.ready(), "store_failing"))
            .collect();
        let boot = boot.ok();
        let booted = self.ports.boot.booted();
        let slot = |slot| self.slot_view(slot, boot.as_ref(), booted);
        let active = booted.map(slot).transpose()?;
        let inactive = booted.map(|slot| !slot).map(slot).transpose()?;
        let last_good_check = self.ports.settings.value(LAST_GOOD_CHECK)?.and_then(|text| text.parse().ok());
        Ok(SystemView {
            identity: self.config.identity.clone(),
            state: system_state(active_job.as_ref(), !degraded.is_empty()),
            degraded,
            active,
            inactive,
            boot,
            resources: self.ports.probe.resources()?,
            last_update: self.ports.facts.last_update()?,
            active_job,
            reset: self.pending_reset(),
            allow_unsigned: self.config.allow_unsigned,
            last_good_check: last_good_check.map(Timestamp::from_millis),
            now: self.ports.clock.wall(),
        })
    }

    fn slot_view(
        &self,
        slot: Slot,
        boot: Option<&BootStatus>,
        booted: Option<Slot>,
    ) -> Result<SlotView, PortError> {
        let record = self.ports.facts.slot(slot)?;
        let capacity = self.ports.slots.capacity(slot).ok();
        let state = match (boot, record.state) {
            (Some(boot), _) if boot.trial == Some(slot) => SlotState::Trial,
            (Some(boot), state)
                if !boot.slot(slot).bootable && booted != Some(slot) && state != SlotState::Empty =>
            {
                SlotState::Bad
            }
            (_, state) => state,
        };
        Ok(SlotView { slot, record, state, capacity })
    }
}

/// Why updates are refused, by a port that is asked whether it is ready: the contract's word, or `otherwise`, and the sentence.
fn against(ready: Result<(), PortError>, otherwise: &str) -> Option<(String, String)> {
    Some(match ready.err()?.kind() {
        PortErrorKind::Unavailable { reason, what } => ((*reason).into(), what.clone()),
        other => (otherwise.into(), other.to_string()),
    })
}

/// What a slot keeps whatever is written to it.
fn kept(record: &SlotRecord) -> SlotRecord {
    SlotRecord {
        boot_count: record.boot_count,
        last_boot: record.last_boot,
        last_boot_id: record.last_boot_id.clone(),
        ..SlotRecord::default()
    }
}

/// The gateway's state by its active job.
pub(crate) fn system_state(job: Option<&Job>, degraded: bool) -> SystemState {
    match job.map(|job| job.state.status()) {
        Some(JobStatus::Queued | JobStatus::Downloading | JobStatus::Paused | JobStatus::Verifying) => {
            SystemState::Downloading
        }
        Some(JobStatus::Scheduled | JobStatus::Installing) => SystemState::Updating,
        Some(JobStatus::Rebooting) => {
            if job.is_some_and(|job| matches!(job.state, ota_core::job::JobState::Armed { .. })) {
                SystemState::RebootPending
            } else {
                SystemState::Rebooting
            }
        }
        Some(JobStatus::Confirming) => SystemState::Confirming,
        _ if degraded => SystemState::Degraded,
        _ => SystemState::Idle,
    }
}
