//! The whole producer, read by the real python-tuf and checked by the real openssl and gpg.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

use ota_core::{Timestamp, release::SignatureKind};
use tempfile::TempDir;

use super::*;

const NOW: Timestamp = Timestamp::from_secs(1_741_617_000);

struct World {
    dir: TempDir,
    repo: RepoDir,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = InitOptions::new(dir.path().join("repo"), dir.path().join("keys"));
        let repo = RepoDir::init(&options, NOW).unwrap();
        Self { dir, repo }
    }

    fn image(&self, version: &str, bytes: &[u8]) -> AddRelease {
        let path = self.dir.path().join("rootfs.squashfs");
        fs::write(&path, bytes).unwrap();
        AddRelease::new(path, "IGW-5000", version.parse().unwrap(), NOW).unwrap()
    }

    /// What python-tuf's client makes of the repository; targets are printed as `name length`.
    fn python(&self, targets: &[&str]) -> Result<String, String> {
        let script = self.dir.path().join("client.py");
        fs::write(&script, PYTHON_CLIENT).unwrap();
        let mut args =
            vec![script.to_str().unwrap(), self.dir.path().to_str().unwrap(), "2025-03-12T00:00:00"];
        args.extend(targets);
        run("python3", &args, "python3 with the PyPI package tuf")
    }
}

/// Serves the folder itself (no HTTP server needed): a fetcher that reads files.
const PYTHON_CLIENT: &str = r#"
import sys, os, datetime
from urllib.parse import urlparse
from unittest.mock import patch
from tuf.ngclient import Updater
from tuf.ngclient.fetcher import FetcherInterface
from tuf.api.exceptions import DownloadHTTPError
base, now, names = sys.argv[1], datetime.datetime.fromisoformat(sys.argv[2]).replace(tzinfo=datetime.timezone.utc), sys.argv[3:]
class Files(FetcherInterface):
    def _fetch(self, url):
        path = base + "/repo" + urlparse(url).path
        if not os.path.exists(path):
            raise DownloadHTTPError(path, 404)
        with open(path, "rb") as f:
            yield f.read()
class Clock(datetime.datetime):
    @classmethod
    def now(cls, tz=None): return now
cache = base + "/pycache"; os.makedirs(cache + "/targets", exist_ok=True)
root = None
if not os.path.exists(cache + "/root.json"):
    root = open(base + "/repo/metadata/1.root.json", "rb").read()
with patch("tuf.ngclient._internal.trusted_metadata_set.datetime.datetime", Clock):
    u = Updater(cache, "http://x/metadata/", cache + "/targets", "http://x/targets/", Files(), bootstrap=root)
    u.refresh()
    for name in names:
        info = u.get_targetinfo(name)
        assert info is not None, name
        data = open(u.download_target(info), "rb").read()
        print(name, len(data))
    print("root", u._trusted_set.root.version, "timestamp", u._trusted_set.timestamp.version)
"#;

