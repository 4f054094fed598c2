//! The verifier's errors by the names of the contract.

use ota_core::error::SignatureFault;
use sigstore_tuf::Error;

use crate::{FetchError, TransferError};

/// An error of the walk. A failed transfer stays one.
pub(crate) fn of(error: Error) -> FetchError {
    sort(error, name)
}

/// An error of the first root: there is no chain without it.
pub(crate) fn of_root(error: Error) -> FetchError {
    sort(error, |_| SignatureFault::RootChain)
}

/// An error of a target's content.
pub(crate) fn of_target(error: Error) -> FetchError {
    sort(error, |_| SignatureFault::Mismatch)
}

fn sort(error: Error, name: impl FnOnce(&Error) -> SignatureFault) -> FetchError {
    let error = match error {
        Error::Transport { message, source: Some(source) } => match source.downcast::<TransferError>() {
            Ok(transfer) => return FetchError::Transfer(*transfer),
            Err(source) => match source.downcast::<Error>() {
                Ok(inner) => *inner,
                Err(source) => Error::Transport { message, source: Some(source) },
            },
        },
        other => other,
    };
    FetchError::Metadata { fault: name(&error), source: Box::new(error) }
}

fn name(error: &Error) -> SignatureFault {
    match error {
        Error::Expired { .. } => SignatureFault::MetadataExpired,
        Error::Rollback { .. } | Error::EqualVersion { .. } => SignatureFault::MetadataRollback,
        Error::BadRootVersion { .. } => SignatureFault::RootChain,
        Error::ThresholdNotMet { role, .. } if role == "root" => SignatureFault::RootChain,
        Error::ThresholdNotMet { .. } | Error::DuplicateSignature { .. } => SignatureFault::Threshold,
        Error::IntegrityMismatch(_) => SignatureFault::MixAndMatch,
        // More root rotations than are followed.
        Error::Transport { .. } => SignatureFault::RootChain,
        _ => SignatureFault::Malformed,
    }
}
