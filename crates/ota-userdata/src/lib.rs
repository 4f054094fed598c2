//! What the user keeps on the gateway: snapshots of the settings, and the factory reset that erases everything.
//!
//! Owns the archives (tar.zst with a list of digests, sealed with age where a recipient is configured), putting them back
//! without leaving the configured paths, the durable order for a reset and its execution. Whether and when any of this may
//! happen is left to the engine; which paths and devices it is about, to the configuration.
//!
//! Everything below a configured path is reached through folder handles and never through a link. Sources:
//! `durable-steps.md` section 1, `threat-model.md` S5 and R2.

mod error;
mod folder;
pub mod reset;
pub mod snapshot;

pub use error::UserDataError;
pub use reset::{FactoryResetConfig, ResetFolder};
pub use snapshot::{Recipients, SnapshotConfig, SnapshotFolder};
