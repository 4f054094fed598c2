//! A plain file as a block device, for slots that are files.

use std::{
    fs::{File, OpenOptions},
    io,
    path::{Path, PathBuf},
};

use nix::errno::Errno;

use super::sys;

/// How often another free device is asked for when somebody else was faster.
const TRIES: u32 = 16;

/// A loop device over a file. The kernel takes it down when this is dropped and nothing has it mounted, also when this
/// process is killed.
#[derive(Debug)]
pub(crate) struct LoopDevice {
    path: PathBuf,
    /// Keeps it; read-only, since some kernels mount nothing that is open for writing.
    device: File,
}

impl LoopDevice {
    /// Needs root and `/dev/loop-control`.
    pub(crate) fn over(file: &Path) -> io::Result<Self> {
        let backing = OpenOptions::new().read(true).write(true).open(file)?;
        let control = OpenOptions::new().read(true).write(true).open("/dev/loop-control")?;
        for _ in 0..TRIES {
            let path = PathBuf::from(format!("/dev/loop{}", sys::free_loop(&control)?));
            let writable = OpenOptions::new().read(true).write(true).open(&path)?;
            match sys::configure_loop(&writable, &backing) {
                Ok(()) => return Ok(Self { device: File::open(&path)?, path }),
                Err(error) if error.raw_os_error() == Some(Errno::EBUSY as i32) => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::ErrorKind::ResourceBusy.into())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn sync(&self) -> io::Result<()> {
        self.device.sync_all()
    }
}
