//! The one connection and its two ways in: reads and committed writes.

use std::{
    path::PathBuf,
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use ota_core::error::{PortError, PortErrorKind, chain};
use rusqlite::{Connection, Transaction, TransactionBehavior};

use crate::{StoreError, anchor::AuditKey, schema};

/// The state store. Opened by [`SqliteStore::open`]; shared by reference among threads, which take turns.
#[derive(Debug)]
pub struct SqliteStore {
    pub(crate) folder: PathBuf,
    pub(crate) key: AuditKey,
    conn: Mutex<Connection>,
    newer: Option<u32>,
    withheld: OnceLock<String>,
    sync_failed: AtomicBool,
    /// What the last write failed of, where that was the medium.
    failing: Mutex<Option<PortErrorKind>>,
    /// How many event numbers were given that are not recorded.
    pub(crate) unrecorded_events: AtomicU64,
}

impl SqliteStore {
    /// `newer`: the schema version that is too new to be written.
    pub(crate) const fn new(folder: PathBuf, key: AuditKey, conn: Connection, newer: Option<u32>) -> Self {
        Self {
            folder,
            key,
            conn: Mutex::new(conn),
            newer,
            withheld: OnceLock::new(),
            sync_failed: AtomicBool::new(false),
            failing: Mutex::new(None),
            unrecorded_events: AtomicU64::new(0),
        }
    }

    /// Whether the database is only read: because it is of a newer schema, its files cannot be written, or by
    /// [`SqliteStore::withhold`].
    pub fn is_read_only(&self) -> bool {
        self.newer.is_some() || self.withheld.get().is_some()
    }

    /// From now on nothing is written: what has to be there first is not. `why` is for the operator.
    pub fn withhold(&self, why: String) {
        let _ = self.withheld.set(why);
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Connection> {
        // A panic inside a transaction has rolled it back.
        self.conn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn read<R>(
        &self,
        look: impl FnOnce(&Connection) -> Result<R, StoreError>,
    ) -> Result<R, PortError> {
        Ok(look(&self.lock())?)
    }

    /// One transaction: committed and synced on success, without any effect on failure.
    pub(crate) fn write<R>(
        &self,
        change: impl FnOnce(&Transaction<'_>) -> Result<R, StoreError>,
    ) -> Result<R, StoreError> {
        self.write_with(change, |_| Ok(()), |()| Ok(()))
    }

    /// The same with `before` right before the commit and `after` right behind it, under the same lock.
    pub(crate) fn write_with<R, S>(
        &self,
        change: impl FnOnce(&Transaction<'_>) -> Result<R, StoreError>,
        before: impl FnOnce(&R) -> Result<S, StoreError>,
        after: impl FnOnce(S) -> Result<(), StoreError>,
    ) -> Result<R, StoreError> {
        self.refuse()?;
        let mut conn = self.lock();
        let result = transact(&mut conn, change, before, after);
        if result.as_ref().is_err_and(StoreError::is_failed_sync) {
            self.sync_failed.store(true, Ordering::Relaxed);
        }
        self.note(result.as_ref().err());
        result
    }

    /// What keeps every write of this run away.
    fn refuse(&self) -> Result<(), StoreError> {
        if let Some(found) = self.newer {
            return Err(StoreError::NewerSchema { found, known: schema::SCHEMA_VERSION });
        }
        if let Some(why) = self.withheld.get() {
            return Err(StoreError::Withheld(why.clone()));
        }
        if self.sync_failed.load(Ordering::Relaxed) {
            return Err(StoreError::SyncFailed);
        }
        Ok(())
    }

    fn note(&self, failed: Option<&StoreError>) {
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        match failed {
            None => *failing = None,
            Some(error) if error.is_of_the_medium() => {
                *failing = Some(match error.kind() {
                    // With the words of the operating system: people are to mend it.
                    PortErrorKind::Io(_) => PortErrorKind::Io(chain(error)),
                    told => told,
                });
            }
            Some(_) => {}
        }
    }

    /// Whether a write may go well: nothing keeps it away, and the last one did not fail of the medium.
    pub(crate) fn takes_writes(&self) -> Result<(), PortError> {
        self.refuse()?;
        let failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        failing.clone().map_or(Ok(()), |kind| Err(kind.into()))
    }
}

fn transact<R, S>(
    conn: &mut Connection,
    change: impl FnOnce(&Transaction<'_>) -> Result<R, StoreError>,
    before: impl FnOnce(&R) -> Result<S, StoreError>,
    after: impl FnOnce(S) -> Result<(), StoreError>,
) -> Result<R, StoreError> {
    let tx = conn
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(StoreError::sql("begin a write"))?;
    let result = change(&tx)?;
    let staged = before(&result)?;
    tx.commit().map_err(StoreError::sql("commit a write"))?;
    after(staged)?;
    Ok(result)
}
