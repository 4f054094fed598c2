//! Keys of a publisher and of a stranger, by openssl and gpg, and what they sign.

use std::{
    fs,
    path::{Path, PathBuf},
};

use ota_core::{
    ByteCount, Sha256Digest,
    release::{ChecksumFile, DetachedSignature, ImageKind, SignatureKind},
};
use ota_release::{CodeSigningCa, CodeSigningOptions, SignMethod, make_code_signing_ca, sign_detached};
use ota_tests::process;
use ota_verify::{Manifest, Trailer, trailer::ManifestKind};
use tempfile::TempDir;

use super::bench::Image;

/// How an image is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Cms,
    Openpgp,
    TrailerCms,
    TrailerOpenpgp,
    /// A signed `SHA256SUMS`.
    SumsCms,
    /// A signed `SHA512SUMS`.
    SumsOpenpgp,
}

impl Kind {
    pub(super) const ALL: [Self; 6] =
        [Self::Cms, Self::Openpgp, Self::TrailerCms, Self::TrailerOpenpgp, Self::SumsCms, Self::SumsOpenpgp];

    pub(super) const fn is_detached(self) -> bool {
        matches!(self, Self::Cms | Self::Openpgp)
    }

    pub(super) const fn is_list(self) -> bool {
        matches!(self, Self::SumsCms | Self::SumsOpenpgp)
    }

    const fn encoding(self) -> SignatureKind {
        match self {
            Self::Cms | Self::TrailerCms | Self::SumsCms => SignatureKind::Cms,
            Self::Openpgp | Self::TrailerOpenpgp | Self::SumsOpenpgp => SignatureKind::Openpgp,
        }
    }

    /// Where the parts of a signature file begin: of DER each element at any depth, of OpenPGP each field of the packet.
    pub(super) fn boundaries(self, file: &[u8]) -> Vec<usize> {
        let mut found = Vec::new();
        match self.encoding() {
            SignatureKind::Cms => elements(file, 0, file.len(), &mut found),
            SignatureKind::Openpgp => {
                found.extend(fields(file).into_iter().map(|(at, _)| at).chain([file.len() - 1]));
            }
        }
        found.retain(|at| *at > 0 && *at < file.len());
        found
    }

    /// Bytes that a change of must be noticed: where each part begins, but for what OpenPGP does not sign, and in the signature
    /// value at the end.
    pub(super) fn signed_places(self, file: &[u8]) -> Vec<usize> {
        let mut found = match self.encoding() {
            SignatureKind::Cms => self.boundaries(file),
            SignatureKind::Openpgp => {
                fields(file).into_iter().filter(|(_, signed)| *signed).map(|(at, _)| at).collect()
            }
        };
        found.extend([0, file.len() - 40, file.len() - 20, file.len() - 1]);
        found
    }
}

/// The format of an image of this name.
fn format_of(name: &str) -> ImageKind {
    if name.contains(".tar.") {
        ImageKind::TarGz
    } else if name.contains(".squashfs") {
        ImageKind::Squashfs
    } else {
        ImageKind::Raw
    }
}

/// Where the fields of an OpenPGP signature packet begin (RFC 4880, 5.2.3; version 4), and whether a change of their first byte
/// has to be noticed: nobody signs the second area of subpackets, and the two bytes of the digest are a hint. Of an armoured one,
/// some places of the text.
fn fields(file: &[u8]) -> Vec<(usize, bool)> {
    if file[0] & 0x80 == 0 {
        let places = [1, 2, 3, 4, 5, 6, 8, 10, file.len() / 2];
        return places.into_iter().map(|at| (at, true)).collect();
    }
    // Of one byte or of two, as gpg writes it.
    let body = if file[0] & 3 == 0 { 2 } else { 3 };
    let number = |at: usize| usize::from(u16::from_be_bytes([file[at], file[at + 1]]));
    let hashed = body + 6;
    let unhashed = hashed + number(body + 4);
    let digest = unhashed + 2 + number(unhashed);
    assert_eq!((file[0] & 0xfc, file[body]), (0x88, 4), "a signature packet of version 4, as gpg writes it");
    let mut found: Vec<_> = (1..=body + 4).chain([hashed]).map(|at| (at, true)).collect();
    found.extend([(unhashed, false), (unhashed + 2, false), (digest, false)]);
    let mut value = digest + 2;
    while value + 2 <= file.len() {
        found.push((value, true));
        value += 2 + number(value).div_ceil(8);
    }
    assert_eq!(value, file.len(), "the packet ends with its last number");
    found
}

