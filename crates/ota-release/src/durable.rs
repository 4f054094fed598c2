//! Files that are there whole or not at all: temp file in the same folder, sync, rename, folder sync.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use ota_core::Sha256Digest;
use ring::digest::{Context, SHA256};

use crate::{ReleaseError, error::at};

/// Bytes moved at once; memory use does not depend on the size of an image.
const CHUNK: usize = 1 << 20;

/// What a file turned out to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) length: u64,
    pub(crate) sha256: Sha256Digest,
}

/// Replaces `path` by `bytes`.
pub(crate) fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), ReleaseError> {
    let temp = beside(path);
    let mut file = create(&temp, mode)?;
    let outcome = file.write_all(bytes).and_then(|()| file.sync_all()).map_err(at("write", &temp));
    settle(outcome, &temp, path)
}

/// Content of a file, read once.
pub(crate) fn digest(path: &Path) -> Result<Content, ReleaseError> {
    let mut source = File::open(path).map_err(at("open", path))?;
    pump(&mut source, path, |_| Ok(()))
}

/// Copies `from` into `folder` under a name made from its content, and returns that content.
pub(crate) fn copy_in(
    from: &Path,
    folder: &Path,
    name: impl FnOnce(&Content) -> String,
) -> Result<Content, ReleaseError> {
    let temp = folder.join(format!(".incoming-{}", std::process::id()));
    let mut source = File::open(from).map_err(at("open", from))?;
    let mut file = create(&temp, 0o644)?;
    let content = pump(&mut source, from, |chunk| file.write_all(chunk).map_err(at("write", &temp)));
    let content = content.and_then(|content| file.sync_all().map_err(at("sync", &temp)).map(|()| content));
    match content {
        Ok(content) => {
            settle(Ok(()), &temp, &folder.join(name(&content)))?;
            Ok(content)
        }
        Err(error) => {
            let _ = fs::remove_file(&temp);
            Err(error)
        }
    }
}

/// Makes `to` another name of `from`; `false` when the file systems do not allow it.
pub(crate) fn link(from: &Path, to: &Path) -> Result<bool, ReleaseError> {
    if to.exists() {
        return Ok(true);
    }
    let source = File::open(from).map_err(at("open", from))?;
    source.sync_all().map_err(at("sync", from))?;
    if fs::hard_link(from, to).is_err() {
        return Ok(false);
    }
    sync_folder(to)?;
    Ok(true)
}

/// Creates a folder with its parents, for the owner only when `private`.
pub(crate) fn make_folder(path: &Path, private: bool) -> Result<(), ReleaseError> {
    use std::os::unix::fs::DirBuilderExt;
    let mode = if private { 0o700 } else { 0o755 };
    fs::DirBuilder::new().recursive(true).mode(mode).create(path).map_err(at("create", path))
}

fn pump(
    source: &mut File,
    path: &Path,
    mut sink: impl FnMut(&[u8]) -> Result<(), ReleaseError>,
) -> Result<Content, ReleaseError> {
    let mut hash = Context::new(&SHA256);
    let mut length = 0;
    chunks(source, path, |chunk| {
        hash.update(chunk);
        length += chunk.len() as u64;
        sink(chunk)
    })?;
    let mut sha256 = [0; 32];
    sha256.copy_from_slice(hash.finish().as_ref());
    Ok(Content { length, sha256: Sha256Digest(sha256) })
}

/// Reads to the end, in steps.
pub(crate) fn chunks(
    source: &mut File,
    path: &Path,
    mut sink: impl FnMut(&[u8]) -> Result<(), ReleaseError>,
) -> Result<(), ReleaseError> {
    let mut buffer = vec![0; CHUNK];
    loop {
        match source.read(&mut buffer).map_err(at("read", path))? {
            0 => return Ok(()),
            got => sink(&buffer[..got])?,
        }
    }
}

fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    path.with_file_name(format!(".{name}.{}", std::process::id()))
}

fn create(path: &Path, mode: u32) -> Result<File, ReleaseError> {
    // A leftover of a killed run with the same process id must not stop this one.
    let _ = fs::remove_file(path);
    OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(at("create", path))
}

fn settle(outcome: Result<(), ReleaseError>, temp: &Path, path: &Path) -> Result<(), ReleaseError> {
    let outcome = outcome.and_then(|()| fs::rename(temp, path).map_err(at("rename", path)));
    if outcome.is_err() {
        let _ = fs::remove_file(temp);
    }
    outcome?;
    sync_folder(path)
}

fn sync_folder(path: &Path) -> Result<(), ReleaseError> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|f| f.sync_all()).map_err(at("sync", folder))
}
