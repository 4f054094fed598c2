//! Sums for those who watch: bytes that were moved since the start of the daemon, and the jobs that ever ended.
//!
//! Jobs are counted in the store. Each update ends behind a restart, often before anybody looks: counted from zero, one end would look
//! like the one before the restart. Bytes are seen while they move, and their sum may begin again.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use ota_core::{
    ByteCount,
    error::PortError,
    job::{Job, JobStatus},
};

use crate::engine::Shared;

/// A line by state that a job can end in: its word, how many ended so, and how many milliseconds they took together.
const ENDED: &str = "jobs.ended";

/// Sums for those who watch. They only grow; a restart sets those of bytes to zero, a factory reset all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Totals {
    /// Bytes of images that arrived from update servers.
    pub downloaded: ByteCount,
    /// Bytes of images that were written to slots; of a packed one its own bytes, not what they unpack to.
    pub written: ByteCount,
    /// Every state that a job can end in.
    pub ended: Vec<(JobStatus, Ended)>,
}

/// The jobs that ended in one state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// How many.
    pub jobs: u64,
    /// How long they took together, from the request to the end of each.
    pub took: Duration,
}

impl Ended {
    fn parse(numbers: &str) -> Option<Self> {
        let (jobs, millis) = numbers.split_once(' ')?;
        Some(Self { jobs: jobs.parse().ok()?, took: Duration::from_millis(millis.parse().ok()?) })
    }
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
    /// Counts a job that has just ended. Blocking.
    pub(crate) fn count_end(&self, job: &Job) -> Result<(), PortError> {
        let mut all = self.ended()?;
        if let Some((_, ended)) = all.iter_mut().find(|(state, _)| *state == job.state.status()) {
            ended.jobs = ended.jobs.saturating_add(1);
            ended.took = ended.took.saturating_add(job.updated.since(job.created));
        }
        let line = |(state, ended): &(JobStatus, Ended)| {
            format!("{} {} {}", state.as_str(), ended.jobs, ended.took.as_millis())
        };
        let lines: Vec<String> = all.iter().map(line).collect();
        self.ports.settings.set_value(ENDED, Some(&lines.join("\n")))
    }

    /// The sums as they stand. Blocking.
    pub(crate) fn totals(&self) -> Result<Totals, PortError> {
        let load = |sum: &AtomicU64| ByteCount(sum.load(Ordering::Relaxed));
        let (downloaded, written) = (load(&self.moved.downloaded), load(&self.moved.written));
        Ok(Totals { downloaded, written, ended: self.ended()? })
    }

    fn ended(&self) -> Result<Vec<(JobStatus, Ended)>, PortError> {
        let text = self.ports.settings.value(ENDED)?.unwrap_or_default();
        let kept = |state: JobStatus| {
            let mut lines = text.lines().filter_map(|line| line.split_once(' '));
            lines.find(|(word, _)| *word == state.as_str()).and_then(|(_, numbers)| Ended::parse(numbers))
        };
        let ends = JobStatus::ALL.into_iter().filter(|state| state.is_end());
        Ok(ends.map(|state| (state, kept(state).unwrap_or_default())).collect())
    }
}
