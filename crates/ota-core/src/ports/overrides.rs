//! Switching safety overrides, as the API asks for it. `ota-safety` decides; the API checks who asks, the PIN and the audit.

use alloc::{string::String, vec::Vec};
use core::time::Duration;

use crate::safety::OverrideReport;

/// Turns the override on and off. Answers at once.
pub trait SafetyOverrides: Send + Sync {
    /// Overrides what is violated now and may be overridden, for `duration` on the monotonic clock; never kept over a
    /// restart. Where two people must agree, the first one only proposes. `by` names the person.
    ///
    /// # Errors
    /// [`OverrideRefused`]; nothing has changed then.
    fn request(&self, by: &str, reason: &str, duration: Duration)
    -> Result<OverrideGranted, OverrideRefused>;

    /// Ends the override and forgets a proposal; `false` when there was neither.
    fn disable(&self) -> bool;
}

/// What became of the request for an override.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OverrideGranted {
    /// It is on.
    Enabled(OverrideReport),
    /// A second person has to agree.
    Proposed {
        /// What it would cover.
        constraints: Vec<String>,
        /// For how long it waits.
        expires_in: Duration,
    },
}

/// Why an override was not enabled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OverrideRefused {
    /// Every constraint holds.
    #[error("no constraint is violated, so there is nothing to override")]
    NothingViolated,
    /// What is violated may never be overridden.
    #[error("{} may not be overridden", .constraints.join(", "))]
    NotOverridable {
        /// The constraints that are violated.
        constraints: Vec<String>,
    },
    /// The duration is zero or longer than the configuration allows.
    #[error("an override lasts from 1 s to {} s", .max.as_secs())]
    BadDuration {
        /// The longest that is allowed.
        max: Duration,
    },
}
