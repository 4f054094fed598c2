//! Places of bytes: the one seam through which slots and the environment reach a medium.
//!
//! Owns the trait that the power-cut model and the fault tests put in between, and the loops that make short reads and
//! writes whole. What Linux does with it is in [`os`].

pub(crate) mod loops;
mod mounts;
pub mod os;
mod sys;

use std::{
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use crate::error::BootError;

pub use os::OsDevices;

/// Offsets and lengths that are multiples of this, in a buffer that starts at a multiple, can go past the page cache.
pub const ALIGNMENT: usize = 4096;

/// A block device, a plain file, or a model of one. All offsets in bytes from its start.
///
/// Reads and writes may be short, as those of the operating system; [`read_full`] and [`write_all`] make them whole.
pub trait BlockDev: Send + Sync {
    /// For messages.
    fn path(&self) -> &Path;

    /// Bytes it holds; fixed while it is open.
    fn size(&self) -> u64;

    /// Fills the front of `buf` from `offset`; 0 at the end.
    ///
    /// # Errors
    /// What the medium reports.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes the front of `buf` at `offset`. Not durable before [`sync`](Self::sync).
    ///
    /// # Errors
    /// What the medium reports.
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize>;

    /// Makes everything written durable.
    ///
    /// # Errors
    /// What the medium reports; final: what was written before is unknown, a second sync proves nothing.
    fn sync(&self) -> io::Result<()>;

    /// Told after each whole chunk; a buffered device starts writing it back and waits for older ones, so that the
    /// last sync is short and memory stays flat.
    ///
    /// # Errors
    /// As [`sync`](Self::sync).
    fn chunk_done(&self, _offset: u64, _len: u64) -> io::Result<()> {
        Ok(())
    }

    /// Makes the next reads come from the medium. Only after a sync.
    ///
    /// # Errors
    /// What the operating system reports.
    fn drop_cache(&self) -> io::Result<()>;
}

/// What a device is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reading only; others may use it.
    Read,
    /// Reading and writing a part of it; others may use the rest.
    Shared,
    /// Reading and writing all of it: nobody else may have it mounted or open for writing.
    Exclusive,
}

/// Opens devices by path.
pub trait Devices: Send + Sync {
    /// Opens the block device or plain file at `path`.
    ///
    /// # Errors
    /// `Open`, `WrongKind`, and `InUse` for [`Access::Exclusive`].
    fn open(&self, path: &Path, access: Access) -> Result<Box<dyn BlockDev>, BootError>;

    /// A name that is equal for two paths of one place; `None` when there is nothing at the path.
    fn resolve(&self, path: &Path) -> Option<PathBuf> {
        Some(path.to_owned())
    }
}

/// Writes all of `data` at `offset`.
pub(crate) fn write_all(dev: &dyn BlockDev, mut data: &[u8], mut offset: u64) -> Result<(), BootError> {
    while !data.is_empty() {
        match dev.write_at(data, offset) {
            Ok(0) => return Err(BootError::io("write", dev.path(), offset, ErrorKind::WriteZero.into())),
            Ok(n) => {
                data = data.get(n..).unwrap_or_default();
                offset += n as u64;
            }
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(BootError::io("write", dev.path(), offset, e)),
        }
    }
    Ok(())
}

/// Fills all of `buf` from `offset`; an early end is an error.
pub(crate) fn read_full(dev: &dyn BlockDev, mut buf: &mut [u8], mut offset: u64) -> Result<(), BootError> {
    while !buf.is_empty() {
        match dev.read_at(buf, offset) {
            Ok(0) => return Err(BootError::io("read", dev.path(), offset, ErrorKind::UnexpectedEof.into())),
            Ok(n) => {
                buf = buf.get_mut(n..).unwrap_or_default();
                offset += n as u64;
            }
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(BootError::io("read", dev.path(), offset, e)),
        }
    }
    Ok(())
}

/// Syncs once. An interrupted sync counts as failed: what it had reached is not known.
pub(crate) fn sync(dev: &dyn BlockDev) -> Result<(), BootError> {
    dev.sync().map_err(|e| BootError::io("sync", dev.path(), 0, e))
}
