//! The repository on disk: `metadata/` and `targets/` for any HTTP server, a draft of what is not published yet.
//!
//! Files are written in the order in which they may be uploaded: targets, snapshot, root if new, timestamp last.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use ota_core::Timestamp;
use serde::Serialize;

use crate::{
    ReleaseError, durable,
    error::at,
    keys::{KeyFolder, SigningKey},
    metadata::{self, Head, Pin, Pins, RoleKeys, RoleName, Root, TargetFile, Targets},
};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// How long freshly signed metadata holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "one duration for each role")]
pub struct Expiries {
    pub root: Duration,
    pub targets: Duration,
    pub snapshot: Duration,
    pub timestamp: Duration,
}

impl Default for Expiries {
    /// Two years, one year, 90 days, 14 days.
    fn default() -> Self {
        Self { root: 730 * DAY, targets: 365 * DAY, snapshot: 90 * DAY, timestamp: 14 * DAY }
    }
}

/// How a repository starts.
#[derive(Clone, Debug)]
pub struct InitOptions {
    /// Folder that gets `metadata/` and `targets/`; created.
    pub repo: PathBuf,
    /// Folder that gets the private keys (0700, files 0600); created. Must lie outside of `repo`.
    pub keys: PathBuf,
    /// How many root keys are made.
    pub root_keys: usize,
    /// How many of them must sign a root.
    pub root_threshold: usize,
    /// How long the first metadata holds.
    pub expiries: Expiries,
}

impl InitOptions {
    /// Three root keys of which two must sign, one key for each other role, default expiries.
    pub fn new(repo: impl Into<PathBuf>, keys: impl Into<PathBuf>) -> Self {
        Self {
            repo: repo.into(),
            keys: keys.into(),
            root_keys: 3,
            root_threshold: 2,
            expiries: Expiries::default(),
        }
    }
}

/// Versions that a publication made current.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "one version for each role")]
pub struct Published {
    pub root: u64,
    pub targets: u64,
    pub snapshot: u64,
    pub timestamp: u64,
}

/// A repository of signed releases.
#[derive(Clone, Debug)]
pub struct RepoDir {
    pub(crate) repo: PathBuf,
    pub(crate) keys: KeyFolder,
    pub(crate) expiries: Expiries,
}

impl RepoDir {
    /// Makes keys and an empty, valid repository at version 1 of everything.
    ///
    /// # Errors
    /// [`ReleaseError::AlreadyThere`]; [`ReleaseError::Options`] for a threshold that the keys cannot meet or keys
    /// inside the served folder; `Io`.
    pub fn init(options: &InitOptions, now: Timestamp) -> Result<Self, ReleaseError> {
        check(options)?;
        let this = Self {
            repo: options.repo.clone(),
            keys: KeyFolder(options.keys.clone()),
            expiries: options.expiries,
        };
        if this.root_version()?.is_some() {
            return Err(ReleaseError::AlreadyThere(options.repo.clone()));
        }
        durable::make_folder(&this.metadata(), false)?;
        durable::make_folder(&this.targets(), false)?;
        let (root, signers) = this.first_root(options, now)?;
        let signers: Vec<_> = signers.iter().collect();
        durable::write(&this.metadata().join("1.root.json"), &metadata::sign(&root, &signers)?, 0o644)?;
        this.publish_under(&root, None, now)?;
        Ok(this)
    }

    /// Opens a repository, with default expiries for what will be signed.
    ///
    /// # Errors
    /// [`ReleaseError::NotARepository`].
    pub fn open(repo: impl Into<PathBuf>, keys: impl Into<PathBuf>) -> Result<Self, ReleaseError> {
        let this = Self { repo: repo.into(), keys: KeyFolder(keys.into()), expiries: Expiries::default() };
        match this.root_version()? {
            Some(_) => Ok(this),
            None => Err(ReleaseError::NotARepository(this.repo)),
        }
    }

    /// The same repository, signing for other spans of time.
    #[must_use]
    pub fn with_expiries(self, expiries: Expiries) -> Self {
        Self { expiries, ..self }
    }

    /// The root that a device is shipped with: version 1.
    #[must_use]
    pub fn initial_root(&self) -> PathBuf {
        self.metadata().join("1.root.json")
    }

    /// Folder of metadata, to be served.
    #[must_use]
    pub fn metadata(&self) -> PathBuf {
        self.repo.join("metadata")
    }

    /// Folder of target files, to be served.
    #[must_use]
    pub fn targets(&self) -> PathBuf {
        self.repo.join("targets")
    }

