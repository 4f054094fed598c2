//! How long an install takes on this device: measured, kept, and so known beforehand.
//!
//! What counts is the slowest of the last few, with room on top: work that is begun in a window must end in it.

use std::{fmt::Display, time::Duration};

use ota_core::{ByteCount, job::Job};

use crate::engine::Shared;

/// Bytes a second that were written and read back, of the last installs, newest first.
const WRITE_SPEED: &str = "install.bytes_per_second";
/// Seconds from the reboot to the confirmed slot, of the last installs, newest first.
const RESTART: &str = "install.restart_seconds";
/// How many are kept of each.
const KEPT: usize = 5;
/// Assumed until the first install was measured.
const SPEED_UNKNOWN: u64 = 5_000_000;
/// The same of a restart.
const RESTART_UNKNOWN: Duration = Duration::from_secs(180);
/// Longer than that is no restart but a clock that was set.
const RESTART_AT_MOST: Duration = Duration::from_secs(3600);

/// What was measured on this device; `None` where nothing was yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Measured {
    /// The slowest, in bytes a second.
    speed: Option<u64>,
    /// The longest.
    restart: Option<Duration>,
}

impl Measured {
    /// From the first byte to the confirmed slot, with a quarter of room on top.
    fn work(self, size: ByteCount, countdown: Duration) -> Duration {
        let speed = self.speed.unwrap_or(SPEED_UNKNOWN).max(1);
        let write = Duration::from_secs(size.get().div_ceil(speed));
        let whole = write + countdown + self.restart.unwrap_or(RESTART_UNKNOWN);
        whole + whole / 4
    }
}

impl Shared {
    /// How long it takes from the first byte of `job` to the confirmed slot. Blocking.
    pub(crate) fn expected_work(&self, job: &Job) -> Duration {
        let measured = Measured {
            speed: self.kept(WRITE_SPEED).into_iter().min(),
            restart: self.kept(RESTART).into_iter().max().map(Duration::from_secs),
        };
        measured.work(job.release.size, Duration::from_secs(self.config.reboot_countdown.into()))
    }

    /// That so many bytes were written and read back in that time. Blocking.
    pub(crate) fn note_write(&self, size: ByteCount, took: Duration) {
        let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX).max(1);
        self.keep(WRITE_SPEED, (size.get().saturating_mul(1000) / millis).max(1));
    }

    /// That it took that long from the reboot to the confirmed slot. Blocking.
    pub(crate) fn note_restart(&self, took: Duration) {
        if took <= RESTART_AT_MOST {
            self.keep(RESTART, took.as_secs().max(1));
        }
    }

    fn kept(&self, name: &str) -> Vec<u64> {
        let text = self.ports.settings.value(name).ok().flatten().unwrap_or_default();
        text.split_whitespace().filter_map(|number| number.parse().ok()).collect()
    }

    fn keep(&self, name: &str, newest: u64) {
        let numbers = std::iter::once(newest).chain(self.kept(name)).take(KEPT);
        let text = numbers.map(|number| number.to_string()).collect::<Vec<_>>().join(" ");
        let failed = |error: &dyn Display| tracing::warn!(%error, name, "a measured duration was not kept");
        if let Err(error) = self.ports.settings.set_value(name, Some(&text)) {
            failed(&error);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_the_write_the_countdown_and_the_restart_with_a_quarter_on_top() {
        let measured = Measured { speed: Some(10_000_000), restart: Some(Duration::from_secs(40)) };
        let work = measured.work(ByteCount(500_000_000), Duration::from_secs(10));
        assert_eq!(work, Duration::from_secs(125));
    }

    #[test]
    fn what_was_never_measured_is_assumed_to_be_slow() {
        let work = Measured::default().work(ByteCount(500_000_000), Duration::ZERO);
        assert_eq!(work, Duration::from_secs(350));
    }
}
