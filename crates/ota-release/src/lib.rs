//! What a release engineer makes: TUF keys, code-signing certificates, detached signatures, the signed repository.
//!
//! Owns the producer's side of `update-sources.md` 2.1 and 2.3: [`RepoDir`] keeps a folder that any HTTP server can hold
//! (`metadata/`, `targets/`) and a separate folder of keys. Verifying and fetching is `ota-fetch`'s and `ota-verify`'s;
//! command lines are `ota-admin`'s. Reads no clock: time is an argument. Never runs on a device.

mod canonical;
mod durable;
mod ed25519;
mod error;
mod external;
mod keygen;
mod keys;
mod metadata;
mod release;
mod repo;
mod rotate;
mod sign;
#[cfg(test)]
mod tests;

pub use error::ReleaseError;
pub use keygen::{CodeSigningCa, CodeSigningOptions, make_code_signing_ca};
pub use metadata::RoleName;
pub use release::{AddRelease, Added, DeltaFile, Placement, Removed, Rollout};
pub use repo::{Expiries, InitOptions, Published, RepoDir};
pub use rotate::RotateOptions;
pub use sign::{SignMethod, sign_detached};
