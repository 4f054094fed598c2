//! The data path: a few aligned buffers that go round between a handful of threads, and the read-back behind them.
//!
//! ```text
//! image ─► read ─filled─► hash (caller's thread) ─hashed─► write, in turns ─┐      first chunk kept back:
//!           ▲                                                               │      rest, sync, first chunk, sync
//!           └──────────────────────────── empty ────────────────────────────┤
//!                                                                           └─ sync now and then ─► read back, compare
//! ```
//! A device with one request at a time is idle while that is made: two writers keep the second one waiting in its queue.
//! Between two syncs the order of writes means nothing, so neither does which of them comes first.
//!
//! Owns the order of operations and the bounded memory, `chunk × buffers` whatever the size. The image may come from a
//! file or from the network: any [`ImageReader`]. Which slot and whether it may be written is the caller's.

use std::{
    sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel},
    thread::{self, ScopedJoinHandle},
};

use aligned_vec::{AVec, ConstAlign};
use ota_core::{
    ByteCount, Sha256Digest,
    ports::{Flow, ImageExpectation, ImageReader, Observer, WriteProgress},
};
use ring::digest::{Context, SHA256};

use crate::{
    device::{ALIGNMENT, BlockDev, read_full, sync, write_all},
    error::BootError,
    slot_writer::read_back::{self, Checks, Piece},
};

/// Size and number of the buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pipeline {
    /// Bytes of a buffer, a multiple of [`ALIGNMENT`].
    pub chunk: usize,
    /// At least 3 + `writers`: one is kept back, one each is filled, hashed and written by each writer.
    pub buffers: usize,
    /// Writes at a time, at least 1. With 1 they come in the image's order.
    pub writers: usize,
    /// Bytes from one sync to the next while writing, so that what is behind it can be read back meanwhile. More than the
    /// image has: only the two at the end.
    pub sync_every: u64,
}

impl Default for Pipeline {
    /// Ten of 512 KiB, two writers, a sync every 32 MiB.
    fn default() -> Self {
        Self { chunk: 512 << 10, buffers: 10, writers: 2, sync_every: 32 << 20 }
    }
}

impl Pipeline {
    pub(super) fn writers(self) -> usize {
        self.writers.max(1)
    }

    fn buffers(self) -> usize {
        self.buffers.max(3 + self.writers())
    }
}

type Buffer = AVec<u8, ConstAlign<ALIGNMENT>>;

/// Bytes on their way to the device.
struct Chunk {
    buffer: Buffer,
    len: usize,
    offset: u64,
}

/// Writes `image` to the front of `dev`: all chunks but the first, sync, the first chunk, sync; then every byte has been
/// read back from the medium and compared.
///
/// The digest is taken of the buffers that are written, and compared before the first chunk is. What is behind a sync is
/// read back while the rest is still being written: reading and writing then share the time, not the order.
///
/// # Errors
/// `Source`, `Length`, `Digest`, `ReadBack`, `Stopped`, `Io` with the byte. On any error the content of `dev` is unknown.
pub fn install_image(
    dev: &dyn BlockDev,
    image: &mut dyn ImageReader,
    expect: ImageExpectation,
    pipeline: Pipeline,
    observer: Observer<'_>,
) -> Result<(), BootError> {
    thread::scope(|scope| {
        let (checks, mut report) = read_back::start(scope, dev, pipeline);
        // Dropped by then: the checkers end when they have read what they were given.
        drop(write(dev, image, expect, pipeline, observer, checks, &mut || report.failed())?);
        report.follow(expect.size, observer)
    })
}

/// [`install_image`] without the read-back: what a measure of the writing alone needs.
///
/// # Errors
/// As [`install_image`], without `ReadBack`.
pub fn write_image(
    dev: &dyn BlockDev,
    image: &mut dyn ImageReader,
    expect: ImageExpectation,
    pipeline: Pipeline,
    observer: Observer<'_>,
) -> Result<(), BootError> {
    write(dev, image, expect, pipeline, observer, Checks::none(), &mut || Ok(())).map(drop)
}

