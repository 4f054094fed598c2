//! Human strings of the API, made from numbers: `5.2MB/s`, `00:05:30`, `5m 30s`, `452MB`, RFC 3339 times.

use std::time::Duration;

use ota_core::{ByteCount, Timestamp};

/// Speed that estimates assume while none was measured, in bytes a second. Source: the spec's average of 10–50 MB/s.
pub const NOMINAL_SPEED: u64 = 10_000_000;

/// `5.2MB/s`: decimal megabytes with one digit.
#[must_use]
pub fn speed(bytes_per_second: u64) -> String {
    let tenths = bytes_per_second.saturating_add(50_000) / 100_000;
    format!("{}.{}MB/s", tenths / 10, tenths % 10)
}

/// `452MB`: whole decimal megabytes; below one megabyte one digit after the point.
#[must_use]
pub fn megabytes(size: ByteCount) -> String {
    let bytes = size.get();
    if bytes >= 1_000_000 || bytes == 0 {
        format!("{}MB", bytes.saturating_add(500_000) / 1_000_000)
    } else {
        format!("0.{}MB", (bytes / 100_000).clamp(1, 9))
    }
}

/// `00:05:30`; hours grow beyond two digits where they must.
#[must_use]
pub fn hms(seconds: u64) -> String {
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// Seconds of a wait, begun ones in full: who has waited that long does not come too early.
#[must_use]
pub const fn wait_seconds(span: Duration) -> u64 {
    let begun = span.subsec_nanos() > 0;
    span.as_secs().saturating_add(begun as u64)
}

/// `5m 30s`, `45s`, `1h 5m 30s`.
#[must_use]
pub fn spoken(span: Duration) -> String {
    let seconds = span.as_secs();
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{rest}s"),
        (0, _) => format!("{minutes}m {rest}s"),
        _ => format!("{hours}h {minutes}m {rest}s"),
    }
}

/// Share in percent with one digit, 0.0 to 100.0; 0 of 0 is nothing yet.
#[must_use]
pub fn percent(current: ByteCount, total: ByteCount) -> f64 {
    if total.get() == 0 {
        return 0.0;
    }
    let share = u128::from(current.get().min(total.get())) * 1000 / u128::from(total.get());
    f64::from(u32::try_from(share).unwrap_or(1000)) / 10.0
}

/// Seconds for `bytes` at a speed, [`NOMINAL_SPEED`] when none is known.
#[must_use]
pub fn seconds_for(bytes: ByteCount, bytes_per_second: Option<u64>) -> u64 {
    bytes.get().div_ceil(bytes_per_second.filter(|speed| *speed > 0).unwrap_or(NOMINAL_SPEED))
}

/// Wall-clock time for the wire, whole seconds; what lies outside the years of RFC 3339 is clamped.
#[must_use]
pub fn time(at: Timestamp) -> jiff::Timestamp {
    let clamped = at.as_secs().clamp(-62_135_596_800, 253_402_207_200);
    jiff::Timestamp::from_second(clamped).unwrap_or(jiff::Timestamp::UNIX_EPOCH)
}

/// `2025-03-15T10:30:45Z`.
#[must_use]
pub fn rfc3339(at: Timestamp) -> String {
    time(at).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn strings_look_as_in_the_spec() {
        assert_eq!(speed(5_200_000), "5.2MB/s");
        assert_eq!(speed(0), "0.0MB/s");
        assert_eq!(megabytes(ByteCount(452_000_000)), "452MB");
        assert_eq!(megabytes(ByteCount(10)), "0.1MB");
        assert_eq!(hms(330), "00:05:30");
        assert_eq!(hms(360_000), "100:00:00");
        assert_eq!(spoken(Duration::from_secs(330)), "5m 30s");
        assert_eq!(spoken(Duration::from_secs(3930)), "1h 5m 30s");
        assert_eq!(rfc3339(Timestamp::from_millis(1_742_034_645_999)), "2025-03-15T10:30:45Z");
        assert!((percent(ByteCount(655), ByteCount(1000)) - 65.5).abs() < f64::EPSILON);
    }

    #[test]
    fn a_wait_is_never_told_shorter_than_it_is() {
        let told = [0, 1, 500, 1000, 1001].map(|millis| wait_seconds(Duration::from_millis(millis)));
        assert_eq!(told, [0, 1, 1, 1, 2]);
    }

    proptest! {
        #[test]
        fn any_number_makes_a_string_and_percent_stays_within_0_and_100(a in any::<u64>(), b in any::<u64>(), t in any::<i64>()) {
            let _ = (speed(a), megabytes(ByteCount(a)), hms(a), spoken(Duration::from_secs(a)), seconds_for(ByteCount(a), Some(b)));
            prop_assert!(rfc3339(Timestamp::from_millis(t)).ends_with('Z'));
            prop_assert!((0.0..=100.0).contains(&percent(ByteCount(a), ByteCount(b))));
        }
    }
}
