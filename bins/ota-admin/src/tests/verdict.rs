//! Signing into an image, and the verdict that a device would give. Needs the Debian packages openssl, tar and gzip.

use std::{
    fs,
    path::Path,
    process::Command,
    time::{SystemTime, UNIX_EPOCH},
};

use ota_core::Timestamp;
use serde_json::Value;
use tempfile::TempDir;

use super::{Run, run, run_at};

/// The machine's clock: openssl dates certificates by it.
#[expect(clippy::disallowed_methods, reason = "must agree with the program that makes the certificates")]
fn clock() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Timestamp::from_secs(i64::try_from(since.as_secs()).unwrap())
}

#[track_caller]
pub(super) fn shell(folder: &Path, line: &str) {
    #[expect(clippy::disallowed_methods, reason = "the tests are the owner of these programs")]
    let output = Command::new("sh").args(["-ec", line]).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A publisher's folder: image, authority, and the keys of a device that trusts it.
struct Publisher(TempDir);

impl Publisher {
    async fn new() -> Self {
        let publisher = Self(tempfile::tempdir().unwrap());
        let ca = publisher.path("ca");
        assert_eq!(run(&["keygen", "code-signing", "--dir", &ca]).await.exit, 0);
        let image = "mkdir keys other root; cp ca/ca.pem keys/; head -c 3000000 /dev/urandom > root/f; \
            mksquashfs root rootfs.squashfs -quiet -no-progress > /dev/null";
        shell(publisher.0.path(), image);
        publisher
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    async fn sign(&self, image: &str, more: &[&str]) -> Run {
        let (image, key, cert) = (self.path(image), self.path("ca/signer.key"), self.path("ca/signer.pem"));
        run(&[&["sign", &image, "--key", &key, "--cert", &cert], more].concat()).await
    }

    async fn verify(&self, image: &str, more: &[&str]) -> (u8, Value) {
        let (image, keys) = (self.path(image), self.path("keys"));
        let args = [&["-o", "json", "verify", &image, "--keys", &keys], more].concat();
        let run = run_at(&args, clock()).await;
        (run.exit, serde_json::from_str(&run.out).unwrap_or_else(|e| panic!("{e}: {} {}", run.out, run.err)))
    }

    async fn inspect(&self, image: &str) -> Value {
        let run = run(&["-o", "json", "inspect", &self.path(image)]).await;
        assert_eq!(run.exit, 0, "{}", run.err);
        serde_json::from_str(&run.out).unwrap()
    }
}

#[tokio::test]
async fn a_one_file_image_is_made_inspected_and_judged_as_a_device_would() {
    let publisher = Publisher::new().await;
    let to = publisher.path("rootfs.ota");
    let embed =
        ["--embed", "--to", &to, "--release-version", "v5.0.5", "--model", "IGW-5000", "--note", "Fixes"];
    let signed = publisher.sign("rootfs.squashfs", &embed).await;
    assert_eq!((signed.exit, signed.out), (0, format!("{to}\n")), "{}", signed.err);
    let again = run(&[
        "sign",
        &to,
        "--gpg-key",
        "x",
        "--embed",
        "--to",
        "y",
        "--release-version",
        "v1.0.0",
        "--model",
        "m",
    ])
    .await;
    assert_eq!(again.exit, 2, "a second trailer: {}", again.err);

    let (exit, verdict) = publisher.verify("rootfs.ota", &["--model", "IGW-5000"]).await;
    assert_eq!(
        (exit, &verdict["verdict"], &verdict["version"]),
        (0, &"accepted".into(), &"v5.0.5".into()),
        "{verdict}"
    );
    assert_eq!(verdict["size"], fs::metadata(publisher.path("rootfs.squashfs")).unwrap().len());
    let (exit, verdict) = publisher.verify("rootfs.ota", &["--model", "IGW-4000"]).await;
    assert_eq!((exit, &verdict["code"]), (15, &"OTA_005".into()), "{verdict}");
    let (exit, verdict) = publisher.verify("rootfs.ota", &["--slot-size", "1000000"]).await;
    assert_eq!((exit, &verdict["code"]), (13, &"OTA_003".into()), "{verdict}");

    let found = publisher.inspect("rootfs.ota").await;
    assert_eq!(
        (&found["kind"], &found["blocks"], &found["notes"][0]),
        (&"squashfs".into(), &3.into(), &"Fixes".into())
    );
    assert_eq!(found["damaged_blocks"].as_array().unwrap().len(), 0, "{found}");
    let mut bytes = fs::read(&to).unwrap();
    bytes[1_500_000] ^= 1;
    fs::write(publisher.path("damaged.ota"), bytes).unwrap();
    let found = publisher.inspect("damaged.ota").await;
    assert_eq!(found["damaged_blocks"][0], "1 (from byte 1048576)", "{found}");
    let (exit, verdict) = publisher.verify("damaged.ota", &[]).await;
    assert_eq!((exit, &verdict["code"]), (17, &"OTA_007".into()), "{verdict}");
}

#[tokio::test]
async fn the_verdict_says_why_a_device_would_refuse() {
    let publisher = Publisher::new().await;
    let (exit, verdict) = publisher.verify("rootfs.squashfs", &[]).await;
    assert_eq!((exit, &verdict["reason"]), (16, &"missing".into()), "{verdict}");
    assert_eq!(publisher.sign("rootfs.squashfs", &[]).await.exit, 0);
    let (exit, verdict) = publisher.verify("rootfs.squashfs", &[]).await;
    assert_eq!((exit, &verdict["assurance"]), (0, &"authenticity".into()), "{verdict}");
    let stranger = publisher.path("other");
    let image = publisher.path("rootfs.squashfs");
    let refused = run_at(&["-o", "json", "verify", &image, "--keys", &stranger], clock()).await;
    assert_eq!(refused.exit, 16);
    assert!(
        refused.out.contains("untrusted") && refused.err.contains("OTA_006"),
        "{} {}",
        refused.out,
        refused.err
    );
    // What is dated by the documentation's clock is not valid yet.
    let early = run(&["-o", "json", "verify", &image, "--keys", &publisher.path("keys")]).await;
    assert!(early.out.contains("not_yet_valid"), "{}", early.out);

    shell(
        publisher.0.path(),
        "cd root; ln -s ../../etc evil; tar -czf ../bad.tar.gz .; rm evil; tar -czf ../good.tar.gz .",
    );
    for (name, wanted) in [("bad.tar.gz", 15), ("good.tar.gz", 0)] {
        assert_eq!(publisher.sign(name, &[]).await.exit, 0);
        let (exit, verdict) = publisher.verify(name, &[]).await;
        assert_eq!(exit, wanted, "{verdict}");
        if wanted == 0 {
            assert_eq!(verdict["format"], "tar in gzip");
        } else {
            assert!(
                verdict["message"].as_str().unwrap().contains("./evil links out of the root"),
                "{verdict}"
            );
        }
    }
}

#[tokio::test]
async fn a_checksum_file_is_authenticity_when_it_is_signed_and_integrity_when_not() {
    let publisher = Publisher::new().await;
    let (exit, verdict) = publisher.verify("rootfs.squashfs", &["--allow-unsigned"]).await;
    assert!(exit == 0 && verdict["assurance"].as_str().unwrap().starts_with("none"), "{verdict}");
    shell(publisher.0.path(), "sha256sum rootfs.squashfs > SHA256SUMS");
    let sums = publisher.path("SHA256SUMS");
    let verify = async |more: &[&str]| {
        publisher.verify("rootfs.squashfs", &[&["--checksums", &sums], more].concat()).await
    };
    let (exit, verdict) = verify(&[]).await;
    assert_eq!((exit, &verdict["reason"]), (16, &"missing".into()), "{verdict}");
    let (exit, verdict) = verify(&["--allow-unsigned"]).await;
    assert!(exit == 0 && verdict["assurance"].as_str().unwrap().starts_with("integrity only"), "{verdict}");
    assert_eq!(publisher.sign("SHA256SUMS", &[]).await.exit, 0);
    let (exit, verdict) = verify(&[]).await;
    assert_eq!((exit, &verdict["assurance"]), (0, &"authenticity".into()), "{verdict}");
    shell(publisher.0.path(), "printf x | dd of=rootfs.squashfs conv=notrunc bs=1 seek=5000 status=none");
    let (exit, verdict) = verify(&[]).await;
    assert_eq!((exit, &verdict["code"]), (17, &"OTA_007".into()), "{verdict}");
}

#[tokio::test]
async fn a_packed_image_is_embedded_with_the_length_that_it_unpacks_to() {
    let publisher = Publisher::new().await;
    shell(publisher.0.path(), "tar -C root -czf rootfs.tar.gz .; gzip -dc rootfs.tar.gz | wc -c > length");
    let length: u64 = fs::read_to_string(publisher.path("length")).unwrap().trim().parse().unwrap();
    let to = publisher.path("rootfs.ota");
    let embed = ["--embed", "--to", &to, "--release-version", "v5.0.5", "--model", "IGW-5000"];
    assert_eq!(publisher.sign("rootfs.tar.gz", &embed).await.exit, 0);
    let text = String::from_utf8_lossy(&fs::read(&to).unwrap()).into_owned();
    assert!(text.contains(&format!("\nunpacked-size {length}\n")), "no signed length");
    let (exit, verdict) = publisher.verify("rootfs.ota", &[]).await;
    assert_eq!((exit, &verdict["unpacked_size"]), (0, &length.into()), "{verdict}");
}

#[tokio::test]
async fn a_command_of_ones_own_signs_where_the_key_is_elsewhere() {
    let publisher = Publisher::new().await;
    let command = format!(
        "openssl cms -sign -binary -outform DER -md sha256 -signer {0}/ca/signer.pem -inkey {0}/ca/signer.key",
        publisher.0.path().display()
    );
    let (image, to) = (publisher.path("rootfs.squashfs"), publisher.path("out.ota"));
    let signed = run(&["sign", &image, "--command", &command]).await;
    assert_eq!((signed.exit, signed.out), (0, format!("{image}.p7s\n")), "{}", signed.err);
    assert_eq!(publisher.verify("rootfs.squashfs", &[]).await.0, 0);
    let embed = ["--embed", "--to", &to, "--release-version", "v5.0.5", "--model", "IGW-5000"];
    assert_eq!(run(&[&["sign", &image, "--command", &command], &embed[..]].concat()).await.exit, 0);
    assert_eq!(publisher.verify("out.ota", &[]).await.0, 0);
    let failed = run(&["sign", &image, "--command", "echo no token >&2; false"]).await;
    assert!(failed.exit == 1 && failed.err.contains("no token"), "{}", failed.err);
    let silent = run(&["sign", &image, "--command", "true"]).await;
    assert!(silent.err.contains("wrote nothing"), "{}", silent.err);
}

/// openssl signs CMS with Ed25519 from 3.2 on only; Debian 12 has 3.0.
#[tokio::test]
async fn an_ed25519_key_signs_with_its_chain_beside_the_image_and_in_it() {
    let publisher = Publisher::new().await;
    let make = "printf 'basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n' > middle.ext; \
        printf 'keyUsage=critical,digitalSignature\nextendedKeyUsage=codeSigning\n' > leaf.ext; \
        for name in middle leaf; do openssl genpkey -algorithm ed25519 -out $name.key; \
        openssl req -new -key $name.key -subj /CN=$name -out $name.csr; done; \
        openssl x509 -req -in middle.csr -CA ca/ca.pem -CAkey ca/ca.key -CAcreateserial -extfile middle.ext -days 9 -out middle.pem; \
        openssl x509 -req -in leaf.csr -CA middle.pem -CAkey middle.key -CAcreateserial -extfile leaf.ext -days 9 -out leaf.pem";
    shell(publisher.0.path(), make);
    let path = |name: &str| publisher.path(name);
    let (image, to, key, cert) =
        (path("rootfs.squashfs"), path("out.ota"), path("leaf.key"), path("leaf.pem"));
    let chain = path("middle.pem");
    let sign = ["sign", &image, "--key", &key, "--cert", &cert, "--chain", &chain];
    let signed = run(&sign).await;
    assert_eq!((signed.exit, signed.out), (0, format!("{image}.p7s\n")), "{}", signed.err);
    let (exit, verdict) = publisher.verify("rootfs.squashfs", &[]).await;
    assert_eq!((exit, &verdict["signers"][0]["name"]), (0, &"CN=leaf".into()), "{verdict}");
    shell(
        publisher.0.path(),
        "openssl cms -cmsout -inform DER -in rootfs.squashfs.p7s -noout -print | grep -i ed25519",
    );
    let embed = ["--embed", "--to", &to, "--release-version", "v5.0.5", "--model", "IGW-5000"];
    assert_eq!(run(&[&sign[..], &embed].concat()).await.exit, 0);
    assert_eq!(publisher.verify("out.ota", &[]).await.0, 0);
    // Without the certificate between, no device could follow the chain.
    assert_eq!(run(&sign[..6]).await.exit, 0);
    let (exit, verdict) = publisher.verify("rootfs.squashfs", &[]).await;
    assert_eq!((exit, &verdict["reason"]), (16, &"untrusted".into()), "{verdict}");
}

#[tokio::test]
async fn label_floor_and_format_count_as_on_the_device_and_what_was_not_asked_is_named() {
    let publisher = Publisher::new().await;
    let to = publisher.path("rootfs.ota");
    let embed = ["--embed", "--to", &to, "--release-version", "v5.0.5", "--model", "IGW-5000"];
    assert_eq!(publisher.sign("rootfs.squashfs", &embed).await.exit, 0);
    let (exit, verdict) = publisher.verify("rootfs.ota", &[]).await;
    let open =
        serde_json::json!(["key list", "time floor", "model", "release version", "floor", "slot size"]);
    assert_eq!((exit, &verdict["not_checked"]), (0, &open), "{verdict}");
    let all = ["--model", "IGW-5000", "--slot-size", "9000000", "--floor", "5.0.5", "--key-list-serial", "0"];
    let all = [&all[..], &["--time-floor", "2025-03-10T14:30:00Z"]].concat();
    let (exit, verdict) =
        publisher.verify("rootfs.ota", &[&all[..], &["--release-version", "v5.0.5"]].concat()).await;
    assert_eq!((exit, &verdict["not_checked"]), (0, &serde_json::json!([])), "{verdict}");
    for (more, why) in [
        (["--release-version", "v5.0.6"], "signed as v5.0.5, labelled as v5.0.6"),
        (["--floor", "5.1.0"], "v5.0.5 is below the security floor 5.1.0"),
    ] {
        let (exit, verdict) = publisher.verify("rootfs.ota", &more).await;
        assert_eq!((exit, &verdict["code"]), (15, &"OTA_005".into()), "{verdict}");
        assert!(verdict["message"].as_str().unwrap().contains(why), "{verdict}");
    }
    let as_raw = [&embed[..], &["--kind", "raw"]].concat();
    assert_eq!(publisher.sign("rootfs.squashfs", &as_raw).await.exit, 0);
    let (exit, verdict) = publisher.verify("rootfs.ota", &[]).await;
    assert_eq!((exit, &verdict["code"]), (15, &"OTA_005".into()), "{verdict}");
    assert!(verdict["message"].as_str().unwrap().contains("signed as raw, but it is squashfs"), "{verdict}");
}

#[tokio::test]
async fn what_lies_beside_the_image_and_what_a_signature_is_counts_as_on_the_device() {
    let publisher = Publisher::new().await;
    assert_eq!(publisher.sign("rootfs.squashfs", &[]).await.exit, 0);
    // The content says what it is, not the name.
    shell(publisher.0.path(), "cp rootfs.squashfs.p7s by-another-name.asc");
    let signature = publisher.path("by-another-name.asc");
    let (exit, verdict) = publisher.verify("rootfs.squashfs", &["--signature", &signature]).await;
    assert_eq!((exit, &verdict["verdict"]), (0, &"accepted".into()), "{verdict}");
    // A checksum file beside it must hold, too.
    shell(publisher.0.path(), "sha256sum rootfs.squashfs | tr 0-9 1-90 > rootfs.squashfs.sums");
    let (exit, verdict) = publisher.verify("rootfs.squashfs", &[]).await;
    assert_eq!((exit, &verdict["code"]), (17, &"OTA_007".into()), "{verdict}");
    // A key list that cannot be used leaves no key that is trusted.
    shell(publisher.0.path(), "rm rootfs.squashfs.sums; echo hello > keys.list");
    let list = publisher.path("keys.list");
    let (exit, verdict) = publisher.verify("rootfs.squashfs", &["--key-list", &list]).await;
    assert_eq!((exit, &verdict["reason"]), (16, &"untrusted".into()), "{verdict}");
    assert!(verdict["key_list"].as_str().unwrap().contains("no key is trusted"), "{verdict}");
}

#[tokio::test]
async fn the_key_list_and_the_time_that_a_device_has_seen_count_in_its_verdict() {
    let publisher = Publisher::new().await;
    assert_eq!(publisher.sign("rootfs.squashfs", &[]).await.exit, 0);
    let (old, new) = ("7\nissued 2025-03-10T14:30:00Z", "8\nissued 2099-01-01T00:00:00Z");
    for (name, list) in [("old.list", old), ("new.list", new)] {
        fs::write(publisher.path(name), format!("ota-key-list 1\nserial {list}\n")).unwrap();
        assert_eq!(publisher.sign(name, &[]).await.exit, 0);
    }
    let (old, new) = (publisher.path("old.list"), publisher.path("new.list"));
    let verify = async |more: &[&str]| publisher.verify("rootfs.squashfs", more).await;

    let (exit, verdict) = verify(&["--key-list", &old]).await;
    let open = serde_json::json!([
        "key list serial",
        "time floor",
        "model",
        "release version",
        "floor",
        "slot size"
    ]);
    assert_eq!((exit, &verdict["not_checked"]), (0, &open), "{verdict}");
    let (exit, verdict) = verify(&["--key-list", &old, "--key-list-serial", "7"]).await;
    assert_eq!((exit, &verdict["not_checked"][0]), (0, &"time floor".into()), "{verdict}");
    // An older list than one that the device has accepted, and none at all, bring no retired key back.
    for (more, why) in [
        (&["--key-list", &*old, "--key-list-serial", "8"][..], "key list 7 is older than 8"),
        (&["--key-list-serial", "8"], "key list 8 was accepted once"),
    ] {
        let (exit, verdict) = verify(more).await;
        assert_eq!((exit, &verdict["reason"]), (16, &"untrusted".into()), "{verdict}");
        assert!(verdict["key_list"].as_str().unwrap().contains(why), "{verdict}");
    }
    // What has run out by a time that is surely past stays so, whatever the clock says; a list has such a time, too.
    let (exit, verdict) = verify(&["--time-floor", "2025-03-10T14:30:00Z"]).await;
    assert_eq!((exit, &verdict["not_checked"][0]), (0, &"key list".into()), "{verdict}");
    for more in [["--time-floor", "2099-01-01T00:00:00Z"], ["--key-list", &*new]] {
        let (exit, verdict) = verify(&more).await;
        assert_eq!((exit, &verdict["reason"]), (16, &"expired".into()), "{verdict}");
        assert!(verdict["message"].as_str().unwrap().contains("2099-01-01T00:00:00Z"), "{verdict}");
    }
}

#[tokio::test]
async fn two_signers_of_one_kind_sign_beside_an_image_and_in_it() {
    let publisher = Publisher::new().await;
    let second = publisher.path("second");
    assert_eq!(run(&["keygen", "code-signing", "--dir", &second]).await.exit, 0);
    shell(publisher.0.path(), "cp second/ca.pem keys/second.pem");
    let (key, cert) = (publisher.path("second/signer.key"), publisher.path("second/signer.pem"));
    let sign_second = async |image: &str, more: &[&str]| {
        let image = publisher.path(image);
        run(&[&["sign", &image, "--key", &key, "--cert", &cert], more].concat()).await
    };
    let two = ["--threshold", "2"];
    assert_eq!(publisher.sign("rootfs.squashfs", &[]).await.exit, 0);
    let (exit, verdict) = publisher.verify("rootfs.squashfs", &two).await;
    assert_eq!((exit, &verdict["reason"]), (16, &"threshold".into()), "{verdict}");
    let beside = publisher.path("rootfs.squashfs.p7s.2");
    assert_eq!(sign_second("rootfs.squashfs", &["--to", &beside]).await.exit, 0);
    let (exit, verdict) = publisher.verify("rootfs.squashfs", &two).await;
    assert_eq!((exit, verdict["signers"].as_array().unwrap().len()), (0, 2), "{verdict}");

    let (one, both) = (publisher.path("one.ota"), publisher.path("both.ota"));
    let embed = ["--embed", "--to", &one, "--release-version", "v5.0.5", "--model", "IGW-5000"];
    assert_eq!(publisher.sign("rootfs.squashfs", &embed).await.exit, 0);
    assert_eq!(publisher.verify("one.ota", &two).await.0, 16);
    let added = sign_second("one.ota", &["--add", "--to", &both]).await;
    assert_eq!(added.exit, 0, "{}", added.err);
    let (exit, verdict) = publisher.verify("both.ota", &two).await;
    assert_eq!((exit, verdict["signers"].as_array().unwrap().len()), (0, 2), "{verdict}");
    assert_eq!(publisher.inspect("both.ota").await["damaged_blocks"].as_array().unwrap().len(), 0);
    // Nothing is added to an image without a trailer, or to one that was changed.
    assert_eq!(sign_second("rootfs.squashfs", &["--add", "--to", &both]).await.exit, 2);
    shell(publisher.0.path(), "printf x | dd of=one.ota conv=notrunc bs=1 seek=5000 status=none");
    assert_eq!(sign_second("one.ota", &["--add", "--to", &both]).await.exit, 2);
}
