//! Trusted metadata on disk: byte for byte as served, under unversioned names, each replaced durably, and the time floor.
//!
//! The verifier works on a copy in memory ([`StoreView`]), so that disk work stays off the async threads; what it accepted
//! is written afterwards in the order in which it was accepted, also when a later step failed.

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{ErrorKind, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ota_core::Timestamp;
use serde_json::Value;
use sigstore_tuf::{Error, MetadataStore};

use crate::{FetchError, error::at};

const FLOOR: &str = "time_floor";
/// Where the last read manifest is kept; the verifier checks it against its signed digest before use.
const MANIFEST: &str = "manifest.cache";
/// No metadata file is larger.
const LARGEST: u64 = 5_000_000;
/// The floor moves in steps, to spare the storage.
const FLOOR_STEP_MS: i64 = 60_000;

/// The folder.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    folder: PathBuf,
}

impl Store {
    pub(crate) const fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    pub(crate) async fn load(&self) -> Result<StoreView, FetchError> {
        let folder = self.folder.clone();
        let work = tokio::task::spawn_blocking(move || read_all(&folder));
        let files = work.await.map_err(|_| FetchError::Vanished("reading of the metadata store"))??;
        Ok(StoreView { inner: Arc::new(Mutex::new(Inner { files, changed: Vec::new() })) })
    }

    /// Writes what the view has accepted since it was loaded.
    pub(crate) async fn save(&self, view: &StoreView) -> Result<(), FetchError> {
        let changes = view.take_changes();
        if changes.is_empty() {
            return Ok(());
        }
        let folder = self.folder.clone();
        let work = tokio::task::spawn_blocking(move || {
            changes.iter().try_for_each(|(name, bytes)| match bytes {
                Some(bytes) => replace(&folder, name, bytes),
                None => remove(&folder.join(name)),
            })
        });
        work.await.map_err(|_| FetchError::Vanished("writing of the metadata store"))?
    }
}

/// The store as one refresh sees it.
#[derive(Clone, Debug)]
pub(crate) struct StoreView {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    files: BTreeMap<String, Vec<u8>>,
    changed: Vec<String>,
}

/// What the clock said at the newest good check, from the folder in which a source keeps its metadata: never later than the
/// end of the metadata that was good then. `None` where there was none yet, or none that can be read.
#[must_use]
pub fn time_floor(store: &Path) -> Option<Timestamp> {
    floor_of(&read(&store.join(FLOOR)).ok()?)
}

fn floor_of(file: &[u8]) -> Option<Timestamp> {
    std::str::from_utf8(file).ok()?.trim().parse().ok().map(Timestamp::from_millis)
}

type Changes = Vec<(String, Option<Vec<u8>>)>;

impl StoreView {
    pub(crate) fn get(&self, name: &str) -> Option<Vec<u8>> {
        self.lock().files.get(name).cloned()
    }

    /// Newest time of a successful refresh; the epoch when there was none.
    pub(crate) fn floor(&self) -> Timestamp {
        self.get(FLOOR).and_then(|bytes| floor_of(&bytes)).unwrap_or_default()
    }

    pub(crate) fn raise_floor(&self, now: Timestamp) {
        if now.as_millis() >= self.floor().as_millis().saturating_add(FLOOR_STEP_MS) {
            self.lock().put(FLOOR, now.as_millis().to_string().as_bytes());
        }
    }

    fn take_changes(&self) -> Changes {
        let mut inner = self.lock();
        let names = std::mem::take(&mut inner.changed);
        names.into_iter().map(|name| (name.clone(), inner.files.get(&name).cloned())).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn put(&mut self, name: &str, bytes: &[u8]) {
        if self.files.get(name).is_some_and(|known| known == bytes) {
            return;
        }
        self.files.insert(name.into(), bytes.into());
        self.note(name);
    }

    fn drop_file(&mut self, name: &str) {
        if self.files.remove(name).is_some() {
            self.note(name);
        }
    }

    /// Changes are written in the order of the last change of each file.
    fn note(&mut self, name: &str) {
        self.changed.retain(|known| known != name);
        self.changed.push(name.into());
    }

    /// Fast-forward recovery: new keys for timestamp or snapshot make the stored ones void.
    fn put_root(&mut self, bytes: &[u8]) {
        if let Some(old) = self.files.get("root.json")
            && online_keys(old) != online_keys(bytes)
        {
            self.drop_file("timestamp.json");
            self.drop_file("snapshot.json");
        }
        self.put("root.json", bytes);
    }
}

impl MetadataStore for StoreView {
    fn load(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        Ok(kept_as(name).and_then(|name| self.get(name)))
    }

    fn store(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        match kept_as(name) {
            Some("root.json") => self.lock().put_root(bytes),
            Some(name) => self.lock().put(name, bytes),
            None => {}
        }
        Ok(())
    }
}

/// Name in the store; `None` for what is not kept: versioned names other than roots, targets other than the manifest.
fn kept_as(name: &str) -> Option<&str> {
    if name.starts_with("targets/") {
        return name.starts_with("targets/channels/").then_some(MANIFEST);
    }
    if let Some(root) = name.strip_prefix("root_history/") {
        return (!root.contains('/')).then_some(name);
    }
    let versioned = name.ends_with(".snapshot.json") && name.starts_with(|c: char| c.is_ascii_digit());
    (!versioned && !name.contains('/') && !name.starts_with('.')).then_some(name)
}

/// Keys and thresholds of the roles that are signed online.
fn online_keys(root: &[u8]) -> Option<[Value; 2]> {
    let root: Value = serde_json::from_slice(root).ok()?;
    Some(["timestamp", "snapshot"].map(|role| root["signed"]["roles"][role].clone()))
}

fn read_all(folder: &Path) -> Result<BTreeMap<String, Vec<u8>>, FetchError> {
    make(folder)?;
    let mut files = BTreeMap::new();
    for (below, prefix) in [(folder.to_path_buf(), ""), (folder.join("root_history"), "root_history/")] {
        let entries = match fs::read_dir(&below) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(at("list", below)(error)),
        };
        for entry in entries {
            let entry = entry.map_err(at("list", &below))?;
            let kind = entry.file_type().map_err(at("list", &below))?;
            if let (true, Ok(name)) = (kind.is_file(), entry.file_name().into_string())
                && !name.starts_with('.')
            {
                files.insert(format!("{prefix}{name}"), read(&entry.path())?);
            }
        }
    }
    Ok(files)
}

fn read(path: &Path) -> Result<Vec<u8>, FetchError> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(at("open", path))?;
    file.take(LARGEST).read_to_end(&mut bytes).map_err(at("read", path))?;
    Ok(bytes)
}

fn make(folder: &Path) -> Result<(), FetchError> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(at("create", folder))
}

/// Temp file, sync, rename, folder sync.
fn replace(folder: &Path, name: &str, bytes: &[u8]) -> Result<(), FetchError> {
    let path = folder.join(name);
    let parent = path.parent().unwrap_or(folder);
    make(parent)?;
    let temp = parent.join(".new");
    remove(&temp)?;
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temp)
        .map_err(at("create", &temp))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(at("write", &temp))?;
    fs::rename(&temp, &path).map_err(at("rename", &path))?;
    File::open(parent).and_then(|folder| folder.sync_all()).map_err(at("sync", parent))
}

fn remove(path: &Path) -> Result<(), FetchError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(at("remove", path)(error)),
        _ => Ok(()),
    }
}
