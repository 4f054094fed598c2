//! Comparing an entry with what the file system holds under its name, after it was mounted afresh.

use std::{
    fs::File,
    io::Read,
    os::fd::{AsFd as _, OwnedFd},
};

use nix::{
    fcntl::{AtFlags, OFlag, openat, readlinkat},
    sys::stat::{FileStat, Mode, SFlag, fstatat, major, minor},
};

use super::{Folder, Tree, failed, shown, sys};
use crate::{
    archive::{Entry, EntryKind, each_piece},
    error::ImageError,
};

impl Tree {
    /// Whether what lies under the entry's name is the entry, to the last byte and attribute.
    pub(crate) fn compare(&self, entry: &Entry, data: &mut dyn Read) -> Result<(), ImageError> {
        let folder = self.folder_of(&entry.path)?;
        let stat = folder.look(entry)?;
        let differs = |what| Err(ImageError::ReadBack { path: shown(entry.path.as_bytes()), what });
        if let EntryKind::Hardlink(target) = &entry.kind {
            let of = self.folder_of(target)?;
            let (_, name) = target.split();
            let first = fstatat(of.fd.as_fd(), name, AtFlags::AT_SYMLINK_NOFOLLOW)
                .map_err(|error| failed("look at", target.as_bytes(), error))?;
            return if first.st_ino == stat.st_ino { Ok(()) } else { differs("it is no hard link") };
        }
        if let Some(what) = unlike(entry, &stat) {
            return differs(what);
        }
        for (name, value) in &entry.attributes {
            let found = sys::attribute(folder.fd.as_fd(), entry.path.split().1, name)
                .map_err(|error| failed("read an attribute of", entry.path.as_bytes(), error))?;
            if found != *value {
                return differs("an extended attribute");
            }
        }
        match &entry.kind {
            EntryKind::File { size } => folder.compare_data(entry, *size, data),
            EntryKind::Symlink(target) => {
                let found = readlinkat(folder.fd.as_fd(), entry.path.split().1)
                    .map_err(|error| failed("read the link", entry.path.as_bytes(), error))?;
                if found.as_encoded_bytes() == target { Ok(()) } else { differs("the target of a link") }
            }
            _ => Ok(()),
        }
    }
}

/// In what the metadata differ.
fn unlike(entry: &Entry, stat: &FileStat) -> Option<&'static str> {
    let (kind, device) = match &entry.kind {
        EntryKind::File { .. } => (SFlag::S_IFREG, None),
        EntryKind::Folder => (SFlag::S_IFDIR, None),
        EntryKind::Symlink(_) => (SFlag::S_IFLNK, None),
        EntryKind::Hardlink(_) => return None,
        EntryKind::Fifo => (SFlag::S_IFIFO, None),
        EntryKind::Device { block: true, major, minor } => (SFlag::S_IFBLK, Some((*major, *minor))),
        EntryKind::Device { block: false, major, minor } => (SFlag::S_IFCHR, Some((*major, *minor))),
    };
    let found = SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits());
    let size = matches!(entry.kind, EntryKind::File { size } if u64::try_from(stat.st_size) != Ok(size));
    let pairs = [
        (found != kind, "its kind"),
        (stat.st_mode & 0o7777 != entry.mode && kind != SFlag::S_IFLNK, "its permissions"),
        ((stat.st_uid, stat.st_gid) != (entry.uid, entry.gid), "its owner"),
        ((stat.st_mtime, stat.st_mtime_nsec) != entry.mtime, "its time of change"),
        (size, "its length"),
        (
            device.is_some_and(|(a, b)| (major(stat.st_rdev), minor(stat.st_rdev)) != (a.into(), b.into())),
            "its device number",
        ),
    ];
    pairs.into_iter().find_map(|(differs, what)| differs.then_some(what))
}

impl Folder {
    fn look(&self, entry: &Entry) -> Result<FileStat, ImageError> {
        fstatat(self.fd.as_fd(), entry.path.split().1, AtFlags::AT_SYMLINK_NOFOLLOW)
            .map_err(|error| failed("look at", entry.path.as_bytes(), error))
    }

    fn compare_data(&self, entry: &Entry, size: u64, data: &mut dyn Read) -> Result<(), ImageError> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd: OwnedFd = openat(&self.fd, entry.path.split().1, flags, Mode::empty())
            .map_err(|error| failed("open", entry.path.as_bytes(), error))?;
        let mut file = File::from(fd);
        let mut found = vec![0; 128 * 1024];
        each_piece(entry, size, data, |bytes| {
            let found = found.get_mut(..bytes.len()).unwrap_or_default();
            file.read_exact(found).map_err(|error| failed("read", entry.path.as_bytes(), error))?;
            if found == bytes {
                Ok(())
            } else {
                Err(ImageError::ReadBack { path: shown(entry.path.as_bytes()), what: "its data" })
            }
        })
    }
}
