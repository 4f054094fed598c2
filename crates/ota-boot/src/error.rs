//! What can go wrong below the ports, and what the domain makes of it.

use std::{io, path::PathBuf};

use ota_core::{
    ByteCount, OtaError, Sha256Digest, Slot,
    error::{PortError, PortErrorKind},
};

use crate::layout::LayoutError;

/// A failed operation on the boot environment or a slot.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// A file or device could not be opened.
    #[error("cannot open {}", path.display())]
    Open {
        /// What was to be opened.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Reading, writing or syncing failed at a byte.
    #[error("cannot {operation} {} at byte {offset}", path.display())]
    Io {
        /// `read`, `write` or `sync`.
        operation: &'static str,
        /// Which file or device.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// Why not.
        source: io::Error,
    },
    /// The device is mounted, or something uses what it is made of.
    #[error("{} is in use: {by}", path.display())]
    InUse {
        /// The device.
        path: PathBuf,
        /// By what, for people.
        by: String,
    },
    /// The path is neither a block device nor a plain file.
    #[error("{} is neither a block device nor a plain file", path.display())]
    WrongKind {
        /// The path.
        path: PathBuf,
    },
    /// `fw_env.config` cannot be used.
    #[error("{} cannot be used", path.display())]
    Layout {
        /// The configuration file.
        path: PathBuf,
        /// Why not.
        source: LayoutError,
    },
    /// The lock that the environment tools share could not be taken.
    #[error("cannot lock the boot environment with {}", path.display())]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// Why not; `WouldBlock` when another program kept it.
        source: io::Error,
    },
    /// No copy of the environment has a valid checksum and contents.
    #[error("no good copy of the boot environment: {what}")]
    EnvUnreadable {
        /// What was found in each place.
        what: String,
    },
    /// There are not two good places for the environment.
    #[error("the boot environment is not redundant: {what}")]
    EnvNotRedundant {
        /// What is missing.
        what: String,
    },
    /// The mark that only the boot loader leaves is missing.
    #[error("the boot loader has not left its mark in this environment")]
    NoCanary,
    /// The boot loader is older than what updates are installed with.
    #[error("the boot loader is {version}")]
    OldLoader {
        /// As it tells it.
        version: String,
    },
    /// The variables do not fit into a copy.
    #[error("the boot environment needs {required} bytes, a copy holds {available}")]
    EnvFull {
        /// Bytes that the variables take.
        required: usize,
        /// Bytes that a copy holds.
        available: usize,
    },
    /// After the write, the boot loader's rule would not take the new copy.
    #[error("the new boot environment did not read back as the current one: {what}")]
    EnvNotTaken {
        /// What was read instead.
        what: String,
    },
    /// The kernel command line does not tell, or contradicts itself.
    #[error("the booted slot is not known from the kernel command line")]
    BootedSlotUnknown,
    /// The operation is not for the booted slot.
    #[error("slot {0} is the booted one")]
    BootedSlot(Slot),
    /// The operation is for the booted slot only.
    #[error("slot {0} is not the booted one")]
    NotBootedSlot(Slot),
    /// The two slots are the same place.
    #[error("both slots are {}", path.display())]
    SameSlot {
        /// That place.
        path: PathBuf,
    },
    /// The number of tries is outside 1–3.
    #[error("{0} tries asked for, 1 to 3 are possible")]
    Tries(u8),
    /// The slot is smaller than what is asked of it.
    #[error("{} holds {available}, {required} are needed", path.display())]
    TooSmall {
        /// The slot's device.
        path: PathBuf,
        /// Bytes needed.
        required: ByteCount,
        /// Bytes there.
        available: ByteCount,
    },
    /// The image ended early, or goes on after its length.
    #[error("the image has {actual} bytes, not {expected}")]
    Length {
        /// Length that was promised.
        expected: u64,
        /// Length that was found, `more than` where it goes on.
        actual: String,
    },
    /// The image's bytes, as written, are not the expected ones.
    #[error("the image as written has another digest")]
    Digest {
        /// Digest that was promised.
        expected: Sha256Digest,
        /// Digest of the bytes.
        actual: Sha256Digest,
    },
    /// The slot does not read back as it was written, somewhere in a range of its bytes.
    #[error("the slot reads back differently between byte {from} and {until}")]
    ReadBack {
        /// First byte of the range.
        from: u64,
        /// End of the range.
        until: u64,
        /// XXH3 of the bytes that were written.
        expected: u128,
        /// The same of what was read.
        actual: u128,
    },
    /// The observer asked to stop.
    #[error("stopped on request")]
    Stopped,
    /// The image could not be read.
    #[error("the image cannot be read")]
    Source(#[source] PortError),
    /// A file of the system that every device has could not be read.
    #[error("cannot read {}", path.display())]
    System {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A thread of the writer ended without a result.
    #[error("the {0} thread panicked")]
    Thread(&'static str),
}

impl BootError {
    /// Wraps an input/output error with where it happened.
    pub(crate) fn io(
        operation: &'static str,
        path: &std::path::Path,
        offset: u64,
        source: io::Error,
    ) -> Self {
        Self::Io { operation, path: path.into(), offset, source }
    }

    /// The port's error, with the slot that the operation was about, where there was one.
    #[must_use]
    pub fn into_port(self, slot: Option<Slot>) -> PortError {
        let name = || slot.map_or_else(|| "unknown".to_owned(), |s| s.as_str().to_owned());
        let invalid = |why: String| PortErrorKind::Ota(OtaError::InvalidPartition { slot: name(), why });
        let kind = match &self {
            Self::EnvUnreadable { .. }
            | Self::Layout { .. }
            | Self::EnvNotRedundant { .. }
            | Self::NoCanary
            | Self::OldLoader { .. }
            | Self::BootedSlotUnknown => self.unavailable(),
            Self::BootedSlot(slot) => PortErrorKind::Ota(OtaError::running_slot(*slot)),
            Self::NotBootedSlot(_) | Self::SameSlot { .. } | Self::InUse { .. } | Self::WrongKind { .. } => {
                invalid(self.to_string())
            }
            Self::TooSmall { required, available, .. } => PortErrorKind::Ota(OtaError::InsufficientSpace {
                place: format!("slot {}", name()),
                required: *required,
                available: *available,
            }),
            Self::Length { expected, actual } => PortErrorKind::Ota(OtaError::ChecksumMismatch {
                expected: format!("{expected} bytes"),
                actual: format!("{actual} bytes"),
            }),
            Self::Digest { expected, actual } => {
                PortErrorKind::Ota(OtaError::digest_mismatch(expected, actual))
            }
            Self::ReadBack { from, until, expected, actual } => {
                PortErrorKind::Ota(OtaError::ChecksumMismatch {
                    expected: format!(
                        "xxh3 {expected:032x} in bytes {from}..{until} of the slot, as written"
                    ),
                    actual: format!("xxh3 {actual:032x}, as read back"),
                })
            }
            Self::Stopped => PortErrorKind::Ota(OtaError::SystemBusy { with: "stopped on request".into() }),
            Self::Source(error) => error.kind().clone(),
            Self::Open { .. }
            | Self::Io { .. }
            | Self::Lock { .. }
            | Self::EnvFull { .. }
            | Self::EnvNotTaken { .. }
            | Self::Tries(_)
            | Self::System { .. }
            | Self::Thread(_) => PortErrorKind::Io(self.to_string()),
        };
        PortError::new(kind, self)
    }

    fn unavailable(&self) -> PortErrorKind {
        let (reason, what) = match self {
            Self::EnvNotRedundant { what } => ("env_not_redundant", what.clone()),
            Self::Layout { source, .. } if source.is_redundancy() => {
                ("env_not_redundant", source.to_string())
            }
            Self::Layout { path, source } => ("env_unreadable", format!("{}: {source}", path.display())),
            Self::NoCanary => ("env_no_canary", "boot once through the boot script of dist/u-boot".into()),
            Self::OldLoader { version } => (
                "loader_too_old",
                format!(
                    "{version} is older than 2024.01: update it (and run `saveenv` once in the new one, where `ver` tells the \
                     version), or set boot.allow_old_loader"
                ),
            ),
            Self::BootedSlotUnknown => (
                "booted_slot_unknown",
                "the boot loader has to pass ota.slot=A or ota.slot=B to the kernel".into(),
            ),
            other => ("env_unreadable", format!("{other}; both copies have to be repaired by hand")),
        };
        PortErrorKind::Unavailable { reason, what }
    }
}

impl From<BootError> for PortError {
    fn from(error: BootError) -> Self {
        error.into_port(None)
    }
}
