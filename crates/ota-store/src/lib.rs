//! What survives a power cut: jobs, slots, audit, tokens, settings in one SQLite database.
//!
//! [`SqliteStore`] implements the ports `JobJournal`, `SlotFacts`, `AuditLog`, `Tokens` and `Settings`. Every changing
//! call is one committed and synced transaction when it returns. What the boot depends on does not live here but in the
//! boot environment (`ota-boot`). Sources: `durable-steps.md` section 1, `threat-model.md` R2, R7, A6.
//!
//! On a file system that takes no writes the store opens all the same, for reading ([`Condition::Unwritable`]).
//!
//! In the folder: `state.db` with its `-wal` and `-shm`, `audit.key`, `audit.anchor`; after damage also
//! `state.db.damaged-<seconds since the epoch>`, which nobody here ever deletes.

mod anchor;
mod audit;
mod durable;
mod ended;
mod error;
mod jobs;
mod look;
mod open;
mod retention;
mod schema;
mod settings;
mod sift;
mod slots;
mod store;
#[cfg(test)]
mod tests;
mod tokens;

pub use durable::{own_folder, replace as replace_file, takes_nothing};
pub use error::StoreError;
pub use open::{Condition, Opened};
pub use retention::Cut;
pub use schema::SCHEMA_VERSION;
pub use store::SqliteStore;
