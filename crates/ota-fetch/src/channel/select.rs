//! Which entries of a manifest are offered to this device now.

use ota_core::{Timestamp, Version};
use ring::digest::{Context, SHA256};

use super::{Entry, Rollout};

/// Entries newer than `running` whose `min_version` is met and whose rollout covers this device; newest first.
pub(crate) fn offered<'a>(
    entries: &'a [Entry],
    running: &Version,
    device_id: &str,
    now: Timestamp,
) -> Vec<&'a Entry> {
    let mut offered: Vec<_> = entries
        .iter()
        .filter(|entry| entry.version > *running)
        .filter(|entry| entry.min_version.as_ref().is_none_or(|min| running >= min))
        .filter(|entry| entry.rollout.as_ref().is_none_or(|rollout| covers(rollout, device_id, now)))
        .collect();
    offered.sort_by(|a, b| b.version.cmp(&a.version));
    offered
}

fn covers(rollout: &Rollout, device_id: &str, now: Timestamp) -> bool {
    rollout.start.is_none_or(|start| now >= start)
        && fraction(&rollout.salt, device_id) < rollout.percent / 100.0
}

/// Where in the fleet this device stands: the first four bytes of sha256(salt, 0, device id) as a fraction of 2^32.
fn fraction(salt: &str, device_id: &str) -> f64 {
    let mut hash = Context::new(&SHA256);
    hash.update(salt.as_bytes());
    hash.update(&[0]);
    hash.update(device_id.as_bytes());
    let mut first = [0; 4];
    first.copy_from_slice(&hash.finish().as_ref()[..4]);
    f64::from(u32::from_be_bytes(first)) / 4_294_967_296.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::{parse, tests::EXAMPLE};

    const IN_TIME: Timestamp = Timestamp::from_secs(1_741_700_000);

    fn is_offered(change: (&str, &str), running: &str, device: &str, now: Timestamp) -> bool {
        let entries = parse(EXAMPLE.replace(change.0, change.1).as_bytes(), "IGW-5000", "stable").unwrap();
        !offered(&entries, &running.parse().unwrap(), device, now).is_empty()
    }

    #[test]
    fn only_newer_versions_that_this_one_can_take_are_offered() {
        let everybody = ("\"percent\": 25", "\"percent\": 100");
        for (running, expected) in
            [("v5.0.4", true), ("v4.8.0", true), ("v4.7.9", false), ("v5.0.5", false), ("v5.0.6", false)]
        {
            assert_eq!(is_offered(everybody, running, "gw-1", IN_TIME), expected, "{running}");
        }
        assert!(
            !is_offered(everybody, "v5.0.4", "gw-1", Timestamp::from_secs(1_741_617_000)),
            "before the start"
        );
        let nobody = ("\"percent\": 25", "\"percent\": 0");
        assert!(!is_offered(nobody, "v5.0.4", "gw-1", IN_TIME));
    }

    #[test]
    fn a_quarter_rollout_reaches_a_quarter_of_the_fleet_and_always_the_same_one() {
        let among =
            |percent: f64| (0..4000).filter(|i| fraction("r1", &format!("gw-{i}")) < percent / 100.0).count();
        assert!((900..1100).contains(&among(25.0)), "{}", among(25.0));
        assert_eq!(among(100.0), 4000);
        // python3 -c 'import hashlib; print(int.from_bytes(hashlib.sha256(b"r1\0gw-17").digest()[:4], "big") / 2**32)'
        assert!((fraction("r1", "gw-17") - FRACTION_OF_GW_17).abs() < 1e-9);
    }

    const FRACTION_OF_GW_17: f64 = 0.4495130816940218;
}
