//! The TUF metadata files as this producer writes them, and how they are signed.

use std::{collections::BTreeMap, fmt, path::Path};

use jiff::tz::TimeZone;
use ota_core::{Sha256Digest, Timestamp};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{ReleaseError, canonical::canonical, durable::Content, error::at, keys::SigningKey};

const SPEC_VERSION: &str = "1.0.31";

/// A top-level role of the repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names are those of the TUF specification")]
pub enum RoleName {
    Root,
    Targets,
    Snapshot,
    Timestamp,
}

impl RoleName {
    /// Every role.
    pub const ALL: [Self; 4] = [Self::Root, Self::Targets, Self::Snapshot, Self::Timestamp];

    /// Its name in metadata.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Targets => "targets",
            Self::Snapshot => "snapshot",
            Self::Timestamp => "timestamp",
        }
    }
}

impl fmt::Display for RoleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PublicKey {
    pub(crate) keytype: String,
    pub(crate) scheme: String,
    pub(crate) keyval: KeyValue,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeyValue {
    pub(crate) public: String,
}

impl PublicKey {
    pub(crate) fn ed25519(raw: &[u8]) -> Self {
        Self {
            keytype: "ed25519".into(),
            scheme: "ed25519".into(),
            keyval: KeyValue { public: hex::encode(raw) },
        }
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct RoleKeys {
    pub(crate) keyids: Vec<String>,
    pub(crate) threshold: usize,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Root {
    #[serde(flatten)]
    pub(crate) head: Head,
    pub(crate) consistent_snapshot: bool,
    pub(crate) keys: BTreeMap<String, PublicKey>,
    pub(crate) roles: BTreeMap<String, RoleKeys>,
}

impl Root {
    pub(crate) fn role(&self, role: RoleName) -> RoleKeys {
        self.roles.get(role.as_str()).cloned().unwrap_or_default()
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Targets {
    #[serde(flatten)]
    pub(crate) head: Head,
    pub(crate) targets: BTreeMap<String, TargetFile>,
}

/// One target: what a device must end up with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct TargetFile {
    pub(crate) length: u64,
    pub(crate) hashes: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) custom: Option<Value>,
}

impl From<Content> for TargetFile {
    fn from(content: Content) -> Self {
        Self { length: content.length, hashes: sha256(&content.sha256), custom: None }
    }
}

impl TargetFile {
    /// Path below `targets/` of the content-addressed file.
    pub(crate) fn path_of(&self, target: &str) -> String {
        let hash = self.hashes.get("sha256").map_or("", String::as_str);
        match target.rsplit_once('/') {
            Some((folder, name)) => format!("{folder}/{hash}.{name}"),
            None => format!("{hash}.{target}"),
        }
    }
}

/// Snapshot or timestamp: which versions belong together.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Pins {
    #[serde(flatten)]
    pub(crate) head: Head,
    pub(crate) meta: BTreeMap<String, Pin>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Pin {
    pub(crate) version: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) length: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) hashes: Option<BTreeMap<String, String>>,
}

impl Pin {
    pub(crate) fn of(version: u64, bytes: &[u8]) -> Self {
        Self { version, length: Some(bytes.len() as u64), hashes: Some(sha256(&Sha256Digest::of(bytes))) }
    }
}

/// What every role starts with.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Head {
    #[serde(rename = "_type")]
    pub(crate) kind: String,
    pub(crate) spec_version: String,
    pub(crate) version: u64,
    pub(crate) expires: String,
}

impl Head {
    pub(crate) fn new(role: RoleName, version: u64, expires: Timestamp) -> Result<Self, ReleaseError> {
        Ok(Self {
            kind: role.as_str().into(),
            spec_version: SPEC_VERSION.into(),
            version,
            expires: date(expires)?,
        })
    }
}

#[derive(Deserialize)]
struct Envelope<T> {
    signed: T,
}

#[derive(Serialize)]
struct Signed<'a> {
    signatures: Vec<Signature<'a>>,
    signed: &'a Value,
}

#[derive(Serialize)]
struct Signature<'a> {
    keyid: &'a str,
    sig: String,
}

/// The file: `role` signed by every key of `keys`.
pub(crate) fn sign(role: &impl Serialize, keys: &[&SigningKey]) -> Result<Vec<u8>, ReleaseError> {
    let signed = serde_json::to_value(role).map_err(ReleaseError::Encode)?;
    let bytes = canonical(&signed)?;
    let signatures = keys.iter().map(|key| Signature { keyid: &key.id, sig: key.sign(&bytes) }).collect();
    serde_json::to_vec_pretty(&Signed { signatures, signed: &signed }).map_err(ReleaseError::Encode)
}

/// The `signed` part of a file. Our own files are not verified here; devices do that.
pub(crate) fn load<T: DeserializeOwned>(path: &Path) -> Result<T, ReleaseError> {
    let bytes = std::fs::read(path).map_err(at("read", path))?;
    let envelope: Envelope<T> = parse(path, "metadata", &bytes)?;
    Ok(envelope.signed)
}

pub(crate) fn parse<T: DeserializeOwned>(
    path: &Path,
    what: &'static str,
    bytes: &[u8],
) -> Result<T, ReleaseError> {
    serde_json::from_slice(bytes).map_err(|source| ReleaseError::Malformed {
        path: path.into(),
        what,
        source,
    })
}

/// `2025-03-15T10:30:45Z`, whole seconds, as python-tuf demands.
pub(crate) fn date(time: Timestamp) -> Result<String, ReleaseError> {
    let outside = |_| ReleaseError::Time(time.as_millis());
    let time = jiff::Timestamp::from_second(time.as_secs()).map_err(outside)?;
    Ok(time.to_zoned(TimeZone::UTC).strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

fn sha256(digest: &Sha256Digest) -> BTreeMap<String, String> {
    BTreeMap::from([("sha256".into(), digest.to_string())])
}
