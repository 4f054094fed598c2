//! What the job machine's driver needs from the world, as traits. Adapters live in the L1 crates, fakes in `ota-testkit`.
//!
//! Blocking ports ([`BootControl`], [`SlotWriter`], [`ImageVerifier`], [`ImageStore`], [`JobJournal`] …) do disk work
//! and hashing; the driver calls them off the async threads. Ports that wait on the network or on people return futures.

mod bandwidth;
mod boot;
mod clock;
mod image;
mod inhibitors;
mod journal;
mod overrides;
mod safety;
mod source;
mod upload;
mod userdata;

use alloc::boxed::Box;
use core::{future::Future, pin::Pin};

pub use bandwidth::{Bandwidth, MIN_BYTES_PER_SECOND};
pub use boot::{BootControl, BootStatus, RebootReason, Rebooter, SlotBoot};
pub use clock::Clock;
pub use image::{
    FileEnd, Flow, Front, ImageExpectation, ImageReader, ImageStore, ImageVerifier, Observer, PackedImage,
    SlotClaim, SlotWriter, Stated, VerifyPolicy, WriteProgress,
};
pub use inhibitors::{InhibitError, InhibitRequest, Inhibitors, MAX_INHIBITOR_TEXT, MOST_INHIBITORS};
pub use journal::{
    AuditEntry, AuditLog, AuditOutcome, AuditRecord, EndedJobs, JobJournal, JobPage, LastUpdate, PinTries,
    Role, Settings, SlotFacts, SlotRecord, SlotState, TokenRecord, Tokens,
};
pub use overrides::{OverrideGranted, OverrideRefused, SafetyOverrides};
pub use safety::{HealthChecks, SafetyGate, SystemProbe};
pub use source::{FetchObserver, FetchOrder, UpdateSource};
pub use upload::{ImageFacts, ImageInspector, Upload, UploadLabel, UploadStore, UploadWriter, Verification};
pub use userdata::{
    Carried, FactoryReset, ResetOrder, Restored, Snapshot, SnapshotCause, SnapshotOrder, Snapshots,
};

/// A future behind a pointer, so that ports stay usable as trait objects.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
