//! TUF: from a trusted root to trusted lengths and digests (`update-sources.md` 2.2).
//!
//! sigstore-tuf verifies and walks; ours are the transport, the store, the time floor and the names of the faults.

mod aliases;
mod disk;
mod fault;
mod remote;

use std::{path::PathBuf, sync::Arc};

pub use disk::time_floor;
use ota_core::Timestamp;
pub use sigstore_tuf::TargetFile;
use sigstore_tuf::{Metadata, Root, Updater, UpdaterConfig};

use crate::{
    FetchError, Proxy, RetryPolicy, StallPolicy, Url,
    transport::{
        Transport,
        http::{Web, WebOptions},
    },
};
use disk::{Store, StoreView};
use remote::Remote;

/// Largest channel manifest and signature file that is read into memory.
pub(crate) const SMALL_TARGET: u64 = 256 * 1024;

/// A TUF client of one repository.
#[derive(Clone)]
pub struct TufClient {
    transport: Arc<dyn Transport>,
    metadata_url: Url,
    targets_url: Url,
    initial_root: Vec<u8>,
    store: Store,
    built: Timestamp,
    stall: StallPolicy,
    retry: RetryPolicy,
}

/// What a [`TufClient`] needs to know.
pub(crate) struct Repository {
    pub(crate) metadata_url: Url,
    pub(crate) targets_url: Url,
    pub(crate) initial_root: Vec<u8>,
    pub(crate) store: PathBuf,
    pub(crate) built: Timestamp,
    pub(crate) stall: StallPolicy,
    pub(crate) retry: RetryPolicy,
}

impl TufClient {
    /// A client without credentials, with the system's CAs and proxy. For tools and tests; devices use
    /// [`TufSource`](crate::TufSource).
    ///
    /// # Errors
    /// `Config` when no HTTP client can be made.
    pub fn new(
        metadata_url: Url,
        targets_url: Url,
        initial_root: Vec<u8>,
        store: PathBuf,
    ) -> Result<Self, FetchError> {
        let stall = StallPolicy::default();
        let options = WebOptions {
            origins: vec![metadata_url.clone(), targets_url.clone()],
            ca: None,
            client_cert: None,
            headers: &[],
            proxy: &Proxy::System,
            stall,
        };
        let web = Arc::new(Web::new(&options)?);
        let repository = Repository {
            metadata_url,
            targets_url,
            initial_root,
            store,
            built: Timestamp::from_millis(0),
            stall,
            retry: RetryPolicy { metadata_tries: 1, ..RetryPolicy::default() },
        };
        Ok(Self::over(web, repository))
    }

    pub(crate) fn over(transport: Arc<dyn Transport>, repository: Repository) -> Self {
        crate::install_crypto_provider();
        Self {
            transport,
            metadata_url: repository.metadata_url,
            targets_url: repository.targets_url,
            initial_root: repository.initial_root,
            store: Store::new(repository.store),
            built: repository.built,
            stall: repository.stall,
            retry: repository.retry,
        }
    }

    /// Brings the metadata up to date and returns what it vouches for. `clock` is the wall clock's reading; the floor
    /// of earlier runs counts when it is later.
    ///
    /// Whatever was verified before a failure is kept.
    ///
    /// # Errors
    /// `Transfer`; `Metadata` with the fault by name; `Io` when the store cannot be read.
    pub async fn refresh(&self, clock: Timestamp) -> Result<Trusted, FetchError> {
        let view = self.store.load().await?;
        let now = clock.max(self.built).max(view.floor());
        let at = jiff::Timestamp::from_millisecond(now.as_millis()).unwrap_or(jiff::Timestamp::MAX);
        let outcome = self.walk(&view, at).await;
        if outcome.is_ok() {
            view.raise_floor(now);
        }
        self.store.save(&view).await?;
        Ok(Trusted { updater: outcome?, now: at, store: self.store.clone(), view })
    }

