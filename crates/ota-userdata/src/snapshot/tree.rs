//! Goes through the configured paths: folders, plain files, and what is left out.

use std::{
    ffi::OsStr,
    fs::{File, Metadata},
    io,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
};

use super::roots::{DEEPEST, Roots, TEMP};
use crate::{
    UserDataError,
    folder::{Folder, Owner, split},
};

/// Rights that are kept: of files no set-id and sticky bits, of folders all but set-user-id.
pub(crate) const FILE_MODE: u32 = 0o777;
pub(crate) const FOLDER_MODE: u32 = 0o3777;

/// What is found on the way.
pub(crate) enum Visit<'a> {
    Folder { path: &'a str, owner: Owner },
    File { path: &'a str, owner: Owner, size: u64, file: &'a mut File },
    Skipped { path: String, why: &'static str },
}

type Visitor<'a> = &'a mut dyn FnMut(Visit<'_>) -> Result<(), UserDataError>;

/// Visits everything below the configured paths, folders before what is in them, names in order.
pub(crate) fn walk(roots: &Roots, visit: Visitor<'_>) -> Result<(), UserDataError> {
    for root in roots.paths() {
        let text = root.to_string_lossy();
        let path = text.trim_start_matches('/');
        let Some((parent, name)) = split(root) else { continue };
        match Folder::open(parent) {
            Ok(parent) => look(&parent, name, path, visit)?,
            Err(UserDataError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                visit(Visit::Skipped { path: path.into(), why: "is not there" })?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn look(parent: &Folder, name: &OsStr, path: &str, visit: Visitor<'_>) -> Result<(), UserDataError> {
    let Some(meta) = parent.look(name)? else {
        return visit(Visit::Skipped { path: path.into(), why: "is not there" });
    };
    if meta.is_dir() {
        return enter(&gone_is_change(parent.enter(name), path)?, path, visit);
    }
    if !meta.is_file() {
        return visit(Visit::Skipped { path: path.into(), why: kind(&meta) });
    }
    let mut file = gone_is_change(parent.read(name), path)?;
    let meta = file.metadata().map_err(UserDataError::file("look at", parent.path().join(name)))?;
    visit(Visit::File { path, owner: owner(&meta, FILE_MODE), size: meta.len(), file: &mut file })
}

fn enter(folder: &Folder, path: &str, visit: Visitor<'_>) -> Result<(), UserDataError> {
    visit(Visit::Folder { path, owner: owner(&folder.metadata()?, FOLDER_MODE) })?;
    for name in folder.names()? {
        let inner = format!("{path}/{}", name.to_string_lossy());
        if name.to_str().is_none() {
            visit(Visit::Skipped { path: inner, why: "has a name that is no text" })?;
        } else if name == TEMP {
            // Left by a restore that was cut off.
        } else if inner.split('/').count() > DEEPEST {
            visit(Visit::Skipped { path: inner, why: "lies too deep" })?;
        } else {
            look(folder, &name, &inner, visit)?;
        }
    }
    Ok(())
}

fn owner(meta: &Metadata, kept: u32) -> Owner {
    Owner { mode: meta.mode() & kept, uid: meta.uid(), gid: meta.gid() }
}

fn gone_is_change<T>(outcome: Result<T, UserDataError>, path: &str) -> Result<T, UserDataError> {
    outcome.map_err(|error| match error {
        UserDataError::File { source, .. } if source.kind() == io::ErrorKind::NotFound => {
            UserDataError::Changed(path.into())
        }
        other => other,
    })
}

fn kind(meta: &Metadata) -> &'static str {
    let kind = meta.file_type();
    if kind.is_symlink() {
        "is a symbolic link"
    } else if kind.is_socket() {
        "is a socket"
    } else if kind.is_fifo() {
        "is a pipe"
    } else {
        "is a device"
    }
}
