//! Inhibitors: leases by which a person or a program holds updates back for a while. Whoever stops renewing loses it.
//!
//! Pure but for the numbers it hands out; time comes in as an argument, on the monotonic clock. In memory only: after a
//! restart of the daemon a holder finds its lease unknown at the next renewal and asks for a new one.

use std::time::Duration;

use ota_core::{
    Timestamp,
    ports::{InhibitError, InhibitRequest, MAX_INHIBITOR_TEXT, MOST_INHIBITORS},
    safety::{Block, InhibitorReport, OnViolation, SafetyStep},
};

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

    /// Why a step may not happen, and what that does to work that is under way.
    #[must_use]
    pub fn block(&self, now: Duration, on_violation: OnViolation) -> Block {
        Block {
            constraint: format!("inhibitor_{}", self.id),
            status: "inhibited".into(),
            message: format!("{} holds updates back: {}", self.request.owner, self.request.reason),
            detected_at: Some(self.since),
            resolution: "Wait for the holder to release it, or remove the inhibitor".into(),
            estimated_wait: Some(self.until.saturating_sub(now)),
            on_violation,
        }
    }

    fn report(&self, now: Duration, wall: Timestamp) -> InhibitorReport {
        let remaining = self.until.saturating_sub(now);
        let InhibitRequest { owner, holder, reason, blocks, .. } = self.request.clone();
        InhibitorReport {
            id: self.id,
            owner,
            holder,
            reason,
            blocks: blocks.into_iter().collect(),
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
        let fine = |text: &str| !text.trim().is_empty() && text.chars().count() <= MAX_INHIBITOR_TEXT;
        if !fine(&request.owner) || !fine(&request.reason) || request.blocks.is_empty() {
            return Err(InhibitError::Incomplete);
        }
        check(request.ttl, max)?;
        if self.leases.len() >= MOST_INHIBITORS {
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
