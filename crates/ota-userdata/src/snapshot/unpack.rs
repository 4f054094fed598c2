//! Reads an archive, believing nothing: only files and folders, only plain names, only as much as is allowed.
//!
//! The tar headers are taken raw: of their extensions only the long name is known, and that is bounded here.

use std::{
    collections::BTreeMap,
    io::{self, BufReader, Read},
};

use ota_core::{ByteCount, Sha256Digest};
use tar::{Archive, Entry, EntryType};
use zstd::stream::read::Decoder;

use super::{
    manifest::{FILES, Listed, ListedKind, MANIFEST, Manifest, SCHEMA},
    pack::Metered,
    roots::{EntryPath, Roots},
    tree::{FILE_MODE, FOLDER_MODE},
};
use crate::{UserDataError, folder::Owner};

/// Most bytes of a long name, and of the list.
const LONG_NAME: u64 = 8 << 10;
const LONG_LIST: u64 = 32 << 20;
/// What headers and the list may take beside the content.
const OVERHEAD: u64 = 64 << 20;
/// Memory that an archive may ask the decompressor for, as a power of two.
const WINDOW_LOG: u32 = 23;

/// One file or folder on its way out of an archive.
pub(crate) struct Item {
    pub(crate) path: EntryPath,
    /// Length; `None` for a folder.
    pub(crate) size: Option<u64>,
    pub(crate) owner: Owner,
}

impl Item {
    /// As the list should have it.
    pub(crate) fn listed(&self, sha256: Sha256Digest) -> Listed {
        let kind = self.size.map_or(ListedKind::Folder, |size| ListedKind::File { size, sha256 });
        Listed::new(self.path.as_str(), kind, self.owner)
    }
}

type Visitor<'a> = &'a mut dyn FnMut(Item, &mut dyn Read) -> Result<(), UserDataError>;

fn refused<T>(why: impl Into<String>) -> Result<T, UserDataError> {
    Err(UserDataError::Archive(why.into()))
}

/// Checks every digest of the archive against its list, and that all of it lies in `roots`; reads to the very end.
pub(crate) fn check(source: impl Read, roots: &Roots, limit: ByteCount) -> Result<Manifest, UserDataError> {
    let mut found = BTreeMap::new();
    let manifest = scan(source, limit, &mut |item, reader| {
        if roots.locate(&item.path).is_none() {
            return refused(format!("/{} is in none of the configured paths", item.path.as_str()));
        }
        let sha256 = drain(reader, item.size)?;
        let listed = item.listed(sha256);
        match found.insert(item.path, listed) {
            None => Ok(()),
            Some(twice) => refused(format!("/{} is there twice", twice.path)),
        }
    })?;
    for path in found.keys() {
        let inner_of_file = path.ancestors().any(|above| {
            EntryPath::parse(above.as_bytes())
                .ok()
                .and_then(|above| found.get(&above))
                .is_some_and(|above| above.kind != ListedKind::Folder)
        });
        if inner_of_file {
            return refused(format!("/{} lies in a file", path.as_str()));
        }
    }
    compare(&manifest, &found)?;
    Ok(manifest)
}

/// Reads one file to its end: its digest.
fn drain(reader: &mut dyn Read, size: Option<u64>) -> Result<Sha256Digest, UserDataError> {
    let mut metered = Metered::new(reader);
    io::copy(&mut metered, &mut io::sink()).map_err(UserDataError::Read)?;
    let (length, sha256) = metered.end();
    if length == size.unwrap_or(0) { Ok(sha256) } else { refused("a file in it ends early") }
}

fn compare(manifest: &Manifest, found: &BTreeMap<EntryPath, Listed>) -> Result<(), UserDataError> {
    if manifest.schema != SCHEMA {
        return refused(format!("its list has the shape {}, this program knows {SCHEMA}", manifest.schema));
    }
    if manifest.entries.len() != found.len() {
        let (listed, there) = (manifest.entries.len(), found.len());
        return refused(format!("its list has {listed} names, the archive {there}"));
    }
    for listed in &manifest.entries {
        let path = EntryPath::parse(listed.path.as_bytes())?;
        let Some(there) = found.get(&path) else {
            return refused(format!("/{} is listed and not there", listed.path));
        };
        same(listed, there)?;
    }
    Ok(())
}

/// Whether what was found is what was listed.
pub(crate) fn same(listed: &Listed, there: &Listed) -> Result<(), UserDataError> {
    let content = |kind| match kind {
        ListedKind::File { size, sha256 } => format!("{size} bytes, sha256:{sha256}"),
        ListedKind::Folder => "a folder".to_owned(),
    };
    if listed.kind != there.kind {
        let path = format!("/{}", listed.path);
        return Err(UserDataError::Mismatch {
            path,
            expected: content(listed.kind),
            actual: content(there.kind),
        });
    }
    if listed == there { Ok(()) } else { refused(format!("/{} has another owner than listed", listed.path)) }
}

