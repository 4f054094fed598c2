//! The release engineer's way, from keys to a published release. Needs the Debian package openssl.

use std::fs;

use serde_json::Value;

use super::run;

#[tokio::test]
async fn keys_signature_and_release_end_in_a_repository_that_can_be_served() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (image, repo, keys, ca) = (path("rootfs.squashfs"), path("repo"), path("tuf"), path("ca"));
    fs::write(&image, vec![7; 100_000]).unwrap();

    let made = run(&["-o", "json", "keygen", "code-signing", "--dir", &ca]).await;
    assert_eq!(made.exit, 0, "{}", made.err);
    let made: Value = serde_json::from_str(&made.out).unwrap();
    let (key, cert) = (made["signer_key"].as_str().unwrap(), made["signer_certificate"].as_str().unwrap());

    let signed = run(&["sign", &image, "--key", key, "--cert", cert]).await;
    assert_eq!((signed.exit, signed.out), (0, format!("{image}.p7s\n")), "{}", signed.err);

    let place = ["--repo", &repo, "--keys", &keys];
    assert_eq!(run(&[&["repo", "init"], &place[..]].concat()).await.exit, 0);
    let signature = format!("{image}.p7s");
    let add = [
        "repo",
        "add",
        &image,
        "--model",
        "IGW-5000",
        "--release-version",
        "v5.0.5",
        "--critical",
        "--signature",
        &signature,
        "--description",
        "Fixes for the modem driver",
        "--rollout-percent",
        "25",
    ];
    let added = run(&[&add[..], &place[..]].concat()).await;
    assert_eq!(added.exit, 0, "{}", added.err);
    assert!(added.out.contains("igw-5000-5.0.5") && added.out.contains("draft"), "{}", added.out);

    let published = run(&[&["repo", "publish"], &place[..]].concat()).await;
    assert_eq!(published.out, "published: root 1, targets 2, snapshot 2, timestamp 2\n");
    let refreshed = run(&[&["repo", "publish", "--timestamp-only"], &place[..]].concat()).await;
    assert_eq!(refreshed.out, "published: root 1, targets 2, snapshot 2, timestamp 3\n");
    let rotated = run(&[&["keygen", "tuf", "--role", "timestamp"], &place[..]].concat()).await;
    assert_eq!(rotated.out, "published: root 2, targets 3, snapshot 3, timestamp 4\n");

    let timestamp = fs::read_to_string(folder.path().join("repo/metadata/timestamp.json")).unwrap();
    assert!(timestamp.contains("2025-03-29T10:30:45Z"), "{timestamp}");
    let manifests = fs::read_dir(folder.path().join("repo/targets/channels/IGW-5000")).unwrap();
    let manifest = fs::read_to_string(manifests.last().unwrap().unwrap().path()).unwrap();
    let manifest: Value = serde_json::from_str(&manifest).unwrap();
    let release = &manifest["releases"][0];
    assert_eq!(release["signatures"][0]["type"], "cms");
    assert_eq!(release["rollout"]["salt"], "igw-5000-5.0.5");
    assert_eq!(release["release_date"], "2025-03-15T10:30:45Z");
}

#[tokio::test]
async fn mistakes_of_the_release_engineer_are_told_by_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (repo, keys, image) = (path("repo"), path("keys"), path("x.img"));
    let place = ["--repo", &repo, "--keys", &keys];
    let publish = run(&[&["repo", "publish"], &place[..]].concat()).await;
    assert_eq!(publish.exit, 1);
    assert!(publish.err.contains("holds no repository"), "{}", publish.err);
    let weak = [&["repo", "init", "--root-keys", "1", "--root-threshold", "2"], &place[..]].concat();
    assert_eq!(run(&weak).await.exit, 2);

    assert_eq!(run(&[&["repo", "init"], &place[..]].concat()).await.exit, 0);
    fs::write(&image, "x").unwrap();
    let add = [
        &["repo", "add", &image, "--model", "m", "--release-version", "v1.0.0", "--signature", "x.txt"],
        &place[..],
    ];
    let refused = run(&add.concat()).await;
    assert_eq!(refused.exit, 2);
    assert!(refused.err.contains(".p7s, .sig or .asc"), "{}", refused.err);
}
