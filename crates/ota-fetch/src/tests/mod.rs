//! The source against real servers on loopback: repositories of our own tools and of python-tuf, honest and not.

mod hostile;
mod published;
mod python;
mod server;
mod tls;
mod transfer;

use std::{
    fs,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use ota_core::{
    ByteCount, ErrorCode, OtaError, Timestamp,
    error::{PortError, PortErrorKind},
    job::Priority,
    ports::{FetchObserver, FetchOrder, UpdateSource as _},
    release::Release,
};
use ota_release::{AddRelease, InitOptions, RepoDir};
use ota_testkit::FakeClock;
use server::UpdateServer;

use crate::{RetryPolicy, Staging, StallPolicy, TufConfig, TufSource, Url};

/// 2025-03-12: when the repositories of these tests are fresh.
const NOW: Timestamp = Timestamp::from_secs(1_741_780_000);

/// A repository, a server in front of it and a device.
struct World {
    dir: tempfile::TempDir,
    repo: RepoDir,
    server: UpdateServer,
    clock: Arc<FakeClock>,
    /// How long a server may say nothing. What this machine stands still for is none of it.
    stall: StallPolicy,
}

impl World {
    /// With version v5.0.5 of `image` on offer.
    async fn offering(image: &[u8]) -> Self {
        let world = Self::empty().await;
        world.release("v5.0.5", image);
        world
    }

    async fn empty() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = InitOptions::new(dir.path().join("repo"), dir.path().join("keys"));
        let repo = RepoDir::init(&options, NOW).unwrap();
        let server = UpdateServer::serving(dir.path().join("repo")).await;
        Self { dir, repo, server, clock: Arc::new(FakeClock::at(NOW)), stall: StallPolicy::default() }
    }

    fn release(&self, version: &str, image: &[u8]) {
        let path = self.dir.path().join("rootfs.squashfs");
        fs::write(&path, image).unwrap();
        let add = AddRelease::new(path, "IGW-5000", version.parse().unwrap(), NOW).unwrap();
        self.repo.add_release(&add).unwrap();
        self.repo.publish(NOW).unwrap();
    }

    fn config(&self) -> TufConfig {
        let url = |folder: &str| format!("{}/{folder}", self.server.url).parse::<Url>().unwrap();
        let root = fs::read(self.repo.initial_root()).unwrap();
        let staging = Staging::open(self.dir.path().join("staging")).unwrap();
        let store = self.dir.path().join("store");
        TufConfig {
            retry: RetryPolicy {
                min_delay: Duration::from_millis(1),
                max_delay: Duration::from_millis(5),
                tries: 5,
                metadata_tries: 2,
            },
            stall: self.stall,
            ..TufConfig::new(url("metadata"), url("targets"), root, "IGW-5000", store, staging)
        }
    }

    fn source(&self) -> TufSource {
        self.source_of(self.config())
    }

    fn source_of(&self, config: TufConfig) -> TufSource {
        TufSource::new(config, self.clock.clone()).unwrap()
    }

    async fn check(&self) -> Result<Vec<Release>, OtaError> {
        check(&self.source()).await
    }

    async fn fetch(&self) -> Result<Seen, OtaError> {
        let source = self.source();
        let release = source.check(&"v5.0.4".parse().unwrap()).await.map_err(domain)?.remove(0);
        self.fetch_release(release).await
    }

    async fn fetch_release(&self, release: Release) -> Result<Seen, OtaError> {
        let order = FetchOrder { release, name: "fw.squashfs".parse().unwrap(), priority: Priority::Normal };
        let seen = Seen::default();
        let staged = self.source().fetch(&order, &seen).await.map_err(domain)?;
        assert_eq!((staged.size, staged.sha256), (order.release.size, order.release.sha256));
        Ok(seen)
    }

    fn staged(&self) -> Vec<u8> {
        fs::read(self.dir.path().join("staging/fw.squashfs")).unwrap()
    }

    fn in_staging(&self) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(self.dir.path().join("staging"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn stored(&self, name: &str) -> Option<Vec<u8>> {
        fs::read(self.store(name)).ok()
    }

    fn store(&self, name: &str) -> PathBuf {
        self.dir.path().join("store").join(name)
    }
}

/// Remembers what it was told.
#[derive(Debug, Default)]
struct Seen {
    durable: Mutex<Vec<u64>>,
    arrived: Mutex<Vec<u64>>,
}

impl FetchObserver for Seen {
    fn durable(&self, have: ByteCount) {
        self.durable.lock().unwrap().push(have.get());
    }
    fn arrived(&self, have: ByteCount) {
        self.arrived.lock().unwrap().push(have.get());
    }
}

fn domain(error: PortError) -> OtaError {
    match error.kind() {
        PortErrorKind::Ota(ota) => ota.clone(),
        other => panic!("no domain error: {other:?}: {}", error.chain()),
    }
}

/// Code and reason, as the API shows them.
fn named(error: &OtaError) -> (ErrorCode, &'static str) {
    let reason = match error {
        OtaError::SignatureInvalid { reason, .. } => reason.as_str(),
        OtaError::ServerUnreachable { reason, .. } => reason.as_str(),
        _ => "",
    };
    (error.code(), reason)
}

/// Bytes that no compressor or pattern could guess, the same for the same seed.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..length.div_ceil(8)).flat_map(|_| next()).take(length).collect()
}

#[tokio::test]
async fn a_release_is_found_fetched_and_staged_with_its_signature() {
    let world = World::empty().await;
    let image = noise(3_000_000, 1);
    let path = world.dir.path().join("rootfs.squashfs");
    fs::write(&path, &image).unwrap();
    fs::write(path.with_extension("asc"), "-----BEGIN PGP SIGNATURE-----").unwrap();
    let mut add = AddRelease::new(&path, "IGW-5000", "v5.0.5".parse().unwrap(), NOW).unwrap();
    add.description = "Fixes".into();
    add.signatures = vec![(ota_core::release::SignatureKind::Openpgp, path.with_extension("asc"))];
    world.repo.add_release(&add).unwrap();
    assert_eq!(world.check().await.unwrap(), [], "not before it is published");
    world.repo.publish(NOW).unwrap();

    let found = world.check().await.unwrap();
    assert_eq!(found.len(), 1);
    let release = &found[0];
    assert_eq!((release.id.as_str(), release.version.to_string()), ("igw-5000-5.0.5", "v5.0.5".into()));
    assert_eq!((release.size.get(), release.source.as_str()), (3_000_000, "tuf"));
    assert_eq!(release.sha256, ota_core::Sha256Digest::of(&image));

    let seen = world.fetch().await.unwrap();
    assert_eq!(world.staged(), image);
    assert_eq!(world.in_staging(), ["fw.squashfs", "fw.squashfs.asc"]);
    assert_eq!(seen.durable.into_inner().unwrap().last(), Some(&3_000_000));
    assert!(seen.arrived.into_inner().unwrap().is_sorted());

    // Once it is whole, nothing is fetched again.
    world.server.forget();
    world.fetch().await.unwrap();
    assert!(world.server.asked_for_image().is_empty());
}

#[tokio::test]
async fn a_folder_serves_as_well_as_a_server() {
    let world = World::offering(&noise(1_500_000, 2)).await;
    let url = |folder: &str| Url::from_directory_path(world.dir.path().join("repo").join(folder)).unwrap();
    let config = TufConfig { metadata_url: url("metadata"), targets_url: url("targets"), ..world.config() };
    let source = world.source_of(config);
    let release = source.check(&"v5.0.4".parse().unwrap()).await.unwrap().remove(0);
    let order = FetchOrder { release, name: "fw.squashfs".parse().unwrap(), priority: Priority::Normal };
    source.fetch(&order, &Seen::default()).await.unwrap();
    assert_eq!(world.staged(), noise(1_500_000, 2));
    assert!(world.server.asked().is_empty());
}

/// A check by a device on v5.0.4.
async fn check(source: &TufSource) -> Result<Vec<Release>, OtaError> {
    source.check(&"v5.0.4".parse().unwrap()).await.map_err(domain)
}
