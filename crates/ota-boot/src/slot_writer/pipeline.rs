//! The data path: a few aligned buffers that go round between two threads.
//!
//! ```text
//! image ─► read and hash (caller's thread) ─full─► write (writer thread) ─┐      first chunk kept back:
//!               ▲                                                         │      rest, sync, first chunk, sync
//!               └───────────────────────── empty ─────────────────────────┘
//! ```
//! Owns the order of operations and the bounded memory, `chunk × buffers` whatever the size. The image may come from a
//! file or from the network: any [`ImageReader`]. Which slot and whether it may be written is the caller's.

use std::{
    sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel},
    thread,
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
};

/// Size and number of the buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pipeline {
    /// Bytes of a buffer, a multiple of [`ALIGNMENT`].
    pub chunk: usize,
    /// At least 3: one is kept back, one is filled while another is written.
    pub buffers: usize,
}

impl Default for Pipeline {
    /// Four of 1 MiB.
    fn default() -> Self {
        Self { chunk: 1 << 20, buffers: 4 }
    }
}

type Buffer = AVec<u8, ConstAlign<ALIGNMENT>>;

/// Bytes on their way to the device.
struct Chunk {
    buffer: Buffer,
    len: usize,
    offset: u64,
}

/// Why feeding ended early.
enum Stopped {
    /// The writer is gone and knows why.
    WriterEnded,
    Failed(BootError),
}

impl From<BootError> for Stopped {
    fn from(error: BootError) -> Self {
        Self::Failed(error)
    }
}

/// Writes `image` to the front of `dev`: all chunks but the first, sync, the first chunk, sync; no read-back.
///
/// The digest is taken of the buffers that are written, and compared before the first chunk is.
///
/// # Errors
/// `Source`, `Length`, `Digest`, `Stopped`, `Io` with the byte. On any error the content of `dev` is unknown.
pub fn write_image(
    dev: &dyn BlockDev,
    image: &mut dyn ImageReader,
    expect: ImageExpectation,
    pipeline: Pipeline,
    observer: Observer<'_>,
) -> Result<(), BootError> {
    let (full, to_write) = sync_channel(pipeline.buffers.max(3));
    let (emptied, empty) = channel();
    for _ in 0..pipeline.buffers.max(3) {
        // The receiver is in this function.
        let _ = emptied.send(new_buffer(pipeline.chunk));
    }
    let (fed, written) = thread::scope(|scope| {
        let writer = scope.spawn(|| write_chunks(dev, to_write, emptied));
        let mut feeder = Feeder { image, expect, full, empty, observer };
        let fed = feeder.feed();
        drop(feeder);
        (fed, writer.join())
    });
    let written = written.map_err(|_| BootError::Thread("writer"))?;
    let first = match (fed, written) {
        (Err(Stopped::Failed(error)), _) | (_, Err(error)) => return Err(error),
        (Err(Stopped::WriterEnded), Ok(())) => return Err(BootError::Thread("writer")),
        (Ok(first), Ok(())) => first,
    };
    sync(dev)?;
    if let Some(first) = first {
        write_chunk(dev, &first)?;
    }
    sync(dev)?;
    go_on(observer, WriteProgress::Written(expect.size))
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
    let (full, to_hash) = sync_channel(pipeline.buffers.max(2));
    let (emptied, empty) = channel();
    for _ in 0..pipeline.buffers.max(2) {
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

/// Reads and hashes; the caller's thread, because neither image nor observer can leave it.
struct Feeder<'a, 'o> {
    image: &'a mut dyn ImageReader,
    expect: ImageExpectation,
    full: SyncSender<Chunk>,
    empty: Receiver<Buffer>,
    observer: Observer<'o>,
}

impl Feeder<'_, '_> {
    /// Hands over all chunks but the first, which it returns; `None` for an image of no bytes.
    fn feed(&mut self) -> Result<Option<Chunk>, Stopped> {
        let size = self.expect.size.get();
        let mut hash = Context::new(&SHA256);
        let (mut first, mut offset, mut given) = (None, 0, 0);
        while offset < size {
            let mut buffer = self.empty.recv().map_err(|_| Stopped::WriterEnded)?;
            let len = usize::try_from(size - offset).map_or(buffer.len(), |left| left.min(buffer.len()));
            self.fill(&mut buffer[..len], offset)?;
            hash.update(&buffer[..len]);
            let chunk = Chunk { buffer, len, offset };
            offset += len as u64;
            if chunk.offset == 0 {
                first = Some(chunk);
            } else {
                given += len as u64;
                self.full.send(chunk).map_err(|_| Stopped::WriterEnded)?;
            }
            go_on(self.observer, WriteProgress::Written(ByteCount(given)))?;
        }
        self.must_have_ended()?;
        let actual = finish(hash);
        if actual != self.expect.sha256 {
            return Err(BootError::Digest { expected: self.expect.sha256, actual }.into());
        }
        Ok(first)
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

    fn must_have_ended(&mut self) -> Result<(), BootError> {
        match self.image.read(&mut [0]).map_err(BootError::Source)? {
            0 => Ok(()),
            _ => Err(self.length(format!("more than {}", self.expect.size.get()))),
        }
    }

    fn length(&self, actual: String) -> BootError {
        BootError::Length { expected: self.expect.size.get(), actual }
    }
}

/// The writer thread. Ends at the first error; the closed channels tell the other side.
fn write_chunks(dev: &dyn BlockDev, full: Receiver<Chunk>, emptied: Sender<Buffer>) -> Result<(), BootError> {
    for chunk in full {
        write_chunk(dev, &chunk)?;
        // Nobody waits for it at the end.
        let _ = emptied.send(chunk.buffer);
    }
    Ok(())
}

fn write_chunk(dev: &dyn BlockDev, chunk: &Chunk) -> Result<(), BootError> {
    write_all(dev, &chunk.buffer[..chunk.len], chunk.offset)?;
    dev.chunk_done(chunk.offset, chunk.len as u64)
        .map_err(|e| BootError::io("sync", dev.path(), chunk.offset, e))
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

fn go_on(observer: Observer<'_>, progress: WriteProgress) -> Result<(), BootError> {
    match observer(progress) {
        Flow::Continue => Ok(()),
        Flow::Stop => Err(BootError::Stopped),
    }
}

fn finish(hash: Context) -> Sha256Digest {
    let mut digest = [0; 32];
    digest.copy_from_slice(hash.finish().as_ref());
    Sha256Digest(digest)
}

fn new_buffer(len: usize) -> Buffer {
    AVec::from_iter(ALIGNMENT, std::iter::repeat_n(0, len))
}
