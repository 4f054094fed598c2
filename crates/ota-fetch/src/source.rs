//! [`TufSource`]: the update source of `update-sources.md` section 2, put together.

use std::{io::Read as _, sync::Arc};

use ota_core::{
    ByteCount, ImageName, Sha256Digest, Version,
    error::PortError,
    ports::{BoxFuture, Clock, FetchObserver, FetchOrder, UpdateSource},
    release::{Release, StagedImage},
};
use ring::digest::{Context, SHA256};
use tokio::sync::Mutex;

use crate::{
    FetchError, ManifestError, Staging, TransferError, TransferFault, TufConfig,
    channel::{self, Entry},
    download::{Downloader, Signatures, Wanted},
    error::{During, at},
    staging::{SIGNATURE_MAX, ending, next_ending},
    transport::{
        Transport, backoff,
        http::{Web, WebOptions},
        pause, target_below,
    },
    tuf::{Repository, SMALL_TARGET, TargetFile, Trusted, TufClient},
};

/// Releases from a static TUF repository on any HTTP server, CDN or object store.
pub struct TufSource {
    config: TufConfig,
    web: Arc<dyn Transport>,
    tuf: TufClient,
    clock: Arc<dyn Clock>,
    /// One refresh at a time: they share the store.
    turn: Mutex<()>,
}

impl TufSource {
    /// Sets the source up; asks nothing of the server yet.
    ///
    /// # Errors
    /// `Config` when certificates, headers or the proxy cannot be used.
    pub fn new(config: TufConfig, clock: Arc<dyn Clock>) -> Result<Self, FetchError> {
        let web = Web::new(&WebOptions {
            origins: vec![config.metadata_url.clone(), config.targets_url.clone()],
            ca: config.ca.as_deref(),
            client_cert: config.client_cert.as_ref(),
            headers: &config.headers,
            proxy: &config.proxy,
            stall: config.stall,
        })?;
        Ok(Self::over(Arc::new(web), config, clock))
    }

    pub(crate) fn over(web: Arc<dyn Transport>, config: TufConfig, clock: Arc<dyn Clock>) -> Self {
        let repository = Repository {
            metadata_url: config.metadata_url.clone(),
            targets_url: config.targets_url.clone(),
            initial_root: config.initial_root.clone(),
            store: config.store.clone(),
            built: config.built,
            stall: config.stall,
            retry: config.retry,
        };
        let tuf = TufClient::over(Arc::clone(&web), repository);
        Self { config, web, tuf, clock, turn: Mutex::new(()) }
    }

    async fn releases(&self, running: &Version) -> Result<Vec<Release>, FetchError> {
        let _turn = self.turn.lock().await;
        let (mut trusted, entries) = self.entries().await?;
        let mut releases = Vec::new();
        for entry in channel::offered(&entries, running, &self.config.device_id, trusted.now()) {
            releases.push(self.release(&mut trusted, entry).await?);
        }
        trusted.keep().await?;
        Ok(releases)
    }

    /// Fresh metadata and the entries of the manifest. A repository without a manifest for us offers nothing.
    async fn entries(&self) -> Result<(Trusted, Vec<Entry>), FetchError> {
        let (model, channel) = (&self.config.model, &self.config.channel);
        let mut trusted = self.tuf.refresh(self.clock.wall()).await?;
        let path = format!("channels/{model}/{channel}.json");
        let Some(file) = trusted.find(&path).await? else {
            tracing::warn!(path, "the repository holds no manifest for this model and channel");
            return Ok((trusted, Vec::new()));
        };
        if file.length > SMALL_TARGET {
            return Err(ManifestError::TooLarge(file.length).into());
        }
        let bytes = trusted.read(&file, &path).await?;
        Ok((trusted, channel::parse(&bytes, model, channel)?))
    }

    async fn release(&self, trusted: &mut Trusted, entry: &Entry) -> Result<Release, FetchError> {
        let (file, sha256) = image_of(trusted, entry).await?;
        Ok(Release {
            id: entry.id.clone(),
            version: entry.version.clone(),
            description: entry.description.clone(),
            size: ByteCount(file.length),
            sha256,
            release_date: entry.release_date,
            critical: entry.critical,
            requires_reboot: entry.requires_reboot,
            kind: entry.kind,
            source: self.config.name.clone(),
            deltas: entry.deltas.iter().map(|delta| delta.from_version.clone()).collect(),
            unpacked_size: entry.unpacked_size.map(ByteCount),
        })
    }

    async fn download(
        &self,
        order: &FetchOrder,
        observer: &dyn FetchObserver,
    ) -> Result<StagedImage, FetchError> {
        let wanted = self.wanted(order).await?;
        if self.is_staged(&order.name, wanted.size, wanted.sha256).await? {
            observer.durable(ByteCount(wanted.size));
        } else {
            let downloader = Downloader {
                transport: &*self.web,
                staging: &self.config.staging,
                stall: self.config.stall,
                retry: self.config.retry,
                speed: &self.config.speed,
            };
            downloader.fetch(&wanted, observer).await?;
        }
        Ok(StagedImage { name: order.name.clone(), size: ByteCount(wanted.size), sha256: wanted.sha256 })
    }

