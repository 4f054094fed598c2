//! What goes wrong here: a key file that cannot be used ([`VerifyError`]), a signature that is not accepted ([`Refusal`]).
//!
//! What these mean to the outside stands in `ota_core::error`.

use std::path::{Path, PathBuf};

use ota_core::{
    OtaError,
    error::{PortError, PortErrorKind, SignatureFault},
};

/// A key, certificate or list of the keyring cannot be used. Every variant names the file.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The file or folder cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The file is larger than any key file is.
    #[error("{} is {size} bytes long, a key file has at most {limit}", path.display())]
    TooLarge {
        /// Which file.
        path: PathBuf,
        /// Its length in bytes.
        size: u64,
        /// The most that is read.
        limit: u64,
    },
    /// The content is not what the file's name says.
    #[error("{}: {what}", path.display())]
    Content {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it, for people.
        what: String,
    },
}

impl VerifyError {
    pub(crate) fn content(path: &Path, what: impl Into<String>) -> Self {
        Self::Content { path: path.to_owned(), what: what.into() }
    }
}

impl From<VerifyError> for PortError {
    fn from(error: VerifyError) -> Self {
        Self::io("the keys of this device cannot be used", error)
    }
}

/// A signature, or the lack of one, is the reason why an image is not accepted (OTA_006).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct Refusal {
    /// The condition by name, `details.reason` on the wire.
    pub reason: SignatureFault,
    /// What was looked at and found, for people.
    pub what: String,
}

impl Refusal {
    /// A refusal for `reason`; `what` says what was looked at and found.
    pub fn new(reason: SignatureFault, what: impl Into<String>) -> Self {
        Self { reason, what: what.into() }
    }

    pub(crate) fn malformed(what: impl Into<String>) -> Self {
        Self::new(SignatureFault::Malformed, what)
    }

    /// The same refusal, with where it was found in front.
    #[must_use]
    pub(crate) fn of(self, origin: &str) -> Self {
        Self { what: format!("{origin}: {}", self.what), ..self }
    }
}

impl From<Refusal> for OtaError {
    fn from(refusal: Refusal) -> Self {
        Self::SignatureInvalid { reason: refusal.reason, what: refusal.what }
    }
}

impl From<Refusal> for PortError {
    fn from(refusal: Refusal) -> Self {
        PortErrorKind::Ota(refusal.into()).into()
    }
}
