//! Why a request was not carried out.

use ota_core::error::{OtaError, PortError, PortErrorKind};

/// A refusal or failure of a request.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// One of the fifteen conditions.
    #[error(transparent)]
    Ota(#[from] OtaError),
    /// The device is not in a state in which this may be done; `reason` is the contract's word.
    #[error("not available now ({reason}): {what}")]
    Unavailable {
        /// `env_unreadable`, `env_not_redundant`, `shutting_down`, …
        reason: &'static str,
        /// What the operator can do about it.
        what: String,
    },
    /// A field of the request does not fit.
    #[error("{field}: {what}")]
    Invalid {
        /// Name of the field.
        field: &'static str,
        /// What is wrong with it.
        what: String,
    },
    /// The thing named in the request does not exist.
    #[error("{what} is not known")]
    NotFound {
        /// What.
        what: String,
    },
    /// Something failed that only the log explains.
    #[error("internal failure")]
    Internal {
        /// For the log, with the chain of sources.
        log: String,
    },
}

impl From<PortError> for EngineError {
    fn from(error: PortError) -> Self {
        match error.kind() {
            PortErrorKind::Ota(ota) => Self::Ota(ota.clone()),
            PortErrorKind::Unavailable { reason, what } => Self::Unavailable { reason, what: what.clone() },
            PortErrorKind::Io(_) => Self::Internal { log: error.chain() },
        }
    }
}
