//! The embeddable library of the OTA gateway: domain model, job machine and ports.
//!
//! Owns what an update *is* (slots, versions, jobs, error codes, safety verdicts) and decides what happens next.
//! It performs nothing: no clock, thread, socket, file or environment variable. Adapters implement [`ports`], a driver
//! (`ota-engine`) performs the effects that [`job::step`] asks for.
//!
//! Builds as `#![no_std]` with `alloc`; the default feature `std` only switches on `std` in the dependencies.
#![no_std]

extern crate alloc;

pub mod digest;
pub mod error;
pub mod event;
pub mod ids;
pub mod job;
pub mod pin;
pub mod policy;
pub mod ports;
pub mod release;
pub mod safety;
pub mod slot;
pub mod units;
pub mod version;

pub use digest::Sha256Digest;
pub use error::{ErrorCode, OtaError};
pub use ids::{DeploymentId, ImageName, JobId, SnapshotId, UpdateId};
pub use slot::Slot;
pub use units::{ByteCount, Timestamp};
pub use version::Version;