/// Offsets of the elements of DER between `at` and `end`.
fn elements(file: &[u8], mut at: usize, end: usize, found: &mut Vec<usize>) {
    while at + 2 <= end {
        found.push(at);
        let (tag, first) = (file[at], usize::from(file[at + 1]));
        let (head, length) = if first < 0x80 {
            (2, first)
        } else {
            let count = first & 0x7f;
            if count > 4 || at + 2 + count > end {
                return;
            }
            let length =
                file[at + 2..at + 2 + count].iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
            (2 + count, length)
        };
        let inner = at + head;
        if inner + length > end {
            return;
        }
        if tag & 0x20 != 0 {
            elements(file, inner, inner + length, found);
        }
        at = inner + length;
    }
}

pub(super) struct Keys {
    pub(super) dir: TempDir,
    good: CodeSigningCa,
    stranger: CodeSigningCa,
}

impl Keys {
    pub(super) fn make() -> Self {
        // gpg's socket needs a short path.
        let dir = tempfile::Builder::new().prefix("m").tempdir_in("/tmp").unwrap();
        let ca = |name: &str| {
            make_code_signing_ca(&CodeSigningOptions {
                signer_days: 10,
                ca_days: 3650,
                ..CodeSigningOptions::new(dir.path().join(name))
            })
            .unwrap()
        };
        let (good, stranger) = (ca("good"), ca("stranger"));
        let keys = Self { good, stranger, dir };
        for name in ["good", "stranger"] {
            let home = keys.home(name);
            fs::create_dir(&home).unwrap();
            std::os::unix::fs::chown(&home, None, None).unwrap();
            keys.gpg(name, &["--quick-generate-key", name, "ed25519", "sign", "10d"]);
        }
        keys.trust();
        keys
    }

    fn home(&self, name: &str) -> PathBuf {
        self.dir.path().join(format!("g{name}"))
    }

    fn gpg(&self, name: &str, arguments: &[&str]) -> Vec<u8> {
        let home = self.home(name);
        let fixed = ["--batch", "--yes", "--quiet", "--no-permission-warning", "--pinentry-mode", "loopback"];
        let of = ["--passphrase", "", "--homedir", home.to_str().unwrap()];
        process::read("gpg", [&fixed[..], &of, arguments].concat()).unwrap()
    }

    /// The folder of a device that trusts the publisher: `keys`; the same after everything was revoked: `revoked`.
    fn trust(&self) {
        let (keys, revoked) = (self.dir.path().join("keys"), self.dir.path().join("revoked"));
        fs::create_dir_all(&keys).unwrap();
        fs::create_dir_all(&revoked).unwrap();
        for folder in [&keys, &revoked] {
            fs::copy(&self.good.ca_certificate, folder.join("ca.pem")).unwrap();
        }
        fs::write(keys.join("gpg.asc"), self.gpg("good", &["--armor", "--export"])).unwrap();
        let certificates = self.home("good").join("openpgp-revocs.d");
        let certificate = fs::read_dir(certificates).unwrap().next().unwrap().unwrap().path();
        // gpg puts a colon in front so that nobody imports it by accident.
        let text = fs::read_to_string(certificate).unwrap().replace(":-----BEGIN", "-----BEGIN");
        let copy = self.home("revoked");
        fs::create_dir(&copy).unwrap();
        let revocation = self.dir.path().join("revocation");
        fs::write(&revocation, text).unwrap();
        self.gpg("revoked", &["--import", keys.join("gpg.asc").to_str().unwrap()]);
        self.gpg("revoked", &["--import", revocation.to_str().unwrap()]);
        fs::write(revoked.join("gpg.asc"), self.gpg("revoked", &["--armor", "--export"])).unwrap();
        self.revoke(&revoked.join("ca.crl"));
    }

