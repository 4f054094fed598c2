//! The fifteen conditions an update can end in, with what the caller needs to act on each.

use alloc::{boxed::Box, string::String, vec::Vec};
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::{ByteCount, JobId, Sha256Digest, Slot, Timestamp, safety::Block};

/// Public number of a domain condition, `OTA_001` to `OTA_015` on the wire. Numbers are frozen: append, never reuse.
///
/// Source: `api-contract.md`, "Errors".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[repr(u8)]
#[expect(missing_docs, reason = "each name is its own description; `ErrorCode::meaning` has the sentence")]
pub enum ErrorCode {
    UpdateInProgress = 1,
    UpdateBlocked = 2,
    InsufficientSpace = 3,
    NetworkError = 4,
    InvalidImage = 5,
    SignatureInvalid = 6,
    ChecksumMismatch = 7,
    InvalidPartition = 8,
    ServerUnreachable = 9,
    InvalidPin = 10,
    FactoryResetNotAllowed = 11,
    RollbackNotAvailable = 12,
    JobNotFound = 13,
    SystemBusy = 14,
    MaintenanceActive = 15,
}

impl ErrorCode {
    /// Every code, in order of its number.
    pub const ALL: [Self; 15] = [
        Self::UpdateInProgress,
        Self::UpdateBlocked,
        Self::InsufficientSpace,
        Self::NetworkError,
        Self::InvalidImage,
        Self::SignatureInvalid,
        Self::ChecksumMismatch,
        Self::InvalidPartition,
        Self::ServerUnreachable,
        Self::InvalidPin,
        Self::FactoryResetNotAllowed,
        Self::RollbackNotAvailable,
        Self::JobNotFound,
        Self::SystemBusy,
        Self::MaintenanceActive,
    ];

    /// 1 to 15.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// Symbolic name, `UPDATE_BLOCKED`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::UpdateInProgress => "UPDATE_IN_PROGRESS",
            Self::UpdateBlocked => "UPDATE_BLOCKED",
            Self::InsufficientSpace => "INSUFFICIENT_SPACE",
            Self::NetworkError => "NETWORK_ERROR",
            Self::InvalidImage => "INVALID_IMAGE",
            Self::SignatureInvalid => "SIGNATURE_INVALID",
            Self::ChecksumMismatch => "CHECKSUM_MISMATCH",
            Self::InvalidPartition => "INVALID_PARTITION",
            Self::ServerUnreachable => "SERVER_UNREACHABLE",
            Self::InvalidPin => "INVALID_PIN",
            Self::FactoryResetNotAllowed => "FACTORY_RESET_NOT_ALLOWED",
            Self::RollbackNotAvailable => "ROLLBACK_NOT_AVAILABLE",
            Self::JobNotFound => "JOB_NOT_FOUND",
            Self::SystemBusy => "SYSTEM_BUSY",
            Self::MaintenanceActive => "MAINTENANCE_ACTIVE",
        }
    }

    /// The sentence of the user's table of error codes.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::UpdateInProgress => "Update already in progress",
            Self::UpdateBlocked => "Safety constraint violation",
            Self::InsufficientSpace => "Insufficient disk space",
            Self::NetworkError => "Network connectivity issue",
            Self::InvalidImage => "Invalid update file",
            Self::SignatureInvalid => "Signature verification failed",
            Self::ChecksumMismatch => "Checksum mismatch",
            Self::InvalidPartition => "Invalid target partition",
            Self::ServerUnreachable => "Update server unreachable",
            Self::InvalidPin => "Invalid PIN for override",
            Self::FactoryResetNotAllowed => "Factory reset not allowed",
            Self::RollbackNotAvailable => "Rollback not available",
            Self::JobNotFound => "Job not found or completed",
            Self::SystemBusy => "System busy with other operation",
            Self::MaintenanceActive => "Maintenance window active",
        }
    }
}

impl fmt::Display for ErrorCode {
    /// `OTA_002`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OTA_{:03}", self.number())
    }
}

/// Why a signature or signed metadata was not accepted; `details.reason` on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names are the words of the contract")]
pub enum SignatureFault {
    Missing,
    Malformed,
    Untrusted,
    Expired,
    NotYetValid,
    Revoked,
    Mismatch,
    Threshold,
    WeakAlgorithm,
    KeyUsage,
    RootChain,
    MetadataExpired,
    MetadataRollback,
    MixAndMatch,
    PolicyRequiresSignature,
}

impl SignatureFault {
    /// The word of `details.reason`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Malformed => "malformed",
            Self::Untrusted => "untrusted",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::Revoked => "revoked",
            Self::Mismatch => "mismatch",
            Self::Threshold => "threshold",
            Self::WeakAlgorithm => "weak_algorithm",
            Self::KeyUsage => "key_usage",
            Self::RootChain => "root_chain",
            Self::MetadataExpired => "metadata_expired",
            Self::MetadataRollback => "metadata_rollback",
            Self::MixAndMatch => "mix_and_match",
            Self::PolicyRequiresSignature => "policy_requires_signature",
        }
    }
}

