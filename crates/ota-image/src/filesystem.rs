//! A fresh ext4 file system on a slot, filled, checked and compared.
//!
//! ```text
//! mkfs.ext4 ─► mount ─► unpack ─► syncfs ─► unmount ─► e2fsck -fn ─► from the medium: mount read-only ─► compare ─► unmount
//! ```
//! The mounts are in a mount table of the calling thread's own: nobody else sees them, and they are gone when the thread or
//! the process ends, however it ends.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use ota_core::{Sha256Digest, Slot, ports::SlotClaim};

use crate::{
    error::ImageError,
    tree::{Tree, leave_mount_table},
};

/// Where the tools are; a daemon's search path may lack the folders of root's programs.
const SEARCH_PATH: &str = "/usr/sbin:/sbin:/usr/bin:/bin";

/// How often a file system that is still busy is unmounted again, and the pause between: thirty seconds in all, for
/// machines that stand still at times.
const BUSY_TRIES: u32 = 1500;
const BUSY_PAUSE: Duration = Duration::from_millis(20);

/// Identity of a file system that is made here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSystemSpec {
    /// Its label, at most 16 bytes.
    pub label: String,
    /// Its UUID as text.
    pub uuid: String,
}

impl FileSystemSpec {
    /// For what is unpacked into `slot`: the label ends with the slot's letter, the UUID comes from the image and the slot.
    /// So the same image gives the same one again, and the two slots never have the same.
    #[must_use]
    pub fn of(prefix: &str, slot: Slot, image: &Sha256Digest) -> Self {
        let letter = slot.as_str();
        let mut bytes = Sha256Digest::of(format!("ota file system {letter} {image}").as_bytes()).0;
        // Version 8 (of our own making), variant 1. Source: RFC 9562 section 5.8.
        bytes[6] = bytes[6] & 0x0f | 0x80;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        let digits = hex::encode(&bytes[..16]);
        let groups = [0..8, 8..12, 12..16, 16..20, 20..32].map(|range| digits.get(range).unwrap_or_default());
        let label: String = prefix.chars().take(14).collect();
        Self { label: format!("{label}-{letter}"), uuid: groups.join("-") }
    }
}

/// Makes an empty file system over all of the slot.
pub(crate) fn make(claim: &dyn SlotClaim, spec: &FileSystemSpec) -> Result<(), ImageError> {
    let options = format!("lazy_itable_init=0,lazy_journal_init=0,root_owner=0:0,hash_seed={}", spec.uuid);
    let arguments =
        ["-q", "-F", "-m", "0", "-L", &spec.label, "-U", &spec.uuid, "-E", &options, claim.device()];
    run("mkfs.ext4", &arguments)
}

/// Checks it without changing it.
pub(crate) fn check(claim: &dyn SlotClaim) -> Result<(), ImageError> {
    run("e2fsck", &["-f", "-n", claim.device()])
}

fn run(program: &'static str, arguments: &[&str]) -> Result<(), ImageError> {
    #[expect(clippy::disallowed_methods, reason = "this module owns the tools that make file systems")]
    let mut command = Command::new(program);
    command.args(arguments).env("PATH", SEARCH_PATH).env("LC_ALL", "C").stdin(Stdio::null());
    let output =
        command.output().map_err(|source| ImageError::Start { program, package: "e2fsprogs", source })?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stderr.as_slice(), &output.stdout].concat();
    let said: String = String::from_utf8_lossy(&said).trim().chars().take(500).collect();
    Err(ImageError::Tool { program, status: output.status, said })
}

/// Gives the calling thread a mount table of its own, from which nothing gets out.
pub(crate) fn enter_own_mount_table() -> Result<(), ImageError> {
    leave_mount_table().map_err(ImageError::system("leave", "the mount table (root is needed)"))?;
    let nothing = None::<&str>;
    mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing)
        .map_err(ImageError::system("detach", "the mount table"))
}

/// A mounted file system; unmounted when dropped, better by [`Mounted::unmount`].
#[derive(Debug)]
pub(crate) struct Mounted {
    point: PathBuf,
    mounted: bool,
}

impl Mounted {
    /// Mounts the slot at `point`, which is made; nothing on it can be run or opened as a device through there.
    pub(crate) fn new(claim: &dyn SlotClaim, point: &Path, read_only: bool) -> Result<Self, ImageError> {
        fs::create_dir_all(point).map_err(ImageError::system("make", point))?;
        let always = MsFlags::MS_NODEV | MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC | MsFlags::MS_NOATIME;
        let flags = if read_only { always | MsFlags::MS_RDONLY } else { always };
        mount(Some(claim.device()), point, Some("ext4"), flags, Some("errors=remount-ro"))
            .map_err(ImageError::system("mount", claim.device()))?;
        Ok(Self { point: point.to_owned(), mounted: true })
    }

    pub(crate) fn tree(&self) -> Result<Tree, ImageError> {
        Tree::open(&self.point)
    }

    /// Ends with an error while something still has it open.
    pub(crate) fn unmount(mut self) -> Result<(), ImageError> {
        self.mounted = false;
        patiently(BUSY_TRIES, || Ok(umount2(&self.point, MntFlags::empty())?))
            .map_err(ImageError::system("unmount", &self.point))?;
        fs::remove_dir(&self.point).map_err(ImageError::system("remove", &self.point))
    }
}

/// A child that another thread is starting has a copy of all that is open here, until it has become its own program: what was
/// closed can be busy for some milliseconds more, or for as long as that child gets no processor.
fn patiently(tries: u32, unmount: impl Fn() -> io::Result<()>) -> io::Result<()> {
    for _ in 0..tries {
        match unmount() {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => std::thread::sleep(BUSY_PAUSE),
            outcome => return outcome,
        }
    }
    unmount()
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if !self.mounted {
            return;
        }
        if let Err(error) = umount2(&self.point, MntFlags::MNT_DETACH).map_err(io::Error::from) {
            tracing::warn!(%error, point = %self.point.display(), "the new file system was not unmounted");
        }
        let _ = fs::remove_dir(&self.point);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_busy_for_a_moment_is_unmounted_and_what_stays_busy_is_told() {
        let busy = || io::Error::from(io::ErrorKind::ResourceBusy);
        let tries = std::cell::Cell::new(0);
        let third = || {
            tries.set(tries.get() + 1);
            if tries.get() < 3 { Err(busy()) } else { Ok(()) }
        };
        patiently(BUSY_TRIES, third).unwrap();
        assert_eq!(tries.get(), 3);
        let other = patiently(BUSY_TRIES, || Err(io::ErrorKind::NotFound.into())).unwrap_err();
        assert_eq!(other.kind(), io::ErrorKind::NotFound);
        assert_eq!(patiently(3, || Err(busy())).unwrap_err().kind(), io::ErrorKind::ResourceBusy);
    }

    #[test]
    fn one_image_has_one_uuid_on_each_slot() {
        let image = Sha256Digest::of(b"image");
        let (a, b) =
            (FileSystemSpec::of("rootfs", Slot::A, &image), FileSystemSpec::of("rootfs", Slot::B, &image));
        assert_eq!(a, FileSystemSpec::of("rootfs", Slot::A, &image));
        assert_ne!(a.uuid, b.uuid);
        assert_eq!((a.label.as_str(), b.label.as_str()), ("rootfs-A", "rootfs-B"));
        assert_eq!((a.uuid.len(), a.uuid.as_bytes()[14]), (36, b'8'));
    }
}
