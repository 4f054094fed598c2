//! Erasing: a fresh ext4 on a partition, or everything below a path.

use std::{
    ffi::OsStr,
    fs::{File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::Path,
    process::{Command, Stdio},
};

use nix::fcntl::OFlag;

use super::{apply::Durable, marker::Filesystem};
use crate::{
    UserDataError,
    folder::{Folder, split},
};

/// Makes the file system.
const MKFS: &str = "mkfs.ext4";
/// Where ext4 keeps its superblock, and what of it is looked at. Source: the kernel's `Documentation/filesystems/ext4`.
const SUPERBLOCK: u64 = 1024;
const MAGIC: std::ops::Range<usize> = 0x38..0x3a;
const UUID: std::ops::Range<usize> = 0x68..0x78;
const LABEL: std::ops::Range<usize> = 0x78..0x88;

/// What the file system on `partition` is called; nothing when it is no ext4.
pub(super) fn name_of(partition: &Path) -> Result<Filesystem, UserDataError> {
    let mut head = [0; 0x88];
    let read = || {
        let mut device = File::open(partition)?;
        device.seek(SeekFrom::Start(SUPERBLOCK))?;
        device.read_exact(&mut head)
    };
    ({ read }()).map_err(UserDataError::file("read", partition))?;
    if head[MAGIC] != [0x53, 0xef] {
        return Ok(Filesystem::default());
    }
    let label = head[LABEL].split(|byte| *byte == 0).next().unwrap_or_default();
    let label = std::str::from_utf8(label).ok().filter(|text| !text.is_empty()).map(str::to_owned);
    Ok(Filesystem { label, uuid: Some(uuid_text(&head[UUID])) })
}

fn uuid_text(bytes: &[u8]) -> String {
    let mut text = String::new();
    for (n, byte) in bytes.iter().enumerate() {
        if [4, 6, 8, 10].contains(&n) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

/// A mounted or otherwise claimed device must not be written to.
pub(super) fn refuse_in_use(partition: &Path) -> Result<(), UserDataError> {
    // Of a block device, O_EXCL without O_CREAT means: nobody has it mounted or claimed.
    let opened = OpenOptions::new().read(true).write(true).custom_flags(OFlag::O_EXCL.bits()).open(partition);
    opened.map(drop).map_err(UserDataError::file("take for itself", partition))
}

/// Whether there is a program to make the file system with.
pub(super) fn check_program() -> Result<(), UserDataError> {
    mkfs(&["-V".as_ref()]).map(drop)
}

/// Makes a fresh, empty ext4 of that name. Durable on return; may be asked for again.
pub(super) fn make_filesystem(partition: &Path, name: &Filesystem) -> Result<(), UserDataError> {
    let mut args: Vec<&OsStr> = ["-q", "-F", "-m", "0"].map(OsStr::new).into();
    if let Some(label) = &name.label {
        args.extend([OsStr::new("-L"), OsStr::new(label)]);
    }
    if let Some(uuid) = &name.uuid {
        args.extend([OsStr::new("-U"), OsStr::new(uuid)]);
    }
    args.push(partition.as_os_str());
    mkfs(&args)?;
    let synced = OpenOptions::new().write(true).open(partition).and_then(|device| device.sync_all());
    synced.map_err(UserDataError::file("sync", partition))?;
    let made = name_of(partition)?;
    if made.uuid.is_none() || name.uuid.as_ref().is_some_and(|uuid| made.uuid.as_ref() != Some(uuid)) {
        let said = "what it made is not what it was asked for".into();
        return Err(UserDataError::Program { program: MKFS.into(), said });
    }
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "the owner of mkfs")]
fn mkfs(args: &[&OsStr]) -> Result<(), UserDataError> {
    let failed = |said| UserDataError::Program { program: MKFS.into(), said };
    let output = Command::new(MKFS)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| failed(format!("{error}; is e2fsprogs installed?")))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(failed(format!("{}: {}", output.status, said.trim())))
}

/// Removes a file, or everything in a folder; the folder itself stays. Each name in it is durably gone before the next
/// one; a second time there is less to do.
pub(super) fn empty(
    path: &Path,
    watch: &mut dyn FnMut(Durable) -> Result<(), UserDataError>,
) -> Result<(), UserDataError> {
    let Some((parent, name)) = split(path) else {
        return Err(UserDataError::NotSetUp(format!("{} cannot be erased", path.display())));
    };
    let parent = match Folder::open(parent) {
        Err(UserDataError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => return Ok(()),
        outcome => outcome?,
    };
    let Some(meta) = parent.look(name)? else { return Ok(()) };
    if meta.is_symlink() {
        // Removing the link would leave what it leads to.
        let what = format!("{} is a symbolic link: configure where it leads", path.display());
        return Err(UserDataError::NotSetUp(what));
    }
    if !meta.is_dir() {
        parent.remove(name)?;
        parent.sync()?;
        return watch(Durable::Removed(path.into()));
    }
    let folder = parent.enter(name)?;
    for name in folder.names()? {
        remove(&folder, &name, meta.dev())?;
        folder.sync()?;
        watch(Durable::Removed(path.join(&name)))?;
    }
    Ok(())
}

/// Removes a name with all below it. Another file system that is mounted there is not touched.
fn remove(folder: &Folder, name: &OsStr, device: u64) -> Result<(), UserDataError> {
    let Some(meta) = folder.look(name)? else { return Ok(()) };
    if !meta.is_dir() {
        return folder.remove(name).map(drop);
    }
    let inner = folder.enter(name)?;
    if inner.metadata()?.dev() != device {
        let place = inner.path().to_owned();
        return Err(UserDataError::file("erase", place)(io::Error::other("something is mounted there")));
    }
    for name in inner.names()? {
        remove(&inner, &name, device)?;
    }
    folder.remove_folder(name).map(drop)
}
