//! What the user keeps on the gateway: snapshots of the settings, and the factory reset that erases everything.

use alloc::{string::String, vec::Vec};

use serde::{Deserialize, Serialize};

use super::{LastUpdate, Role, SlotRecord};
use crate::{ByteCount, Sha256Digest, Slot, SnapshotId, Timestamp, error::PortError};

/// Why a snapshot was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SnapshotCause {
    /// Somebody asked for it.
    Manual,
    /// An install was about to write.
    BeforeInstall,
    /// A factory reset was about to erase. It is kept where the reset does not reach.
    FactoryReset,
}

impl SnapshotCause {
    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Manual => "manual",
            Self::BeforeInstall => "before_install",
            Self::FactoryReset => "factory_reset",
        }
    }
}

/// A snapshot to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotOrder {
    /// Why.
    pub cause: SnapshotCause,
    /// Who asked, `gateway` for itself.
    pub by: String,
    /// What they said of it. Untrusted text until it is shown escaped.
    pub description: Option<String>,
    /// Now.
    pub at: Timestamp,
}

/// A snapshot that is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Its name; a larger number is a newer one.
    pub id: SnapshotId,
    /// When it was made.
    pub created: Timestamp,
    /// Why; none for an archive that somebody else put there.
    pub cause: Option<SnapshotCause>,
    /// Who asked for it.
    pub by: Option<String>,
    /// What they said of it.
    pub description: Option<String>,
    /// Length of the archive.
    pub size: ByteCount,
    /// Digest of the archive; none for one that somebody else put there.
    pub sha256: Option<Sha256Digest>,
    /// Whether it opens only with the identity that belongs to its recipient.
    pub encrypted: bool,
    /// How many files are in it, as far as that is known.
    pub files: Option<u64>,
    /// Bytes in them.
    pub content: Option<ByteCount>,
    /// Names below the configured paths that are not in it, with why: links, devices, names that are no text.
    pub skipped: Vec<String>,
    /// Whether a factory reset leaves it alone.
    pub outlives_reset: bool,
}

/// What a restore did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restored {
    /// Files that were replaced or made.
    pub files: u64,
    /// Bytes in them.
    pub content: ByteCount,
}

/// Archives of the configured settings. The caller sees to it that one method runs at a time and no slot is written
/// meanwhile.
pub trait Snapshots: Send + Sync {
    /// All that are there, newest first.
    ///
    /// # Errors
    /// `Io`.
    fn list(&self) -> Result<Vec<Snapshot>, PortError>;

    /// Makes one, durable on return, and drops the oldest beyond those that are kept. Nothing is left behind on failure.
    ///
    /// # Errors
    /// `InsufficientSpace` (OTA_003); `Unavailable` with `snapshots_not_configured`; `SystemBusy` (OTA_014) when a file
    /// changed while it was read; `Io`.
    fn create(&self, order: &SnapshotOrder) -> Result<Snapshot, PortError>;

    /// Whether the device itself holds an identity for encrypted ones.
    fn has_identity(&self) -> bool;

    /// Puts the files back, each one durably and whole; what is not in the snapshot stays. Every digest is checked before
    /// anything is replaced. May be asked for again after a cut. `identity`: age identities as text, for an encrypted one.
    ///
    /// # Errors
    /// `InvalidImage` (OTA_005) for an archive that is damaged, unsafe, or does not open with this identity;
    /// `ChecksumMismatch` (OTA_007); `InsufficientSpace` (OTA_003); `Unavailable`; `Io`.
    fn restore(&self, id: &SnapshotId, identity: Option<&str>) -> Result<Restored, PortError>;
}

/// What a reset must not set back: counts over the life of the device, and what old releases are refused by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carried {
    /// Settings by name.
    pub settings: Vec<(String, String)>,
    /// What is known of the slots, which the reset leaves as they are.
    pub slots: Vec<(Slot, SlotRecord)>,
    /// The last update.
    pub last_update: Option<LastUpdate>,
    /// A job's number that no other job has; later ones are above it.
    pub job_number: u64,
    /// The same of an event.
    pub event_number: u64,
}

/// A factory reset to be carried out at the next boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResetOrder {
    /// Who asked for it.
    pub by: String,
    /// Their role.
    pub role: Option<Role>,
    /// Address the request came from.
    pub address: Option<String>,
    /// Request id.
    pub request_id: Option<String>,
    /// When.
    pub at: Timestamp,
    /// The kernel's boot id at the time: a different one means that a boot has passed.
    pub boot_id: String,
    /// The settings' backup, if one was asked for.
    pub backup: Option<SnapshotId>,
    /// Number and hash of the audit's last record then: how far the erased log went.
    pub audit_end: Option<(u64, String)>,
    /// See [`Carried`].
    pub carried: Carried,
}

/// Schedules the reset; carrying it out is the business of a program that runs before the data is mounted.
pub trait FactoryReset: Send + Sync {
    /// Whether this device may be reset, and is set up for it.
    ///
    /// # Errors
    /// `FactoryResetNotAllowed` (OTA_011) by policy; `Unavailable` with `reset_not_set_up` when it could not be carried
    /// out; `Io`.
    fn allowed(&self) -> Result<(), PortError>;

    /// The reset that waits for a boot, if one does.
    ///
    /// # Errors
    /// `Io`.
    fn pending(&self) -> Result<Option<ResetOrder>, PortError>;

    /// Writes the order where the reset does not reach. Durable on return.
    ///
    /// # Errors
    /// As [`allowed`](Self::allowed); `InsufficientSpace` (OTA_003).
    fn schedule(&self, order: &ResetOrder) -> Result<(), PortError>;
}
