//! Fakes of the ports, for tests only.
//!
//! Every fake is written by hand, holds state, counts what was asked of it and can be told to fail. All of them have
//! interior mutability: put one into an `Arc`, give a clone to the code under test and keep the other one to steer it.
//! Fakes of what outlives a power cut can share one [`Power`], which cuts all of them off at the same instant.

pub mod boot;
pub mod bootloader;
pub mod clock;
pub mod faults;
pub mod health;
pub mod images;
pub mod inspector;
pub mod journal;
pub mod peers;
pub mod probe;
pub mod rebooter;
pub mod safety;
pub mod samples;
pub mod slots;
pub mod source;
pub mod uploads;
pub mod user_data;
pub mod verifier;
pub mod watch;

pub use boot::FakeBootControl;
pub use clock::FakeClock;
pub use faults::{Faults, Power};
pub use health::FakeHealth;
pub use images::{MemReader, MemStaging};
pub use inspector::FakeInspector;
pub use journal::MemJournal;
pub use probe::FakeProbe;
pub use rebooter::FakeRebooter;
pub use safety::FakeGate;
pub use slots::MemSlots;
pub use source::ScriptedSource;
pub use uploads::MemUploads;
pub use user_data::{FakeReset, FakeSnapshots};
pub use verifier::FakeVerifier;
pub use watch::Watch;
