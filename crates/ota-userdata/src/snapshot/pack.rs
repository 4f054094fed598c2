//! Writes an archive: tar with the list at its end, through zstd, through age where there are recipients.

use std::{
    fs::File,
    io::{self, Read, Write},
};

use ota_core::{ByteCount, Sha256Digest, Timestamp};
use ring::digest::{Context, SHA256};
use tar::{Builder, EntryType, Header};
use zstd::stream::write::Encoder;

use super::{
    manifest::{FILES, Listed, ListedKind, MANIFEST, Manifest, SCHEMA},
    roots::Roots,
    seal::{Recipients, Sealing},
    tree::{Visit, walk},
};
use crate::{UserDataError, folder::Owner};

/// Compression that costs little time on a gateway.
const LEVEL: i32 = 3;

/// What there is to save.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) files: u64,
    pub(crate) content: ByteCount,
    /// Names with why they are left out.
    pub(crate) skipped: Vec<String>,
}

/// Looks at everything and reads nothing.
pub(crate) fn measure(roots: &Roots) -> Result<Extent, UserDataError> {
    let mut extent = Extent::default();
    walk(roots, &mut |visit| {
        match visit {
            Visit::Folder { .. } => {}
            Visit::File { size, .. } => {
                extent.files += 1;
                extent.content = extent.content + ByteCount(size);
            }
            Visit::Skipped { path, why } => extent.skipped.push(format!("/{path} {why}")),
        }
        Ok(())
    })?;
    Ok(extent)
}

/// What an archive turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Packed {
    pub(crate) files: u64,
    pub(crate) content: ByteCount,
    pub(crate) size: ByteCount,
    pub(crate) sha256: Sha256Digest,
}

/// Writes everything below `roots` to `out` and syncs it. `limit`: most bytes of content.
pub(crate) fn pack(
    roots: &Roots,
    recipients: &Recipients,
    limit: ByteCount,
    at: Timestamp,
    out: &File,
) -> Result<Packed, UserDataError> {
    let sealing = Sealing::new(recipients, Metered::new(out))?;
    let mut encoder = Encoder::new(sealing, LEVEL).map_err(written)?;
    encoder.include_checksum(true).map_err(written)?;
    let mut packer = Packer { tar: Builder::new(encoder), listed: Vec::new(), files: 0, content: 0 };
    walk(roots, &mut |visit| packer.take(visit, limit))?;
    let Packer { mut tar, listed, files, content } = packer;
    let paths = roots.paths().iter().map(|path| path.to_string_lossy().into_owned()).collect();
    append_manifest(&mut tar, &Manifest { schema: SCHEMA, created: at, paths, entries: listed })?;
    let metered = tar.into_inner().and_then(Encoder::finish).and_then(Sealing::finish).map_err(written)?;
    out.sync_all().map_err(written)?;
    let (size, sha256) = metered.end();
    Ok(Packed { files, content: ByteCount(content), size: ByteCount(size), sha256 })
}

fn written(source: io::Error) -> UserDataError {
    UserDataError::File { what: "write", path: "the snapshot".into(), source }
}

struct Packer<W: Write> {
    tar: Builder<W>,
    listed: Vec<Listed>,
    files: u64,
    content: u64,
}

impl<W: Write> Packer<W> {
    fn take(&mut self, visit: Visit<'_>, limit: ByteCount) -> Result<(), UserDataError> {
        match visit {
            Visit::Skipped { .. } => Ok(()),
            Visit::Folder { path, owner } => {
                let mut header = header(EntryType::Directory, owner, 0);
                let name = format!("{FILES}{path}/");
                self.tar.append_data(&mut header, name, io::empty()).map_err(written)?;
                self.listed.push(Listed::new(path, ListedKind::Folder, owner));
                Ok(())
            }
            Visit::File { path, owner, size, file } => {
                // It may have grown since it was measured.
                let required = ByteCount(self.content.saturating_add(size));
                if required > limit {
                    let place = "snapshot.max_bytes".into();
                    return Err(UserDataError::Space { place, required, available: limit });
                }
                let mut header = header(EntryType::Regular, owner, size);
                let mut metered = Metered::new(file.take(size));
                self.tar.append_data(&mut header, format!("{FILES}{path}"), &mut metered).map_err(written)?;
                let (length, sha256) = metered.end();
                if length != size {
                    return Err(UserDataError::Changed(format!("/{path}")));
                }
                self.listed.push(Listed::new(path, ListedKind::File { size, sha256 }, owner));
                (self.files, self.content) = (self.files + 1, self.content + size);
                Ok(())
            }
        }
    }
}

fn header(kind: EntryType, owner: Owner, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(owner.mode);
    header.set_uid(owner.uid.into());
    header.set_gid(owner.gid.into());
    header.set_mtime(0);
    header.set_size(size);
    header
}

fn append_manifest<W: Write>(tar: &mut Builder<W>, manifest: &Manifest) -> Result<(), UserDataError> {
    let text = serde_json::to_vec(manifest).map_err(|error| written(io::Error::other(error.to_string())))?;
    let owner = Owner { mode: 0o600, uid: 0, gid: 0 };
    let mut header = header(EntryType::Regular, owner, text.len() as u64);
    tar.append_data(&mut header, MANIFEST, &*text).map_err(written)
}

/// Counts and hashes what goes through.
pub(crate) struct Metered<T> {
    inner: T,
    length: u64,
    hash: Context,
}

impl<T> Metered<T> {
    pub(crate) fn new(inner: T) -> Self {
        Self { inner, length: 0, hash: Context::new(&SHA256) }
    }

    /// How much it was, and its digest.
    pub(crate) fn end(self) -> (u64, Sha256Digest) {
        let mut sha256 = [0; 32];
        sha256.copy_from_slice(self.hash.finish().as_ref());
        (self.length, Sha256Digest(sha256))
    }

    fn note(&mut self, bytes: &[u8]) {
        self.length += bytes.len() as u64;
        self.hash.update(bytes);
    }
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.note(&buf[..n]);
        Ok(n)
    }
}

impl<W: Write> Write for Metered<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(bytes)?;
        self.note(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
