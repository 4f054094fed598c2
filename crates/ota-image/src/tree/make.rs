//! Making an entry: data, owner, permissions, attributes, time of change. The folder's time stays as it was.

use std::{
    fs::File,
    io::{Read, Write as _},
    os::fd::{AsFd as _, OwnedFd},
};

use nix::{
    errno::Errno,
    fcntl::{AtFlags, OFlag, openat},
    sys::{
        stat::{
            FchmodatFlags, Mode, SFlag, UtimensatFlags, fchmodat, fstat, futimens, makedev, mkdirat, mknodat,
            utimensat,
        },
        time::TimeSpec,
    },
    unistd::{Gid, Uid, fchownat, linkat, symlinkat},
};

use super::{Folder, Tree, failed, sys};
use crate::{
    archive::{Entry, EntryKind, each_piece},
    error::ImageError,
};

impl Tree {
    /// Makes an entry that [`crate::archive::walk`] has let through.
    pub(crate) fn make(&self, entry: &Entry, data: &mut dyn Read) -> Result<(), ImageError> {
        let folder = self.folder_for(&entry.path)?;
        let times = folder.times(entry)?;
        let making = Making { entry, folder: &folder };
        match &entry.kind {
            EntryKind::File { size } => making.file(*size, data)?,
            EntryKind::Folder => making.folder()?,
            EntryKind::Symlink(target) => making.symlink(target)?,
            EntryKind::Hardlink(target) => {
                let from = self.folder_of(target)?;
                let (_, old) = target.split();
                making.called("link", linkat(&from.fd, old, &folder.fd, making.name(), AtFlags::empty()))?;
            }
            EntryKind::Fifo => making.node(SFlag::S_IFIFO, 0)?,
            EntryKind::Device { block, major, minor } => {
                let kind = if *block { SFlag::S_IFBLK } else { SFlag::S_IFCHR };
                making.node(kind, makedev((*major).into(), (*minor).into()))?;
            }
        }
        // Of the root itself the time that it was just given stays.
        if entry.path.is_root() { Ok(()) } else { folder.set_times(entry, times) }
    }
}

impl Folder {
    fn times(&self, entry: &Entry) -> Result<[TimeSpec; 2], ImageError> {
        let stat = fstat(self.fd.as_fd()).map_err(|error| failed("look at", entry.path.split().0, error))?;
        Ok([
            TimeSpec::new(stat.st_atime, stat.st_atime_nsec),
            TimeSpec::new(stat.st_mtime, stat.st_mtime_nsec),
        ])
    }

    fn set_times(&self, entry: &Entry, [accessed, changed]: [TimeSpec; 2]) -> Result<(), ImageError> {
        futimens(self.fd.as_fd(), &accessed, &changed)
            .map_err(|error| failed("date", entry.path.split().0, error))
    }
}

struct Making<'a> {
    entry: &'a Entry,
    folder: &'a Folder,
}

impl Making<'_> {
    fn name(&self) -> &[u8] {
        self.entry.path.split().1
    }

    fn called<T>(&self, doing: &'static str, result: nix::Result<T>) -> Result<T, ImageError> {
        result.map_err(|error| failed(doing, self.entry.path.as_bytes(), error))
    }

    fn file(&self, size: u64, data: &mut dyn Read) -> Result<(), ImageError> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd: OwnedFd = self
            .called("make", openat(&self.folder.fd, self.name(), flags, Mode::from_bits_truncate(0o600)))?;
        let mut file = File::from(fd);
        each_piece(self.entry, size, data, |bytes| {
            file.write_all(bytes).map_err(|error| failed("write", self.entry.path.as_bytes(), error))
        })?;
        self.dress()
    }

    fn folder(&self) -> Result<(), ImageError> {
        if !self.entry.path.is_root() {
            match mkdirat(&self.folder.fd, self.name(), Mode::from_bits_truncate(0o700)) {
                // Its own entry comes after those in it.
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(error) => return self.called("make", Err(error)),
            }
        }
        self.dress()
    }

    fn symlink(&self, target: &[u8]) -> Result<(), ImageError> {
        self.called("link", symlinkat(target, &self.folder.fd, self.name()))?;
        self.dress()
    }

    fn node(&self, kind: SFlag, device: u64) -> Result<(), ImageError> {
        let mode = Mode::from_bits_truncate(0o600);
        self.called("make", mknodat(&self.folder.fd, self.name(), kind, mode, device))?;
        self.dress()
    }

    /// Owner first: a change of owner takes set-user-id and capabilities away. The time last.
    fn dress(&self) -> Result<(), ImageError> {
        let (folder, name, entry) = (self.folder.fd.as_fd(), self.name(), self.entry);
        let (owner, group) = (Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)));
        self.called("own", fchownat(folder, name, owner, group, AtFlags::AT_SYMLINK_NOFOLLOW))?;
        if !matches!(entry.kind, EntryKind::Symlink(_)) {
            let mode = Mode::from_bits_truncate(entry.mode);
            // What was just made is no link.
            self.called(
                "set the permissions of",
                fchmodat(folder, name, mode, FchmodatFlags::FollowSymlink),
            )?;
        }
        for (attribute, value) in &entry.attributes {
            sys::set_attribute(folder, name, attribute, value)
                .map_err(|error| failed("set an extended attribute of", entry.path.as_bytes(), error))?;
        }
        let time = TimeSpec::new(entry.mtime.0, entry.mtime.1);
        self.called("date", utimensat(folder, name, &time, &time, UtimensatFlags::NoFollowSymlink))
    }
}