/// The writing. `checks` takes what is synced, `failed` tells of a check that has failed meanwhile.
pub(super) fn write(
    dev: &dyn BlockDev,
    image: &mut dyn ImageReader,
    expect: ImageExpectation,
    pipeline: Pipeline,
    observer: Observer<'_>,
    checks: Checks,
    failed: &mut dyn FnMut() -> Result<(), BootError>,
) -> Result<Checks, BootError> {
    let buffers = pipeline.buffers();
    let (filled, to_hash) = sync_channel(buffers);
    let (hashed, to_write): (Vec<_>, Vec<_>) = (0..pipeline.writers()).map(|_| sync_channel(buffers)).unzip();
    let (emptied, empty) = channel();
    let (tell, written_pieces) = channel();
    for _ in 0..buffers {
        // The receiver is in this function.
        let _ = emptied.send(new_buffer(pipeline.chunk));
    }
    let (hash, read, written, checks) = thread::scope(|scope| {
        let reader = scope.spawn(move || Source { image, size: expect.size.get() }.read(filled, empty));
        let writers: Vec<_> = to_write
            .into_iter()
            .map(|full| {
                let writer = Writer { dev, emptied: emptied.clone(), tell: tell.clone() };
                scope.spawn(move || writer.run(full))
            })
            .collect();
        // The writers have theirs: when they have ended, nobody waits for buffers or pieces.
        drop(emptied);
        drop(tell);
        let checks = scope.spawn(|| checks.follow(dev, written_pieces));
        let hash = hash_on_the_way(to_hash, hashed, observer);
        let written: Vec<_> = writers.into_iter().map(ScopedJoinHandle::join).collect();
        (hash, reader.join(), written, checks.join())
    });
    // The first cause: a thread that failed made the others end early, without an error of their own.
    for writer in written {
        writer.map_err(|_| BootError::Thread("writer"))??;
    }
    let mut checks = checks.map_err(|_| BootError::Thread("syncer"))??;
    failed()?;
    let (first, digest) = hash?;
    read.map_err(|_| BootError::Thread("reader"))??;
    if digest != expect.sha256 {
        return Err(BootError::Digest { expected: expect.sha256, actual: digest });
    }
    sync(dev)?;
    if let Some(first) = first {
        checks.add(write_chunk(dev, &first)?);
    }
    checks.sync(dev)?;
    go_on(observer, WriteProgress::Written(expect.size))?;
    Ok(checks)
}

/// Digest of the first `size` bytes of `dev`, read from the medium; a second thread reads ahead.
///
/// # Errors
/// `Stopped`; `Io` with the byte, also when `dev` is shorter than `size`.
pub fn digest_device(
    dev: &dyn BlockDev,
    size: ByteCount,
    pipeline: Pipeline,
    observer: Observer<'_>,
) -> Result<Sha256Digest, BootError> {
    dev.drop_cache().map_err(|e| BootError::io("read", dev.path(), 0, e))?;
    let buffers = pipeline.buffers();
    let (full, to_hash) = sync_channel(buffers);
    let (emptied, empty) = channel();
    for _ in 0..buffers {
        let _ = emptied.send(new_buffer(pipeline.chunk));
    }
    let (hashed, read) = thread::scope(|scope| {
        let reader = scope.spawn(|| read_chunks(dev, size.get(), full, empty));
        let hashed = hash_chunks(to_hash, emptied, observer);
        (hashed, reader.join())
    });
    let read = read.map_err(|_| BootError::Thread("reader"))?;
    let digest = hashed?;
    read?;
    Ok(digest)
}

/// The image, on the thread that reads it.
struct Source<'a> {
    image: &'a mut dyn ImageReader,
    size: u64,
}

impl Source<'_> {
    /// Reads all of it and that it ends. Ends early when nobody takes what it reads.
    fn read(mut self, filled: SyncSender<Chunk>, empty: Receiver<Buffer>) -> Result<(), BootError> {
        let mut offset = 0;
        while offset < self.size {
            let Ok(mut buffer) = empty.recv() else { return Ok(()) };
            let len = usize::try_from(self.size - offset).map_or(buffer.len(), |left| left.min(buffer.len()));
            self.fill(&mut buffer[..len], offset)?;
            if filled.send(Chunk { buffer, len, offset }).is_err() {
                return Ok(());
            }
            offset += len as u64;
        }
        match self.image.read(&mut [0]).map_err(BootError::Source)? {
            0 => Ok(()),
            _ => Err(self.length(format!("more than {}", self.size))),
        }
    }

    fn fill(&mut self, buf: &mut [u8], offset: u64) -> Result<(), BootError> {
        let mut filled = 0;
        while filled < buf.len() {
            match self.image.read(&mut buf[filled..]).map_err(BootError::Source)? {
                0 => return Err(self.length((offset + filled as u64).to_string())),
                n => filled += n,
            }
        }
        Ok(())
    }

    fn length(&self, actual: String) -> BootError {
        BootError::Length { expected: self.size, actual }
    }
}

