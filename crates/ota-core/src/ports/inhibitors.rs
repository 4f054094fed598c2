//! Holding updates back by leases, as the API asks for it. `ota-safety` keeps them; the API checks who asks and the audit.

use alloc::{collections::BTreeSet, string::String};
use core::time::Duration;

use crate::safety::{InhibitorReport, SafetyStep};

/// Most leases at one time.
pub const MOST_INHIBITORS: usize = 64;

/// Longest text of an owner or a reason, in characters.
pub const MAX_INHIBITOR_TEXT: usize = 200;

/// Takes, renews and gives back leases. Answers at once; nothing survives a restart.
pub trait Inhibitors: Send + Sync {
    /// Holds updates back until the lease runs out, is renewed or released.
    ///
    /// # Errors
    /// [`InhibitError`]; nothing has changed then.
    fn take(&self, request: InhibitRequest) -> Result<InhibitorReport, InhibitError>;

    /// Lets a lease last for `ttl` from now.
    ///
    /// # Errors
    /// [`InhibitError`]; `Unknown` when it has run out.
    fn renew(&self, id: u64, ttl: Duration) -> Result<InhibitorReport, InhibitError>;

    /// Gives a lease back; `false` when it was not held.
    fn release(&self, id: u64) -> bool;
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InhibitRequest {
    /// Who holds it, in words: a person, a program. 1 to 200 characters.
    pub owner: String,
    /// Name of the token that asks.
    pub holder: String,
    /// Why, for the people who have to wait. 1 to 200 characters.
    pub reason: String,
    /// Which steps it holds back; at least one.
    pub blocks: BTreeSet<SafetyStep>,
    /// For how long without a renewal, 1 s to the configured maximum.
    pub ttl: Duration,
}

/// Why a lease was not given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InhibitError {
    /// Too many are held.
    #[error("{MOST_INHIBITORS} inhibitors are held already")]
    TooMany,
    /// The duration is zero or longer than the configuration allows.
    #[error("an inhibitor lasts from 1 s to {} s without a renewal", .max.as_secs())]
    BadDuration {
        /// The longest that is allowed.
        max: Duration,
    },
    /// Owner or reason is empty or too long, or no step is given.
    #[error(
        "an inhibitor needs an owner and a reason of 1 to {MAX_INHIBITOR_TEXT} characters and a step to hold back"
    )]
    Incomplete,
    /// No lease of that number is held; it may have run out.
    #[error("inhibitor {id} is not held")]
    Unknown {
        /// The number.
        id: u64,
    },
}