    /// What trusted metadata says now of the ordered release; waits for a server that is away for a while.
    async fn wanted<'a>(&self, order: &'a FetchOrder) -> Result<Wanted<'a>, FetchError> {
        let retry = self.config.retry;
        let mut delays = backoff(retry, retry.tries);
        loop {
            match self.resolve(order).await {
                Err(FetchError::Transfer(error)) if error.may_pass() => match delays.next() {
                    Some(delay) => tokio::time::sleep(pause(retry, delay, &error)).await,
                    None => return Err(FetchError::Transfer(error)),
                },
                outcome => return outcome,
            }
        }
    }

    async fn resolve<'a>(&self, order: &'a FetchOrder) -> Result<Wanted<'a>, FetchError> {
        let _turn = self.turn.lock().await;
        let (mut trusted, entries) = self.entries().await?;
        let ordered = &order.release;
        let gone = || FetchError::NotOffered(ordered.id.clone());
        let entry = entries.iter().find(|entry| entry.id == ordered.id).ok_or_else(gone)?;
        let (file, sha256) = image_of(&mut trusted, entry).await?;
        if (&entry.version, file.length, sha256) != (&ordered.version, ordered.size.get(), ordered.sha256) {
            return Err(gone());
        }
        let signatures = signatures_of(&mut trusted, entry).await?;
        trusted.keep().await?;
        let served = trusted.served_as(&entry.target, &file);
        let url = served.and_then(|path| target_below(&self.config.targets_url, &path)).ok_or_else(|| {
            let fault = TransferFault::BadAnswer("a target path that is no part of a URL");
            FetchError::Transfer(TransferError::new(&self.config.targets_url, fault))
        })?;
        let size = file.length;
        Ok(Wanted { url, size, sha256, name: &order.name, priority: order.priority, signatures })
    }

    /// Whether the image lies in staging already, from a run that ended before it could say so.
    async fn is_staged(&self, name: &ImageName, size: u64, sha256: Sha256Digest) -> Result<bool, FetchError> {
        let (staging, name) = (self.config.staging.clone(), name.clone());
        let work = tokio::task::spawn_blocking(move || match digest_of(&staging, &name, size)? {
            Some(digest) => Ok(digest == sha256),
            None => Ok(false),
        });
        work.await.map_err(|_| FetchError::Vanished("the check of staging"))?
    }
}

impl std::fmt::Debug for TufSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TufSource").field("name", &self.config.name).finish_non_exhaustive()
    }
}

impl UpdateSource for TufSource {
    fn check<'a>(&'a self, running: &'a Version) -> BoxFuture<'a, Result<Vec<Release>, PortError>> {
        Box::pin(async { self.releases(running).await.map_err(|error| error.into_port(During::Check)) })
    }

    fn fetch<'a>(
        &'a self,
        order: &'a FetchOrder,
        observer: &'a dyn FetchObserver,
    ) -> BoxFuture<'a, Result<StagedImage, PortError>> {
        Box::pin(async {
            self.download(order, observer).await.map_err(|error| error.into_port(During::Fetch))
        })
    }
}

/// Length and digest of an entry's image, from TUF; its signatures must be targets, too.
async fn image_of(trusted: &mut Trusted, entry: &Entry) -> Result<(TargetFile, Sha256Digest), FetchError> {
    for signature in entry.signatures.iter().filter(|signature| signature.kind.is_some()) {
        target(trusted, entry, &signature.target).await?;
    }
    let file = target(trusted, entry, &entry.target).await?;
    let digest = file.hashes.get("sha256").and_then(|text| text.to_lowercase().parse().ok());
    let sha256 = digest.ok_or_else(|| refuse(entry, &entry.target, "has no SHA-256 in the metadata"))?;
    Ok((file, sha256))
}

async fn signatures_of(trusted: &mut Trusted, entry: &Entry) -> Result<Signatures, FetchError> {
    let mut signatures: Signatures = Vec::new();
    for signature in &entry.signatures {
        let Some(kind) = signature.kind else { continue };
        let ending = next_ending(&signatures, "", ending(kind, &signature.target)).ok_or_else(|| {
            refuse(entry, &signature.target, "is one signature of its kind too many; eight may be there")
        })?;
        let file = target(trusted, entry, &signature.target).await?;
        if file.length > SIGNATURE_MAX {
            return Err(refuse(entry, &signature.target, "is too large for a signature"));
        }
        signatures.push((ending, trusted.read(&file, &signature.target).await?));
    }
    Ok(signatures)
}

async fn target(trusted: &mut Trusted, entry: &Entry, path: &str) -> Result<TargetFile, FetchError> {
    trusted.find(path).await?.ok_or_else(|| refuse(entry, path, "is no target of the repository"))
}

fn refuse(entry: &Entry, path: &str, why: &'static str) -> FetchError {
    ManifestError::Target { id: entry.id.clone(), path: path.into(), why }.into()
}

/// Digest of a staged image, if it has this length.
fn digest_of(staging: &Staging, name: &ImageName, size: u64) -> Result<Option<Sha256Digest>, FetchError> {
    let Some(mut file) = staging.find(name.as_str())? else { return Ok(None) };
    let path = staging.path().join(name.as_str());
    if file.metadata().map_err(at("look at", &path))?.len() != size {
        return Ok(None);
    }
    let mut hash = Context::new(&SHA256);
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).map_err(at("read", &path))? {
            0 => break,
            got => hash.update(&buffer[..got]),
        }
    }
    let mut digest = [0; 32];
    digest.copy_from_slice(hash.finish().as_ref());
    Ok(Some(Sha256Digest(digest)))
}
