//! Ed25519 keys of TUF roles: made, kept as PKCS#8 files (0600), found again by key id.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use ota_core::Sha256Digest;
use ring::{
    rand::SystemRandom,
    signature::{Ed25519KeyPair, KeyPair as _},
};
use serde_json::json;

use crate::{
    ReleaseError,
    canonical::canonical,
    durable,
    error::at,
    metadata::{PublicKey, RoleName},
};

/// Ending of key files.
const ENDING: &str = "pk8";

/// A key that can sign.
pub(crate) struct SigningKey {
    pair: Ed25519KeyPair,
    pub(crate) id: String,
    pub(crate) public: PublicKey,
}

impl SigningKey {
    fn from_pkcs8(path: &Path, bytes: &[u8]) -> Result<Self, ReleaseError> {
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(bytes)
            .map_err(|e| ReleaseError::Key { path: path.into(), why: e.to_string() })?;
        let public = PublicKey::ed25519(pair.public_key().as_ref());
        Ok(Self { id: key_id(&public)?, pair, public })
    }

    pub(crate) fn sign(&self, bytes: &[u8]) -> String {
        hex::encode(self.pair.sign(bytes))
    }
}

/// Key id as python-tuf computes it: SHA-256 of the canonical key without extras.
fn key_id(key: &PublicKey) -> Result<String, ReleaseError> {
    let value =
        json!({"keytype": key.keytype, "scheme": key.scheme, "keyval": {"public": key.keyval.public}});
    Ok(Sha256Digest::of(&canonical(&value)?).to_string())
}

/// A folder of key files.
#[derive(Clone, Debug)]
pub(crate) struct KeyFolder(pub(crate) PathBuf);

impl KeyFolder {
    /// Makes a key and writes it as `<role>-<first 8 digits of the key id>.pk8`.
    pub(crate) fn make(&self, role: RoleName) -> Result<SigningKey, ReleaseError> {
        durable::make_folder(&self.0, true)?;
        let unusable = |_| ReleaseError::Key { path: self.0.clone(), why: "no randomness".into() };
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(unusable)?;
        let key = SigningKey::from_pkcs8(&self.0, pkcs8.as_ref())?;
        let path = self.0.join(format!("{role}-{}.{ENDING}", &key.id[..8]));
        durable::write(&path, pkcs8.as_ref(), 0o600)?;
        Ok(key)
    }

    /// Every key in the folder, by key id. Names of files do not matter.
    pub(crate) fn load(&self) -> Result<BTreeMap<String, SigningKey>, ReleaseError> {
        let mut keys = BTreeMap::new();
        for entry in fs::read_dir(&self.0).map_err(at("list", &self.0))? {
            let path = entry.map_err(at("list", &self.0))?.path();
            if path.extension().is_some_and(|e| e == ENDING) {
                let bytes = fs::read(&path).map_err(at("read", &path))?;
                let key = SigningKey::from_pkcs8(&path, &bytes)?;
                keys.insert(key.id.clone(), key);
            }
        }
        Ok(keys)
    }
}
