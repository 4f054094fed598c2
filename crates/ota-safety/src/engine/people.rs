//! What people and programs may do to the engine: override what is violated, hold updates back.

use std::{collections::BTreeSet, time::Duration};

use ota_core::{
    ports::{InhibitError, InhibitRequest, Inhibitors},
    safety::{ConstraintState, InhibitorReport, OverrideReport},
};

use super::{SafetyEngine, state::Now, state::State};
use crate::overrides::{Override, OverrideError, OverrideOutcome, PROPOSAL_LASTS, Proposal};

impl SafetyEngine {
    /// Overrides what is violated now and may be overridden, for `duration` (1 s to the configured maximum) on the monotonic
    /// clock. Replaces an active override. Never kept over a restart.
    ///
    /// # Errors
    /// [`OverrideError`]; nothing has changed then. `SecondPersonNeeded` where two people must agree.
    pub fn enable_override(&self, reason: &str, duration: Duration) -> Result<OverrideReport, OverrideError> {
        if self.two_person {
            return Err(OverrideError::SecondPersonNeeded);
        }
        self.change(|state, now| {
            let covers = self.coverable(state, duration)?;
            Ok(enable(state, covers, reason, duration, now))
        })
    }

    /// The same, and where two people must agree the first only proposes: the override is enabled when another one asks too,
    /// within five minutes, for the shorter of the two durations and for what was violated both times.
    ///
    /// `by` names the person: two tokens of one name are one person.
    ///
    /// # Errors
    /// [`OverrideError`]; nothing has changed then.
    pub fn request_override(
        &self,
        by: &str,
        reason: &str,
        duration: Duration,
    ) -> Result<OverrideOutcome, OverrideError> {
        if !self.two_person {
            return self.enable_override(reason, duration).map(OverrideOutcome::Enabled);
        }
        self.change(|state, now| {
            let covers = self.coverable(state, duration)?;
            match state.proposal.take() {
                Some(proposal) if proposal.by != by => {
                    let Some(covers) = proposal.agreed(&covers) else {
                        state.proposal = Some(proposal);
                        return Err(OverrideError::NothingViolated);
                    };
                    let reason = format!("{} ({}), {reason} ({by})", proposal.reason, proposal.by);
                    let duration = duration.min(proposal.duration);
                    Ok(OverrideOutcome::Enabled(enable(state, covers, &reason, duration, now)))
                }
                _ => {
                    let constraints = covers.iter().cloned().collect();
                    let until = now.monotonic + PROPOSAL_LASTS;
                    let proposal = Proposal { by: by.into(), covers, reason: reason.into(), duration, until };
                    tracing::warn!(by, reason, "safety override proposed");
                    state.proposal = Some(proposal);
                    Ok(OverrideOutcome::Proposed { constraints, expires_in: PROPOSAL_LASTS })
                }
            }
        })
    }

    /// Ends the override and forgets a proposal; `false` when there was neither.
    pub fn disable_override(&self) -> bool {
        let mut state = self.lock();
        let proposed = state.proposal.take().is_some();
        let ended = state.active_override.take().is_some();
        drop(state);
        if ended {
            tracing::warn!("safety override disabled");
        }
        self.tell(ended);
        ended || proposed
    }

    /// Brings everything up to now, then does `act`; tells when that has changed something.
    fn change<T, E>(&self, act: impl FnOnce(&mut State, Now) -> Result<T, E>) -> Result<T, E> {
        let (now, mut state, refreshed) = self.up_to_now();
        let outcome = act(&mut state, now);
        drop(state);
        self.tell(refreshed || outcome.is_ok());
        // What was done may end earlier than the next planned look.
        self.sooner.notify_one();
        outcome
    }

    fn coverable(&self, state: &State, duration: Duration) -> Result<BTreeSet<String>, OverrideError> {
        if duration < Duration::from_secs(1) || duration > self.max_override {
            return Err(OverrideError::BadDuration { max: self.max_override });
        }
        let unmet = || {
            let pairs = self.rules.iter().zip(&state.standings);
            pairs.filter(|(_, standing)| standing.state != ConstraintState::Ok).map(|(rule, _)| rule)
        };
        let covers: BTreeSet<String> =
            unmet().filter(|rule| rule.overridable).map(|rule| rule.name.clone()).collect();
        if !covers.is_empty() {
            return Ok(covers);
        }
        let constraints: Vec<String> = unmet().map(|rule| rule.name.clone()).collect();
        Err(if constraints.is_empty() {
            OverrideError::NothingViolated
        } else {
            OverrideError::NotOverridable { constraints }
        })
    }
}

impl Inhibitors for SafetyEngine {
    fn take(&self, request: InhibitRequest) -> Result<InhibitorReport, InhibitError> {
        self.change(|state, now| {
            let taken = state.inhibitors.take(request, self.max_inhibit, now.monotonic, now.wall);
            taken.inspect(|lease| {
                tracing::info!(id = lease.id, owner = lease.owner, reason = lease.reason, "inhibitor")
            })
        })
    }

    fn renew(&self, id: u64, ttl: Duration) -> Result<InhibitorReport, InhibitError> {
        self.change(|state, now| state.inhibitors.renew(id, ttl, self.max_inhibit, now.monotonic, now.wall))
    }

    fn release(&self, id: u64) -> bool {
        self.change(|state, _| if state.inhibitors.release(id) { Ok(()) } else { Err(()) }).is_ok()
    }
}

fn enable(
    state: &mut State,
    covers: BTreeSet<String>,
    reason: &str,
    duration: Duration,
    now: Now,
) -> OverrideReport {
    let enabled = Override { covers, reason: reason.to_owned(), until: now.monotonic + duration };
    let report = enabled.report(now.monotonic, now.wall);
    tracing::warn!(covers = ?report.constraints, reason, seconds = duration.as_secs(), "safety override enabled");
    state.active_override = Some(enabled);
    report
}

#[cfg(test)]
mod tests;
