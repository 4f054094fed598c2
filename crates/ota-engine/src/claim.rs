//! What excludes installs while it lasts: a snapshot, a restore, a factory reset. Given by the runner, so that no job begins
//! to write between the question and the answer.

use std::sync::{Arc, PoisonError};

use ota_core::{
    error::OtaError,
    job::{Job, JobStatus},
};

use crate::{EngineError, engine::Shared, runner::Runner};

/// Who wants to be alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claimant {
    /// Settings are being saved.
    Snapshot,
    /// Settings are being put back.
    Restore,
    /// A factory reset is being scheduled. No job may be active at all: its records would be erased under it.
    Reset,
}

impl Claimant {
    const fn sentence(self) -> &'static str {
        match self {
            Self::Snapshot => "a snapshot is being made",
            Self::Restore => "a snapshot is being restored",
            Self::Reset => "a factory reset is being scheduled",
        }
    }
}

/// The right to be alone; ends when it is dropped, unless it was [kept](Self::keep).
pub(crate) struct Claim {
    shared: Arc<Shared>,
    kept: bool,
}

impl Claim {
    /// It lasts for as long as this daemon runs, for this reason.
    pub(crate) fn keep(mut self, why: &str) {
        self.kept = true;
        self.shared.set_claimed(Some(why.into()));
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if !self.kept {
            self.shared.set_claimed(None);
        }
    }
}

impl Shared {
    /// Why nothing may be installed now, if something is alone.
    pub(crate) fn claimed(&self) -> Option<String> {
        self.claimed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_claimed(&self, why: Option<String>) {
        *self.claimed.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }

    /// Refuses what would write while something is alone.
    pub(crate) fn refuse_claimed(&self) -> Result<(), EngineError> {
        self.claimed().map_or(Ok(()), |with| Err(OtaError::SystemBusy { with }.into()))
    }
}

impl Runner {
    /// Gives the right to be alone.
    pub(crate) fn claim(&self, who: Claimant) -> Result<Claim, EngineError> {
        self.shared.refuse_claimed()?;
        if let Some(job) = &self.active
            && (who == Claimant::Reset || is_writing(job))
        {
            let with = format!("job {} is {}", job.id, job.state.status().as_str());
            return Err(OtaError::SystemBusy { with }.into());
        }
        self.shared.set_claimed(Some(who.sentence().into()));
        Ok(Claim { shared: Arc::clone(&self.shared), kept: false })
    }
}

/// Whether the job writes a slot, or what was written is about to be started.
fn is_writing(job: &Job) -> bool {
    matches!(job.state.status(), JobStatus::Installing | JobStatus::Rebooting | JobStatus::Confirming)
}
