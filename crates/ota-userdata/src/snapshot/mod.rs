//! Snapshots of the settings: a folder of archives, made, listed, put back, and dropped when there are too many.
//!
//! `SNAP-<n>.tar.zst`, or `.tar.zst.age` when encrypted, with its record `SNAP-<n>.json` beside it. Inside: `files/…`, which
//! stands for `/`, and `manifest.json` at the end with path, size, digest, mode and owner of everything.

mod manifest;
mod pack;
mod restore;
mod roots;
mod seal;
#[cfg(test)]
mod tests;
mod tree;
mod unpack;

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs::File,
    io::Read,
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use ota_core::{
    ByteCount, SnapshotId, Timestamp,
    error::PortError,
    ports::{Restored, Snapshot, SnapshotCause, SnapshotOrder, Snapshots},
};

pub use roots::Roots;
pub use seal::Recipients;

use crate::{UserDataError, folder::Folder};
use pack::{Extent, Packed};
use seal::Identities;

const PLAIN: &str = ".tar.zst";
const SEALED: &str = ".tar.zst.age";
/// An archive that is not whole yet.
const PART: &str = ".part";
/// Most names of what was left out that a record keeps.
const SKIPPED: usize = 100;

/// What is saved, where, and for how long.
#[derive(Clone, Debug)]
pub struct SnapshotConfig {
    /// What is saved, and beside which nothing is restored.
    pub roots: Roots,
    /// Where archives are kept.
    pub dir: PathBuf,
    /// Where those are kept that a factory reset leaves alone, if there is such a place.
    pub outliving: Option<PathBuf>,
    /// Whom they are encrypted to.
    pub recipients: Recipients,
    /// File of an age identity that opens them on the device itself.
    pub identity: Option<PathBuf>,
    /// How many are kept in each of the two places, at least 1.
    pub keep: usize,
    /// Most bytes of content that one may have.
    pub max: ByteCount,
}

/// The archives of a device.
#[derive(Debug)]
pub struct SnapshotFolder {
    config: SnapshotConfig,
    /// One at a time, whatever the caller does.
    turn: Mutex<()>,
}

/// An archive by the name of its file.
struct Archived {
    id: SnapshotId,
    file: String,
    encrypted: bool,
    outlives_reset: bool,
}

impl SnapshotFolder {
    /// Touches nothing yet.
    #[must_use]
    pub const fn new(config: SnapshotConfig) -> Self {
        Self { config, turn: Mutex::new(()) }
    }

    fn places(&self) -> impl Iterator<Item = (&PathBuf, bool)> {
        let outliving = self.config.outliving.iter().map(|dir| (dir, true));
        std::iter::once((&self.config.dir, false)).chain(outliving)
    }

    fn archives(&self) -> Result<Vec<(Folder, Archived)>, UserDataError> {
        let mut all = Vec::new();
        for (dir, outlives_reset) in self.places() {
            if !dir.exists() {
                continue;
            }
            let folder = Folder::open(dir)?;
            for archived in in_folder(&folder, outlives_reset)? {
                all.push((Folder::open(dir)?, archived));
            }
        }
        all.sort_by_key(|(_, archived)| std::cmp::Reverse(archived.id.number()));
        Ok(all)
    }

    fn make(&self, order: &SnapshotOrder) -> Result<Snapshot, UserDataError> {
        let extent = self.measured()?;
        let outlives_reset = order.cause == SnapshotCause::FactoryReset;
        let dir = if outlives_reset { self.config.outliving.as_ref() } else { Some(&self.config.dir) };
        let dir = dir.ok_or_else(|| {
            UserDataError::NotSetUp("factory_reset.dir names no place that a reset leaves alone".into())
        })?;
        let id = self.next_id(order.at)?;
        let folder = Folder::open_or_make(dir, 0o700)?;
        clean(&folder)?;
        let encrypted = !self.config.recipients.is_empty();
        let name = format!("{id}{}", if encrypted { SEALED } else { PLAIN });
        let packed = self.pack_as(&folder, &name, order.at, &extent)?;
        let record = record(id, order, &packed, extent, encrypted, outlives_reset);
        let kept = keep_record(&folder, &record).and_then(|()| publish(&folder, &name));
        if let Err(error) = kept {
            let _ = folder.remove(OsStr::new(&part(&name)));
            let _ = folder.remove(OsStr::new(&record_name(&record.id)));
            return Err(full(&folder, &record.content.unwrap_or_default(), error));
        }
        self.drop_oldest(&folder)?;
        Ok(record)
    }

