//! A rebooter that only writes down that it was asked.

use ota_core::{
    error::PortError,
    ports::{RebootReason, Rebooter},
};

use crate::{faults::Faults, watch::Watch};

/// Records every request. What a reboot does to the boot environment is [`crate::FakeBootControl::reboot`].
#[derive(Debug, Default)]
pub struct FakeRebooter {
    reasons: Watch<Vec<RebootReason>>,
    /// Requests that are to fail.
    pub faults: Faults,
}

impl FakeRebooter {
    /// Why, for each reboot that got under way.
    pub fn reasons(&self) -> Vec<RebootReason> {
        self.reasons.with(|reasons| reasons.clone())
    }

    /// Waits until `n` reboots have got under way, and says why each.
    pub async fn until_reboots(&self, n: usize) -> Vec<RebootReason> {
        self.reasons.until(|reasons| (reasons.len() >= n).then(|| reasons.clone())).await
    }
}

impl Rebooter for FakeRebooter {
    fn reboot(&self, reason: RebootReason) -> Result<(), PortError> {
        self.faults.call()?;
        self.reasons.update(|reasons| reasons.push(reason));
        Ok(())
    }
}