#[expect(clippy::disallowed_methods, reason = "interoperability with the real tools")]
fn run(program: &str, args: &[&str], package: &str) -> Result<String, String> {
    let output = Command::new(program)
        .args(args)
        .output()
        .unwrap_or_else(|e| panic!("{program} does not start ({e}): install {package}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let stderr = text(&output.stderr);
    assert!(!stderr.contains("No module named 'tuf'"), "install the PyPI package tuf: {stderr}");
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(stderr) }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn python_tuf_reads_releases_rotations_and_fresh_timestamps() {
    let world = World::new();
    let added = world.repo.add_release(&world.image("v5.0.5", &[7; 3_000_000])).unwrap();
    assert_eq!(added.target, "images/igw-5000/5.0.5/rootfs.squashfs");
    // Not offered before it is published.
    assert!(world.python(&[&added.target]).is_err());

    let first = world.repo.publish(NOW).unwrap();
    assert_eq!(first, Published { root: 1, targets: 2, snapshot: 2, timestamp: 2 });
    let said = world.python(&[&added.target, &added.manifest]).unwrap();
    assert!(said.contains("rootfs.squashfs 3000000") && said.contains("root 1 timestamp 2"), "{said}");

    world.repo.refresh_timestamp(NOW).unwrap();
    assert!(world.python(&[]).unwrap().contains("root 1 timestamp 3"));

    let everything = RotateOptions { roles: RoleName::ALL.into(), ..RotateOptions::default() };
    assert_eq!(world.repo.rotate(&everything, NOW).unwrap().root, 2);
    let only_expiry = RotateOptions::default();
    assert_eq!(world.repo.rotate(&only_expiry, NOW).unwrap().root, 3);
    assert!(world.python(&[&added.target]).unwrap().contains("root 3 timestamp 5"));
}

#[test]
fn the_manifest_keeps_older_releases_and_replaces_the_one_of_the_same_id() {
    let world = World::new();
    world.repo.add_release(&world.image("v5.0.4", b"old")).unwrap();
    world.repo.publish(NOW).unwrap();
    world.repo.add_release(&world.image("v5.0.5", b"first try")).unwrap();
    let added = world.repo.add_release(&world.image("v5.0.5", b"second try")).unwrap();
    // A draft survives the process.
    let repo = RepoDir::open(world.dir.path().join("repo"), world.dir.path().join("keys")).unwrap();
    repo.publish(NOW).unwrap();

    let listed = repo.draft().unwrap();
    let manifest = repo.targets().join(listed[&added.manifest].path_of(&added.manifest));
    let manifest: serde_json::Value = serde_json::from_slice(&fs::read(manifest).unwrap()).unwrap();
    let versions: Vec<_> =
        manifest["releases"].as_array().unwrap().iter().map(|r| r["version"].as_str().unwrap()).collect();
    assert_eq!(versions, ["v5.0.4", "v5.0.5"]);
    assert_eq!(manifest["releases"][1]["release_date"], "2025-03-10T14:30:00Z");
    assert_eq!(listed[&added.target].length, 10);
}

#[test]
fn a_release_that_is_taken_out_is_offered_no_more_and_what_others_list_stays() {
    let world = World::new();
    let bad = world.repo.add_release(&world.image("v5.0.5", b"bad")).unwrap();
    let good = world.repo.add_release(&world.image("v5.0.6", b"good")).unwrap();
    let shared = AddRelease { channel: "beta".into(), ..world.image("v5.0.5", b"bad") };
    world.repo.add_release(&shared).unwrap();
    world.repo.publish(NOW).unwrap();

    let (bad_id, stable) = (shared.id.clone(), "stable");
    let removed = world.repo.remove_release("IGW-5000", stable, &bad_id).unwrap();
    assert!(removed.files.is_empty(), "channel beta still lists it: {removed:?}");
    let removed = world.repo.remove_release("IGW-5000", "beta", &bad_id).unwrap();
    world.repo.publish(NOW).unwrap();
    assert_eq!(fs::read(&removed.files[0]).unwrap(), b"bad", "a download that has begun can end");
    assert!(world.python(&[&good.target]).is_ok());
    assert!(world.python(&[&bad.target]).unwrap_err().contains("AssertionError"), "it is not listed");

    let again = world.repo.remove_release("IGW-5000", stable, &bad_id).unwrap_err().to_string();
    assert!(again.contains("lists no release \"igw-5000-5.0.5\"; it has: igw-5000-5.0.6"), "{again}");
}

#[test]
fn a_linked_image_is_the_same_file_and_a_copied_one_is_not() {
    use std::os::unix::fs::MetadataExt;
    let world = World::new();
    for (placement, links) in [(Placement::Copy, 1), (Placement::HardLink, 2)] {
        let version = format!("v5.1.{links}");
        let add = AddRelease { placement, ..world.image(&version, version.as_bytes()) };
        let added = world.repo.add_release(&add).unwrap();
        let folder = world.repo.targets().join(format!("images/igw-5000/5.1.{links}"));
        let file = folder.join(format!("{}.rootfs.squashfs", added.sha256));
        assert_eq!(fs::metadata(&file).unwrap().nlink(), links);
    }
}

#[test]
fn private_keys_are_for_their_owner_only_and_outside_of_what_is_served() {
    let world = World::new();
    let keys = world.dir.path().join("keys");
    assert_eq!(mode(&keys), 0o700);
    let files: Vec<_> = fs::read_dir(&keys).unwrap().map(|e| e.unwrap().path()).collect();
    assert_eq!(files.len(), 6, "three root keys and one for each other role");
    assert!(files.iter().all(|file| mode(file) == 0o600));

    let inside = InitOptions::new(world.dir.path().join("x"), world.dir.path().join("x/targets/keys"));
    assert!(matches!(RepoDir::init(&inside, NOW), Err(ReleaseError::Options(_))));
    let again = InitOptions::new(world.dir.path().join("repo"), &keys);
    assert!(matches!(RepoDir::init(&again, NOW), Err(ReleaseError::AlreadyThere(_))));
}

#[test]
fn a_timestamp_needs_only_its_own_key_and_a_root_its_threshold() {
    let world = World::new();
    let keys = world.dir.path().join("keys");
    let mut roots = 0;
    for file in fs::read_dir(&keys).unwrap().map(|e| e.unwrap().path()) {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        roots += usize::from(name.starts_with("root-"));
        if name.starts_with("targets-")
            || name.starts_with("snapshot-")
            || (name.starts_with("root-") && roots > 1)
        {
            fs::remove_file(file).unwrap();
        }
    }
    assert_eq!(world.repo.refresh_timestamp(NOW).unwrap().timestamp, 2);
    assert!(matches!(world.repo.publish(NOW), Err(ReleaseError::KeysMissing { .. })));
    let outcome = world.repo.rotate(&RotateOptions::default(), NOW);
    assert!(matches!(outcome, Err(ReleaseError::KeysMissing { needed: 2, found: 1, .. })), "{outcome:?}");
}

#[test]
fn names_that_would_leave_the_folder_are_refused() {
    let world = World::new();
    for model in ["", "..", "a/b", "a b", "ü", "a\\b"] {
        let add = AddRelease { model: model.into(), ..world.image("v5.0.5", b"x") };
        assert!(matches!(world.repo.add_release(&add), Err(ReleaseError::BadName { .. })), "{model:?}");
    }
}

#[test]
fn a_cms_signature_of_our_keys_verifies_with_openssl_and_a_flipped_byte_does_not() {
    let world = World::new();
    let ca = make_code_signing_ca(&CodeSigningOptions::new(world.dir.path().join("cms"))).unwrap();
    assert_eq!((mode(&ca.ca_key), mode(&ca.signer_key)), (0o600, 0o600));
    let add = world.image("v5.0.5", b"an image\nof \r\n lines\n");
    let method = SignMethod::Cms { key: ca.signer_key, certificate: ca.signer_certificate, chain: None };
    let signature = sign_detached(&add.image, &method, None).unwrap();
    assert!(signature.ends_with("rootfs.squashfs.p7s"));
    let verify = || {
        let image = add.image.to_str().unwrap();
        let (signature, trusted) = (signature.to_str().unwrap(), ca.ca_certificate.to_str().unwrap());
        let args = ["cms", "-verify", "-binary", "-inform", "DER", "-in", signature, "-content", image];
        let args = [&args[..], &["-CAfile", trusted, "-purpose", "any", "-out", "/dev/null"]].concat();
        run("openssl", &args, "openssl")
    };
    verify().unwrap();
    fs::write(&add.image, b"an image\nof \r\n lines!").unwrap();
    assert!(verify().is_err());

    let add = AddRelease { signatures: vec![(SignatureKind::Cms, signature)], ..add };
    world.repo.add_release(&add).unwrap();
    world.repo.publish(NOW).unwrap();
    world.python(&["images/igw-5000/5.0.5/rootfs.squashfs.p7s"]).unwrap();
}

#[test]
fn a_signature_that_cannot_be_made_leaves_the_one_that_is_there() {
    let world = World::new();
    let ca = make_code_signing_ca(&CodeSigningOptions::new(world.dir.path().join("cms"))).unwrap();
    let (one, other) = (world.image("v5.0.5", b"image"), world.dir.path().join("other.key"));
    let method = SignMethod::Cms {
        key: ca.signer_key.clone(),
        certificate: ca.signer_certificate.clone(),
        chain: None,
    };
    let signature = sign_detached(&one.image, &method, None).unwrap();
    let before = fs::read(&signature).unwrap();
    let other_name = other.to_str().unwrap();
    run("openssl", &["genpkey", "-algorithm", "ed25519", "-out", other_name], "openssl").unwrap();
    let wrong = SignMethod::Cms { key: other.clone(), certificate: ca.signer_certificate, chain: None };
    // An Ed25519 certificate, in DER, and the key of another one.
    let file = |name: &str| world.dir.path().join(name).to_str().unwrap().to_owned();
    let [key, pem, der] = ["own.key", "own.pem", "own.der"].map(file);
    let own = ["req", "-x509", "-newkey", "ed25519", "-nodes", "-subj", "/CN=own"];
    run("openssl", &[&own[..], &["-keyout", &key, "-out", &pem]].concat(), "openssl").unwrap();
    run("openssl", &["x509", "-in", &pem, "-outform", "DER", "-out", &der], "openssl").unwrap();
    let ed25519 =
        |key: &str| SignMethod::Cms { key: key.into(), certificate: der.clone().into(), chain: None };
    assert!(sign_detached(&one.image, &ed25519(&key), Some(&world.dir.path().join("own.p7s"))).is_ok());
    let gone = SignMethod::Openpgp { key: "nobody".into(), homedir: Some(ca.ca_key.clone()), armor: false };
    for method in [wrong, ed25519(other_name), gone] {
        assert!(sign_detached(&one.image, &method, Some(&signature)).is_err());
        assert_eq!(fs::read(&signature).unwrap(), before);
    }
}

#[test]
fn an_openpgp_signature_verifies_with_gpg_and_a_missing_key_says_what_gpg_said() {
    let world = World::new();
    let home = tempfile::Builder::new().prefix("gpg").tempdir_in("/tmp").unwrap();
    let homedir = home.path().to_str().unwrap();
    let make = [
        "--homedir",
        homedir,
        "--batch",
        "--passphrase",
        "",
        "--quick-gen-key",
        "rel@example",
        "ed25519",
        "sign",
    ];
    run("gpg", &make, "gpg").unwrap();
    let add = world.image("v5.0.5", b"image");
    for armor in [false, true] {
        let method =
            SignMethod::Openpgp { key: "rel@example".into(), homedir: Some(home.path().into()), armor };
        let signature = sign_detached(&add.image, &method, None).unwrap();
        let args =
            ["--homedir", homedir, "--verify", signature.to_str().unwrap(), add.image.to_str().unwrap()];
        run("gpg", &args, "gpg").unwrap();
    }
    let method =
        SignMethod::Openpgp { key: "nobody".into(), homedir: Some(home.path().into()), armor: false };
    let error = sign_detached(&add.image, &method, None).unwrap_err().to_string();
    assert!(error.contains("nobody"), "{error}");
    let _ = run("gpgconf", &["--homedir", homedir, "--kill", "all"], "gpg");
}
