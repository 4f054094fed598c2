//! Devices that ask for several signers, revocation lists and a key list: signatures by openssl and gpg, by upload and by update server.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use ota_client::UploadFile;
use ota_core::{Slot, release::SignatureKind};
use ota_release::{
    AddRelease, CodeSigningCa, CodeSigningOptions, InitOptions, RepoDir, SignMethod, make_code_signing_ca,
    sign_detached,
};
use ota_tests::{
    Layout,
    config::Settings,
    process,
    release::{MODEL, NEW_VERSION, UPDATE_ID, clock},
};

use crate::{
    uploads::{deploy, upload, verify},
    world::{Offer, TestDevice, device_prepared, folder, settings},
};

/// Two authorities with a signer each, and an OpenPGP key.
pub(crate) struct Signers {
    first: CodeSigningCa,
    second: CodeSigningCa,
    gpg: PathBuf,
}

pub(crate) fn signers() -> &'static Signers {
    static SIGNERS: OnceLock<Signers> = OnceLock::new();
    SIGNERS.get_or_init(Signers::make)
}

impl Signers {
    fn make() -> Self {
        let dir = folder("signers");
        // A revocation list is found by the name of its authority.
        let ca = |name: &str| {
            let options = CodeSigningOptions::new(dir.join(name));
            make_code_signing_ca(&CodeSigningOptions { ca_name: format!("Release CA {name}"), ..options })
                .unwrap()
        };
        // gpg's socket needs a short path; the folder is removed when the agent has ended.
        let gpg = tempfile::Builder::new().prefix("s").tempdir_in("/tmp").unwrap().keep();
        let signers = Self { first: ca("first"), second: ca("second"), gpg };
        signers.gpg(&["--quick-generate-key", "release", "ed25519", "sign", "10d"]);
        fs::write(dir.join("gpg.asc"), signers.gpg(&["--armor", "--export"])).unwrap();
        for (ca, name) in [(&signers.first, "first"), (&signers.second, "second")] {
            Self::list(ca, &dir.join(format!("{name}.crl")), &[]);
        }
        signers
    }

    fn gpg(&self, arguments: &[&str]) -> Vec<u8> {
        let home = self.gpg.to_str().unwrap();
        let fixed =
            ["--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", "", "--homedir", home];
        process::read("gpg", [&fixed[..], arguments].concat()).unwrap()
    }

    /// A revocation list of `ca` over `revoked`.
    fn list(ca: &CodeSigningCa, to: &Path, revoked: &[&Path]) {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().display();
        let config = format!(
            "[ca]\ndefault_ca=d\n[d]\ndatabase={at}/index\ncrlnumber={at}/number\ndefault_md=sha256\n\
             default_crl_days=5\ncrl_extensions=e\n[e]\nauthorityKeyIdentifier=keyid:always\n"
        );
        fs::write(dir.path().join("cnf"), config).unwrap();
        fs::write(dir.path().join("index"), "").unwrap();
        // Made in the same second as the one before, this is the newer one.
        fs::write(dir.path().join("number"), if revoked.is_empty() { "01\n" } else { "02\n" }).unwrap();
        let openssl = |more: &str| {
            let line = format!(
                "openssl ca -config {at}/cnf -cert {} -keyfile {} {more} 2>&1",
                ca.ca_certificate.display(),
                ca.ca_key.display()
            );
            process::read("sh", ["-ec", &line]).unwrap();
        };
        revoked.iter().for_each(|certificate| openssl(&format!("-revoke {}", certificate.display())));
        openssl(&format!("-gencrl -out {}", to.display()));
    }

    /// What a device has that trusts all of them.
    fn ship(&self, layout: &Layout) {
        let (from, to) = (folder("signers"), layout.trusted_keys());
        fs::remove_file(to.join("release-ca.pem")).unwrap();
        fs::copy(&self.first.ca_certificate, to.join("first.pem")).unwrap();
        fs::copy(&self.second.ca_certificate, to.join("second.pem")).unwrap();
        for file in ["gpg.asc", "first.crl", "second.crl"] {
            fs::copy(from.join(file), to.join(file)).unwrap();
        }
    }

    fn cms(ca: &CodeSigningCa) -> SignMethod {
        SignMethod::Cms {
            key: ca.signer_key.clone(),
            certificate: ca.signer_certificate.clone(),
            chain: None,
        }
    }

    /// Signatures of all of them beside a file: `.p7s`, `.p7s.2`, `.asc`.
    fn sign(&self, image: &Path) -> [PathBuf; 3] {
        let beside = |ending: &str| PathBuf::from(format!("{}.{ending}", image.display()));
        let (home, key) = (Some(self.gpg.clone()), "release".to_owned());
        let methods = [
            (Self::cms(&self.first), "p7s"),
            (Self::cms(&self.second), "p7s.2"),
            (SignMethod::Openpgp { key, homedir: home, armor: true }, "asc"),
        ];
        methods.map(|(method, ending)| sign_detached(image, &method, Some(&beside(ending))).unwrap())
    }

    /// A repository with the image on offer, signed by all of them.
    pub(crate) fn publish(&self, folder: &Path, image: &Path) -> RepoDir {
        let options = InitOptions::new(folder.join("repo"), folder.join("tuf"));
        let repo = RepoDir::init(&options, clock()).unwrap();
        let version = format!("v{NEW_VERSION}").parse().unwrap();
        let mut add = AddRelease::new(image, MODEL, version, clock()).unwrap();
        add.id = UPDATE_ID.parse().unwrap();
        let kinds = [SignatureKind::Cms, SignatureKind::Cms, SignatureKind::Openpgp];
        add.signatures = kinds.into_iter().zip(self.sign(image)).collect();
        repo.add_release(&add).unwrap();
        repo.publish(clock()).unwrap();
        self.end();
        repo
    }

