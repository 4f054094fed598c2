//! Signatures, digests and image formats.
//!
//! Owns the question whether trusted keys vouch for an image: [`KeyringVerifier`] is the adapter of
//! `ota_core::ports::ImageVerifier`, [`policy::judge`] the one decision. Nothing of an image is parsed before that
//! answer is yes. Where images come from and go to is left to others.

mod blocks;
pub mod checksums;
pub mod digest;
pub mod error;
pub mod format;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod keylist;
pub mod keyring;
pub mod moment;
pub mod openpgp;
pub mod policy;
pub mod trailer;
pub mod verifier;
pub mod x509;

pub use error::{Refusal, VerifyError};
pub use format::HeadInspector;
pub use keylist::KeyList;
pub use keyring::Keyring;
pub use trailer::{Manifest, Trailer};
pub use verifier::{KeyringVerifier, StoredFloor, Verdict, VerifyConfig};
pub use x509::{EkuPolicy, X509Policy};

#[cfg(test)]
pub(crate) mod tests;
