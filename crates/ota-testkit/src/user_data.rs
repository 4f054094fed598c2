//! Snapshots and a factory reset that are only written down.

use std::sync::{Condvar, Mutex, PoisonError};

use ota_core::{
    ByteCount, SnapshotId,
    error::PortError,
    ports::{FactoryReset, ResetOrder, Restored, Snapshot, SnapshotCause, SnapshotOrder, Snapshots},
};

use crate::{faults::Faults, watch::Watch};

/// Snapshots without content.
#[derive(Debug, Default)]
pub struct FakeSnapshots {
    state: Watch<Vec<Snapshot>>,
    restored: Watch<Vec<(SnapshotId, Option<String>)>>,
    /// Creations and restores that are to fail.
    pub faults: Faults,
    held: (Mutex<bool>, Condvar),
    waiting: Watch<u32>,
}

impl FakeSnapshots {
    /// What was put back, with the identity that was given.
    pub fn restored(&self) -> Vec<(SnapshotId, Option<String>)> {
        self.restored.with(|all| all.clone())
    }

    /// Creations and restores stand still from now on.
    pub fn hold(&self) {
        self.set_held(true);
    }

    /// They go on.
    pub fn release(&self) {
        self.set_held(false);
    }

    /// Waits until one stands still.
    pub async fn until_held(&self) {
        self.waiting.until(|waiting| (*waiting > 0).then_some(())).await;
    }

    fn set_held(&self, held: bool) {
        *self.held.0.lock().unwrap_or_else(PoisonError::into_inner) = held;
        self.held.1.notify_all();
    }

    fn wait(&self) {
        let held = self.held.0.lock().unwrap_or_else(PoisonError::into_inner);
        if *held {
            self.waiting.update(|waiting| *waiting += 1);
        }
        let free = self.held.1.wait_while(held, |held| *held);
        drop(free.unwrap_or_else(PoisonError::into_inner));
    }

    /// Marks the newest one as encrypted.
    pub fn encrypt_newest(&self) {
        self.state.update(|all| {
            if let Some(newest) = all.last_mut() {
                newest.encrypted = true;
            }
        });
    }
}

impl Snapshots for FakeSnapshots {
    fn list(&self) -> Result<Vec<Snapshot>, PortError> {
        Ok(self.state.with(|all| all.iter().rev().cloned().collect()))
    }

    fn create(&self, order: &SnapshotOrder) -> Result<Snapshot, PortError> {
        self.wait();
        self.faults.call()?;
        Ok(self.state.update(|all| {
            let snapshot = Snapshot {
                id: SnapshotId::from_number(all.len() as u64 + 1),
                created: order.at,
                cause: Some(order.cause),
                by: Some(order.by.clone()),
                description: order.description.clone(),
                size: ByteCount(100),
                sha256: None,
                encrypted: false,
                files: Some(1),
                content: Some(ByteCount(7)),
                skipped: Vec::new(),
                outlives_reset: order.cause == SnapshotCause::FactoryReset,
            };
            all.push(snapshot.clone());
            snapshot
        }))
    }

    fn has_identity(&self) -> bool {
        false
    }

    fn restore(&self, id: &SnapshotId, identity: Option<&str>) -> Result<Restored, PortError> {
        self.wait();
        self.faults.call()?;
        self.restored.update(|all| all.push((id.clone(), identity.map(str::to_owned))));
        Ok(Restored { files: 1, content: ByteCount(7) })
    }
}

/// A reset that nothing carries out.
#[derive(Debug, Default)]
pub struct FakeReset {
    order: Watch<Option<ResetOrder>>,
    /// What [`FactoryReset::allowed`] is to refuse with.
    pub policy: Faults,
    /// Orders that are to fail.
    pub faults: Faults,
    /// Looks at the order that are to fail.
    pub reads: Faults,
}

impl FakeReset {
    /// Somebody takes the order back, or it was carried out.
    pub fn forget(&self) {
        self.order.update(|order| *order = None);
    }
}

impl FactoryReset for FakeReset {
    fn allowed(&self) -> Result<(), PortError> {
        self.policy.call()
    }

    fn pending(&self) -> Result<Option<ResetOrder>, PortError> {
        self.reads.call()?;
        Ok(self.order.with(|order| order.clone()))
    }

    fn schedule(&self, order: &ResetOrder) -> Result<(), PortError> {
        self.faults.call()?;
        self.order.update(|kept| *kept = Some(order.clone()));
        Ok(())
    }
}
