//! Names that cannot exist malformed: jobs, deployments, updates, staged images.

use alloc::{string::String, vec::Vec};
use core::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Crockford's base 32: no I, L, O or U.
const CROCKFORD: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// The text does not have the shape of this kind of name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not {expected}")]
pub struct BadName {
    expected: &'static str,
}

macro_rules! text_name {
    ($(#[$doc:meta])* $name:ident, $expected:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl FromStr for $name {
            type Err = BadName;
            fn from_str(text: &str) -> Result<Self, BadName> {
                let check: fn(&str) -> bool = $check;
                if check(text) { Ok(Self(text.into())) } else { Err(BadName { expected: $expected }) }
            }
        }
        impl TryFrom<String> for $name {
            type Error = BadName;
            fn try_from(text: String) -> Result<Self, BadName> {
                text.parse()
            }
        }
        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_name!(
    /// Name of a job: `OTA-JOB-` and 5 to 13 upper-case Crockford base-32 characters. Unique for the life of a device.
    JobId,
    "a job id like OTA-JOB-8821X",
    |text| text.strip_prefix("OTA-JOB-").is_some_and(|tail| {
        (5..=13).contains(&tail.len()) && tail.bytes().all(|c| CROCKFORD.contains(&c))
    })
);

text_name!(
    /// Name of a deployment of an uploaded image: `DEP-` and 5 to 20 decimal digits.
    DeploymentId,
    "a deployment id like DEP-12345",
    |text| text
        .strip_prefix("DEP-")
        .is_some_and(|tail| (5..=20).contains(&tail.len()) && tail.bytes().all(|c| c.is_ascii_digit()))
);

text_name!(
    /// Name of a snapshot of the settings: `SNAP-` and 1 to 19 decimal digits without a zero in front; newer ones count on.
    SnapshotId,
    "a snapshot id like SNAP-1763765990000",
    |text| text.strip_prefix("SNAP-").is_some_and(|tail| {
        (1..=19).contains(&tail.len()) && tail.bytes().all(|c| c.is_ascii_digit()) && !tail.starts_with('0')
    })
);

impl SnapshotId {
    /// The name of the snapshot with this number.
    #[must_use]
    pub fn from_number(number: u64) -> Self {
        // 1 to 10^19 - 1: both ends are out of reach of a clock.
        Self(alloc::format!("SNAP-{}", number.clamp(1, 9_999_999_999_999_999_999)))
    }

    /// Its number.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.0.trim_start_matches("SNAP-").parse().unwrap_or(0)
    }
}

text_name!(
    /// Name of a release on offer: 1 to 128 characters of `[A-Za-z0-9._:+-]`.
    UpdateId,
    "an update id of 1 to 128 characters A-Z a-z 0-9 . _ : + -",
    |text| (1..=128).contains(&text.len())
        && text.bytes().all(|c| c.is_ascii_alphanumeric() || b"._:+-".contains(&c))
);

text_name!(
    /// Base name of a staged image: 1 to 200 characters of `[A-Za-z0-9._-]`, not starting with a dot.
    ImageName,
    "a file name of 1 to 200 characters A-Z a-z 0-9 . _ - that does not start with a dot",
    |text| (1..=200).contains(&text.len())
        && !text.starts_with('.')
        && text.bytes().all(|c| c.is_ascii_alphanumeric() || b"._-".contains(&c))
);

impl JobId {
    /// The id of the `n`-th job of this device. Distinct numbers give distinct ids.
    ///
    /// The number is scrambled by an odd multiplier within its width, so that ids do not look like a count.
    #[must_use]
    pub fn from_number(n: u64) -> Self {
        // 25 bits (five characters) for the first 33 million jobs, more characters after that.
        let (bits, chars) = if n < 1 << 25 { (25, 5) } else { (64, 13) };
        let mixed = n.wrapping_mul(0x9E37_79B1) & (u64::MAX >> (64 - bits));
        let tail: Vec<u8> = (0..chars)
            .rev()
            .map(|i| CROCKFORD[usize::from(u8::try_from((mixed >> (5 * i)) & 31).unwrap_or(0))])
            .collect();
        Self(alloc::format!("OTA-JOB-{}", core::str::from_utf8(&tail).unwrap_or_default()))
    }
}

impl DeploymentId {
    /// The id of the `n`-th deployment of this device.
    #[must_use]
    pub fn from_number(n: u64) -> Self {
        Self(alloc::format!("DEP-{:05}", n.saturating_add(FIRST_DEPLOYMENT)))
    }

    /// Its number, which is also that of its job; `None` for a name that no deployment has.
    #[must_use]
    pub fn number(&self) -> Option<u64> {
        self.0.strip_prefix("DEP-")?.parse::<u64>().ok()?.checked_sub(FIRST_DEPLOYMENT)
    }
}

/// What the names of deployments count from.
const FIRST_DEPLOYMENT: u64 = 10_000;

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;

    #[test]
    fn distinct_numbers_give_distinct_well_formed_job_ids() {
        let ids: BTreeSet<_> =
            (0..20_000).chain((1 << 25)..(1 << 25) + 1000).map(JobId::from_number).collect();
        assert_eq!(ids.len(), 21_000);
        assert!(ids.iter().all(|id| id.as_str().parse::<JobId>().is_ok()));
    }

    #[test]
    fn the_name_of_a_deployment_gives_its_number_back() {
        for number in [0, 1, 89_999, 90_000, 1 << 40] {
            assert_eq!(DeploymentId::from_number(number).number(), Some(number));
        }
        assert_eq!("DEP-00001".parse::<DeploymentId>().unwrap().number(), None);
    }

    #[test]
    fn names_that_could_leave_a_folder_do_not_parse() {
        for bad in ["", "..", ".hidden", "a/b", "a\\b", "a\0", "a b", "ü.img"] {
            assert!(bad.parse::<ImageName>().is_err(), "{bad:?}");
        }
        assert!("custom-v5.1.0.img".parse::<ImageName>().is_ok());
    }
}
