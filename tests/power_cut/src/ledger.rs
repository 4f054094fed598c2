//! The store as the engine sees it: records in memory of which every transaction is one durable operation.
//!
//! That SQLite keeps to this (a transaction is there whole once it was answered, or not at all) is shown apart, in
//! [`crate::trace`], with the real store and the system calls it really makes.

use std::sync::Arc;

use ota_core::{
    JobId, Slot, Timestamp,
    error::{PortError, PortErrorKind},
    job::Job,
    ports::{
        AuditEntry, AuditLog, AuditRecord, EndedJobs, JobJournal, JobPage, LastUpdate, Settings, SlotFacts,
        SlotRecord,
    },
};
use ota_testkit::MemJournal;

use crate::{disk::Records, world::World};

/// The records of a running device.
pub(crate) struct Ledger {
    journal: MemJournal,
    world: Arc<World>,
}

impl Ledger {
    /// Opens what the disk holds.
    pub(crate) fn open(world: &Arc<World>) -> Arc<Self> {
        let journal = world.look(|disk| disk.records.journal.copy());
        Arc::new(Self { journal, world: Arc::clone(world) })
    }

    fn read<R>(&self, look: impl FnOnce(&MemJournal) -> Result<R, PortError>) -> Result<R, PortError> {
        self.world.may_read()?;
        look(&self.journal)
    }

    fn change<R>(&self, change: impl FnOnce(&MemJournal) -> Result<R, PortError>) -> Result<R, PortError> {
        self.world.may_commit()?;
        let result = change(&self.journal)?;
        self.world.commit(Records::of(&self.journal));
        Ok(result)
    }
}

impl JobJournal for Ledger {
    fn next_number(&self) -> Result<u64, PortError> {
        self.change(JobJournal::next_number)
    }

    fn save(&self, job: &Job) -> Result<(), PortError> {
        self.change(|journal| journal.save(job))
    }

    fn job(&self, id: &JobId) -> Result<Option<Job>, PortError> {
        self.read(|journal| journal.job(id))
    }

    fn active(&self) -> Result<Option<Job>, PortError> {
        self.read(JobJournal::active)
    }

    fn page(&self, offset: u64, limit: u32) -> Result<JobPage, PortError> {
        self.read(|journal| journal.page(offset, limit))
    }

    fn ended(&self) -> Result<Vec<EndedJobs>, PortError> {
        self.read(JobJournal::ended)
    }

    fn reserve_events(&self, count: u64) -> Result<u64, PortError> {
        self.change(|journal| journal.reserve_events(count))
    }
}

impl SlotFacts for Ledger {
    fn slot(&self, slot: Slot) -> Result<SlotRecord, PortError> {
        self.read(|journal| journal.slot(slot))
    }

    fn set_slot(&self, slot: Slot, record: &SlotRecord) -> Result<(), PortError> {
        self.change(|journal| journal.set_slot(slot, record))
    }

    fn last_update(&self) -> Result<Option<LastUpdate>, PortError> {
        self.read(SlotFacts::last_update)
    }

    fn set_last_update(&self, last: &LastUpdate) -> Result<(), PortError> {
        self.change(|journal| journal.set_last_update(last))
    }
}

impl AuditLog for Ledger {
    fn append(&self, at: Timestamp, entry: &AuditEntry) -> Result<u64, PortError> {
        self.change(|journal| journal.append(at, entry)).map_err(|error| match error.kind() {
            PortErrorKind::Unavailable { .. } => error,
            _ => {
                let what = "free the disk that holds the state".into();
                PortError::new(PortErrorKind::Unavailable { reason: "audit_not_writable", what }, error)
            }
        })
    }

    fn records(&self, after: u64, limit: u32) -> Result<Vec<AuditRecord>, PortError> {
        self.read(|journal| journal.records(after, limit))
    }

    fn newest(&self) -> Result<u64, PortError> {
        self.read(AuditLog::newest)
    }

    fn verify_chain(&self) -> Result<Result<u64, u64>, PortError> {
        self.read(AuditLog::verify_chain)
    }
}

impl Settings for Ledger {
    fn value(&self, name: &str) -> Result<Option<String>, PortError> {
        self.read(|journal| journal.value(name))
    }

    fn set_value(&self, name: &str, value: Option<&str>) -> Result<(), PortError> {
        self.change(|journal| journal.set_value(name, value))
    }
}
