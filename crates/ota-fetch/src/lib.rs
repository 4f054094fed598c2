//! Update servers, seen from the device: verified TUF metadata, the channel manifest, a resumable download into staging.
//!
//! Owns everything between a URL and a whole, digest-checked file in staging ([`TufSource`], [`Staging`]), and what people
//! upload into the same folder ([`StagedUploads`]). What is done with the file, whether its detached signatures hold and when to ask are others' (`ota-engine`, `ota-verify`).
//! **Invariant:** lengths and digests come from TUF targets only; nothing is written beyond a signed length; what was not
//! verified is not stored.

mod channel;
mod config;
mod crypto;
mod download;
mod error;
mod source;
mod staging;
mod throttle;
mod transport;
pub mod tuf;
mod uploads;

pub use channel::ManifestError;
pub use config::{ClientIdentity, Proxy, RetryPolicy, StallPolicy, TufConfig};
pub use crypto::install_crypto_provider;
pub use error::FetchError;
pub use source::TufSource;
pub use staging::Staging;
pub use throttle::SpeedLimit;
pub use transport::{NoAuthorities, TransferError, TransferFault, Url, WebClient, check_access};
pub use tuf::time_floor;
pub use uploads::StagedUploads;

#[cfg(test)]
mod tests;
