//! Reading back what was written, on several processors and while the rest is still being written.
//!
//! SHA-256 is one chain, so one thread can digest a slot no faster than one processor hashes. But whoever writes the image
//! has the digest's state at every byte: kept at some of them ([`Trail`]), each [`Stretch`] between two is checked by itself.
//! If a stretch that begins with the state of the bytes before it ends with the digest of all bytes up to its end, then,
//! stretch by stretch, the whole slot holds what was hashed; finding other bytes for which that is true means breaking
//! SHA-256. Nothing is taken on trust: every byte is read from the medium and hashed, after a sync that covered it.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, Sender, SyncSender, channel, sync_channel},
    },
    thread::{self, Scope},
};

use ota_core::{
    ByteCount, Sha256Digest,
    ports::{Observer, WriteProgress},
};
use ring::digest::{Context, SHA256};

use super::pipeline::{Pipeline, finish, go_on, new_buffer};
use crate::{
    device::{BlockDev, read_full, sync},
    error::BootError,
};

/// Chunks of a stretch.
const STRETCH: u64 = 8;

/// Stretches from one sync to the next. A sync waits for the medium, so not after each.
const SYNC_EVERY: usize = 4;

/// Stretches that may wait for a checker; beyond that the writing waits, so that memory stays flat.
const QUEUE: usize = 64;

/// A piece of the image: the digest's state before it, its bounds, the digest of all bytes up to its end.
pub(super) struct Stretch {
    before: Context,
    from: u64,
    until: u64,
    digest: Sha256Digest,
}

impl Stretch {
    pub(super) fn is_first(&self) -> bool {
        self.from == 0
    }
}

/// The digest of an image on its way, cut into stretches.
pub(super) struct Trail {
    length: u64,
    total: u64,
    size: u64,
    state: Context,
    from: u64,
    before: Context,
}

impl Trail {
    /// Of no bytes yet, for an image of `total` that comes in chunks of `chunk`.
    pub(super) fn new(total: u64, chunk: usize) -> Self {
        let state = Context::new(&SHA256);
        Self { length: STRETCH * chunk as u64, total, size: 0, before: state.clone(), state, from: 0 }
    }

    /// Takes the next chunk; gives the stretch that ends with it. All chunks but the last are whole.
    pub(super) fn update(&mut self, bytes: &[u8]) -> Option<Stretch> {
        self.state.update(bytes);
        self.size += bytes.len() as u64;
        if !self.size.is_multiple_of(self.length) && self.size != self.total {
            return None;
        }
        let before = std::mem::replace(&mut self.before, self.state.clone());
        let from = std::mem::replace(&mut self.from, self.size);
        Some(Stretch { before, from, until: self.size, digest: self.digest() })
    }

    /// Digest of all bytes so far.
    pub(super) fn digest(&self) -> Sha256Digest {
        finish(self.state.clone())
    }
}

impl fmt::Debug for Trail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trail").field("size", &self.size).finish_non_exhaustive()
    }
}

/// What was written and not yet synced, on its way to the checkers.
pub(super) struct Checks {
    to: Option<SyncSender<Stretch>>,
    pending: Vec<Stretch>,
    gone: bool,
}

impl Checks {
    /// Nobody compares.
    pub(super) fn none() -> Self {
        Self { to: None, pending: Vec::new(), gone: false }
    }

    pub(super) fn add(&mut self, stretch: Option<Stretch>) {
        if self.to.is_some() {
            self.pending.extend(stretch);
        }
    }

    /// Whether a sync is worth its wait.
    pub(super) fn due(&self) -> bool {
        self.pending.len() >= SYNC_EVERY
    }

    /// Whether every checker has ended, which they do early only after a failure.
    pub(super) fn gone(&self) -> bool {
        self.gone
    }

    /// Syncs, and has what that covered read back.
    pub(super) fn sync(&mut self, dev: &dyn BlockDev) -> Result<(), BootError> {
        sync(dev)?;
        let Some(to) = &self.to else { return Ok(()) };
        dev.drop_cache().map_err(|e| BootError::io("read", dev.path(), 0, e))?;
        for stretch in self.pending.drain(..) {
            self.gone |= to.send(stretch).is_err();
        }
        Ok(())
    }
}