    /// Ends gpg's agent; it starts again when it is needed.
    fn end(&self) {
        let home = self.gpg.as_os_str();
        let _ = process::outcome("gpgconf", ["--homedir".as_ref(), home, "--kill".as_ref(), "all".as_ref()]);
    }
}

/// A device that asks for `verify`, trusts all of them, and has what `prepare` does.
async fn device(verify: &'static str, prepare: fn(&Layout)) -> TestDevice {
    let settings = Settings { verify, ..settings() };
    device_prepared(Offer::ManySigners, settings, move |layout: &Layout| {
        signers().ship(layout);
        prepare(layout);
    })
    .await
}

fn beside(device: &TestDevice, ending: &str) -> PathBuf {
    PathBuf::from(format!("{}.{ending}", device.release.image.display()))
}

/// Uploads the image with these signatures and verifies it; code, reason and text of the refusal.
async fn judged(device: &TestDevice, endings: &[&str]) -> Result<String, (String, String, String)> {
    let signature = endings.iter().map(|ending| beside(device, ending)).collect();
    let stored = device.client.upload(&UploadFile { signature, ..upload(device) }).await.unwrap();
    match device.client.verify(&verify(&stored.file.name)).await {
        Ok(_) => Ok(stored.file.name),
        Err(error) => {
            let refused = error.api().unwrap();
            let reason = refused.details["reason"].as_str().unwrap_or_default().to_owned();
            Err((refused.code.clone(), reason, refused.message.clone()))
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_needs_as_many_signers_as_the_device_asks_for_of_whichever_kind() {
    let device = device("threshold = 2\nrequire_crl = true", |_| {}).await;
    let environment = device.environment().bytes().unwrap();
    for one in [["p7s"], ["p7s.2"], ["asc"]] {
        let (code, reason, text) = judged(&device, &one).await.unwrap_err();
        assert_eq!((code.as_str(), reason.as_str()), ("OTA_006", "threshold"), "{one:?}: {text}");
        assert!(text.contains("1 distinct key(s) signed") && text.contains("2 are needed"), "{text}");
    }
    let (_, reason, _) = judged(&device, &["p7s", "p7s"]).await.unwrap_err();
    assert_eq!(reason, "threshold", "one key that signs twice is one");
    assert_eq!(device.environment().bytes().unwrap(), environment);
    judged(&device, &["p7s", "asc"]).await.unwrap();
    let name = judged(&device, &["p7s", "p7s.2"]).await.unwrap();
    let started = device.client.deploy(&deploy(&name)).await.unwrap();
    device.ended(&started.job_id).await;
    device.check_rests_on(Slot::B).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_signed_by_three_keys_two_of_one_kind_comes_from_the_server_with_all_its_signatures() {
    let device = device("threshold = 3", |_| {}).await;
    device.download().await;
    let staged = device.layout.state().join("staging");
    let names = fs::read_dir(staged).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut endings: Vec<String> =
        names.filter_map(|name| Some(name.split_once(".squashfs.")?.1.to_owned())).collect();
    endings.sort();
    assert_eq!(endings, ["asc", "p7s", "p7s.2"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_list_and_a_newer_revocation_list_take_keys_back_and_verifications_with_them() {
    // Retires the first authority; signed by both others, as it must be for two signers.
    let verify = "threshold = 1\nrequire_crl = true\nkey_list = '{keys}/keys.list'";
    let device = device(verify, |layout| {
        let certificate = fs::read_to_string(layout.trusted_keys().join("first.pem")).unwrap();
        let der = process::read("sh", ["-ec", &format!("echo '{certificate}' | openssl x509 -outform DER")]);
        let mark = ota_core::Sha256Digest::of(&der.unwrap());
        let list = layout.trusted_keys().join("keys.list");
        let text = format!("ota-key-list 1\nserial 1\nissued 2025-03-10T14:30:00Z\nretire {mark}\n");
        fs::write(&list, text).unwrap();
        sign_detached(&list, &Signers::cms(&signers().second), None).unwrap();
    })
    .await;
    let (code, reason, text) = judged(&device, &["p7s"]).await.unwrap_err();
    assert_eq!((code.as_str(), reason.as_str()), ("OTA_006", "revoked"), "{text}");
    assert!(text.contains("retired by the key list"), "{text}");
    let name = judged(&device, &["p7s.2"]).await.unwrap();

    // The second signer is revoked by a list that lies beside the older one; the daemon is started again.
    let signers = signers();
    let newer = device.layout.trusted_keys().join("a-newer.crl");
    Signers::list(&signers.second, &newer, &[&signers.second.signer_certificate]);
    device.machine.kill_daemon().await;
    device.ready().await.unwrap();
    let refused = device.client.deploy(&deploy(&name)).await.unwrap_err();
    assert!(refused.chain().contains("call upload/verify first"), "{}", refused.chain());
    let refused = device.client.verify(&crate::uploads::verify(&name)).await.unwrap_err();
    assert_eq!(refused.api().unwrap().code, "OTA_006", "{}", refused.chain());
    assert_eq!(device.boots(), [Some(Slot::A)]);
}