/// Goes through an archive and hands on each file and folder; gives its list, which has to stand last.
pub(crate) fn scan(
    source: impl Read,
    limit: ByteCount,
    visit: Visitor<'_>,
) -> Result<Manifest, UserDataError> {
    let mut decoder = Decoder::with_buffer(BufReader::new(source)).map_err(UserDataError::Read)?;
    decoder.window_log_max(WINDOW_LOG).map_err(UserDataError::Read)?;
    let mut bounded = Bounded { inner: decoder, left: limit.get().saturating_add(OVERHEAD) };
    let mut archive = Archive::new(&mut bounded);
    let mut manifest = None;
    let mut long_name = None;
    for entry in archive.entries().map_err(UserDataError::Read)?.raw(true) {
        let mut entry = entry.map_err(UserDataError::Read)?;
        if manifest.is_some() {
            return refused("something stands behind its list");
        }
        if entry.header().entry_type() == EntryType::GNULongName {
            if long_name.is_some() {
                return refused("two long names follow each other");
            }
            long_name = Some(read_name(&mut entry)?);
            continue;
        }
        let name = long_name.take().unwrap_or_else(|| entry.path_bytes().into_owned());
        if name == MANIFEST.as_bytes() {
            manifest = Some(read_manifest(&mut entry)?);
        } else {
            let item = item(&name, &entry)?;
            visit(item, &mut entry)?;
        }
    }
    // What closes the compression and the encryption stands behind the last header.
    io::copy(&mut bounded, &mut io::sink()).map_err(UserDataError::Read)?;
    manifest.map_or_else(|| refused("it has no list"), Ok)
}

fn read_name<R: Read>(entry: &mut Entry<'_, R>) -> Result<Vec<u8>, UserDataError> {
    if entry.size() > LONG_NAME {
        return refused("a name in it is too long");
    }
    let mut name = Vec::new();
    entry.take(LONG_NAME).read_to_end(&mut name).map_err(UserDataError::Read)?;
    if name.last() == Some(&0) {
        name.pop();
    }
    Ok(name)
}

fn read_manifest<R: Read>(entry: &mut Entry<'_, R>) -> Result<Manifest, UserDataError> {
    if entry.header().entry_type() != EntryType::Regular || entry.size() > LONG_LIST {
        return refused("its list is no file or too long");
    }
    let size = entry.size();
    let mut text = Vec::new();
    entry.take(LONG_LIST).read_to_end(&mut text).map_err(UserDataError::Read)?;
    if text.len() as u64 != size {
        return refused("its list ends early");
    }
    serde_json::from_slice(&text).or_else(|error| refused(format!("its list does not read: {error}")))
}

fn item<R: Read>(name: &[u8], entry: &Entry<'_, R>) -> Result<Item, UserDataError> {
    let header = entry.header();
    let shown = String::from_utf8_lossy(&name[..name.len().min(80)]).into_owned();
    let Some(path) = name.strip_prefix(FILES.as_bytes()) else {
        return refused(format!("{shown:?} is not below {FILES}"));
    };
    let (path, size, kept) = match header.entry_type() {
        EntryType::Regular => (path, Some(entry.size()), FILE_MODE),
        EntryType::Directory if entry.size() == 0 => {
            (path.strip_suffix(b"/").unwrap_or(path), None, FOLDER_MODE)
        }
        other => return refused(format!("{shown:?} is neither file nor folder ({other:?})")),
    };
    let owner = (|| {
        let id = |id: u64| u32::try_from(id).map_err(io::Error::other);
        io::Result::Ok(Owner { mode: header.mode()?, uid: id(header.uid()?)?, gid: id(header.gid()?)? })
    })();
    let owner = owner.or_else(|error| refused(format!("{shown:?} has no owner: {error}")))?;
    if owner.mode & !kept != 0 || owner.uid == u32::MAX || owner.gid == u32::MAX {
        return refused(format!("{shown:?} asks for rights that nothing gets from a snapshot"));
    }
    Ok(Item { path: EntryPath::parse(path)?, size, owner })
}

/// Ends with an error when more comes than is allowed.
struct Bounded<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.left = self
            .left
            .checked_sub(n as u64)
            .ok_or_else(|| io::Error::other("it unpacks to more than snapshot.max_bytes"))?;
        Ok(n)
    }
}