    /// A revocation list over the publisher's signer.
    fn revoke(&self, to: &Path) {
        let dir = self.dir.path().join("crl");
        fs::create_dir(&dir).unwrap();
        let at = dir.display();
        let config = format!(
            "[ca]\ndefault_ca=d\n[d]\ndatabase={at}/index\ncrlnumber={at}/number\ndefault_md=sha256\ndefault_crl_days=3650\n\
             crl_extensions=e\n[e]\nauthorityKeyIdentifier=keyid:always\n"
        );
        fs::write(dir.join("cnf"), config).unwrap();
        fs::write(dir.join("index"), "").unwrap();
        fs::write(dir.join("number"), "01\n").unwrap();
        let cnf = dir.join("cnf");
        let ca: [&std::ffi::OsStr; 7] = [
            "ca".as_ref(),
            "-config".as_ref(),
            cnf.as_os_str(),
            "-cert".as_ref(),
            self.good.ca_certificate.as_os_str(),
            "-keyfile".as_ref(),
            self.good.ca_key.as_os_str(),
        ];
        let revoke = ["-revoke".as_ref(), self.good.signer_certificate.as_os_str()];
        process::read("openssl", [&ca[..], &revoke].concat()).unwrap();
        let list = ["-gencrl".as_ref(), "-out".as_ref(), to.as_os_str()];
        process::read("openssl", [&ca[..], &list].concat()).unwrap();
    }

    fn detached(&self, encoding: SignatureKind, content: &[u8], who: &str) -> DetachedSignature {
        let file = self.dir.path().join("content");
        fs::write(&file, content).unwrap();
        let ca = if who == "good" { &self.good } else { &self.stranger };
        let method = match encoding {
            SignatureKind::Cms => SignMethod::Cms {
                key: ca.signer_key.clone(),
                certificate: ca.signer_certificate.clone(),
                chain: None,
            },
            SignatureKind::Openpgp => {
                SignMethod::Openpgp { key: who.into(), homedir: Some(self.home(who)), armor: false }
            }
        };
        let signature = self.dir.path().join("signature");
        sign_detached(&file, &method, Some(&signature)).unwrap();
        DetachedSignature { kind: encoding, bytes: fs::read(signature).unwrap() }
    }

    /// The image, signed in this way.
    pub(super) fn sign(&self, kind: Kind, name: &str, bytes: &[u8], who: &str) -> Image {
        if kind.is_detached() {
            let signatures = vec![self.detached(kind.encoding(), bytes, who)];
            return Image { file: bytes.to_vec(), signatures, checksums: None };
        }
        if kind.is_list() {
            return self.list(kind, bytes, who);
        }
        let manifest = Manifest {
            version: "v5.0.5".parse().unwrap(),
            models: vec!["IGW-5000".into()],
            kind: ManifestKind(format_of(name)),
            size: ByteCount(bytes.len() as u64),
            sha256: Sha256Digest::of(bytes),
            unpacked_size: None,
            requires_reboot: true,
            block_size: 1 << 20,
            blocks: bytes.chunks(1 << 20).map(Sha256Digest::of).collect(),
            notes: vec![],
        };
        let manifest = manifest.encode().into_bytes();
        let signatures = vec![self.detached(kind.encoding(), &manifest, who)];
        let trailer = Trailer { manifest, signatures }.encode(bytes.len() as u64).unwrap();
        Image { file: [bytes, &trailer].concat(), signatures: vec![], checksums: None }
    }

    /// As coreutils writes it, signed: SHA-256 with CMS, SHA-512 with OpenPGP.
    fn list(&self, kind: Kind, bytes: &[u8], who: &str) -> Image {
        let tool = if kind == Kind::SumsCms { "sha256sum" } else { "sha512sum" };
        let mut image = self.bare_list(tool, bytes);
        if let Some(list) = &mut image.checksums {
            list.signatures = vec![self.detached(kind.encoding(), &list.text, who)];
        }
        image
    }

    /// The image with a checksum file by `tool` that nobody signed.
    pub(super) fn bare_list(&self, tool: &str, bytes: &[u8]) -> Image {
        let dir = self.dir.path().join("list");
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("image"), bytes).unwrap();
        let text = process::read("sh", ["-ec", &format!("cd {}; {tool} image", dir.display())]).unwrap();
        let checksums = Some(ChecksumFile { text, signatures: vec![], name: "image".into() });
        Image { file: bytes.to_vec(), signatures: vec![], checksums }
    }
}

impl Drop for Keys {
    /// The agents that gpg started for these homes.
    fn drop(&mut self) {
        for name in ["good", "stranger", "revoked"] {
            let home = self.home(name);
            let _ = process::outcome(
                "gpgconf",
                ["--homedir".as_ref(), home.as_os_str(), "--kill".as_ref(), "all".as_ref()],
            );
        }
    }
}
