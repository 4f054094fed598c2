//! Devices and files of Linux: past the page cache where that works, buffered with a sliding window where not.
//!
//! Owns opening, refusing what is in use, sizes, and which of the two ways a read or write goes. Mixing them is safe
//! here: the direct way only takes whole [`ALIGNMENT`] blocks, so the two never share a page.

use std::{
    fs::{File, Metadata, OpenOptions, TryLockError},
    io,
    os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, PosixFadviseAdvice, posix_fadvise},
};

use super::{ALIGNMENT, Access, BlockDev, Devices, mounts, sys};
use crate::error::BootError;

/// How far buffered writing may run ahead of the medium.
const WINDOW: u64 = 16 << 20;

/// How often and how long to wait for a device that is busy.
const BUSY_TRIES: u32 = 10;
const BUSY_PAUSE: Duration = Duration::from_millis(20);

/// The devices and files of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsDevices {
    /// Goes through the page cache even where direct access works; for tests and measurements.
    pub buffered_only: bool,
}

impl Devices for OsDevices {
    fn open(&self, path: &Path, access: Access) -> Result<Box<dyn BlockDev>, BootError> {
        let target = followed(path).map_err(|source| BootError::Open { path: path.into(), source })?;
        let dev = OsDevice::open(path, &target, access, self.buffered_only)?;
        Ok(Box::new(dev))
    }

    fn resolve(&self, path: &Path) -> Option<PathBuf> {
        path.canonicalize().ok()
    }
}

/// The names under `/dev` are links that udev makes and root owns; a link anywhere else is not followed.
fn followed(path: &Path) -> io::Result<PathBuf> {
    if path.starts_with("/dev") { path.canonicalize() } else { Ok(path.to_owned()) }
}

/// An open block device or plain file.
struct OsDevice {
    path: PathBuf,
    size: u64,
    buffered: File,
    direct: Option<File>,
    /// Cleared when the medium refuses direct access after all.
    direct_works: AtomicBool,
    /// Buffered bytes below this offset have been waited for.
    waited: AtomicU64,
}

impl OsDevice {
    fn open(path: &Path, target: &Path, access: Access, buffered_only: bool) -> Result<Self, BootError> {
        let failed = |source| BootError::Open { path: path.into(), source };
        let write = access != Access::Read;
        let before = std::fs::symlink_metadata(target).map_err(failed)?;
        if !before.is_file() && !before.file_type().is_block_device() {
            return Err(BootError::WrongKind { path: path.into() });
        }
        if access == Access::Exclusive {
            refuse_mounted(path, target, &before)?;
        }
        // For block devices O_EXCL without O_CREAT means: nobody has it mounted or claimed. For files it means nothing.
        let exclusive = access == Access::Exclusive && before.file_type().is_block_device();
        let flags = OFlag::O_NOFOLLOW | if exclusive { OFlag::O_EXCL } else { OFlag::empty() };
        let open = |extra: OFlag| {
            OpenOptions::new().read(true).write(write).custom_flags((flags | extra).bits()).open(target)
        };
        let buffered = patiently(|| open(OFlag::empty())).map_err(|e| busy_or(path, e))?;
        let meta = buffered.metadata().map_err(failed)?;
        if (meta.dev(), meta.ino()) != (before.dev(), before.ino()) {
            return Err(failed(io::Error::other("it was replaced while it was being opened")));
        }
        if access == Access::Exclusive && meta.is_file() {
            lock(path, &buffered)?;
        }
        // The second descriptor of an exclusively opened device belongs to the same claim only without O_EXCL.
        let plain = OpenOptions::new()
            .read(true)
            .write(write)
            .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_DIRECT).bits())
            .open(target);
        let direct = if buffered_only { None } else { plain.ok().filter(|f| same_file(f, &meta)) };
        let size = if meta.is_file() { meta.len() } else { sys::block_size(&buffered).map_err(failed)? };
        Ok(Self {
            path: path.into(),
            size,
            buffered,
            direct,
            direct_works: AtomicBool::new(true),
            waited: AtomicU64::new(0),
        })
    }

    /// The direct descriptor and how many bytes may go through it, where offset and memory allow.
    fn direct(&self, buf: *const u8, len: usize, offset: u64) -> Option<(&File, usize)> {
        let whole = len - len % ALIGNMENT;
        let fits =
            whole > 0 && offset.is_multiple_of(ALIGNMENT as u64) && buf.addr().is_multiple_of(ALIGNMENT);
        let file = self.direct.as_ref().filter(|_| fits && self.direct_works.load(Ordering::Relaxed))?;
        Some((file, whole))
    }

    /// Some file systems accept the flag and refuse the first access.
    fn refused(&self, error: &io::Error) -> bool {
        let refused = error.raw_os_error() == Some(Errno::EINVAL as i32);
        if refused {
            tracing::debug!(device = %self.path.display(), "no direct access, going through the page cache");
            self.direct_works.store(false, Ordering::Relaxed);
        }
        refused
    }

    fn forget(&self, offset: u64, len: u64) -> io::Result<()> {
        let signed = |v| i64::try_from(v).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput));
        Ok(posix_fadvise(
            &self.buffered,
            signed(offset)?,
            signed(len)?,
            PosixFadviseAdvice::POSIX_FADV_DONTNEED,
        )?)
    }
}