/// Why an update server could not be used; `details.reason` on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names are the words of the contract")]
pub enum ServerFault {
    Dns,
    Connect,
    Tls,
    Status,
    TooLarge,
    TooSlow,
    Redirect,
}

impl ServerFault {
    /// The word of `details.reason`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Status => "status",
            Self::TooLarge => "too_large",
            Self::TooSlow => "too_slow",
            Self::Redirect => "redirect",
        }
    }
}

/// A domain condition, one variant per row of the contract's table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OtaError {
    /// A second download, install or deployment while one is active.
    #[error("job {running} is still active")]
    UpdateInProgress {
        /// The active job.
        running: JobId,
    },
    /// A violated or unknown safety constraint blocks this operation.
    #[error("held back by safety: {}", told(.0))]
    UpdateBlocked(Vec<Block>),
    /// Staging or the slot is too small.
    #[error("{place} holds {available}, the image needs {required}")]
    InsufficientSpace {
        /// What is too small: `staging` or `slot B`.
        place: String,
        /// What the operation needs.
        required: ByteCount,
        /// What there is.
        available: ByteCount,
    },
    /// A transfer cannot continue after its retries, or stays below the minimum speed.
    #[error("transfer failed: {what}")]
    Network {
        /// What failed, for people.
        what: String,
    },
    /// Not an accepted format, truncated, unsafe, or not made for this device.
    #[error("image refused: {what}")]
    InvalidImage {
        /// What is wrong, for people.
        what: String,
    },
    /// An image's or the server metadata's signature was not accepted.
    #[error("signature not accepted ({}): {what}", reason.as_str())]
    SignatureInvalid {
        /// The condition by name.
        reason: SignatureFault,
        /// What was looked at and found, for people.
        what: String,
    },
    /// Digest or length differs from what was signed.
    #[error("checksum differs: expected {expected}, found {actual}")]
    ChecksumMismatch {
        /// Digest or length that was promised.
        expected: String,
        /// Digest or length that was found.
        actual: String,
    },
    /// The slot is unknown or the one the system runs from.
    #[error("slot {slot} cannot be the target: {why}")]
    InvalidPartition {
        /// The slot as it was asked for.
        slot: String,
        /// Why not.
        why: String,
    },
    /// The update server did not answer usefully.
    #[error("update server not usable ({}): {what}", reason.as_str())]
    ServerUnreachable {
        /// The condition by name.
        reason: ServerFault,
        /// What happened, for people; without credentials.
        what: String,
    },
    /// Missing or wrong PIN.
    #[error("the PIN is missing or wrong")]
    InvalidPin {
        /// How many more tries there are before the lock.
        attempts_left: u32,
    },
    /// Disabled by policy, or the confirmation sentence is not exact.
    #[error("factory reset not allowed: {why}")]
    FactoryResetNotAllowed {
        /// Why not.
        why: String,
    },
    /// The other slot cannot take over.
    #[error("rollback not available: {why}")]
    RollbackNotAvailable {
        /// Why not.
        why: String,
    },
    /// Unknown job, or one that has ended.
    #[error("{}", job_not_found(id, *ended))]
    JobNotFound {
        /// The id as it was asked for; empty when the active job was asked for and none is.
        id: String,
        /// Whether it existed.
        ended: bool,
    },
    /// Another exclusive operation is under way, or a reboot is pending.
    #[error("busy: {with}")]
    SystemBusy {
        /// With what, for people.
        with: String,
    },
    /// A service window is active: people are at the machine.
    #[error("service window {window:?} is active")]
    MaintenanceActive {
        /// Name of the window.
        window: String,
        /// When it closes.
        until: Option<Timestamp>,
    },
}

fn job_not_found(id: &str, ended: bool) -> String {
    match (id, ended) {
        ("", _) => "no job is active".into(),
        (id, true) => alloc::format!("job {id} has ended"),
        (id, false) => alloc::format!("job {id} is not known"),
    }
}