    /// Signs and writes the draft as the next targets, snapshot and timestamp. Without a draft everything is signed anew.
    ///
    /// Cut off at any instant, the old state stays published and the next call finishes the work.
    ///
    /// # Errors
    /// [`ReleaseError::KeysMissing`] when the targets, snapshot and timestamp keys are not all there; `Io`.
    pub fn publish(&self, now: Timestamp) -> Result<Published, ReleaseError> {
        self.publish_under(&self.root()?, None, now)
    }

    /// Signs the timestamp anew; needs only the timestamp key.
    ///
    /// # Errors
    /// [`ReleaseError::KeysMissing`]; `Io`.
    pub fn refresh_timestamp(&self, now: Timestamp) -> Result<Published, ReleaseError> {
        let root = self.root()?;
        let old = self.timestamp()?.ok_or_else(|| ReleaseError::NotARepository(self.repo.clone()))?;
        let targets = self.targets_of(&old)?.head.version;
        let version = old.head.version + 1;
        let snapshot = old.meta.get("snapshot.json").map_or(0, |pin| pin.version);
        let head = Head::new(RoleName::Timestamp, version, now + self.expiries.timestamp)?;
        self.put(&root, RoleName::Timestamp, "timestamp.json", &Pins { head, meta: old.meta })?;
        Ok(Published { root: root.head.version, targets, snapshot, timestamp: version })
    }

    /// Publishes under `root`, which is written right before the timestamp when `new_root` holds its bytes.
    pub(crate) fn publish_under(
        &self,
        root: &Root,
        new_root: Option<&[u8]>,
        now: Timestamp,
    ) -> Result<Published, ReleaseError> {
        let old = self.timestamp()?;
        let (snapshot_was, targets_was) = match &old {
            Some(old) => (self.snapshot_of(old)?.head.version, self.targets_of(old)?.head.version),
            None => (0, 0),
        };
        let published = Published {
            root: root.head.version,
            targets: targets_was + 1,
            snapshot: snapshot_was + 1,
            timestamp: old.map_or(0, |old| old.head.version) + 1,
        };

        let head = Head::new(RoleName::Targets, published.targets, now + self.expiries.targets)?;
        let targets = Targets { head, targets: self.draft()? };
        let name = format!("{}.targets.json", published.targets);
        let bytes = self.put(root, RoleName::Targets, &name, &targets)?;

        let head = Head::new(RoleName::Snapshot, published.snapshot, now + self.expiries.snapshot)?;
        let meta = BTreeMap::from([("targets.json".into(), Pin::of(published.targets, &bytes))]);
        let name = format!("{}.snapshot.json", published.snapshot);
        let bytes = self.put(root, RoleName::Snapshot, &name, &Pins { head, meta })?;

        if let Some(new_root) = new_root {
            durable::write(&self.root_path(published.root), new_root, 0o644)?;
        }
        let head = Head::new(RoleName::Timestamp, published.timestamp, now + self.expiries.timestamp)?;
        let meta = BTreeMap::from([("snapshot.json".into(), Pin::of(published.snapshot, &bytes))]);
        self.put(root, RoleName::Timestamp, "timestamp.json", &Pins { head, meta })?;
        self.forget_draft()?;
        Ok(published)
    }

    /// The targets that the next publication will list: the draft, else what is published.
    pub(crate) fn draft(&self) -> Result<BTreeMap<String, TargetFile>, ReleaseError> {
        let path = self.draft_path();
        match fs::read(&path) {
            Ok(bytes) => metadata::parse(&path, "draft", &bytes),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => match self.timestamp()? {
                Some(timestamp) => Ok(self.targets_of(&timestamp)?.targets),
                None => Ok(BTreeMap::new()),
            },
            Err(error) => Err(at("read", path)(error)),
        }
    }

    pub(crate) fn keep_draft(&self, draft: &BTreeMap<String, TargetFile>) -> Result<(), ReleaseError> {
        let bytes = serde_json::to_vec_pretty(draft).map_err(ReleaseError::Encode)?;
        durable::write(&self.draft_path(), &bytes, 0o644)
    }

