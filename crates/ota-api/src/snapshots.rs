//! `snapshots`: saved settings, making one, putting one back.

use jiff::Timestamp;
use ota_core::ports::{Restored, Snapshot};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{auth::Secret, text};

/// A snapshot of the configured settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SnapshotInfo {
    /// Its name, `SNAP-1763765990000`; a larger number is a newer one.
    pub id: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// `manual`, `before_install`, `factory_reset`; absent for an archive that somebody else put there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// Who asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// What they said of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Length of the archive in bytes.
    pub size: u64,
    /// `sha256:` and the digest of the archive; absent for an archive that somebody else put there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksum: Option<String>,
    /// Whether it opens only with the age identity that belongs to its recipient.
    pub encrypted: bool,
    /// How many files are in it; absent where that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<u64>,
    /// Bytes in them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_bytes: Option<u64>,
    /// Names below the configured paths that are not in it, with why; the first hundred.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<String>,
    /// Whether a factory reset leaves it alone.
    pub outlives_reset: bool,
}

impl From<&Snapshot> for SnapshotInfo {
    fn from(core: &Snapshot) -> Self {
        Self {
            id: core.id.to_string(),
            created_at: text::time(core.created),
            cause: core.cause.map(|cause| cause.as_str().into()),
            by: core.by.clone(),
            description: core.description.clone(),
            size: core.size.get(),
            checksum: core.sha256.map(|digest| format!("sha256:{digest}")),
            encrypted: core.encrypted,
            files: core.files,
            content_bytes: core.content.map(ota_core::ByteCount::get),
            skipped: core.skipped.clone(),
            outlives_reset: core.outlives_reset,
        }
    }
}

/// Answer of `GET snapshots`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SnapshotList {
    /// All of them, newest first.
    pub snapshots: Vec<SnapshotInfo>,
}

/// Body of `POST snapshots`; may be absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CreateSnapshotRequest {
    /// For people, up to 500 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// Body of `POST snapshots/{id}/restore`; may be absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RestoreSnapshotRequest {
    /// Text of an age identity file, `AGE-SECRET-KEY-1…`, for an encrypted snapshot where the gateway holds none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<Secret>,
    /// The PIN, for gateways that want it for a restore.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin: Option<Secret>,
}

/// Answer of `POST snapshots/{id}/restore`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RestoreSnapshotResponse {
    /// `restored`.
    pub status: String,
    /// A sentence for people.
    pub message: String,
    /// Which snapshot.
    pub id: String,
    /// Files that were replaced or made.
    pub files: u64,
    /// Bytes in them.
    pub content_bytes: u64,
}

impl RestoreSnapshotResponse {
    /// What a restore did.
    #[must_use]
    pub fn new(snapshot: &Snapshot, restored: &Restored) -> Self {
        Self {
            status: "restored".into(),
            message: format!("{} file(s) put back from {}", restored.files, snapshot.id),
            id: snapshot.id.to_string(),
            files: restored.files,
            content_bytes: restored.content.get(),
        }
    }
}
