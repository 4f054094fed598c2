//! A folder held open: what is in it is reached through the handle, never through a link, and replaced durably.
//!
//! Source: `durable-steps.md` section 1; `threat-model.md`, "open inside a folder handle, never follow links".

use std::{
    ffi::{OsStr, OsString},
    fs::{self, DirBuilder, File, Metadata, Permissions},
    io::{self, Write as _},
    os::unix::{
        ffi::OsStrExt as _,
        fs::{DirBuilderExt as _, PermissionsExt as _, fchown},
    },
    path::{Path, PathBuf},
};

use nix::{
    dir::Dir,
    fcntl::{OFlag, openat, renameat},
    sys::{
        stat::{Mode, mkdirat},
        statvfs::fstatvfs,
    },
    unistd::{UnlinkatFlags, unlinkat},
};
use ota_core::ByteCount;

use crate::UserDataError;

/// An open folder. The path is for messages only.
#[derive(Debug)]
pub(crate) struct Folder {
    handle: File,
    path: PathBuf,
}

/// Owner and rights of a file or folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl Folder {
    /// Opens a folder by a path of the configuration; links on the way are the administrator's own.
    pub(crate) fn open(path: &Path) -> Result<Self, UserDataError> {
        let handle = File::open(path).map_err(UserDataError::file("open", path))?;
        let is_folder = handle.metadata().map_err(UserDataError::file("look at", path))?.is_dir();
        if !is_folder {
            return Err(UserDataError::file("open", path)(io::ErrorKind::NotADirectory.into()));
        }
        Ok(Self { handle, path: path.into() })
    }

    /// The same; makes it first where it is not there, with all above it, durably.
    pub(crate) fn open_or_make(path: &Path, mode: u32) -> Result<Self, UserDataError> {
        match Self::open(path) {
            Err(UserDataError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            outcome => return outcome,
        }
        let parent = path.parent().map(|parent| Self::open_or_make(parent, mode)).transpose()?;
        match DirBuilder::new().mode(mode).create(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(UserDataError::file("make", path)(error));
            }
            _ => {}
        }
        if let Some(parent) = parent {
            parent.sync()?;
        }
        Self::open(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn at(&self, name: &OsStr) -> PathBuf {
        self.path.join(name)
    }

    fn open_at(&self, name: &OsStr, flags: OFlag, mode: u32) -> io::Result<File> {
        let flags = flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        Ok(openat(&self.handle, name, flags, Mode::from_bits_truncate(mode))?.into())
    }

    /// What is under `name`, a link itself and not what it leads to; `None` when nothing is.
    pub(crate) fn look(&self, name: &OsStr) -> Result<Option<Metadata>, UserDataError> {
        match self.open_at(name, OFlag::O_PATH, 0).and_then(|file| file.metadata()) {
            Ok(meta) => Ok(Some(meta)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(UserDataError::file("look at", self.at(name))(error)),
        }
    }

    /// The folder `name` in this one. A link is refused.
    pub(crate) fn enter(&self, name: &OsStr) -> Result<Self, UserDataError> {
        let handle = self
            .open_at(name, OFlag::O_RDONLY | OFlag::O_DIRECTORY, 0)
            .map_err(UserDataError::file("enter", self.at(name)))?;
        Ok(Self { handle, path: self.at(name) })
    }

    /// The same, made for us alone where it is not there. Whether it was made.
    pub(crate) fn enter_or_make(&self, name: &OsStr) -> Result<(Self, bool), UserDataError> {
        let made = match mkdirat(&self.handle, name, Mode::from_bits_truncate(0o700)) {
            Ok(()) => true,
            Err(nix::errno::Errno::EEXIST) => false,
            Err(error) => return Err(UserDataError::file("make", self.at(name))(error.into())),
        };
        Ok((self.enter(name)?, made))
    }

    /// Opens a plain file for reading. Never waits on a pipe and never touches a device.
    pub(crate) fn read(&self, name: &OsStr) -> Result<File, UserDataError> {
        let failed = |error| UserDataError::file("open", self.at(name))(error);
        let file = self.open_at(name, OFlag::O_RDONLY | OFlag::O_NONBLOCK, 0).map_err(failed)?;
        let plain = file.metadata().map_err(failed)?.is_file();
        if plain { Ok(file) } else { Err(failed(io::Error::other("it is not a plain file"))) }
    }

    /// The whole of a small file; `None` when it is not there.
    pub(crate) fn content(&self, name: &OsStr) -> Result<Option<Vec<u8>>, UserDataError> {
        if self.look(name)?.is_none() {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        let mut file = self.read(name)?;
        io::Read::read_to_end(&mut file, &mut bytes).map_err(UserDataError::file("read", self.at(name)))?;
        Ok(Some(bytes))
    }

    /// A new file for us alone. Whatever an earlier run left under `name` goes first.
    pub(crate) fn create(&self, name: &OsStr) -> Result<File, UserDataError> {
        self.remove(name)?;
        self.open_at(name, OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL, 0o600)
            .map_err(UserDataError::file("create", self.at(name)))
    }

    /// Removes a file, or a link itself; `false` when there is none.
    pub(crate) fn remove(&self, name: &OsStr) -> Result<bool, UserDataError> {
        self.unlink(name, UnlinkatFlags::NoRemoveDir)
    }

    /// Removes an empty folder.
    pub(crate) fn remove_folder(&self, name: &OsStr) -> Result<bool, UserDataError> {
        self.unlink(name, UnlinkatFlags::RemoveDir)
    }

    fn unlink(&self, name: &OsStr, flag: UnlinkatFlags) -> Result<bool, UserDataError> {
        match unlinkat(&self.handle, name, flag) {
            Ok(()) => Ok(true),
            Err(nix::errno::Errno::ENOENT) => Ok(false),
            Err(error) => Err(UserDataError::file("remove", self.at(name))(error.into())),
        }
    }

    /// Puts `from` in the place of `to`, in one step; a link there is replaced itself.
    pub(crate) fn rename(&self, from: &OsStr, to: &OsStr) -> Result<(), UserDataError> {
        renameat(&self.handle, from, &self.handle, to)
            .map_err(|error| UserDataError::file("replace", self.at(to))(error.into()))
    }

    /// Makes names in this folder durable. A failed sync is final.
    pub(crate) fn sync(&self) -> Result<(), UserDataError> {
        self.handle.sync_all().map_err(UserDataError::file("sync", &self.path))
    }

    /// Replaces a small file, durable on return.
    pub(crate) fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), UserDataError> {
        let temp = OsString::from(format!(".{name}.new"));
        let mut file = self.create(&temp)?;
        let written = file.write_all(bytes).and_then(|()| file.sync_all());
        if let Err(error) = written {
            let _ = self.remove(&temp);
            return Err(UserDataError::file("write", self.at(name.as_ref()))(error));
        }
        self.rename(&temp, name.as_ref())?;
        self.sync()
    }

    /// Gives the folder itself an owner and rights.
    pub(crate) fn give(&self, owner: Owner) -> Result<(), UserDataError> {
        give(&self.handle, owner).map_err(UserDataError::file("change the owner of", &self.path))?;
        self.sync()
    }

    /// Names in this folder, in order.
    pub(crate) fn names(&self) -> Result<Vec<OsString>, UserDataError> {
        let failed = |error: nix::Error| UserDataError::file("list", &self.path)(error.into());
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut dir = Dir::openat(&self.handle, ".", flags, Mode::empty()).map_err(failed)?;
        let mut names = Vec::new();
        for entry in dir.iter() {
            let entry = entry.map_err(failed)?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name != "." && name != ".." {
                names.push(name.to_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    pub(crate) fn metadata(&self) -> Result<Metadata, UserDataError> {
        self.handle.metadata().map_err(UserDataError::file("look at", &self.path))
    }

    /// Bytes that may still be written to the medium.
    #[allow(clippy::useless_conversion, reason = "block counts have 32 bits on 32-bit devices")]
    pub(crate) fn free(&self) -> Result<ByteCount, UserDataError> {
        let space = fstatvfs(&self.handle)
            .map_err(|error| UserDataError::file("ask for the space of", &self.path)(error.into()))?;
        let blocks = u64::from(space.blocks_available());
        Ok(ByteCount(blocks.saturating_mul(u64::from(space.fragment_size()))))
    }
}

/// Gives an open file an owner and rights; the owner first, which may take rights away.
pub(crate) fn give(file: &File, owner: Owner) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt as _;
    let meta = file.metadata()?;
    if (meta.uid(), meta.gid()) != (owner.uid, owner.gid) {
        fchown(file, Some(owner.uid), Some(owner.gid))?;
    }
    file.set_permissions(Permissions::from_mode(owner.mode))
}

/// A folder and the name in it, of a path of the configuration. `None` for the root.
pub(crate) fn split(path: &Path) -> Option<(&Path, &OsStr)> {
    Some((path.parent()?, path.file_name()?))
}

/// Where the file system is mounted that holds a path, or would hold it if it were there. Not told by inode numbers: those of an
/// overlay are others at the next boot, and a file that is replaced has another one.
pub(crate) fn mount_of(path: &Path) -> Result<PathBuf, UserDataError> {
    // Of folders only: on an overlay a file may have a device number of its own.
    let folder = path
        .ancestors()
        .filter_map(|above| above.canonicalize().ok())
        .find(|above| above.is_dir())
        .unwrap_or_else(|| PathBuf::from("/"));
    let device = device_number(&folder)?;
    let same = |above: &&Path| device_number(above).is_ok_and(|number| number == device);
    Ok(folder.ancestors().take_while(same).last().unwrap_or(&folder).to_owned())
}

/// The device that a path lies on, or that a block device is.
pub(crate) fn device_number(path: &Path) -> Result<u64, UserDataError> {
    use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
    let meta = fs::metadata(path).map_err(UserDataError::file("look at", path))?;
    Ok(if meta.file_type().is_block_device() { meta.rdev() } else { meta.dev() })
}