    fn forget_draft(&self) -> Result<(), ReleaseError> {
        let path = self.draft_path();
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(at("remove", path)(error)),
            _ => Ok(()),
        }
    }

    /// The newest root.
    pub(crate) fn root(&self) -> Result<Root, ReleaseError> {
        let version = self.root_version()?.ok_or_else(|| ReleaseError::NotARepository(self.repo.clone()))?;
        metadata::load(&self.root_path(version))
    }

    fn root_version(&self) -> Result<Option<u64>, ReleaseError> {
        let folder = self.metadata();
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(at("list", folder)(error)),
        };
        let names = entries.filter_map(|e| e.ok()?.file_name().into_string().ok());
        Ok(names.filter_map(|name| name.strip_suffix(".root.json")?.parse().ok()).max())
    }

    fn root_path(&self, version: u64) -> PathBuf {
        self.metadata().join(format!("{version}.root.json"))
    }

    fn draft_path(&self) -> PathBuf {
        self.repo.join("draft.json")
    }

    fn timestamp(&self) -> Result<Option<Pins>, ReleaseError> {
        let path = self.metadata().join("timestamp.json");
        if path.exists() { metadata::load(&path).map(Some) } else { Ok(None) }
    }

    fn snapshot_of(&self, timestamp: &Pins) -> Result<Pins, ReleaseError> {
        metadata::load(&self.pinned(timestamp, "snapshot"))
    }

    fn targets_of(&self, timestamp: &Pins) -> Result<Targets, ReleaseError> {
        metadata::load(&self.pinned(&self.snapshot_of(timestamp)?, "targets"))
    }

    fn pinned(&self, pins: &Pins, role: &str) -> PathBuf {
        let version = pins.meta.get(&format!("{role}.json")).map_or(0, |pin| pin.version);
        self.metadata().join(format!("{version}.{role}.json"))
    }

    fn put(
        &self,
        root: &Root,
        role: RoleName,
        name: &str,
        signed: &impl Serialize,
    ) -> Result<Vec<u8>, ReleaseError> {
        let keys = self.keys.load()?;
        let signers = self.signers(&keys, role, &root.role(role))?;
        let bytes = metadata::sign(signed, &signers)?;
        durable::write(&self.metadata().join(name), &bytes, 0o644)?;
        Ok(bytes)
    }

    /// Those keys of the folder that may sign for `role`; at least its threshold.
    pub(crate) fn signers<'a>(
        &self,
        keys: &'a BTreeMap<String, SigningKey>,
        role: RoleName,
        wanted: &RoleKeys,
    ) -> Result<Vec<&'a SigningKey>, ReleaseError> {
        let signers: Vec<_> = wanted.keyids.iter().filter_map(|id| keys.get(id)).collect();
        if signers.len() < wanted.threshold || signers.is_empty() {
            return Err(ReleaseError::KeysMissing {
                role: role.to_string(),
                needed: wanted.threshold,
                found: signers.len(),
                folder: self.keys.0.clone(),
            });
        }
        Ok(signers)
    }

    fn first_root(
        &self,
        options: &InitOptions,
        now: Timestamp,
    ) -> Result<(Root, Vec<SigningKey>), ReleaseError> {
        let mut root = Root {
            head: Head::new(RoleName::Root, 1, now + self.expiries.root)?,
            consistent_snapshot: true,
            keys: BTreeMap::new(),
            roles: BTreeMap::new(),
        };
        let mut signers = Vec::new();
        for role in RoleName::ALL {
            let (count, threshold) =
                if role == RoleName::Root { (options.root_keys, options.root_threshold) } else { (1, 1) };
            let made = self.make_keys(&mut root, role, count, threshold)?;
            if role == RoleName::Root {
                signers = made;
            }
        }
        Ok((root, signers))
    }

    /// Makes `count` keys and names them in `root` as the keys of `role`.
    pub(crate) fn make_keys(
        &self,
        root: &mut Root,
        role: RoleName,
        count: usize,
        threshold: usize,
    ) -> Result<Vec<SigningKey>, ReleaseError> {
        let made = (0..count).map(|_| self.keys.make(role)).collect::<Result<Vec<_>, _>>()?;
        root.keys.extend(made.iter().map(|key| (key.id.clone(), key.public.clone())));
        let keyids = made.iter().map(|key| key.id.clone()).collect();
        root.roles.insert(role.as_str().into(), RoleKeys { keyids, threshold });
        Ok(made)
    }
}

fn check(options: &InitOptions) -> Result<(), ReleaseError> {
    if options.root_threshold == 0 || options.root_threshold > options.root_keys {
        return Err(ReleaseError::Options(
            "the root threshold must lie between 1 and the number of root keys",
        ));
    }
    if served(&options.keys, &options.repo) {
        return Err(ReleaseError::Options("keys must not lie in the folder that is served"));
    }
    Ok(())
}

fn served(keys: &Path, repo: &Path) -> bool {
    keys.starts_with(repo.join("metadata")) || keys.starts_with(repo.join("targets")) || keys == repo
}
