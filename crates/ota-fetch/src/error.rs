//! What can go wrong between a URL and staging, and what the domain makes of it.

use std::path::PathBuf;

use ota_core::{
    ByteCount, OtaError, Sha256Digest, UpdateId,
    error::{PortError, PortErrorKind, ServerFault, SignatureFault},
};

use crate::{TransferError, TransferFault, channel::ManifestError};

/// A failed check or fetch, or a configuration that cannot work.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The configuration names something that cannot be used.
    #[error("update source cannot be set up: {what}")]
    Config {
        /// What, for people.
        what: String,
        /// Why, where something else said so.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// The server did not answer usefully.
    #[error("transfer failed")]
    Transfer(#[source] TransferError),
    /// A download made no progress in its tries.
    #[error("download given up after {tries} tries without progress, {have} of {size} here")]
    GivenUp {
        /// How many tries ended without progress.
        tries: usize,
        /// What has arrived.
        have: ByteCount,
        /// What was to arrive.
        size: ByteCount,
        /// Why the last one failed.
        source: TransferError,
    },
    /// The server's metadata was not accepted.
    #[error("metadata refused ({})", fault.as_str())]
    Metadata {
        /// The condition by name.
        fault: SignatureFault,
        /// What the verifier said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The channel manifest is not for this device or not as agreed.
    #[error("channel manifest refused")]
    Manifest(#[from] ManifestError),
    /// Trusted metadata does not (any longer) offer this release as it was seen.
    #[error("release {0} is no longer offered as it was")]
    NotOffered(UpdateId),
    /// Staging is too small.
    #[error("staging holds {available}, the image needs {required}")]
    Space {
        /// What is still to be written.
        required: ByteCount,
        /// What is free.
        available: ByteCount,
    },
    /// The bytes that arrived are not the signed ones.
    #[error("digest of the download is {actual}, signed is {expected}")]
    Digest {
        /// As signed.
        expected: Sha256Digest,
        /// As computed.
        actual: Sha256Digest,
    },
    /// The server wants to send another number of bytes than was signed.
    #[error("the server sends {actual} bytes, signed are {expected}")]
    Length {
        /// As signed, in bytes.
        expected: u64,
        /// As announced or arrived.
        actual: String,
    },
    /// A file in staging or of the metadata store could not be read or written.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What was being done, as a verb.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A thread or task of ours ended without an answer.
    #[error("internal: {0} ended early")]
    Vanished(&'static str),
}

/// Names the file in an IO error.
pub(crate) fn at(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> FetchError {
    let path = path.into();
    move |source| FetchError::Io { doing, path, source }
}

/// Which of the two codes a network failure has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum During {
    Check,
    Fetch,
}

impl FetchError {
    /// What it means to the domain.
    pub(crate) fn into_port(self, during: During) -> PortError {
        let kind = match &self {
            Self::Transfer(error) | Self::GivenUp { source: error, .. } => {
                transfer(error, &self, during).into()
            }
            Self::Metadata { fault, .. } => {
                OtaError::SignatureInvalid { reason: *fault, what: self.chain() }.into()
            }
            Self::NotOffered(_) => {
                OtaError::SignatureInvalid { reason: SignatureFault::Mismatch, what: self.chain() }.into()
            }
            Self::Manifest(_) => OtaError::InvalidImage { what: self.chain() }.into(),
            Self::Space { required, available } => OtaError::InsufficientSpace {
                place: "staging".into(),
                required: *required,
                available: *available,
            }
            .into(),
            Self::Digest { expected, actual } => OtaError::digest_mismatch(expected, actual).into(),
            Self::Length { expected, actual } => {
                let expected = format!("{expected} bytes");
                OtaError::ChecksumMismatch { expected, actual: format!("{actual} bytes") }.into()
            }
            Self::Io { source, .. } if source.kind() == std::io::ErrorKind::ReadOnlyFilesystem => {
                Kind::ReadOnly(format!("{}; check the file system and mount it again", self.chain()))
            }
            Self::Config { .. } | Self::Io { .. } | Self::Vanished(_) => Kind::Io(self.to_string()),
        };
        match kind {
            Kind::Ota(error) => PortError::new(PortErrorKind::Ota(error), self),
            Kind::ReadOnly(what) => {
                PortError::new(PortErrorKind::Unavailable { reason: "store_read_only", what }, self)
            }
            Kind::Io(what) => PortError::io(what, self),
        }
    }

    /// This error and its sources in one line.
    fn chain(&self) -> String {
        ota_core::error::chain(self)
    }
}

enum Kind {
    Ota(OtaError),
    ReadOnly(String),
    Io(String),
}

impl From<OtaError> for Kind {
    fn from(error: OtaError) -> Self {
        Self::Ota(error)
    }
}

fn transfer(error: &TransferError, whole: &FetchError, during: During) -> OtaError {
    let what = whole.chain();
    // A server whose connection ends early was reached: what is missing is the network.
    if during == During::Fetch || matches!(error.fault, TransferFault::Reset) {
        return OtaError::Network { what };
    }
    let reason = match error.fault {
        TransferFault::Dns => ServerFault::Dns,
        TransferFault::Connect | TransferFault::Reset => ServerFault::Connect,
        TransferFault::Tls | TransferFault::NoAuthorities => ServerFault::Tls,
        TransferFault::Status(_) | TransferFault::BadAnswer(_) => ServerFault::Status,
        TransferFault::TooLarge(_) => ServerFault::TooLarge,
        TransferFault::TooSlow => ServerFault::TooSlow,
        TransferFault::Redirect(_) => ServerFault::Redirect,
    };
    OtaError::ServerUnreachable { reason, what }
}