    /// What there is to save, if it may be saved.
    fn measured(&self) -> Result<Extent, UserDataError> {
        if self.config.roots.is_empty() {
            return Err(UserDataError::NotConfigured("snapshot.paths names nothing to save".into()));
        }
        let extent = pack::measure(&self.config.roots)?;
        if extent.files == 0 {
            return Err(UserDataError::NotConfigured("there is no file in any of snapshot.paths".into()));
        }
        if extent.content > self.config.max {
            let place = "snapshot.max_bytes".into();
            let (required, available) = (extent.content, self.config.max);
            return Err(UserDataError::Space { place, required, available });
        }
        Ok(extent)
    }

    /// Larger than every other, and the time where the clock goes forward.
    fn next_id(&self, at: Timestamp) -> Result<SnapshotId, UserDataError> {
        let newest = self.archives()?.first().map_or(0, |(_, archived)| archived.id.number());
        let now = u64::try_from(at.as_millis()).unwrap_or(0);
        Ok(SnapshotId::from_number(now.max(newest.saturating_add(1))))
    }

    fn pack_as(
        &self,
        folder: &Folder,
        name: &str,
        at: Timestamp,
        extent: &Extent,
    ) -> Result<Packed, UserDataError> {
        let part = part(name);
        let out = folder.create(part.as_ref())?;
        let SnapshotConfig { roots, recipients, max, .. } = &self.config;
        pack::pack(roots, recipients, *max, at, &out).map_err(|error| {
            let _ = folder.remove(part.as_ref());
            full(folder, &extent.content, error)
        })
    }

    fn drop_oldest(&self, folder: &Folder) -> Result<(), UserDataError> {
        let mut there = in_folder(folder, false)?;
        there.sort_by_key(|archived| std::cmp::Reverse(archived.id.number()));
        let mut dropped = false;
        for old in there.iter().skip(self.config.keep.max(1)) {
            dropped |= folder.remove(old.file.as_ref())?;
            folder.remove(record_name(&old.id).as_ref())?;
            tracing::info!(id = %old.id, "an old snapshot was dropped");
        }
        if dropped { folder.sync() } else { Ok(()) }
    }

    fn put_back(&self, id: &SnapshotId, identity: Option<&str>) -> Result<Restored, UserDataError> {
        let gone = || UserDataError::Archive(format!("{id} is gone"));
        let (folder, archived) = self.archives()?.into_iter().find(|(_, a)| a.id == *id).ok_or_else(gone)?;
        let identities = if archived.encrypted { Some(self.identities(identity)?) } else { None };
        let open = || -> Result<Box<dyn Read>, UserDataError> {
            let file = folder.read(archived.file.as_ref())?;
            Ok(match &identities {
                Some(identities) => Box::new(identities.open(file)?),
                None => Box::new(file),
            })
        };
        let SnapshotConfig { roots, max, .. } = &self.config;
        let manifest = unpack::check(open()?, roots, *max)?;
        restore::restore(open()?, roots, *max, &manifest).map_err(|error| full(&folder, max, error))
    }

    fn identities(&self, given: Option<&str>) -> Result<Identities, UserDataError> {
        if let Some(text) = given {
            return Identities::parse(text);
        }
        let Some(path) = &self.config.identity else {
            return Err(UserDataError::Locked("it is encrypted: an identity of age is needed".into()));
        };
        let mut text = String::new();
        let read = File::open(path).and_then(|file| file.take(1 << 20).read_to_string(&mut text));
        read.map_err(UserDataError::file("read", path))?;
        Identities::parse(&text)
    }
}

impl Snapshots for SnapshotFolder {
    fn list(&self) -> Result<Vec<Snapshot>, PortError> {
        let archives = self.archives()?;
        let described = archives.iter().map(|(folder, archived)| describe(folder, archived));
        Ok(described.collect::<Result<_, _>>()?)
    }

    fn create(&self, order: &SnapshotOrder) -> Result<Snapshot, PortError> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let made = self.make(order)?;
        tracing::info!(id = %made.id, cause = order.cause.as_str(), files = made.files, "a snapshot was made");
        Ok(made)
    }

    fn has_identity(&self) -> bool {
        self.config.identity.is_some()
    }

    fn restore(&self, id: &SnapshotId, identity: Option<&str>) -> Result<Restored, PortError> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let restored = self.put_back(id, identity)?;
        tracing::warn!(%id, files = restored.files, "settings were put back from a snapshot");
        Ok(restored)
    }
}

