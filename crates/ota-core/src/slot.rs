//! The two slots of an A/B device.

use alloc::string::String;
use core::{fmt, ops::Not, str::FromStr};

use serde::{Deserialize, Serialize};

/// One of the two root partitions. On the wire and in the boot environment: `A` or `B`.
///
/// `!Slot::A == Slot::B`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Slot {
    /// The first root partition.
    A,
    /// The second root partition.
    B,
}

impl Slot {
    /// Both slots, in order.
    pub const ALL: [Self; 2] = [Self::A, Self::B];

    /// `"A"` or `"B"`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::B => "B",
        }
    }
}

impl Not for Slot {
    type Output = Self;
    fn not(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text is not the name of a slot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no slot is named {0:?}; there are A and B")]
pub struct UnknownSlot(pub String);

impl FromStr for Slot {
    type Err = UnknownSlot;
    fn from_str(text: &str) -> Result<Self, UnknownSlot> {
        match text {
            "A" | "a" => Ok(Self::A),
            "B" | "b" => Ok(Self::B),
            other => Err(UnknownSlot(other.into())),
        }
    }
}
