//! The time that validity is judged at: the latest of the clock and two floors, and which of them it was.
//!
//! A gateway without a set clock would otherwise take a key that expired years ago for a valid one.

use std::fmt;

use ota_core::Timestamp;

/// The time that validity periods are compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The latest of the three times.
    pub at: Timestamp,
    /// Which of them it is.
    pub source: TimeSource,
}

/// Where the time comes from that validity was judged at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeSource {
    /// The wall clock, set from a trusted source since boot.
    Clock,
    /// The wall clock as it stands; nothing trusted has set it since boot.
    UnsetClock,
    /// The time this program was built at; the clock is behind it.
    BuildTime,
    /// The latest time that was ever seen in signed metadata; the clock is behind it.
    StoredFloor,
}

impl Moment {
    /// The latest of the clock, the time of the build and the stored floor.
    #[must_use]
    pub fn latest(
        clock: Timestamp,
        clock_is_trusted: bool,
        build: Timestamp,
        stored: Option<Timestamp>,
    ) -> Self {
        let source = if clock_is_trusted { TimeSource::Clock } else { TimeSource::UnsetClock };
        let mut moment = Self { at: clock, source };
        for (at, source) in [(Some(build), TimeSource::BuildTime), (stored, TimeSource::StoredFloor)] {
            if let Some(at) = at.filter(|at| *at > moment.at) {
                moment = Self { at, source };
            }
        }
        moment
    }

    /// Whole seconds since 1970, 0 for a time before that.
    pub(crate) fn secs(self) -> u64 {
        u64::try_from(self.at.as_secs()).unwrap_or(0)
    }
}

impl fmt::Display for Moment {
    /// `2025-03-10T14:30:00Z by the clock`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = match self.source {
            TimeSource::Clock => "by the clock",
            TimeSource::UnsetClock => "by the clock, which nothing trusted has set since boot",
            TimeSource::BuildTime => "the build time, since the clock is behind it",
            TimeSource::StoredFloor => "the latest time vouched for, since the clock is behind it",
        };
        write!(f, "{} {source}", Utc(self.secs()))
    }
}

/// Seconds since 1970 as a date, for texts.
pub(crate) struct Utc(pub(crate) u64);

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match der::DateTime::from_unix_duration(std::time::Duration::from_secs(self.0)) {
            Ok(date) => write!(f, "{date}"),
            Err(_) => write!(f, "{} s after 1970", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    #[test]
    fn the_latest_time_wins_and_says_where_it_comes_from() {
        let cases = [
            (at(300), true, at(100), Some(at(200)), 300, TimeSource::Clock),
            (at(300), false, at(100), None, 300, TimeSource::UnsetClock),
            (at(0), false, at(100), Some(at(50)), 100, TimeSource::BuildTime),
            (at(0), true, at(100), Some(at(200)), 200, TimeSource::StoredFloor),
        ];
        for (clock, trusted, build, stored, expected, source) in cases {
            let moment = Moment::latest(clock, trusted, build, stored);
            assert_eq!((moment.at, moment.source), (at(expected), source));
        }
    }

    #[test]
    fn a_moment_reads_as_a_date_with_its_source() {
        let moment = Moment::latest(at(1_741_617_000), true, at(0), None);
        assert_eq!(moment.to_string(), "2025-03-10T14:30:00Z by the clock");
    }
}
