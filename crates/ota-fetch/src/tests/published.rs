//! The repository of `vectors/tuf-on-ci-0.11`, which another tool made and another project publishes.

use std::{fs, path::PathBuf};

use ota_core::{Sha256Digest, Timestamp, error::SignatureFault};

use super::server::{Reply, UpdateServer};
use crate::{FetchError, tuf::TufClient};

/// The file `faketime`: 2025-02-09 09:17:23.
const WHEN: Timestamp = Timestamp::from_secs(1_739_092_643);
/// 2044-08-10, after its root has expired.
const LATER: Timestamp = Timestamp::from_secs(2_354_500_000);

fn folder() -> PathBuf {
    PathBuf::from("vectors/tuf-on-ci-0.11")
}

/// A device that has not seen anything of it before.
struct Device {
    server: UpdateServer,
    store: tempfile::TempDir,
}

impl Device {
    async fn new() -> Self {
        Self { server: UpdateServer::serving(folder()).await, store: tempfile::tempdir().unwrap() }
    }

    fn client(&self) -> TufClient {
        let url = |name: &str| format!("{}/{name}", self.server.url).parse().unwrap();
        let root = fs::read(folder().join("initial_root.json")).unwrap();
        TufClient::new(url("metadata"), url("targets"), root, self.store.path().join("tuf")).unwrap()
    }

    /// The target that the repository is published for.
    async fn target(&self, at: Timestamp) -> Result<Vec<u8>, FetchError> {
        let path = fs::read_to_string(folder().join("targetpath")).unwrap();
        let mut trusted = self.client().refresh(at).await?;
        let file = trusted.find(path.trim()).await?.expect("the delegated role lists it");
        trusted.read(&file, path.trim()).await
    }
}

#[tokio::test]
async fn the_published_repository_gives_its_target_by_way_of_the_delegated_role() {
    let device = Device::new().await;
    let target = device.target(WHEN).await.unwrap();
    let digest = "45f337ee451b4c098d121d09cc224bacc7794503ac58a47a78cfe7ebefb7fab3";
    assert_eq!((target.len(), Sha256Digest::of(&target).to_string().as_str()), (34, digest));
    let mut trusted = device.client().refresh(WHEN).await.unwrap();
    assert!(trusted.find("delegatedrole/other").await.unwrap().is_none());
    assert!(trusted.find("elsewhere/artifact").await.unwrap().is_none());
}

#[tokio::test]
async fn a_signed_byte_changed_in_any_file_of_the_published_repository_is_refused() {
    for name in ["timestamp.json", "2.snapshot.json", "1.targets.json", "2.delegatedrole.json", ".artifact"] {
        let device = Device::new().await;
        device.server.rule(move |asked| {
            let file = folder().join(asked.path.trim_start_matches('/'));
            let mut body = asked.path.ends_with(name).then(|| fs::read(file).unwrap())?;
            // The last digit: of a number that is signed, or of the target's content.
            let at = body.iter().rposition(u8::is_ascii_alphanumeric).unwrap();
            body[at] ^= 1;
            Some(Reply { body: Some(body), ..Reply::default() })
        });
        let error = device.target(WHEN).await.unwrap_err();
        assert!(matches!(error, FetchError::Metadata { .. }), "{name}: {error:?}");
    }
}

#[tokio::test]
async fn the_published_repository_is_refused_once_it_has_expired() {
    let error = Device::new().await.target(LATER).await.unwrap_err();
    let expired = matches!(error, FetchError::Metadata { fault: SignatureFault::MetadataExpired, .. });
    assert!(expired, "{error:?}");
}
