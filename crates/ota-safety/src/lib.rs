//! May this happen now, and if not, why.
//!
//! Constraints from the configuration are fed by sensors and judged by one pure function, [`rules::judge`]. What is not
//! known counts as violated: no sample, an old one, an absurd one. [`SafetyEngine`] holds the newest samples and answers
//! at once; it never waits for a sensor. What a blocked job does next is decided in `ota-core`.
//!
//! This holds back updates. It is no replacement for a safety PLC.

pub mod config;
mod engine;
mod history;
pub mod inhibitors;
pub mod overrides;
pub mod program;
pub mod reading;
pub mod rules;
pub mod simulate;
pub mod sources;
pub mod track;
pub mod window;

pub use config::{SafetyConfig, SafetyConfigError};
pub use engine::{SafetyEngine, SourceId};
pub use overrides::{OverrideError, OverrideOutcome};
pub use rules::{Judgement, SERVICE_WINDOW};
