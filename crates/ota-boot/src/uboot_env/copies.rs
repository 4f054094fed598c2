//! A copy's header, and which of two copies the boot loader takes.
//!
//! | bytes | redundant | single |
//! |---|---|---|
//! | 0–3 | CRC-32 of the data, in the machine's byte order | the same |
//! | 4 | flag: counts writes, 255 is followed by 0; not covered by the CRC | data |
//! | 5–  | data | data |
//!
//! Source: U-Boot `include/env_internal.h` (`env_t`), `env/common.c` (`env_check_redund`).

/// With or without the flag byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One copy: CRC, data.
    Single,
    /// Two copies: CRC, flag, data.
    Redundant,
}

impl Format {
    /// Bytes before the data.
    #[must_use]
    pub const fn header(self) -> usize {
        match self {
            Self::Single => 4,
            Self::Redundant => 5,
        }
    }

    /// A whole copy: header and `data`.
    #[must_use]
    pub fn seal(self, flag: u8, data: &[u8]) -> Vec<u8> {
        let mut copy = crc32fast::hash(data).to_ne_bytes().to_vec();
        if self == Self::Redundant {
            copy.push(flag);
        }
        copy.extend_from_slice(data);
        copy
    }

    /// The flag and the data, when the CRC holds. The flag of a single copy reads as 0.
    #[must_use]
    pub fn unseal(self, copy: &[u8]) -> Option<(u8, &[u8])> {
        let (crc, rest) = copy.split_first_chunk::<4>()?;
        let (flag, data) = match self {
            Self::Single => (0, rest),
            Self::Redundant => rest.split_first().map(|(flag, data)| (*flag, data))?,
        };
        (u32::from_ne_bytes(*crc) == crc32fast::hash(data)).then_some((flag, data))
    }
}

/// One of the copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The first line of `fw_env.config`.
    First,
    /// The second line.
    Second,
}

impl Choice {
    /// 0 or 1.
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::First => 0,
            Self::Second => 1,
        }
    }

    /// The one that is not this.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::First => Self::Second,
            Self::Second => Self::First,
        }
    }
}

/// The copy that the boot loader takes; each is its flag, `None` when its CRC does not hold.
///
/// One good: that one. Both: the higher flag, where 0 is higher than 255 and the first wins a tie.
#[must_use]
pub const fn select(first: Option<u8>, second: Option<u8>) -> Option<Choice> {
    match (first, second) {
        (None, None) => None,
        (Some(_), None) | (Some(0), Some(255)) => Some(Choice::First),
        (None, Some(_)) | (Some(255), Some(0)) => Some(Choice::Second),
        (Some(a), Some(b)) => Some(if b > a { Choice::Second } else { Choice::First }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rule as `env_check_redund` spells it, step by step, on purpose not as a match.
    fn as_in_uboot(crc1_ok: bool, flags1: u8, crc2_ok: bool, flags2: u8) -> Option<usize> {
        if !crc1_ok && !crc2_ok {
            return None;
        }
        if crc1_ok != crc2_ok {
            return Some(usize::from(crc2_ok));
        }
        if flags1 == 255 && flags2 == 0 {
            return Some(1);
        }
        if flags2 == 255 && flags1 == 0 {
            return Some(0);
        }
        Some(usize::from(flags2 > flags1))
    }

    #[test]
    fn the_choice_is_the_boot_loaders_for_all_262144_combinations() {
        let mut seen = 0;
        for first in 0..=255_u8 {
            for second in 0..=255_u8 {
                for (ok1, ok2) in [(false, false), (false, true), (true, false), (true, true)] {
                    let ours = select(ok1.then_some(first), ok2.then_some(second)).map(Choice::index);
                    assert_eq!(ours, as_in_uboot(ok1, first, ok2, second), "{ok1} {first} {ok2} {second}");
                    seen += 1;
                }
            }
        }
        assert_eq!(seen, 262_144);
    }

    #[test]
    fn a_write_to_the_other_copy_with_the_next_flag_always_wins() {
        for flag in 0..=255_u8 {
            assert_eq!(select(Some(flag), Some(flag.wrapping_add(1))), Some(Choice::Second));
            assert_eq!(select(Some(flag.wrapping_add(1)), Some(flag)), Some(Choice::First));
        }
    }

    #[test]
    fn a_changed_data_byte_breaks_the_copy_and_a_changed_flag_does_not() {
        let copy = Format::Redundant.seal(7, b"a=1\0\0\0");
        assert_eq!(Format::Redundant.unseal(&copy), Some((7, &b"a=1\0\0\0"[..])));
        for at in 0..copy.len() {
            let mut changed = copy.clone();
            changed[at] ^= 0x40;
            assert_eq!(Format::Redundant.unseal(&changed).is_some(), at == 4, "byte {at}");
        }
        assert_eq!(Format::Redundant.unseal(&copy[..4]), None);
    }
}
