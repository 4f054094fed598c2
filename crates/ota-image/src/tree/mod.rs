//! A mounted file system: entries made in it, and compared with it.
//!
//! Nothing is reached by a name with a link in it: the folder of an entry is opened below the root without following any
//! (`openat2`), the entry itself by its last part.

mod compare;
mod make;
mod sys;

pub(crate) use sys::leave_mount_table;

use std::{
    ffi::OsStr,
    io,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, OpenHow, ResolveFlag, openat2},
    sys::stat::{Mode, mkdirat},
};

use crate::{archive::InnerPath, error::ImageError};

/// The root of a file system that is mounted somewhere.
#[derive(Debug)]
pub(crate) struct Tree {
    root: OwnedFd,
}

/// The folder of an entry.
struct Folder {
    fd: OwnedFd,
}

impl Tree {
    pub(crate) fn open(root: &Path) -> Result<Self, ImageError> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let opened = nix::fcntl::open(root, flags, Mode::empty());
        Ok(Self { root: opened.map_err(ImageError::system("open", root))? })
    }

    /// Everything in it, made durable; an error that the medium reported since it was opened shows here.
    pub(crate) fn sync(&self) -> Result<(), ImageError> {
        nix::unistd::syncfs(self.root.as_fd()).map_err(ImageError::system("sync", "the new file system"))
    }

    fn below(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let how = OpenHow::new().flags(OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC).resolve(
            ResolveFlag::RESOLVE_BENEATH
                | ResolveFlag::RESOLVE_NO_SYMLINKS
                | ResolveFlag::RESOLVE_NO_MAGICLINKS
                | ResolveFlag::RESOLVE_NO_XDEV,
        );
        openat2(self.root.as_fd(), if path.is_empty() { b".".as_slice() } else { path }, how)
    }

    /// The folder that an entry is in.
    fn folder_of(&self, path: &InnerPath) -> Result<Folder, ImageError> {
        let (folder, _) = path.split();
        let fd = self.below(folder).map_err(|error| failed("open", folder, error))?;
        Ok(Folder { fd })
    }

    /// The same, with the folders above it that no entry has made.
    fn folder_for(&self, path: &InnerPath) -> Result<Folder, ImageError> {
        let (folder, _) = path.split();
        match self.below(folder) {
            Ok(fd) => return Ok(Folder { fd }),
            Err(Errno::ENOENT) => {}
            Err(error) => return Err(failed("open", folder, error)),
        }
        for above in path.above() {
            let inner = InnerPath::parse(above).map_err(ImageError::archive)?;
            let (into, name) = inner.split();
            let fd = self.below(into).map_err(|error| failed("open", into, error))?;
            match mkdirat(fd.as_fd(), name, Mode::from_bits_truncate(0o755)) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(error) => return Err(failed("make", above, error)),
            }
        }
        self.folder_of(path)
    }
}

fn shown(path: &[u8]) -> PathBuf {
    Path::new(".").join(OsStr::from_bytes(path))
}

fn failed(doing: &'static str, path: &[u8], error: impl Into<io::Error>) -> ImageError {
    ImageError::System { doing, path: shown(path), source: error.into() }
}

/// Sets an extended attribute as the tests need it.
#[cfg(test)]
pub(crate) fn set_attribute_of(path: &Path, name: &std::ffi::CStr, value: &[u8]) -> io::Result<()> {
    let folder = std::fs::File::open(path.parent().unwrap_or(path))?;
    let entry = path.file_name().unwrap_or_default().as_bytes();
    sys::set_attribute(folder.as_fd(), entry, name, value)
}

/// Reads one as the tests need it.
#[cfg(test)]
pub(crate) fn attribute_of(
    folder: &std::fs::File,
    entry: &str,
    name: &std::ffi::CStr,
) -> io::Result<Vec<u8>> {
    sys::attribute(folder.as_fd(), entry.as_bytes(), name)
}