/// Starts the threads that read back, in `scope`: where they are given stretches, and where they tell of them. They end
/// when [`Checks`] is dropped, or [`Report`], or at the first failure.
pub(super) fn start<'scope>(
    scope: &'scope Scope<'scope, '_>,
    dev: &'scope dyn BlockDev,
    pipeline: Pipeline,
) -> (Checks, Report) {
    let (to, synced) = sync_channel(QUEUE);
    let (tell, news) = channel();
    let synced = Arc::new(Mutex::new(synced));
    for _ in 0..checkers(pipeline) {
        let checker = Checker { dev, synced: Arc::clone(&synced), tell: tell.clone() };
        scope.spawn(move || checker.run(pipeline.chunk));
    }
    (Checks { to: Some(to), pending: Vec::new(), gone: false }, Report { news, read: 0, compared: 0 })
}

/// One is reading while the others hash; never more buffers than the writing has.
fn checkers(pipeline: Pipeline) -> usize {
    let processors = thread::available_parallelism().map_or(1, usize::from);
    (processors + 1).min(pipeline.buffers.max(1))
}

/// What a checker has to tell.
enum News {
    /// So many bytes more were read.
    Read(u64),
    /// A stretch of so many bytes is what was written.
    Same(u64),
    Failed(BootError),
}

/// How far the checkers are.
pub(super) struct Report {
    news: Receiver<News>,
    read: u64,
    compared: u64,
}

impl Report {
    /// The failure of a check so far; does not wait.
    pub(super) fn failed(&mut self) -> Result<(), BootError> {
        while let Ok(news) = self.news.try_recv() {
            self.take(news)?;
        }
        Ok(())
    }

    /// Waits for the rest and passes on how far it is, until all `size` bytes were the same or something failed.
    pub(super) fn follow(mut self, size: ByteCount, observer: Observer<'_>) -> Result<(), BootError> {
        while let Ok(news) = self.news.recv() {
            self.take(news)?;
            go_on(observer, WriteProgress::ReadBack(ByteCount(self.read)))?;
        }
        if self.compared == size.get() { Ok(()) } else { Err(BootError::Thread("reader")) }
    }

    fn take(&mut self, news: News) -> Result<(), BootError> {
        match news {
            News::Read(bytes) => self.read += bytes,
            News::Same(bytes) => self.compared += bytes,
            News::Failed(error) => return Err(error),
        }
        Ok(())
    }
}

/// A thread that checks one stretch after the other.
struct Checker<'a> {
    dev: &'a dyn BlockDev,
    synced: Arc<Mutex<Receiver<Stretch>>>,
    tell: Sender<News>,
}

impl Checker<'_> {
    fn run(self, chunk: usize) {
        let mut buffer = new_buffer(chunk);
        while let Some(stretch) = self.next() {
            let news = match self.check(&mut buffer, &stretch) {
                Ok(()) => News::Same(stretch.until - stretch.from),
                Err(error) => News::Failed(error),
            };
            let on = matches!(news, News::Same(_));
            // Nobody listens any more.
            if self.tell.send(news).is_err() || !on {
                return;
            }
        }
    }

    fn next(&self) -> Option<Stretch> {
        self.synced.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
    }

    fn check(&self, buffer: &mut [u8], stretch: &Stretch) -> Result<(), BootError> {
        let mut state = stretch.before.clone();
        let mut offset = stretch.from;
        while offset < stretch.until {
            let len =
                usize::try_from(stretch.until - offset).map_or(buffer.len(), |left| left.min(buffer.len()));
            read_full(self.dev, &mut buffer[..len], offset)?;
            state.update(&buffer[..len]);
            if self.tell.send(News::Read(len as u64)).is_err() {
                return Err(BootError::Stopped);
            }
            offset += len as u64;
        }
        let actual = finish(state);
        if actual == stretch.digest {
            return Ok(());
        }
        let Stretch { from, until, digest: expected, .. } = *stretch;
        Err(BootError::ReadBack { from, until, expected, actual })
    }
}
