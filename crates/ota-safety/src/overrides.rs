//! The override: for how long, of what, and why. Pure; lives in memory only, so that a restart ends it.

use std::{collections::BTreeSet, time::Duration};

use ota_core::{
    Timestamp,
    safety::{OverrideReport, ProposalReport},
};

/// Why an override was not enabled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OverrideError {
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
    /// Two people must agree, and nobody was named.
    #[error("two people must agree to an override")]
    SecondPersonNeeded,
}

/// How long a proposal waits for the second person.
pub const PROPOSAL_LASTS: Duration = Duration::from_secs(300);

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OverrideOutcome {
    /// It is enabled.
    Enabled(OverrideReport),
    /// A second person has to agree.
    Proposed {
        /// What it would cover.
        constraints: Vec<String>,
        /// For how long it waits.
        expires_in: Duration,
    },
}

/// An override that the first of two people asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Proposal {
    pub(crate) by: String,
    pub(crate) covers: BTreeSet<String>,
    pub(crate) reason: String,
    pub(crate) duration: Duration,
    /// Until when it waits, on the monotonic clock.
    pub(crate) until: Duration,
}

impl Proposal {
    /// What both people saw violated; `None` when that is nothing.
    pub(crate) fn agreed(&self, covers: &BTreeSet<String>) -> Option<BTreeSet<String>> {
        let both: BTreeSet<String> = self.covers.intersection(covers).cloned().collect();
        (!both.is_empty()).then_some(both)
    }

    /// For `safety/status`.
    pub(crate) fn report(&self, now: Duration, wall: Timestamp) -> ProposalReport {
        let remaining = self.until.saturating_sub(now);
        ProposalReport {
            by: self.by.clone(),
            reason: self.reason.clone(),
            constraints: self.covers.iter().cloned().collect(),
            duration: self.duration,
            remaining,
            expires_at: wall + remaining,
        }
    }
}

/// An override that has been enabled; whether it still counts depends on the time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    /// Names of the constraints it covers: what was violated when it was enabled.
    pub covers: BTreeSet<String>,
    /// Why.
    pub reason: String,
    /// When it ends, on the monotonic clock. The wall clock may jump as it likes.
    pub until: Duration,
}

impl Override {
    /// Whether it still counts.
    #[must_use]
    pub fn active(&self, now: Duration) -> bool {
        now < self.until
    }

    /// For `safety/status`.
    #[must_use]
    pub fn report(&self, now: Duration, wall: Timestamp) -> OverrideReport {
        let remaining = self.until.saturating_sub(now);
        OverrideReport {
            constraints: self.covers.iter().cloned().collect(),
            reason: self.reason.clone(),
            remaining,
            expires_at: wall + remaining,
        }
    }
}
