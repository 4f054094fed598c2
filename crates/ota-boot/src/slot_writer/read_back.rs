//! Reading back what was written, while the rest is still being written.
//!
//! The image's SHA-256 is taken of the buffers that are written; whether the medium kept them is another question, and a
//! cheaper one: each chunk has a fingerprint of 128 bits (XXH3) when it is written, and what comes back from the medium must
//! have the same. It need not stand against an adversary: who can change the slot between the write and the read-back can
//! change it after, and that is what the digest on the trial boot is for. Every byte is read, after a sync that covered it.
//! SHA-256 once more would be as much work as all of the writing.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, Sender, SyncSender, channel, sync_channel},
    },
    thread::Scope,
};

use ota_core::{
    ByteCount,
    ports::{Observer, WriteProgress},
};
use twox_hash::XxHash3_128;

use super::pipeline::{Pipeline, go_on, new_buffer};
use crate::{
    device::{BlockDev, read_full, sync},
    error::BootError,
};

/// Pieces that may wait for a checker; beyond that the syncing waits, so that memory stays flat.
const QUEUE: usize = 1024;

/// What was written in one go: its place, its length, its fingerprint.
pub(super) struct Piece {
    offset: u64,
    len: usize,
    fingerprint: u128,
}

impl Piece {
    pub(super) fn of(bytes: &[u8], offset: u64) -> Self {
        Self { offset, len: bytes.len(), fingerprint: XxHash3_128::oneshot(bytes) }
    }
}

/// What was written and is not yet behind a sync, on its way to the checkers.
pub(super) struct Checks {
    to: Option<SyncSender<Piece>>,
    sync_every: u64,
    pending: Vec<Piece>,
    bytes: u64,
}

impl Checks {
    /// Nobody compares.
    pub(super) fn none() -> Self {
        Self { to: None, sync_every: u64::MAX, pending: Vec::new(), bytes: 0 }
    }

    /// Syncs whenever so much is written that it is worth the wait, while the writing goes on. Ends early when every checker
    /// has ended, which they do only after a failure.
    pub(super) fn follow(mut self, dev: &dyn BlockDev, written: Receiver<Piece>) -> Result<Self, BootError> {
        for piece in written {
            self.add(piece);
            if self.bytes >= self.sync_every && !self.sync(dev)? {
                break;
            }
        }
        Ok(self)
    }

    pub(super) fn add(&mut self, piece: Piece) {
        if self.to.is_some() {
            self.bytes += piece.len as u64;
            self.pending.push(piece);
        }
    }

    /// Syncs, and has what that covered read back. Whether somebody still does.
    pub(super) fn sync(&mut self, dev: &dyn BlockDev) -> Result<bool, BootError> {
        sync(dev)?;
        self.bytes = 0;
        let Some(to) = &self.to else { return Ok(true) };
        dev.drop_cache().map_err(|e| BootError::io("read", dev.path(), 0, e))?;
        Ok(self.pending.drain(..).all(|piece| to.send(piece).is_ok()))
    }
}

/// Starts the threads that read back, in `scope`: where they are given pieces, and where they tell of them. They end
/// when [`Checks`] is dropped, or [`Report`], or at the first failure.
pub(super) fn start<'scope>(
    scope: &'scope Scope<'scope, '_>,
    dev: &'scope dyn BlockDev,
    pipeline: Pipeline,
) -> (Checks, Report) {
    let (to, synced) = sync_channel(QUEUE);
    let (tell, news) = channel();
    let synced = Arc::new(Mutex::new(synced));
    for _ in 0..pipeline.writers() {
        let checker = Checker { dev, synced: Arc::clone(&synced), tell: tell.clone() };
        scope.spawn(move || checker.run(pipeline.chunk));
    }
    let checks = Checks { to: Some(to), sync_every: pipeline.sync_every, ..Checks::none() };
    (checks, Report { news, compared: 0 })
}

/// How far the checkers are.
pub(super) struct Report {
    news: Receiver<Result<usize, BootError>>,
    compared: u64,
}

impl Report {
    /// The failure of a check so far; does not wait.
    pub(super) fn failed(&mut self) -> Result<(), BootError> {
        while let Ok(news) = self.news.try_recv() {
            self.compared += news? as u64;
        }
        Ok(())
    }

    /// Waits for the rest and passes on how far it is, until all `size` bytes were the same or something failed.
    pub(super) fn follow(mut self, size: ByteCount, observer: Observer<'_>) -> Result<(), BootError> {
        go_on(observer, WriteProgress::ReadBack(ByteCount(self.compared)))?;
        while let Ok(news) = self.news.recv() {
            self.compared += news? as u64;
            go_on(observer, WriteProgress::ReadBack(ByteCount(self.compared)))?;
        }
        if self.compared == size.get() { Ok(()) } else { Err(BootError::Thread("checker")) }
    }
}

/// A thread that checks one piece after the other.
struct Checker<'a> {
    dev: &'a dyn BlockDev,
    synced: Arc<Mutex<Receiver<Piece>>>,
    tell: Sender<Result<usize, BootError>>,
}

impl Checker<'_> {
    fn run(self, chunk: usize) {
        let mut buffer = new_buffer(chunk);
        while let Some(piece) = self.next() {
            let checked = self.check(&mut buffer[..piece.len], &piece);
            let on = checked.is_ok();
            // Nobody listens any more.
            if self.tell.send(checked.map(|()| piece.len)).is_err() || !on {
                return;
            }
        }
    }

    fn next(&self) -> Option<Piece> {
        self.synced.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
    }

    fn check(&self, buffer: &mut [u8], piece: &Piece) -> Result<(), BootError> {
        read_full(self.dev, buffer, piece.offset)?;
        let actual = XxHash3_128::oneshot(buffer);
        if actual == piece.fingerprint {
            return Ok(());
        }
        let Piece { offset: from, len, fingerprint: expected } = *piece;
        Err(BootError::ReadBack { from, until: from + len as u64, expected, actual })
    }
}
