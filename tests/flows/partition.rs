//! A real ext4 file system on a loop device, for what has to be shown on one.

use std::{
    ffi::OsStr,
    fs,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::fcntl::OFlag;
use ota_tests::process;
use tokio::time::Instant;

use crate::world::PATIENCE;

/// Runs a tool that has to succeed.
pub(crate) fn run(program: &str, args: &[&OsStr]) -> String {
    String::from_utf8(process::read(program, args).unwrap()).unwrap().trim().to_owned()
}

/// Waits for other processes.
fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        // tidy: waits for other processes
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// A partition on a loop device, and where it is mounted. Dropped, it is unmounted and gone.
pub(crate) struct Partition {
    pub(crate) device: PathBuf,
    mount: PathBuf,
}

impl Partition {
    /// Of so many MiB in `file`, to be mounted at `mount`.
    pub(crate) fn make(file: &Path, mib: u64, mount: PathBuf) -> Self {
        fs::File::create(file).unwrap().set_len(mib << 20).unwrap();
        let device = run("losetup", &["--find".as_ref(), "--show".as_ref(), file.as_ref()]);
        run("mkfs.ext4", &["-q", "-F", "-L", "data", &device].map(OsStr::new));
        Self { device: device.into(), mount }
    }

    pub(crate) fn mount(&self) {
        run("mount", &[self.device.as_os_str(), self.mount.as_os_str()]);
    }

    /// `ro` or `rw`.
    pub(crate) fn remount(&self, how: &str) {
        let option = format!("remount,{how}");
        let args = || ["-o".as_ref(), OsStr::new(&option), self.mount.as_os_str()];
        // Busy as long as somebody has a file open for writing.
        until("remounted", || process::outcome("mount", args()).unwrap().status.success());
    }

    pub(crate) fn unmount(&self) {
        // A child that is being started has all descriptors until it runs its program.
        until("unmounted", || process::outcome("umount", [self.mount.as_os_str()]).unwrap().status.success());
        // Another mount namespace may have it a moment longer; with O_EXCL a block device that is mounted does not open.
        until("free", || {
            let mut options = fs::OpenOptions::new();
            options.read(true).custom_flags(OFlag::O_EXCL.bits()).open(&self.device).is_ok()
        });
    }

    /// That Debian's fsck finds nothing.
    pub(crate) fn check(&self) {
        run("fsck.ext4", &["-f".as_ref(), "-n".as_ref(), self.device.as_os_str()]);
    }

    /// Label and UUID.
    pub(crate) fn name(&self) -> String {
        ["LABEL", "UUID"]
            .map(|tag| {
                run("blkid", &["-p", "-o", "value", "-s", tag, self.device.to_str().unwrap()].map(OsStr::new))
            })
            .join(" ")
    }
}

impl Drop for Partition {
    fn drop(&mut self) {
        // Lazily: the daemon may still be there when a test has failed.
        let _ = process::outcome("umount", ["-l".as_ref(), self.mount.as_os_str()]);
        let _ = process::outcome("losetup", ["--detach".as_ref(), self.device.as_os_str()]);
    }
}
