//! Interoperability: python-tuf (PyPI package `tuf`) as publisher and as client, and a repository made by tuf-on-ci.

use std::{fs, process::Output};

use ota_core::{
    Timestamp,
    job::Priority,
    ports::{FetchOrder, UpdateSource as _},
};
use ota_release::{AddRelease, InitOptions, RepoDir};

use super::{Seen, World, noise, server::UpdateServer};
use crate::{Url, tuf::TufClient};

async fn python(args: &[&str]) -> String {
    #[expect(clippy::disallowed_methods, reason = "interoperability with the real python-tuf")]
    let mut command = tokio::process::Command::new("python3");
    let output = command.arg("testdata/python_tuf.py").args(args).output().await;
    let Output { status, stdout, stderr } =
        output.expect("python3 does not start: install the Debian package python3");
    let stderr = String::from_utf8_lossy(&stderr);
    assert!(!stderr.contains("No module named"), "install the PyPI package tuf: {stderr}");
    assert!(status.success(), "{stderr}");
    String::from_utf8(stdout).unwrap()
}

/// Now: python-tuf takes no other.
fn today() -> Timestamp {
    #[expect(clippy::disallowed_methods, reason = "the other program reads the clock of this machine")]
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    Timestamp::from_secs(i64::try_from(now.as_secs()).unwrap())
}

#[tokio::test]
async fn what_python_tuf_publishes_is_accepted_with_delegations_odd_names_and_mixed_keys() {
    let world = World::empty().await;
    let image = noise(700_000, 20);
    let (base, file) = (world.dir.path().join("python"), world.dir.path().join("image"));
    fs::write(&file, &image).unwrap();
    python(&["publish", base.to_str().unwrap(), "IGW-5000", file.to_str().unwrap()]).await;
    let server = UpdateServer::serving(base.clone()).await;
    world.clock.set_wall(today());
    let url = |folder: &str| format!("{}/{folder}", server.url).parse::<Url>().unwrap();
    let source = world.source_of(crate::TufConfig {
        metadata_url: url("metadata"),
        targets_url: url("targets"),
        initial_root: fs::read(base.join("metadata/1.root.json")).unwrap(),
        ..world.config()
    });
    let found = super::check(&source).await.unwrap();
    assert_eq!((found[0].id.as_str(), found[0].size.get()), ("from-python", 700_000));
    let order = FetchOrder {
        release: found[0].clone(),
        name: "fw.squashfs".parse().unwrap(),
        priority: Priority::High,
    };
    source.fetch(&order, &Seen::default()).await.unwrap();
    assert_eq!(world.staged(), image);
    assert!(server.asked().iter().any(|asked| asked.path == "/metadata/1.release%2F%C3%BC%20%3F%25.json"));
    assert!(server.asked().iter().all(|asked| !asked.path.contains("other")), "the search ended before it");
    let stored = world.stored("release%2F%C3%BC%20%3F%25.json").unwrap();
    assert_eq!(stored, fs::read(base.join("metadata/1.release%2F%C3%BC%20%3F%25.json")).unwrap());
}

#[tokio::test]
async fn what_we_publish_python_tuf_reads_over_http() {
    let dir = tempfile::tempdir().unwrap();
    let now = today();
    let repo =
        RepoDir::init(&InitOptions::new(dir.path().join("repo"), dir.path().join("keys")), now).unwrap();
    fs::write(dir.path().join("rootfs.squashfs"), noise(2_000_000, 21)).unwrap();
    let image = dir.path().join("rootfs.squashfs");
    let added = repo
        .add_release(&AddRelease::new(image, "IGW-5000", "v5.0.5".parse().unwrap(), now).unwrap())
        .unwrap();
    repo.publish(now).unwrap();
    repo.rotate(
        &ota_release::RotateOptions { roles: ota_release::RoleName::ALL.into(), ..Default::default() },
        now,
    )
    .unwrap();
    let server = UpdateServer::serving(dir.path().join("repo")).await;
    let (cache, root) = (dir.path().join("cache"), repo.initial_root());
    let args = [cache.to_str().unwrap(), root.to_str().unwrap(), &server.url, &added.target, &added.manifest];
    let said = python(&[&["client"], &args[..]].concat()).await;
    assert!(said.contains("images/igw-5000/5.0.5/rootfs.squashfs 2000000"), "{said}");
}

#[tokio::test]
async fn a_repository_of_tuf_on_ci_is_accepted_at_its_time_and_not_much_later() {
    let vector = fs::canonicalize("vectors/tuf-on-ci-0.11").unwrap();
    let text = |name: &str| fs::read_to_string(vector.join(name)).unwrap().trim().to_owned();
    let url = |folder: &str| Url::from_directory_path(vector.join(folder)).unwrap();
    let store = tempfile::tempdir().unwrap();
    let root = fs::read(vector.join("initial_root.json")).unwrap();
    let client = TufClient::new(url("metadata"), url("targets"), root, store.path().into()).unwrap();
    let civil: jiff::civil::DateTime = text("faketime").parse().unwrap();
    let time = civil.to_zoned(jiff::tz::TimeZone::UTC).unwrap().timestamp();
    let time = Timestamp::from_millis(time.as_millisecond());

    let mut trusted = client.refresh(time).await.unwrap();
    let path = text("targetpath");
    let file = trusted.find(&path).await.unwrap().unwrap();
    assert_eq!(trusted.read(&file, &path).await.unwrap().len() as u64, file.length);
    assert!(trusted.find("../x").await.unwrap().is_none());
    trusted.keep().await.unwrap();
    assert!(store.path().join("delegatedrole.json").exists());

    let years_later = time + std::time::Duration::from_secs(20 * 365 * 24 * 3600);
    assert!(matches!(
        client.refresh(years_later).await,
        Err(crate::FetchError::Metadata { fault: ota_core::error::SignatureFault::MetadataExpired, .. })
    ));
}