impl OtaError {
    /// The public number of this condition.
    #[must_use]
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::UpdateInProgress { .. } => ErrorCode::UpdateInProgress,
            Self::UpdateBlocked(_) => ErrorCode::UpdateBlocked,
            Self::InsufficientSpace { .. } => ErrorCode::InsufficientSpace,
            Self::Network { .. } => ErrorCode::NetworkError,
            Self::InvalidImage { .. } => ErrorCode::InvalidImage,
            Self::SignatureInvalid { .. } => ErrorCode::SignatureInvalid,
            Self::ChecksumMismatch { .. } => ErrorCode::ChecksumMismatch,
            Self::InvalidPartition { .. } => ErrorCode::InvalidPartition,
            Self::ServerUnreachable { .. } => ErrorCode::ServerUnreachable,
            Self::InvalidPin { .. } => ErrorCode::InvalidPin,
            Self::FactoryResetNotAllowed { .. } => ErrorCode::FactoryResetNotAllowed,
            Self::RollbackNotAvailable { .. } => ErrorCode::RollbackNotAvailable,
            Self::JobNotFound { .. } => ErrorCode::JobNotFound,
            Self::SystemBusy { .. } => ErrorCode::SystemBusy,
            Self::MaintenanceActive { .. } => ErrorCode::MaintenanceActive,
        }
    }

    /// The digests of `expected` and `actual` differ.
    #[must_use]
    pub fn digest_mismatch(expected: &Sha256Digest, actual: &Sha256Digest) -> Self {
        Self::ChecksumMismatch {
            expected: alloc::format!("sha256:{expected}"),
            actual: alloc::format!("sha256:{actual}"),
        }
    }

    /// The slot is the one the system runs from.
    #[must_use]
    pub fn running_slot(slot: Slot) -> Self {
        Self::InvalidPartition {
            slot: slot.as_str().into(),
            why: "the system runs from it; an update goes to the other one".into(),
        }
    }
}

/// An error from below a port: what the domain makes of it, and the adapter's own error for the log.
///
/// `Display` is the domain's sentence; the source chain is for whoever logs.
#[derive(Debug)]
pub struct PortError {
    kind: PortErrorKind,
    source: Option<Box<dyn core::error::Error + Send + Sync>>,
}

/// What a failed port call means to the domain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PortErrorKind {
    /// A condition of the public table.
    #[error(transparent)]
    Ota(OtaError),
    /// The device is not in a state in which this may be done; `reason` is the contract's word for `UNAVAILABLE`.
    #[error("not available now ({reason}): {what}")]
    Unavailable {
        /// One of `env_unreadable`, `env_not_redundant`, `env_no_canary`, `booted_slot_unknown`, `audit_not_writable`,
        /// `store_read_only`, `shutting_down`.
        reason: &'static str,
        /// What the operator can do about it.
        what: String,
    },
    /// The medium or the operating system failed.
    #[error("{0}")]
    Io(String),
}

impl PortError {
    /// With the adapter's own error as source.
    pub fn new(kind: PortErrorKind, source: impl core::error::Error + Send + Sync + 'static) -> Self {
        Self { kind, source: Some(Box::new(source)) }
    }

    /// A failure of the medium or the operating system, with the adapter's own error as source.
    pub fn io(what: impl Into<String>, source: impl core::error::Error + Send + Sync + 'static) -> Self {
        Self::new(PortErrorKind::Io(what.into()), source)
    }

    /// What it means to the domain.
    #[must_use]
    pub const fn kind(&self) -> &PortErrorKind {
        &self.kind
    }

    /// This error and its sources in one line, see [`chain`].
    #[must_use]
    pub fn chain(&self) -> String {
        chain(self)
    }
}

/// What holds back, as people read it.
fn told(blocks: &[Block]) -> String {
    let told: Vec<String> =
        blocks.iter().map(|block| alloc::format!("{} ({})", block.message, block.constraint)).collect();
    told.join(", ")
}

/// An error and its sources in one line, for logs and job records; what a source only repeats is said once.
#[must_use]
pub fn chain(error: &dyn core::error::Error) -> String {
    let mut text = alloc::format!("{error}");
    let mut next = error.source();
    while let Some(error) = next {
        let said = alloc::format!("{error}");
        if !text.ends_with(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        next = error.source();
    }
    text
}

impl From<PortErrorKind> for PortError {
    fn from(kind: PortErrorKind) -> Self {
        Self { kind, source: None }
    }
}

impl From<OtaError> for PortError {
    fn from(error: OtaError) -> Self {
        PortErrorKind::Ota(error).into()
    }
}

impl fmt::Display for PortError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)
    }
}

impl core::error::Error for PortError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        self.source.as_ref().map(|s| &**s as &(dyn core::error::Error + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn numbers_run_from_1_to_15_without_a_gap() {
        let numbers: Vec<u8> = ErrorCode::ALL.iter().map(|c| c.number()).collect();
        assert_eq!(numbers, (1..=15).collect::<Vec<u8>>());
        assert_eq!(ErrorCode::ALL[14].to_string(), "OTA_015");
    }

    #[test]
    fn a_chain_names_every_cause_and_says_nothing_twice() {
        let cause = PortError::from(PortErrorKind::Io("disk is full".into()));
        let chain = |what: &str| PortError::io(what, PortError::io("writing", cause_of(&cause))).chain();
        assert_eq!(chain("the record was not made"), "the record was not made: writing: disk is full");
        assert_eq!(chain("the record: writing"), "the record: writing: disk is full");
    }

    fn cause_of(error: &PortError) -> PortError {
        PortError::from(error.kind().clone())
    }
}