    async fn walk(&self, view: &StoreView, now: jiff::Timestamp) -> Result<Updater, FetchError> {
        let root = self.first_root(view);
        aliases::refuse(&root).map_err(fault::of_root)?;
        let remote = Remote {
            transport: Arc::clone(&self.transport),
            metadata_url: self.metadata_url.clone(),
            targets_url: self.targets_url.clone(),
            stall: self.stall,
            retry: self.retry,
        };
        let mut limits = UpdaterConfig::default();
        limits.max_root_rotations = 256;
        limits.target_max_length = SMALL_TARGET;
        let mut updater =
            Updater::new(remote, &root).map_err(fault::of_root)?.with_config(limits).with_store(view.clone());
        updater.refresh(now).await.map_err(fault::of)?;
        Ok(updater)
    }

    /// The stored root; the shipped one when that is newer or the stored one cannot be used.
    fn first_root(&self, view: &StoreView) -> Vec<u8> {
        let version =
            |bytes: &[u8]| Metadata::<Root>::from_slice(bytes).ok().map(|root| root.signed().version);
        match view.get("root.json") {
            Some(stored) if version(&stored) >= version(&self.initial_root) => {
                if sigstore_tuf::TrustedMetadataSet::from_root(&stored).is_ok() {
                    return stored;
                }
                tracing::warn!("the stored root is damaged; starting from the shipped one");
                self.initial_root.clone()
            }
            _ => self.initial_root.clone(),
        }
    }
}

/// Whether `root` is root metadata that a chain can begin with.
///
/// # Errors
/// `Metadata` (`root_chain`), which says what is wrong with it.
pub fn check_root(root: &[u8]) -> Result<(), FetchError> {
    crate::install_crypto_provider();
    aliases::refuse(root).map_err(fault::of_root)?;
    sigstore_tuf::TrustedMetadataSet::from_root(root).map(drop).map_err(fault::of_root)
}

/// Metadata that was verified and fresh at one instant.
#[derive(Debug)]
pub struct Trusted {
    updater: Updater,
    now: jiff::Timestamp,
    store: Store,
    view: StoreView,
}

impl Trusted {
    /// What the metadata says of a target: depth first through the delegations in their order. `None` when no role that
    /// may speak for this path lists it.
    ///
    /// # Errors
    /// `Transfer`; `Metadata` for a delegated role.
    pub async fn find(&mut self, path: &str) -> Result<Option<TargetFile>, FetchError> {
        if !is_target_path(path) {
            return Ok(None);
        }
        self.updater.get_target_info(path, self.now).await.map_err(fault::of)
    }

    /// A small target, whole and verified.
    ///
    /// # Errors
    /// `Transfer`; `Metadata` (`mismatch`) when length or digest are not the signed ones.
    pub async fn read(&self, file: &TargetFile, path: &str) -> Result<Vec<u8>, FetchError> {
        if let Some(cached) = self.updater.find_cached_target(file, path) {
            return Ok(cached);
        }
        self.updater.download_target(file, path).await.map_err(fault::of_target)
    }

    /// Stores what was verified since the refresh: delegated roles, the manifest.
    ///
    /// # Errors
    /// `Io`.
    pub async fn keep(&self) -> Result<(), FetchError> {
        self.store.save(&self.view).await
    }

    /// Time that expiry was checked against.
    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.now.as_millisecond())
    }

    /// Path below the targets URL of the file that holds a target.
    pub(crate) fn served_as(&self, path: &str, file: &TargetFile) -> Option<String> {
        if !self.updater.trusted().root().consistent_snapshot {
            return Some(path.into());
        }
        let hash = file.hashes.get("sha256").or_else(|| file.hashes.get("sha512"))?;
        Some(match path.rsplit_once('/') {
            Some((folder, name)) => format!("{folder}/{hash}.{name}"),
            None => format!("{hash}.{path}"),
        })
    }
}

/// Relative, no `..`, no empty segment, no backslash, at most 512 bytes.
fn is_target_path(path: &str) -> bool {
    path.len() <= 512
        && !path.contains('\\')
        && path.split('/').all(|segment| !matches!(segment, "" | "." | ".."))
}
