//! The release engineer's way, from keys to a published release. Needs the Debian packages openssl, e2fsprogs, tar, gzip and zstd.

use std::{fs, path::Path};

use serde_json::Value;

use super::{run, verdict::shell};

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
    let manifest = manifest(&folder.path().join("repo/targets/channels/IGW-5000"));
    let release = &manifest["releases"][0];
    assert_eq!(release["signatures"][0]["type"], "cms");
    assert_eq!(release["rollout"]["salt"], "igw-5000-5.0.5");
    assert_eq!(release["release_date"], "2025-03-15T10:30:45Z");
}

/// A channel's manifest, one of its versions: there is only one.
fn manifest(folder: &Path) -> Value {
    let last = fs::read_dir(folder).unwrap().last().unwrap().unwrap();
    serde_json::from_slice(&fs::read(last.path()).unwrap()).unwrap()
}

#[tokio::test]
async fn a_release_says_how_long_a_packed_image_is_unpacked_and_nothing_of_another_one() {
    let folder = tempfile::tempdir().unwrap();
    let make = "mkdir root; head -c 300000 /dev/urandom > root/f; tar -C root -cf rootfs.tar .; gzip -k rootfs.tar; \
        truncate -s 3M rootfs.img; PATH=$PATH:/usr/sbin:/sbin mkfs.ext4 -q -F -d root rootfs.img; zstd -q rootfs.img";
    shell(folder.path(), make);
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let length = |name: &str| fs::metadata(path(name)).unwrap().len();
    for (number, (image, wanted)) in [
        ("rootfs.tar.gz", Some(length("rootfs.tar"))),
        ("rootfs.img.zst", Some(length("rootfs.img"))),
        ("rootfs.img", None),
    ]
    .into_iter()
    .enumerate()
    {
        let (image, repo, keys) =
            (path(image), path(&format!("repo{number}")), path(&format!("keys{number}")));
        let place = ["--repo", &repo, "--keys", &keys];
        assert_eq!(run(&[&["repo", "init"], &place[..]].concat()).await.exit, 0);
        let add = ["repo", "add", &image, "--model", "m", "--release-version", "v5.0.5", "--publish"];
        let added = run(&[&add, &place[..]].concat()).await;
        assert_eq!(added.exit, 0, "{}", added.err);
        let manifest = manifest(&Path::new(&repo).join("targets/channels/m"));
        let said = manifest["releases"][0].get("unpacked_size").and_then(Value::as_u64);
        assert_eq!(said, wanted, "{image}: {manifest}");
    }
    // What a device could not unpack is not published.
    shell(folder.path(), "head -c 200000 rootfs.tar.gz > cut.tar.gz");
    let (cut, repo, keys) = (path("cut.tar.gz"), path("repo0"), path("keys0"));
    let add = [
        "repo",
        "add",
        &cut,
        "--model",
        "m",
        "--release-version",
        "v5.0.6",
        "--repo",
        &repo,
        "--keys",
        &keys,
    ];
    let refused = run(&add).await;
    assert!(refused.exit != 0 && refused.err.contains("cut.tar.gz"), "{}", refused.err);
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
