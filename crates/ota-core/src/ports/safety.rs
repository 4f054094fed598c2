//! Safety, health and resources, as the driver asks for them.

use alloc::vec::Vec;
use core::time::Duration;

use crate::{
    error::PortError,
    ports::BoxFuture,
    safety::{Opening, Resources, SafetyReport, SafetyStep, Verdict},
};

/// May this happen now. Answers from the newest samples at once; never waits for a sensor.
pub trait SafetyGate: Send + Sync {
    /// Whether `step` may happen now, and if not, why.
    fn judge(&self, step: SafetyStep) -> Verdict;

    /// Every constraint as it stands.
    fn report(&self) -> SafetyReport;

    /// Whether work of that length, begun now, ends before the open `update` window closes. `false` when none is open.
    fn fits_window(&self, work: Duration) -> bool;

    /// The next `count` openings of all windows, those that are open now first. As the wall clock has it, trusted or not.
    fn windows(&self, count: usize) -> Vec<Opening>;
}

/// The health checks of a trial boot.
pub trait HealthChecks: Send + Sync {
    /// Runs all checks, each with its own time-out. `Err` is the sentence of the first that failed for good.
    fn run(&self) -> BoxFuture<'_, Result<(), alloc::string::String>>;
}

/// Free resources of the gateway.
pub trait SystemProbe: Send + Sync {
    /// Measured now.
    ///
    /// # Errors
    /// `Io`.
    fn resources(&self) -> Result<Resources, PortError>;
}