/// Hashes what was read and hands it to the writers in turns, all but the first chunk, which it returns with the digest;
/// `None` for an image of no bytes. On the caller's thread, because the observer cannot leave it.
fn hash_on_the_way(
    filled: Receiver<Chunk>,
    hashed: Vec<SyncSender<Chunk>>,
    observer: Observer<'_>,
) -> Result<(Option<Chunk>, Sha256Digest), BootError> {
    let (mut hash, mut first, mut given) = (Context::new(&SHA256), None, 0);
    let mut turns = hashed.iter().cycle();
    for chunk in filled {
        hash.update(&chunk.buffer[..chunk.len]);
        if chunk.offset == 0 {
            first = Some(chunk);
        } else {
            given += chunk.len as u64;
            // Ends with the first writer that failed; the others then see that nothing more comes.
            if turns.next().is_none_or(|writer| writer.send(chunk).is_err()) {
                break;
            }
        }
        go_on(observer, WriteProgress::Written(ByteCount(given)))?;
    }
    Ok((first, finish(hash)))
}

/// A writer thread. Ends at the first error, and when nobody follows any more; the closed channels tell the other side.
struct Writer<'a> {
    dev: &'a dyn BlockDev,
    emptied: Sender<Buffer>,
    tell: Sender<Piece>,
}

impl Writer<'_> {
    fn run(self, full: Receiver<Chunk>) -> Result<(), BootError> {
        for chunk in full {
            let piece = write_chunk(self.dev, &chunk)?;
            // Nobody waits for it at the end.
            let _ = self.emptied.send(chunk.buffer);
            if self.tell.send(piece).is_err() {
                break;
            }
        }
        Ok(())
    }
}

fn write_chunk(dev: &dyn BlockDev, chunk: &Chunk) -> Result<Piece, BootError> {
    let bytes = &chunk.buffer[..chunk.len];
    write_all(dev, bytes, chunk.offset)?;
    dev.chunk_done(chunk.offset, chunk.len as u64)
        .map_err(|e| BootError::io("sync", dev.path(), chunk.offset, e))?;
    Ok(Piece::of(bytes, chunk.offset))
}

/// The reader thread. Ends early when nobody takes what it reads.
fn read_chunks(
    dev: &dyn BlockDev,
    size: u64,
    full: SyncSender<Chunk>,
    empty: Receiver<Buffer>,
) -> Result<(), BootError> {
    let mut offset = 0;
    while offset < size {
        let Ok(mut buffer) = empty.recv() else { return Ok(()) };
        let len = usize::try_from(size - offset).map_or(buffer.len(), |left| left.min(buffer.len()));
        read_full(dev, &mut buffer[..len], offset)?;
        if full.send(Chunk { buffer, len, offset }).is_err() {
            return Ok(());
        }
        offset += len as u64;
    }
    Ok(())
}

fn hash_chunks(
    full: Receiver<Chunk>,
    emptied: Sender<Buffer>,
    observer: Observer<'_>,
) -> Result<Sha256Digest, BootError> {
    let mut hash = Context::new(&SHA256);
    for chunk in full {
        hash.update(&chunk.buffer[..chunk.len]);
        go_on(observer, WriteProgress::ReadBack(ByteCount(chunk.offset + chunk.len as u64)))?;
        let _ = emptied.send(chunk.buffer);
    }
    Ok(finish(hash))
}

pub(super) fn go_on(observer: Observer<'_>, progress: WriteProgress) -> Result<(), BootError> {
    match observer(progress) {
        Flow::Continue => Ok(()),
        Flow::Stop => Err(BootError::Stopped),
    }
}

pub(super) fn finish(hash: Context) -> Sha256Digest {
    let mut digest = [0; 32];
    digest.copy_from_slice(hash.finish().as_ref());
    Sha256Digest(digest)
}

pub(super) fn new_buffer(len: usize) -> Buffer {
    AVec::from_iter(ALIGNMENT, std::iter::repeat_n(0, len))
}
