//! What can go wrong with snapshots and resets, and what the domain makes of it.

use std::{
    io,
    path::{Path, PathBuf},
};

use ota_core::{
    ByteCount, OtaError,
    error::{PortError, PortErrorKind},
};

/// A failed operation on user data.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UserDataError {
    /// A file or folder could not be handled.
    #[error("cannot {what} {}", path.display())]
    File {
        /// What was to be done, `open`.
        what: &'static str,
        /// With which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Something does not fit, on the medium or into the configured limit.
    #[error("{place} has {available}, {required} are needed")]
    Space {
        /// Where.
        place: String,
        /// What is needed.
        required: ByteCount,
        /// What there is.
        available: ByteCount,
    },
    /// The archive is not one of ours, damaged, or would reach where it must not.
    #[error("the archive is refused: {0}")]
    Archive(String),
    /// A digest or length is not the listed one.
    #[error("{path} in the archive is not what its list says")]
    Mismatch {
        /// Which file.
        path: String,
        /// Listed.
        expected: String,
        /// Found.
        actual: String,
    },
    /// The archive could not be read, or decrypted.
    #[error("cannot read the archive")]
    Read(#[source] io::Error),
    /// The archive is encrypted and what was given does not open it.
    #[error("the archive does not open: {0}")]
    Locked(String),
    /// A key is not one of age's.
    #[error("{0}")]
    Key(String),
    /// A file changed while it was read.
    #[error("{0} changed while it was saved")]
    Changed(String),
    /// Nothing is configured to be saved, or none of it is there.
    #[error("{0}")]
    NotConfigured(String),
    /// A reset could not be carried out on this device.
    #[error("{0}")]
    NotSetUp(String),
    /// The policy of the device does not allow a reset.
    #[error("factory_reset.enabled is not set in this device's configuration")]
    NotAllowed,
    /// A program failed.
    #[error("{program} failed: {said}")]
    Program {
        /// Which.
        program: String,
        /// What it said, or how it ended.
        said: String,
    },
    /// The order for a reset is there and does not read.
    #[error("{} does not read: {why}", path.display())]
    Marker {
        /// Where.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// The observer wants no further step. Tests cut the power with it.
    #[error("stopped between two steps")]
    Stopped,
}

impl UserDataError {
    pub(crate) fn file(what: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        let path = path.as_ref().to_owned();
        move |source| Self::File { what, path, source }
    }

    /// Whether the medium is full.
    pub(crate) fn is_full(&self) -> bool {
        let full = |error: &io::Error| {
            matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
        };
        matches!(self, Self::File { source, .. } if full(source))
    }

    fn kind(&self) -> PortErrorKind {
        let text = self.to_string();
        match self {
            Self::Space { place, required, available } => PortErrorKind::Ota(OtaError::InsufficientSpace {
                place: place.clone(),
                required: *required,
                available: *available,
            }),
            Self::Archive(_) | Self::Read(_) | Self::Locked(_) | Self::Key(_) => {
                PortErrorKind::Ota(OtaError::InvalidImage { what: text })
            }
            Self::Mismatch { expected, actual, .. } => PortErrorKind::Ota(OtaError::ChecksumMismatch {
                expected: expected.clone(),
                actual: actual.clone(),
            }),
            Self::Changed(_) => PortErrorKind::Ota(OtaError::SystemBusy { with: text }),
            Self::NotConfigured(what) => {
                PortErrorKind::Unavailable { reason: "snapshots_not_configured", what: what.clone() }
            }
            Self::NotSetUp(what) => {
                PortErrorKind::Unavailable { reason: "reset_not_set_up", what: what.clone() }
            }
            Self::NotAllowed => PortErrorKind::Ota(OtaError::FactoryResetNotAllowed { why: text }),
            Self::File { .. } | Self::Program { .. } | Self::Marker { .. } | Self::Stopped => {
                PortErrorKind::Io(text)
            }
        }
    }
}

impl From<UserDataError> for PortError {
    fn from(error: UserDataError) -> Self {
        Self::new(error.kind(), error)
    }
}
