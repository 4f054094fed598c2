//! Inhibitors: leases by which a person or a program holds updates back for a while. Whoever stops renewing loses it.
//!
//! Pure but for the numbers it hands out; time comes in as an argument, on the monotonic clock. In memory only: after a
//! restart of the daemon a holder finds its lease unknown at the next renewal and asks for a new one.

use std::{collections::BTreeSet, time::Duration};

use ota_core::{
    Timestamp,
    safety::{Block, SafetyStep},
};
use serde::Serialize;

/// Most leases at one time.
pub const MOST: usize = 64;

/// Longest text of an owner or a reason, in characters.
pub const MAX_TEXT: usize = 200;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InhibitRequest {
    /// Who holds it: a person, a program. 1 to 200 characters.
    pub owner: String,
    /// Why, for the people who have to wait. 1 to 200 characters.
    pub reason: String,
    /// Which steps it holds back; at least one.
    pub blocks: BTreeSet<SafetyStep>,
    /// For how long without a renewal, 1 s to the configured maximum.
    pub ttl: Duration,
}

/// A lease that is held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InhibitorReport {
    /// Its number, never given twice while the daemon runs.
    pub id: u64,
    /// Who holds it.
    pub owner: String,
    /// Why.
    pub reason: String,
    /// Which steps it holds back.
    pub blocks: BTreeSet<SafetyStep>,
    /// When it was taken.
    pub since: Timestamp,
    /// Time left on the monotonic clock.
    pub remaining: Duration,
    /// The same as wall-clock time, for people.
    pub expires_at: Timestamp,
}

/// Why a lease was not given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InhibitError {
    /// Too many are held.
    #[error("{MOST} inhibitors are held already")]
    TooMany,
    /// The duration is zero or longer than the configuration allows.
    #[error("an inhibitor lasts from 1 s to {} s without a renewal", .max.as_secs())]
    BadDuration {
        /// The longest that is allowed.
        max: Duration,
    },
    /// Owner or reason is empty or too long, or no step is given.
    #[error("an inhibitor needs an owner and a reason of 1 to {MAX_TEXT} characters and a step to hold back")]
    Incomplete,
    /// No lease of that number is held; it may have run out.
    #[error("inhibitor {id} is not held")]
    Unknown {
        /// The number.
        id: u64,
    },
}

/// A lease.
#[derive(Clone, Debug, PartialEq)]
pub struct Lease {
    id: u64,
    request: InhibitRequest,
    since: Timestamp,
    until: Duration,
}

impl Lease {
    /// When it runs out, on the monotonic clock.
    #[must_use]
    pub const fn until(&self) -> Duration {
        self.until
    }

    /// Whether it holds back `step` at `now`.
    #[must_use]
    pub fn holds(&self, step: SafetyStep, now: Duration) -> bool {
        now < self.until && self.request.blocks.contains(&step)
    }

    /// Why a step may not happen.
    #[must_use]
    pub fn block(&self, now: Duration) -> Block {
        Block {
            constraint: format!("inhibitor_{}", self.id),
            status: "inhibited".into(),
            message: format!("{} holds updates back: {}", self.request.owner, self.request.reason),
            detected_at: Some(self.since),
            resolution: "Wait for the holder to release it, or remove the inhibitor".into(),
            estimated_wait: Some(self.until.saturating_sub(now)),
        }
    }

    fn report(&self, now: Duration, wall: Timestamp) -> InhibitorReport {
        let remaining = self.until.saturating_sub(now);
        let InhibitRequest { owner, reason, blocks, .. } = self.request.clone();
        InhibitorReport {
            id: self.id,
            owner,
            reason,
            blocks,
            since: self.since,
            remaining,
            expires_at: wall + remaining,
        }
    }
}

/// All leases.
#[derive(Debug, Default)]
pub(crate) struct Inhibitors {
    leases: Vec<Lease>,
    given: u64,
}

impl Inhibitors {
    pub(crate) fn leases(&self) -> &[Lease] {
        &self.leases
    }

    pub(crate) fn take(
        &mut self,
        request: InhibitRequest,
        max: Duration,
        now: Duration,
        wall: Timestamp,
    ) -> Result<InhibitorReport, InhibitError> {
        let fine = |text: &str| !text.trim().is_empty() && text.chars().count() <= MAX_TEXT;
        if !fine(&request.owner) || !fine(&request.reason) || request.blocks.is_empty() {
            return Err(InhibitError::Incomplete);
        }
        check(request.ttl, max)?;
        if self.leases.len() >= MOST {
            return Err(InhibitError::TooMany);
        }
        self.given += 1;
        let lease = Lease { id: self.given, since: wall, until: now + request.ttl, request };
        let report = lease.report(now, wall);
        self.leases.push(lease);
        Ok(report)
    }

    pub(crate) fn renew(
        &mut self,
        id: u64,
        ttl: Duration,
        max: Duration,
        now: Duration,
        wall: Timestamp,
    ) -> Result<InhibitorReport, InhibitError> {
        check(ttl, max)?;
        let lease = self.leases.iter_mut().find(|lease| lease.id == id && now < lease.until);
        let lease = lease.ok_or(InhibitError::Unknown { id })?;
        lease.until = now + ttl;
        Ok(lease.report(now, wall))
    }

    /// Whether there was one of that number.
    pub(crate) fn release(&mut self, id: u64) -> bool {
        let before = self.leases.len();
        self.leases.retain(|lease| lease.id != id);
        self.leases.len() < before
    }

    /// Forgets what has run out; whether there was any.
    pub(crate) fn expire(&mut self, now: Duration) -> bool {
        let before = self.leases.len();
        self.leases.retain(|lease| now < lease.until);
        self.leases.len() < before
    }

    pub(crate) fn reports(&self, now: Duration, wall: Timestamp) -> Vec<InhibitorReport> {
        self.leases.iter().map(|lease| lease.report(now, wall)).collect()
    }
}

fn check(ttl: Duration, max: Duration) -> Result<(), InhibitError> {
    if ttl < Duration::from_secs(1) || ttl > max {
        return Err(InhibitError::BadDuration { max });
    }
    Ok(())
}
