//! The operating system's clocks as a port: the one place that reads them.

use std::{
    path::PathBuf,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use ota_core::{Timestamp, ports::Clock};

use crate::config::ClockTrust;

/// Wall and monotonic time of this machine.
pub(crate) struct SystemClock {
    origin: Instant,
    trust: ClockTrust,
    /// Exists once the time has been synchronised.
    synchronized: PathBuf,
}

impl SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the owner of the clock")]
    pub(crate) fn new(trust: ClockTrust, synchronized: PathBuf) -> Self {
        Self { origin: Instant::now(), trust, synchronized }
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the owner of the clock")]
    fn wall(&self) -> Timestamp {
        let millis = match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
            Err(before) => -i64::try_from(before.duration().as_millis()).unwrap_or(i64::MAX),
        };
        Timestamp::from_millis(millis)
    }

    fn monotonic(&self) -> Duration {
        self.origin.elapsed()
    }

    fn wall_is_trusted(&self) -> bool {
        match self.trust {
            ClockTrust::Always => true,
            ClockTrust::Synchronized => self.synchronized.exists(),
        }
    }
}
