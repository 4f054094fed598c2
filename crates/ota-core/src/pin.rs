//! How many PIN tries there are, and how long a lock lasts. Pure; counting durably before comparing is the caller's duty.

use core::time::Duration;

use crate::{Timestamp, ports::PinTries};

/// Limits on guessing. The default allows 5 tries, then one after each lock of 5 minutes, 10, 20 … 48 hours: fewer than
/// 40 guesses in 30 days. Source: `threat-model.md`, A2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PinPolicy {
    /// Tries before the first lock.
    pub tries: u32,
    /// Length of the first lock; each further one is twice as long.
    pub first_lock: Duration,
    /// Longest lock.
    pub longest_lock: Duration,
}

impl Default for PinPolicy {
    fn default() -> Self {
        Self {
            tries: 5,
            first_lock: Duration::from_secs(5 * 60),
            longest_lock: Duration::from_secs(48 * 3600),
        }
    }
}

impl PinPolicy {
    /// The record as it must be durable before the comparison: this try counted as a failure, with the lock it brings.
    #[must_use]
    pub fn count(&self, tries: PinTries, now: Timestamp) -> PinTries {
        let failures = tries.failures.saturating_add(1);
        if failures < self.tries {
            return PinTries { failures, ..tries };
        }
        let locks = tries.locks.saturating_add(1);
        PinTries { failures, locks, locked_until: Some(now + self.lock_length(locks)) }
    }

    /// How many tries there are before the next lock; after the first lock there is one at a time.
    #[must_use]
    pub const fn attempts_left(&self, tries: &PinTries) -> u32 {
        if tries.locked_until.is_some() { 0 } else { self.tries.saturating_sub(tries.failures) }
    }

    /// Length of the `n`-th lock, counted from 1.
    #[must_use]
    pub fn lock_length(&self, n: u32) -> Duration {
        let doubled = 1_u32.checked_shl(n.saturating_sub(1)).unwrap_or(u32::MAX);
        self.first_lock.saturating_mul(doubled).min(self.longest_lock)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fifth_failure_locks_and_every_further_one_locks_longer() {
        let policy = PinPolicy::default();
        let now = Timestamp::from_secs(0);
        let mut tries = PinTries::default();
        for left in [4, 3, 2, 1] {
            tries = policy.count(tries, now);
            assert_eq!((policy.attempts_left(&tries), tries.locked_until), (left, None));
        }
        tries = policy.count(tries, now);
        assert_eq!(tries.locked_until, Some(Timestamp::from_secs(300)));
        tries = policy.count(tries, now);
        assert_eq!(tries.locked_until, Some(Timestamp::from_secs(600)));
    }

    #[test]
    fn a_month_of_guessing_gives_fewer_than_forty_tries() {
        let policy = PinPolicy::default();
        let (mut guesses, mut passed, mut locks) = (policy.tries, Duration::ZERO, 1);
        loop {
            passed += policy.lock_length(locks);
            if passed > Duration::from_secs(30 * 86_400) {
                break;
            }
            (guesses, locks) = (guesses + 1, locks + 1);
        }
        assert!(guesses < 40, "{guesses}");
        assert_eq!(policy.lock_length(u32::MAX), policy.longest_lock);
    }
}
