//! An operation that fails, once or from then on for ever.

use std::io;

/// How it fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum FaultKind {
    /// EIO.
    Io,
    /// ENOSPC.
    Full,
    /// Half of the bytes are taken.
    Short,
    /// EROFS.
    ReadOnly,
}

impl FaultKind {
    pub(crate) const ALL: [Self; 4] = [Self::Io, Self::Full, Self::Short, Self::ReadOnly];

    /// As the operating system says it.
    pub(crate) fn error(self) -> io::Error {
        let number = match self {
            Self::Io => 5,
            Self::Full => 28,
            Self::ReadOnly => 30,
            Self::Short => return io::ErrorKind::WriteZero.into(),
        };
        io::Error::from_raw_os_error(number)
    }
}

/// Which operations are counted, and fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// Writes, syncs, commits.
    Durable,
    /// Reads of slots, environment, records.
    Read,
}

/// A planned failure of the `at`-th operation (from 1).
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) on: Operation,
    pub(crate) at: u64,
    pub(crate) kind: FaultKind,
    pub(crate) for_ever: bool,
    calls: u64,
    hits: u64,
}

impl Fault {
    pub(crate) const fn new(on: Operation, at: u64, kind: FaultKind, for_ever: bool) -> Self {
        Self { on, at, kind, for_ever, calls: 0, hits: 0 }
    }

    /// Counts and never fails.
    pub(crate) const fn none(on: Operation) -> Self {
        Self::new(on, u64::MAX, FaultKind::Io, false)
    }

    /// Counts an operation; how it fails, if it is to. `takes_bytes`: whether it can take half of them.
    pub(crate) fn hit(&mut self, operation: Operation, takes_bytes: bool) -> Option<FaultKind> {
        if operation != self.on {
            return None;
        }
        self.calls += 1;
        let planned = self.calls == self.at || (self.for_ever && self.calls > self.at);
        let hit = planned && (takes_bytes || self.kind != FaultKind::Short);
        self.hits += u64::from(hit);
        hit.then_some(self.kind)
    }

    pub(crate) const fn calls(&self) -> u64 {
        self.calls
    }

    pub(crate) const fn hits(&self) -> u64 {
        self.hits
    }
}
