//! Replacing a small file so that a power cut leaves the old or the new one, whole. Source: `durable-steps.md` section 1.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use crate::StoreError;

/// The index of the write-ahead log, and the log's beginning.
const ROOM: usize = 64 << 10;

/// A new content, synced under a temporary name; [`Staged::publish`] makes it the content.
pub(crate) struct Staged<'a> {
    folder: &'a Path,
    temp: PathBuf,
    name: &'a str,
}

/// Writes `content` under a temporary name in `folder` and syncs it. What can fail for want of space fails here.
pub(crate) fn stage<'a>(folder: &'a Path, name: &'a str, content: &[u8]) -> Result<Staged<'a>, StoreError> {
    let temp = folder.join(format!("{name}.new-{}", std::process::id()));
    // Left behind by a process of the same number that was cut off.
    match fs::remove_file(&temp) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(StoreError::file("replace", &temp)(error));
        }
        _ => {}
    }
    let staged = Staged { folder, temp, name };
    staged.fill(content).map_err(StoreError::file("write", &staged.temp))?;
    Ok(staged)
}

impl Staged<'_> {
    fn fill(&self, content: &[u8]) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&self.temp)?;
        file.write_all(content)?;
        file.sync_all()
    }

    /// Renames it over the old content and syncs the folder.
    pub(crate) fn publish(self) -> Result<(), StoreError> {
        let path = self.folder.join(self.name);
        fs::rename(&self.temp, &path).map_err(StoreError::file("replace", path))?;
        sync_folder(self.folder)
    }
}

impl Drop for Staged<'_> {
    fn drop(&mut self) {
        // Gone already after `publish`; a leftover is replaced by the next `stage`.
        let _ = fs::remove_file(&self.temp);
    }
}

/// Replaces the file `name` in `folder` by `content`, readable by us alone (mode 0600): after a cut, or where the space does
/// not suffice, the old content is there or the new one, whole.
///
/// # Errors
/// [`StoreError::File`] with what could not be done to which path.
pub fn replace(folder: &Path, name: &str, content: &[u8]) -> Result<(), StoreError> {
    stage(folder, name, content)?.publish()
}

/// Makes renames and new names in `folder` durable.
pub(crate) fn sync_folder(folder: &Path) -> Result<(), StoreError> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(StoreError::file("sync folder", folder))
}

/// Creates `folder` for us alone (mode 0700), durably, or takes the rights of others from it, and resolves links in its
/// path.
///
/// # Errors
/// [`StoreError::File`] with what could not be done to which path.
pub fn own_folder(folder: &Path) -> Result<PathBuf, StoreError> {
    make_folder(folder)?;
    let folder = folder.canonicalize().map_err(StoreError::file("resolve", folder))?;
    restrict(&folder, 0o700)?;
    Ok(folder)
}

/// With all above it. A folder that a cut takes away again would take along what was acknowledged in it.
fn make_folder(folder: &Path) -> Result<(), StoreError> {
    let above = folder.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = above.unwrap_or(Path::new("."));
    if folder.is_dir() {
        // Whoever made it may have been killed before this sync. A parent that only others may read is their business.
        let _ = sync_folder(parent);
        return Ok(());
    }
    above.map(make_folder).transpose()?;
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(StoreError::file("create folder", folder)(error));
        }
        _ => {}
    }
    sync_folder(parent)
}

/// Sets the mode of `path` to `mode` unless it has it.
pub(crate) fn restrict(path: &Path, mode: u32) -> Result<(), StoreError> {
    let has = fs::symlink_metadata(path).map_err(StoreError::file("look at", path))?.permissions().mode();
    if has & 0o7777 == mode {
        return Ok(());
    }
    match fs::set_permissions(path, Permissions::from_mode(mode)) {
        // To read on makes nothing worse; the next start that can write takes the rights.
        Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
            tracing::warn!(path = %path.display(), "others may read it, and that cannot be changed now");
            Ok(())
        }
        done => done.map_err(StoreError::file("restrict", path)),
    }
}

/// Whether a write failed because the file system takes none: it is read-only, or full.
#[must_use]
pub fn takes_nothing(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(error.kind(), Kind::ReadOnlyFilesystem | Kind::StorageFull | Kind::QuotaExceeded)
}

/// Whether `folder` takes as much as SQLite needs beside a database before its first commit.
pub(crate) fn try_write(folder: &Path) -> Result<(), StoreError> {
    stage(folder, "room", &vec![0; ROOM]).map(drop)
}
