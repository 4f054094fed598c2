//! The keys that this device trusts, read from a folder.
//!
//! | File | Holds |
//! |---|---|
//! | `*.pem`, `*.crt`, `*.cer`, `*.der` | CA certificates, X.509, PEM (several) or DER (one) |
//! | `*.crl` | revocation lists, X.509, PEM (several) or DER (one) |
//! | `*.asc`, `*.gpg`, `*.pgp` | `OpenPGP` public keys as `gpg --export` writes them |
//! | `development/` | the same; what is in it are development keys |
//!
//! The names decide nothing. Of the revocation lists of one CA the newest counts (`thisUpdate`, then the number), and
//! exports of one `OpenPGP` key are taken together: a revocation in any of them counts, and the newest statement about
//! its expiry.
//!
//! Other files and folders are left alone. A file with one of these names that cannot be used is an error: a keyring
//! that is smaller than its owner believes would be found out at the next update only.

use std::{
    fs,
    path::{Path, PathBuf},
};

use ota_core::release::{DetachedSignature, signature_endings};
use rustls_pki_types::pem::{PemObject as _, SectionKind};

use crate::{
    error::VerifyError,
    openpgp::OpenpgpKey,
    policy::KeyRole,
    x509::{Anchor, Crl},
};

/// The longest file that is read.
const MAX_FILE: u64 = 1 << 20;

/// Folder of the keys that count only where the configuration allows development keys.
const DEVELOPMENT: &str = "development";

/// The keys that this device trusts.
#[derive(Debug, Default)]
pub struct Keyring {
    pub(crate) anchors: Vec<Anchor>,
    pub(crate) crls: Vec<Crl>,
    pub(crate) openpgp: Vec<OpenpgpKey>,
}

impl Keyring {
    /// Reads every key file of `dir`, in the order of their names. An empty folder makes an empty keyring.
    ///
    /// # Errors
    /// The first file that cannot be read or used, by its name.
    pub fn load(dir: &Path) -> Result<Self, VerifyError> {
        let mut keyring = Self::default();
        for path in entries(dir)? {
            keyring.add_file(&path, KeyRole::Release)?;
        }
        let development = dir.join(DEVELOPMENT);
        if development.is_dir() {
            for path in entries(&development)? {
                keyring.add_file(&path, KeyRole::Development)?;
            }
        }
        Crl::newest_first(&mut keyring.crls);
        Ok(keyring)
    }

    /// Whether there is no key at all, so that no signature can be accepted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.anchors.is_empty() && self.openpgp.is_empty()
    }

    /// The CA certificates.
    #[must_use]
    pub fn anchors(&self) -> &[Anchor] {
        &self.anchors
    }

    /// The revocation lists.
    #[must_use]
    pub fn crls(&self) -> &[Crl] {
        &self.crls
    }

    /// The `OpenPGP` keys.
    #[must_use]
    pub fn openpgp(&self) -> &[OpenpgpKey] {
        &self.openpgp
    }

    fn add_file(&mut self, path: &Path, role: KeyRole) -> Result<(), VerifyError> {
        let extension =
            path.extension().and_then(|extension| extension.to_str()).map(str::to_ascii_lowercase);
        match extension.as_deref() {
            Some("pem" | "crt" | "cer" | "der") => {
                for der in sections(path, SectionKind::Certificate)? {
                    self.anchors.push(Anchor::from_der(der, role, path)?);
                }
            }
            Some("crl") => {
                for der in sections(path, SectionKind::Crl)? {
                    self.crls.push(Crl::from_der(&der, path)?);
                }
            }
            Some("asc" | "gpg" | "pgp") => {
                for key in OpenpgpKey::from_export(&read(path)?, role, path)? {
                    self.add_openpgp(key);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn add_openpgp(&mut self, key: OpenpgpKey) {
        match self.openpgp.iter_mut().find(|known| known.is_same_key(&key)) {
            Some(known) => known.merge(key),
            None => self.openpgp.push(key),
        }
    }
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>, VerifyError> {
    let unreadable = |source| VerifyError::Read { path: dir.to_owned(), source };
    let mut paths = fs::read_dir(dir)
        .and_then(|entries| {
            entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>()
        })
        .map_err(unreadable)?;
    paths.retain(|path| path.is_file());
    paths.sort();
    Ok(paths)
}

pub(crate) fn read(path: &Path) -> Result<Vec<u8>, VerifyError> {
    let unreadable = |source| VerifyError::Read { path: path.to_owned(), source };
    let size = fs::metadata(path).map_err(unreadable)?.len();
    if size > MAX_FILE {
        return Err(VerifyError::TooLarge { path: path.to_owned(), size, limit: MAX_FILE });
    }
    fs::read(path).map_err(unreadable)
}

/// The detached signatures beside a file: `NAME.sig`, `NAME.asc` (`OpenPGP`), `NAME.p7s` (CMS), further ones of a kind as
/// `NAME.p7s.2` to `NAME.p7s.8`.
///
/// # Errors
/// One that cannot be read, or is longer than a key file may be.
pub fn signatures_beside(path: &Path) -> Result<Vec<DetachedSignature>, VerifyError> {
    let beside = |ending: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(".");
        name.push(ending);
        PathBuf::from(name)
    };
    signature_endings()
        .map(|(ending, kind)| (beside(&ending), kind))
        .filter(|(path, _)| path.exists())
        .map(|(path, kind)| Ok(DetachedSignature { kind, bytes: read(&path)? }))
        .collect()
}

/// The DER of every section of a PEM file, which must all be of one kind; or the file itself when it is no PEM.
fn sections(path: &Path, wanted: SectionKind) -> Result<Vec<Vec<u8>>, VerifyError> {
    let bytes = read(path)?;
    if bytes.first() == Some(&0x30) {
        return Ok(vec![bytes]);
    }
    let mut found = Vec::new();
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(&bytes) {
        match section {
            Ok((kind, der)) if kind == wanted => found.push(der),
            Ok((SectionKind::PrivateKey | SectionKind::RsaPrivateKey | SectionKind::EcPrivateKey, _)) => {
                return Err(VerifyError::content(path, "holds a private key; take it off this device"));
            }
            Ok(_) => {
                return Err(VerifyError::content(path, "holds something else beside what its name says"));
            }
            Err(error) => return Err(VerifyError::content(path, format!("is not sound PEM: {error}"))),
        }
    }
    if found.is_empty() {
        return Err(VerifyError::content(path, "is neither PEM nor DER of what its name says"));
    }
    Ok(found)
}
