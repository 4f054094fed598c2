//! Time as a port.

use core::time::Duration;

use crate::Timestamp;

/// Both clocks. Records and windows use wall time; time-outs, overrides and locks use monotonic time.
pub trait Clock: Send + Sync {
    /// Wall-clock time, possibly wrong.
    fn wall(&self) -> Timestamp;

    /// Time since some fixed instant before the program started; never goes back, counts while suspended.
    fn monotonic(&self) -> Duration;

    /// Whether wall time has been set from a trusted source since boot.
    fn wall_is_trusted(&self) -> bool;
}
