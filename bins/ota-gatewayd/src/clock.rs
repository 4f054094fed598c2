//! The operating system's clocks as a port: the one place that reads them.

use std::{
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use nix::time::{ClockId, clock_gettime};
use ota_core::{Timestamp, ports::Clock};

use crate::config::ClockTrust;

/// Wall and monotonic time of this machine.
pub(crate) struct SystemClock {
    trust: ClockTrust,
    /// Exists once the time has been synchronised.
    synchronized: PathBuf,
}

impl SystemClock {
    pub(crate) fn new(trust: ClockTrust, synchronized: PathBuf) -> Self {
        Self { trust, synchronized }
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

    // Not `Instant`, which stands still while the device sleeps: an override would outlive its duration by the sleep.
    fn monotonic(&self) -> Duration {
        let since_boot = clock_gettime(ClockId::CLOCK_BOOTTIME).expect("Linux has this clock since 2.6.39");
        since_boot.into()
    }

    fn wall_is_trusted(&self) -> bool {
        match self.trust {
            ClockTrust::Always => true,
            ClockTrust::Synchronized => self.synchronized.exists(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_since_boot_is_the_kernels_own_for_every_clock_of_the_program() {
        let clock = || SystemClock::new(ClockTrust::Always, PathBuf::new());
        let uptime = std::fs::read_to_string("/proc/uptime").expect("the kernel tells it");
        let seconds: f64 =
            uptime.split(' ').next().and_then(|first| first.parse().ok()).expect("seconds since boot");
        let (first, second) = (clock().monotonic(), clock().monotonic());
        assert!(second >= first, "{second:?} is before {first:?}");
        // /proc/uptime counts suspended time too, and is cut off at hundredths.
        assert!(first.as_secs_f64() >= seconds, "{first:?} is before {seconds} s since boot");
        assert!(first.as_secs_f64() < seconds + 60.0, "{first:?} is not {seconds} s since boot");
    }
}
