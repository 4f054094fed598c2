//! The partial file and the thread that writes it: hash while hot, write, sync every 4 MiB, log what is durable.
//!
//! The async side hands over chunks through a short queue. When it goes away (cancel, pause, shutdown), the thread writes
//! what it has and leaves a durable partial file for the next time.

use std::{
    fs::File,
    io::{ErrorKind, Read as _, Seek as _, SeekFrom, Write as _},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use ota_core::{ByteCount, ImageName, Sha256Digest};
use ring::digest::{Context, SHA256};
use tokio::sync::{mpsc, oneshot};

use super::log::{Log, Standing};
use crate::{FetchError, Staging, error::at};

/// How many bytes may be lost by a cut, beside what is in the queue.
const SYNC_EVERY: u64 = 4 << 20;
/// Chunks in the queue; one is a few hundred KiB at most.
const QUEUE: usize = 8;
const READ_CHUNK: usize = 1 << 20;

/// Signature files to put beside a finished image: ending and content.
pub(crate) type Signatures = Vec<(String, Vec<u8>)>;

enum Command {
    Chunk(Bytes),
    StartOver,
    Tag(Option<String>),
    Finish { signatures: Signatures, reply: oneshot::Sender<Result<(), FetchError>> },
}

/// The async side's end of a partial file.
pub(crate) struct Part {
    commands: mpsc::Sender<Command>,
    failed: oneshot::Receiver<FetchError>,
    durable: Arc<AtomicU64>,
    have: u64,
    tag: Option<String>,
}

impl Part {
    /// Opens the partial file of `name` for this content: waits for an earlier writer to end, reserves the space, hashes
    /// what is here.
    pub(crate) async fn open(
        staging: &Staging,
        name: &ImageName,
        size: u64,
        sha256: Sha256Digest,
    ) -> Result<Self, FetchError> {
        let (commands, queue) = mpsc::channel(QUEUE);
        let (fail, failed) = oneshot::channel();
        let (ready, opened) = oneshot::channel::<Result<Standing, FetchError>>();
        let durable = Arc::new(AtomicU64::new(0));
        let (staging, name, mark) = (staging.clone(), name.clone(), Arc::clone(&durable));
        let work = move || match Writer::open(staging, &name, size, sha256, mark, &ready) {
            Ok((writer, standing)) => {
                if ready.send(Ok(standing)).is_ok()
                    && let Err(error) = writer.run(queue)
                {
                    let _ = fail.send(error);
                }
            }
            Err(error) => {
                let _ = ready.send(Err(error));
            }
        };
        std::thread::Builder::new().name("ota-fetch-writer".into()).spawn(work).map_err(|source| {
            FetchError::Io { doing: "start a thread for", path: "staging".into(), source }
        })?;
        let standing = opened.await.map_err(|_| FetchError::Vanished("the writer"))??;
        Ok(Self { commands, failed, durable, have: standing.have, tag: standing.tag })
    }

    /// Bytes that were handed over, from the start of the file.
    pub(crate) const fn have(&self) -> u64 {
        self.have
    }

    /// Bytes that are durable.
    pub(crate) fn durable(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    /// Strong ETag of the file that the bytes are from.
    pub(crate) fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// Appends.
    pub(crate) async fn write(&mut self, chunk: Bytes) -> Result<(), FetchError> {
        self.have += chunk.len() as u64;
        self.send(Command::Chunk(chunk)).await
    }

    /// Forgets everything that is here.
    pub(crate) async fn start_over(&mut self) -> Result<(), FetchError> {
        self.have = 0;
        self.send(Command::StartOver).await?;
        self.set_tag(None).await
    }

    /// Notes what the bytes are from.
    pub(crate) async fn set_tag(&mut self, tag: Option<String>) -> Result<(), FetchError> {
        if self.tag == tag {
            return Ok(());
        }
        self.tag.clone_from(&tag);
        self.send(Command::Tag(tag)).await
    }

    /// Checks the digest and gives the file its name, with its signatures beside it; on another digest the partial file is
    /// deleted.
    pub(crate) async fn finish(mut self, signatures: Signatures) -> Result<(), FetchError> {
        let (reply, outcome) = oneshot::channel();
        self.send(Command::Finish { signatures, reply }).await?;
        match outcome.await {
            Ok(outcome) => outcome,
            Err(_) => Err(self.why().await),
        }
    }

    async fn send(&mut self, command: Command) -> Result<(), FetchError> {
        match self.commands.send(command).await {
            Ok(()) => Ok(()),
            Err(_) => Err(self.why().await),
        }
    }

    async fn why(&mut self) -> FetchError {
        (&mut self.failed).await.unwrap_or(FetchError::Vanished("the writer"))
    }
}

/// The thread's end.
struct Writer {
    staging: Staging,
    name: String,
    part_name: String,
    log_name: String,
    file: File,
    log: Log,
    hash: Context,
    size: u64,
    sha256: Sha256Digest,
    written: u64,
    unsynced: u64,
    durable: Arc<AtomicU64>,
}

impl Writer {
    fn open(
        staging: Staging,
        name: &ImageName,
        size: u64,
        sha256: Sha256Digest,
        durable: Arc<AtomicU64>,
        asker: &oneshot::Sender<Result<Standing, FetchError>>,
    ) -> Result<(Self, Standing), FetchError> {
        let (part_name, log_name) = Staging::partial(name);
        let file = take(&staging, &part_name)?;
        let log = staging.open_or_make(&log_name)?;
        let (log, mut standing) =
            Log::resume(log, size, &sha256).map_err(at("go on with", staging.path().join(&log_name)))?;
        let mut writer = Self {
            name: name.to_string(),
            hash: Context::new(&SHA256),
            written: 0,
            unsynced: 0,
            staging,
            part_name,
            log_name,
            file,
            log,
            size,
            sha256,
            durable,
        };
        let boot = boot_id();
        let length = writer.file.metadata().map_err(writer.at("look at"))?.len();
        // Only the process ended: what was written is in the page cache, synced or not. After a reboot the log counts.
        let have = if boot.is_some() && boot == standing.boot { length } else { standing.have };
        standing.have = writer.prepare(have.min(length).min(size), asker)?;
        if let Some(id) = boot
            && standing.boot.as_ref() != Some(&id)
        {
            // Should the power fail now, the old record must not count under the new boot.
            writer.log.have(standing.have).and_then(|()| writer.log.boot(&id)).map_err(writer.at("log"))?;
        }
        Ok((writer, standing))
    }

    /// Cuts the file to what is durable, reserves the rest and hashes what is here.
    fn prepare(
        &mut self,
        have: u64,
        asker: &oneshot::Sender<Result<Standing, FetchError>>,
    ) -> Result<u64, FetchError> {
        self.file.set_len(have).map_err(self.at("cut"))?;
        if let Err(error) = self.staging.reserve(&self.file, have, self.size) {
            // Gives back what could be had.
            self.file.set_len(have).map_err(self.at("cut"))?;
            if have == 0 {
                self.discard()?;
            }
            return Err(error);
        }
        self.file.seek(SeekFrom::Start(0)).map_err(self.at("seek in"))?;
        let mut buffer = vec![0; READ_CHUNK];
        while self.written < have {
            let want = usize::try_from(have - self.written).unwrap_or(READ_CHUNK).min(READ_CHUNK);
            self.file.read_exact(&mut buffer[..want]).map_err(self.at("read"))?;
            self.hash.update(&buffer[..want]);
            self.written += want as u64;
            if asker.is_closed() {
                return Err(FetchError::Vanished("the download"));
            }
        }
        self.durable.store(have, Ordering::Release);
        Ok(have)
    }

    fn run(mut self, mut queue: mpsc::Receiver<Command>) -> Result<(), FetchError> {
        while let Some(command) = queue.blocking_recv() {
            match command {
                Command::Chunk(chunk) => self.write(&chunk)?,
                Command::StartOver => self.start_over()?,
                Command::Tag(tag) => self.log.tag(tag.as_deref()).map_err(self.at("log"))?,
                Command::Finish { signatures, reply } => {
                    let _ = reply.send(self.finish(&signatures));
                    return Ok(());
                }
            }
        }
        if self.unsynced > 0 {
            self.checkpoint()?;
        }
        // Gives back what was set aside for the rest: whether this download goes on, and when, nobody knows here.
        self.file.set_len(self.written).map_err(self.at("cut"))
    }

    fn write(&mut self, chunk: &[u8]) -> Result<(), FetchError> {
        self.hash.update(chunk);
        self.file.write_all(chunk).map_err(|error| self.unwritten(error))?;
        self.written += chunk.len() as u64;
        self.unsynced += chunk.len() as u64;
        if self.unsynced >= SYNC_EVERY { self.checkpoint() } else { Ok(()) }
    }

    /// Data first, then the record of it. After a failed sync the content is unknown, so nothing is kept of it.
    fn checkpoint(&mut self) -> Result<(), FetchError> {
        if let Err(error) = self.file.sync_data() {
            self.discard()?;
            return Err(self.at("sync")(error));
        }
        self.unsynced = 0;
        self.log.have(self.written).map_err(self.at("log"))?;
        self.durable.store(self.written, Ordering::Release);
        Ok(())
    }

    /// Old bytes away, then the record of it, then new bytes: at no instant does a record or a length count both.
    fn start_over(&mut self) -> Result<(), FetchError> {
        self.file.set_len(0).map_err(self.at("cut"))?;
        self.log.have(0).map_err(self.at("log"))?;
        self.durable.store(0, Ordering::Release);
        self.file.seek(SeekFrom::Start(0)).map_err(self.at("seek in"))?;
        self.hash = Context::new(&SHA256);
        (self.written, self.unsynced) = (0, 0);
        self.staging.reserve(&self.file, 0, self.size)
    }

    fn finish(&mut self, signatures: &Signatures) -> Result<(), FetchError> {
        let mut digest = [0; 32];
        digest.copy_from_slice(self.hash.clone().finish().as_ref());
        let actual = Sha256Digest(digest);
        if actual != self.sha256 {
            self.discard()?;
            return Err(FetchError::Digest { expected: self.sha256, actual });
        }
        // Frees what a file system reserved in larger steps.
        self.file.set_len(self.size).map_err(self.at("cut"))?;
        if let Err(error) = self.file.sync_all() {
            self.discard()?;
            return Err(self.at("sync")(error));
        }
        let name: ImageName = self.name.parse().map_err(|_| FetchError::Vanished("the name"))?;
        self.staging.put_signatures(&name, signatures)?;
        self.staging.rename(&self.part_name, &self.name)?;
        self.staging.unlink(&self.log_name)?;
        self.staging.sync()?;
        self.durable.store(self.size, Ordering::Release);
        Ok(())
    }

    fn discard(&self) -> Result<(), FetchError> {
        self.staging.unlink(&self.part_name)?;
        self.staging.unlink(&self.log_name)?;
        self.staging.sync()
    }

    /// Full after all: a file system that could not reserve.
    fn unwritten(&self, error: std::io::Error) -> FetchError {
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => FetchError::Space {
                required: ByteCount(self.size - self.written),
                available: ByteCount::ZERO,
            },
            _ => self.at("write")(error),
        }
    }

    fn at(&self, doing: &'static str) -> impl FnOnce(std::io::Error) -> FetchError + use<> {
        at(doing, self.staging.path().join(&self.part_name))
    }
}

/// Names this run of the kernel.
fn boot_id() -> Option<String> {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned()).filter(|id| !id.is_empty())
}

/// The partial file, locked: an earlier writer of it may still be ending.
fn take(staging: &Staging, part_name: &str) -> Result<File, FetchError> {
    loop {
        let file = staging.open_or_make(part_name)?;
        file.lock().map_err(at("lock", staging.path().join(part_name)))?;
        if staging.is_still(part_name, &file)? {
            return Ok(file);
        }
    }
}
