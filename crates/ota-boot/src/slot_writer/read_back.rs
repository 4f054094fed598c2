//! Reading back what was just written, on several processors.
//!
//! SHA-256 is one chain, so one thread can digest a slot no faster than one processor hashes. But whoever wrote the image
//! had the digest's state at every byte: kept at some of them ([`Trail`]), each stretch between two is checked by itself.
//! If a stretch that begins with the state of the bytes before it ends with the digest of all bytes up to its end, then,
//! stretch by stretch, the whole slot holds what was hashed; finding other bytes for which that is true means breaking
//! SHA-256. Nothing is taken on trust: every byte is read from the medium and hashed.

use std::{
    fmt,
    sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    thread,
};

use ota_core::{
    ByteCount, Sha256Digest,
    ports::{Observer, WriteProgress},
};
use ring::digest::{Context, SHA256};

use super::pipeline::{Pipeline, digest_device, finish, go_on, new_buffer};
use crate::{
    device::{BlockDev, read_full},
    error::BootError,
};

/// A trail has not more marks than this, whatever the image; they are some hundred bytes each.
const MOST_MARKS: u64 = 64;

/// A stretch is not shorter, in chunks: below that the threads would mostly begin and end.
const LEAST_CHUNKS: u64 = 4;

/// The digest of an image and its states on the way.
#[derive(Clone)]
pub struct Trail {
    stretch: u64,
    size: u64,
    state: Context,
    /// The state before each stretch.
    marks: Vec<Context>,
}

impl fmt::Debug for Trail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trail")
            .field("size", &self.size)
            .field("digest", &self.digest())
            .finish_non_exhaustive()
    }
}

impl Trail {
    /// Of no bytes yet, for an image of `size` that comes in chunks of `chunk`.
    pub(super) fn new(size: u64, chunk: usize) -> Self {
        let chunk = chunk as u64;
        let stretch = size.div_ceil(MOST_MARKS).next_multiple_of(chunk).max(LEAST_CHUNKS * chunk);
        Self { stretch, size: 0, state: Context::new(&SHA256), marks: Vec::new() }
    }

    /// Takes the next chunk. All but the last are whole.
    pub(super) fn update(&mut self, bytes: &[u8]) {
        if self.size.is_multiple_of(self.stretch) {
            self.marks.push(self.state.clone());
        }
        self.state.update(bytes);
        self.size += bytes.len() as u64;
    }

    /// Digest of all bytes.
    #[must_use]
    pub fn digest(&self) -> Sha256Digest {
        finish(self.state.clone())
    }

    /// Reads the front of `dev` from the medium and compares it with what was hashed.
    ///
    /// # Errors
    /// `ReadBack`; `Stopped`; `Io` with the byte, also when `dev` is shorter.
    pub fn compare(
        &self,
        dev: &dyn BlockDev,
        pipeline: Pipeline,
        observer: Observer<'_>,
    ) -> Result<(), BootError> {
        dev.drop_cache().map_err(|e| BootError::io("read", dev.path(), 0, e))?;
        let next = AtomicUsize::new(0);
        let (tell, news) = channel();
        let same = thread::scope(|scope| {
            for _ in 0..readers(pipeline) {
                let reader = Reader { trail: self, dev, next: &next, tell: tell.clone() };
                scope.spawn(move || reader.run(pipeline.chunk));
            }
            drop(tell);
            self.follow(news, observer)
        })?;
        if same {
            return Ok(());
        }
        // Once more as a whole, to tell which digest it has.
        let size = ByteCount(self.size);
        let actual =
            digest_device(dev, size, pipeline, &mut |_| observer(WriteProgress::ReadBack(ByteCount::ZERO)))?;
        Err(BootError::ReadBack { expected: self.digest(), actual })
    }

    /// Passes on how far it is, until all was the same, something was not, or it is to stop. Dropping the receiver ends
    /// the readers.
    fn follow(&self, news: Receiver<News>, observer: Observer<'_>) -> Result<bool, BootError> {
        let (mut read, mut compared) = (0, 0);
        for news in news {
            match news {
                News::Read(bytes) => {
                    read += bytes;
                    go_on(observer, WriteProgress::ReadBack(ByteCount(read)))?;
                }
                News::Same(bytes) => compared += bytes,
                News::Differs => return Ok(false),
                News::Failed(error) => return Err(error),
            }
        }
        if compared == self.size { Ok(true) } else { Err(BootError::Thread("reader")) }
    }

    /// State before a stretch, its bounds, the digest up to its end.
    fn stretch(&self, number: usize) -> Option<(Context, u64, u64, Sha256Digest)> {
        let before = self.marks.get(number)?.clone();
        let from = number as u64 * self.stretch;
        let after = self.marks.get(number + 1).unwrap_or(&self.state).clone();
        Some((before, from, (from + self.stretch).min(self.size), finish(after)))
    }
}

/// One is reading while the others hash; never more buffers than the writing had.
fn readers(pipeline: Pipeline) -> usize {
    let processors = thread::available_parallelism().map_or(1, usize::from);
    (processors + 1).min(pipeline.buffers.max(1))
}

/// What a reader has to tell.
enum News {
    /// So many bytes more were read.
    Read(u64),
    /// A stretch of so many bytes is what was written.
    Same(u64),
    Differs,
    Failed(BootError),
}

/// A thread that takes one stretch after the other.
struct Reader<'a> {
    trail: &'a Trail,
    dev: &'a dyn BlockDev,
    next: &'a AtomicUsize,
    tell: Sender<News>,
}

impl Reader<'_> {
    fn run(self, chunk: usize) {
        let mut buffer = new_buffer(chunk);
        while let Some((state, from, until, digest)) =
            self.trail.stretch(self.next.fetch_add(1, Ordering::Relaxed))
        {
            let news = match self.hash(&mut buffer, state, from, until) {
                // Nobody listens any more.
                Ok(None) => return,
                Ok(Some(read)) if read == digest => News::Same(until - from),
                Ok(Some(_)) => News::Differs,
                Err(error) => News::Failed(error),
            };
            let on = matches!(news, News::Same(_));
            if self.tell.send(news).is_err() || !on {
                return;
            }
        }
    }

    fn hash(
        &self,
        buffer: &mut [u8],
        mut state: Context,
        from: u64,
        until: u64,
    ) -> Result<Option<Sha256Digest>, BootError> {
        let mut offset = from;
        while offset < until {
            let len = usize::try_from(until - offset).map_or(buffer.len(), |left| left.min(buffer.len()));
            read_full(self.dev, &mut buffer[..len], offset)?;
            state.update(&buffer[..len]);
            if self.tell.send(News::Read(len as u64)).is_err() {
                return Ok(None);
            }
            offset += len as u64;
        }
        Ok(Some(finish(state)))
    }
}
