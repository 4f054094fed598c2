//! Time that stands still until it is told to move.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use ota_core::{Timestamp, ports::Clock};

/// A clock that only its owner moves.
#[derive(Debug)]
pub struct FakeClock {
    times: Mutex<Times>,
}

#[derive(Debug, Clone, Copy)]
struct Times {
    wall: Timestamp,
    monotonic: Duration,
    trusted: bool,
}

impl FakeClock {
    /// Wall time at `wall`, trusted; monotonic time at one hour.
    #[must_use]
    pub const fn at(wall: Timestamp) -> Self {
        Self { times: Mutex::new(Times { wall, monotonic: Duration::from_secs(3600), trusted: true }) }
    }

    /// Both clocks go on by `span`.
    pub fn advance(&self, span: Duration) {
        self.with(|times| {
            times.wall = times.wall + span;
            times.monotonic += span;
        });
    }

    /// Wall time jumps; monotonic time stays.
    pub fn set_wall(&self, wall: Timestamp) {
        self.with(|times| times.wall = wall);
    }

    /// Monotonic time jumps; wall time stays. What a reboot does.
    pub fn set_monotonic(&self, monotonic: Duration) {
        self.with(|times| times.monotonic = monotonic);
    }

    /// Whether wall time counts as set from a trusted source.
    pub fn set_trusted(&self, trusted: bool) {
        self.with(|times| times.trusted = trusted);
    }

    fn with<R>(&self, look: impl FnOnce(&mut Times) -> R) -> R {
        look(&mut self.times.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Default for FakeClock {
    /// 2026-01-15 12:00:00 UTC.
    fn default() -> Self {
        Self::at(Timestamp::from_secs(1_768_478_400))
    }
}

impl Clock for FakeClock {
    fn wall(&self) -> Timestamp {
        self.with(|times| times.wall)
    }

    fn monotonic(&self) -> Duration {
        self.with(|times| times.monotonic)
    }

    fn wall_is_trusted(&self) -> bool {
        self.with(|times| times.trusted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_of_the_wall_clock_leaves_monotonic_time_alone() {
        let clock = FakeClock::default();
        let before = clock.monotonic();
        clock.set_wall(Timestamp::from_secs(0));
        assert_eq!((clock.wall(), clock.monotonic()), (Timestamp::from_secs(0), before));
        clock.advance(Duration::from_secs(2));
        assert_eq!(
            (clock.wall(), clock.monotonic()),
            (Timestamp::from_secs(2), before + Duration::from_secs(2))
        );
    }
}
