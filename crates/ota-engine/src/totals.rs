//! Sums for those who watch: bytes that were moved since the start of the daemon, and the jobs that ever ended.
//!
//! Jobs are summed up by the journal. Each update ends behind a restart, often before anybody looks: counted from zero, its end would
//! look like the one before the restart. Bytes are seen while they move, and their sum may begin again.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use ota_core::{ByteCount, error::PortError, job::JobStatus, ports::EndedJobs};

use crate::engine::Shared;

/// Sums for those who watch. They only grow; a restart sets those of bytes to zero, a factory reset all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Totals {
    /// Bytes of images that arrived from update servers.
    pub downloaded: ByteCount,
    /// Bytes of images that were written to slots; of a packed one its own bytes, not what they unpack to.
    pub written: ByteCount,
    /// Of every state that a job can end in.
    pub ended: Vec<EndedJobs>,
}

/// Bytes that were moved since the start of the daemon.
#[derive(Default)]
pub(crate) struct Moved {
    downloaded: AtomicU64,
    written: AtomicU64,
}

impl Moved {
    pub(crate) fn downloaded(&self, more: ByteCount) {
        self.downloaded.fetch_add(more.get(), Ordering::Relaxed);
    }

    pub(crate) fn written(&self, more: ByteCount) {
        self.written.fetch_add(more.get(), Ordering::Relaxed);
    }
}

impl Shared {
    /// The sums as they stand. Blocking.
    pub(crate) fn totals(&self) -> Result<Totals, PortError> {
        let load = |sum: &AtomicU64| ByteCount(sum.load(Ordering::Relaxed));
        let known = self.ports.journal.ended()?;
        // A sum that is there only from its first job on hides that one from those who look at what is added.
        let of = |state| {
            let none = EndedJobs { state, jobs: 0, took: Duration::ZERO };
            known.iter().copied().find(|sum| sum.state == state).unwrap_or(none)
        };
        Ok(Totals {
            downloaded: load(&self.moved.downloaded),
            written: load(&self.moved.written),
            ended: JobStatus::ALL.into_iter().filter(|state| state.is_end()).map(of).collect(),
        })
    }
}
