//! How long violations have lasted, and so how long this one may last.

use std::{collections::VecDeque, time::Duration};

/// How many violations are remembered of a constraint.
const KEPT: usize = 32;

/// How long the last violations of one constraint lasted.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    lasted: VecDeque<Duration>,
}

impl History {
    /// A violation has ended.
    pub(crate) fn record(&mut self, lasted: Duration) {
        if self.lasted.len() == KEPT {
            self.lasted.pop_front();
        }
        self.lasted.push_back(lasted);
    }

    /// How much longer a violation that has lasted for `elapsed` may last: the median of what was left of the earlier
    /// ones that lasted at least as long. `None` when none did.
    pub(crate) fn estimate(&self, elapsed: Duration) -> Option<Duration> {
        let mut left: Vec<Duration> =
            self.lasted.iter().filter_map(|lasted| lasted.checked_sub(elapsed)).collect();
        left.sort_unstable();
        left.get(left.len() / 2).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn the_estimate_is_the_median_of_what_was_left_of_longer_ones() {
        let mut history = History::default();
        assert_eq!(history.estimate(secs(0)), None);
        for lasted in [60, 120, 180] {
            history.record(secs(lasted));
        }
        assert_eq!(history.estimate(secs(0)), Some(secs(120)));
        assert_eq!(history.estimate(secs(100)), Some(secs(80)));
        assert_eq!(history.estimate(secs(200)), None);
    }

    #[test]
    fn old_violations_are_forgotten() {
        let mut history = History::default();
        (0..100).for_each(|n| history.record(secs(n)));
        assert_eq!(history.lasted.len(), KEPT);
    }
}
