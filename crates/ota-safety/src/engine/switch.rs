//! The engine as the API's switch for overrides.

use std::time::Duration;

use ota_core::ports::{OverrideGranted, OverrideRefused, SafetyOverrides};

use super::SafetyEngine;
use crate::overrides::{OverrideError, OverrideOutcome};

impl SafetyOverrides for SafetyEngine {
    fn request(
        &self,
        by: &str,
        reason: &str,
        duration: Duration,
    ) -> Result<OverrideGranted, OverrideRefused> {
        match self.request_override(by, reason, duration) {
            Ok(OverrideOutcome::Enabled(report)) => Ok(OverrideGranted::Enabled(report)),
            Ok(OverrideOutcome::Proposed { constraints, expires_in }) => {
                Ok(OverrideGranted::Proposed { constraints, expires_in })
            }
            // Somebody is always named here, so nobody is missing: the request was a proposal.
            Err(OverrideError::NothingViolated | OverrideError::SecondPersonNeeded) => {
                Err(OverrideRefused::NothingViolated)
            }
            Err(OverrideError::NotOverridable { constraints }) => {
                Err(OverrideRefused::NotOverridable { constraints })
            }
            Err(OverrideError::BadDuration { max }) => Err(OverrideRefused::BadDuration { max }),
        }
    }

    fn disable(&self) -> bool {
        self.disable_override()
    }
}