fn part(name: &str) -> String {
    format!(".{name}{PART}")
}

fn record_name(id: &SnapshotId) -> String {
    format!("{id}.json")
}

fn in_folder(folder: &Folder, outlives_reset: bool) -> Result<Vec<Archived>, UserDataError> {
    let named = |file: String| {
        let (stem, encrypted) = match file.strip_suffix(SEALED) {
            Some(stem) => (stem, true),
            None => (file.strip_suffix(PLAIN)?, false),
        };
        Some(Archived { id: stem.parse().ok()?, file, encrypted, outlives_reset })
    };
    Ok(folder.names()?.into_iter().filter_map(|name| named(name.into_string().ok()?)).collect())
}

/// Takes away what a run left that was cut off: parts, and records without an archive.
fn clean(folder: &Folder) -> Result<(), UserDataError> {
    let archived: BTreeMap<String, ()> =
        in_folder(folder, false)?.into_iter().map(|a| (record_name(&a.id), ())).collect();
    for name in folder.names()? {
        let Some(text) = name.to_str() else { continue };
        let part = text.starts_with(".SNAP-");
        let stray = text.starts_with("SNAP-") && text.ends_with(".json") && !archived.contains_key(text);
        if part || stray {
            folder.remove(&name)?;
        }
    }
    Ok(())
}

fn record(
    id: SnapshotId,
    order: &SnapshotOrder,
    packed: &Packed,
    extent: Extent,
    encrypted: bool,
    outlives_reset: bool,
) -> Snapshot {
    let mut skipped = extent.skipped;
    skipped.truncate(SKIPPED);
    Snapshot {
        id,
        created: order.at,
        cause: Some(order.cause),
        by: Some(order.by.clone()),
        description: order.description.clone(),
        size: packed.size,
        sha256: Some(packed.sha256),
        encrypted,
        files: Some(packed.files),
        content: Some(packed.content),
        skipped,
        outlives_reset,
    }
}

/// The record first: an archive never stands there without one, unless somebody else put it there.
fn keep_record(folder: &Folder, record: &Snapshot) -> Result<(), UserDataError> {
    let name = record_name(&record.id);
    let failed = |error: serde_json::Error| {
        UserDataError::file("write", folder.path().join(&name))(std::io::Error::other(error.to_string()))
    };
    let text = serde_json::to_vec_pretty(record).map_err(failed)?;
    folder.replace(&name, &text)
}

fn publish(folder: &Folder, name: &str) -> Result<(), UserDataError> {
    folder.rename(part(name).as_ref(), name.as_ref())?;
    folder.sync()
}

/// A full medium is a condition of its own.
fn full(folder: &Folder, required: &ByteCount, error: UserDataError) -> UserDataError {
    if !error.is_full() {
        return error;
    }
    let available = folder.free().unwrap_or_default();
    UserDataError::Space { place: folder.path().display().to_string(), required: *required, available }
}

fn describe(folder: &Folder, archived: &Archived) -> Result<Snapshot, UserDataError> {
    let meta = folder.look(archived.file.as_ref())?;
    let size = ByteCount(meta.as_ref().map_or(0, std::fs::Metadata::len));
    let known = folder.content(record_name(&archived.id).as_ref())?;
    let known = known.and_then(|text| serde_json::from_slice::<Snapshot>(&text).ok());
    let known = known.filter(|record| record.id == archived.id);
    let (encrypted, outlives_reset) = (archived.encrypted, archived.outlives_reset);
    Ok(match known {
        Some(record) => Snapshot { size, encrypted, outlives_reset, ..record },
        None => foreign(archived, size),
    })
}

/// An archive that somebody else put there: its number is all that tells when it was made.
fn foreign(archived: &Archived, size: ByteCount) -> Snapshot {
    let millis = i64::try_from(archived.id.number()).unwrap_or(i64::MAX);
    Snapshot {
        id: archived.id.clone(),
        created: Timestamp::from_millis(millis),
        cause: None,
        by: None,
        description: None,
        size,
        sha256: None,
        encrypted: archived.encrypted,
        files: None,
        content: None,
        skipped: Vec::new(),
        outlives_reset: archived.outlives_reset,
    }
}
