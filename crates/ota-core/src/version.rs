//! Firmware versions: semantic versions, a leading `v` allowed and kept.

use alloc::string::String;
use core::{cmp::Ordering, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A firmware version such as `v5.0.5` or `5.1.0-custom`.
///
/// Shape: semver 2.0 with an optional leading `v`, at most 64 characters. Ordering is semver's precedence and ignores
/// the `v`; so does equality, while [`Display`](fmt::Display) gives back the text as it came.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Version {
    prefixed: bool,
    semver: semver::Version,
}

/// The text is not a version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a version like v5.0.5: {why}")]
pub struct BadVersion {
    text: String,
    why: String,
}

impl Version {
    /// Longest accepted text, in characters.
    pub const MAX_LEN: usize = 64;

    /// The semantic version without the `v`.
    #[must_use]
    pub const fn semver(&self) -> &semver::Version {
        &self.semver
    }
}

impl FromStr for Version {
    type Err = BadVersion;
    fn from_str(text: &str) -> Result<Self, BadVersion> {
        let bad = |why: String| BadVersion { text: text.chars().take(Self::MAX_LEN).collect(), why };
        if text.len() > Self::MAX_LEN {
            return Err(bad("longer than 64 characters".into()));
        }
        let bare = text.strip_prefix('v').unwrap_or(text);
        let semver = semver::Version::parse(bare).map_err(|e| bad(alloc::format!("{e}")))?;
        Ok(Self { prefixed: bare.len() != text.len(), semver })
    }
}

impl TryFrom<String> for Version {
    type Error = BadVersion;
    fn try_from(text: String) -> Result<Self, BadVersion> {
        text.parse()
    }
}

impl From<Version> for String {
    fn from(version: Version) -> Self {
        alloc::format!("{version}")
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.prefixed {
            f.write_str("v")?;
        }
        fmt::Display::fmt(&self.semver, f)
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.semver == other.semver
    }
}
impl Eq for Version {}
impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        self.semver.cmp(&other.semver)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use proptest::prelude::*;

    #[test]
    fn a_leading_v_is_kept_and_does_not_count() {
        let with: Version = "v5.0.5".parse().unwrap();
        let without: Version = "5.0.5".parse().unwrap();
        assert_eq!(with, without);
        assert_eq!(with.to_string(), "v5.0.5");
        assert!(with > "v5.0.4".parse().unwrap());
        assert!(with > "v5.0.5-rc1".parse().unwrap());
    }

    proptest! {
        #[test]
        fn any_text_parses_or_is_refused_and_never_panics(text in ".{0,80}") {
            if let Ok(version) = text.parse::<Version>() {
                prop_assert_eq!(version.to_string(), text);
            }
        }
    }
}