impl Drop for OsDevice {
    /// Ends the lock even where a child process that is just being started has a copy of the descriptor.
    fn drop(&mut self) {
        let _ = self.buffered.unlock();
    }
}

impl BlockDev for OsDevice {
    fn path(&self) -> &Path {
        &self.path
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        if let Some((file, whole)) = self.direct(buf.as_ptr(), buf.len(), offset) {
            match file.read_at(&mut buf[..whole], offset) {
                Err(e) if self.refused(&e) => {}
                // At an unaligned end of a file the rest comes through the buffered descriptor.
                result => return result,
            }
        }
        self.buffered.read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        // Neither way may make a slot file longer than it is.
        let room = usize::try_from(self.size.saturating_sub(offset)).unwrap_or(usize::MAX);
        let buf = &buf[..buf.len().min(room)];
        if let Some((file, whole)) = self.direct(buf.as_ptr(), buf.len(), offset) {
            match file.write_at(&buf[..whole], offset) {
                Err(e) if self.refused(&e) => {}
                result => return result,
            }
        }
        self.buffered.write_at(buf, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.buffered.sync_all()?;
        // Errors are reported once per descriptor: the direct one has its own.
        self.direct.as_ref().map_or(Ok(()), File::sync_all)
    }

    fn chunk_done(&self, offset: u64, len: u64) -> io::Result<()> {
        if self.direct.is_some() && self.direct_works.load(Ordering::Relaxed) {
            return Ok(());
        }
        sys::write_back(&self.buffered, offset, len, false)?;
        let (from, until) = (self.waited.load(Ordering::Relaxed), (offset + len).saturating_sub(WINDOW));
        if until > from {
            sys::write_back(&self.buffered, from, until - from, true)?;
            self.forget(from, until - from)?;
            self.waited.fetch_max(until, Ordering::Relaxed);
        }
        Ok(())
    }

    fn drop_cache(&self) -> io::Result<()> {
        self.forget(0, 0)
    }
}

/// A claim ends with the last descriptor, and a child process that is just being started has them all until it runs its
/// program: what was closed here can be busy for some milliseconds more.
fn patiently(open: impl Fn() -> io::Result<File>) -> io::Result<File> {
    for _ in 0..BUSY_TRIES {
        match open() {
            Err(e) if e.kind() == io::ErrorKind::ResourceBusy => std::thread::sleep(BUSY_PAUSE),
            result => return result,
        }
    }
    open()
}

fn same_file(file: &File, meta: &Metadata) -> bool {
    file.metadata().is_ok_and(|m| (m.dev(), m.ino()) == (meta.dev(), meta.ino()))
}

fn refuse_mounted(path: &Path, target: &Path, meta: &Metadata) -> Result<(), BootError> {
    let at = if meta.is_file() {
        target.canonicalize().ok().and_then(|p| mounts::loop_mount_point(&p))
    } else {
        mounts::mount_point(meta.rdev())
    };
    at.map_or(Ok(()), |at| {
        Err(BootError::InUse { path: path.into(), by: format!("mounted at {}", at.display()) })
    })
}

fn busy_or(path: &Path, source: io::Error) -> BootError {
    if source.kind() == io::ErrorKind::ResourceBusy {
        BootError::InUse { path: path.into(), by: "the kernel says it is busy".into() }
    } else {
        BootError::Open { path: path.into(), source }
    }
}

/// Keeps a second writer of ours out; held until the file is closed. Not for block devices: udev locks those while it
/// looks at them.
fn lock(path: &Path, file: &File) -> Result<(), BootError> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => {
            Err(BootError::InUse { path: path.into(), by: "another writer".into() })
        }
        Err(TryLockError::Error(source)) => Err(BootError::Open { path: path.into(), source }),
    }
}

/// Lifts the write protection that Linux puts on the boot areas of an eMMC, where environments live, until dropped.
#[derive(Debug)]
pub(crate) struct WriteProtection(Option<PathBuf>);

impl WriteProtection {
    /// Does nothing for other devices. A failure shows at the write.
    pub(crate) fn lift(device: &Path) -> Self {
        let name = device.canonicalize().ok().and_then(|p| Some(p.file_name()?.to_str()?.to_owned()));
        let boot_area = name.filter(|n| n.starts_with("mmcblk") && n.contains("boot"));
        let switch = boot_area.map(|n| Path::new("/sys/block").join(n).join("force_ro"));
        let protected = switch.filter(|s| std::fs::read_to_string(s).is_ok_and(|t| t.trim() == "1"));
        Self(protected.filter(|s| std::fs::write(s, "0").is_ok()))
    }
}

impl Drop for WriteProtection {
    fn drop(&mut self) {
        if let Some(switch) = &self.0
            && let Err(error) = std::fs::write(switch, "1")
        {
            tracing::warn!(%error, switch = %switch.display(), "the boot area stays writable");
        }
    }
}
