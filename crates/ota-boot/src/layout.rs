//! `fw_env.config`: where the copies of the boot environment are, as Debian's tools read it.
//!
//! Owns the text and its checks that need no device. Opening the places, and telling that two names are one device,
//! is left to [`crate::uboot_env`].

use std::path::{Path, PathBuf};

/// One copy's place: a line of `fw_env.config`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvPlace {
    /// Block device or plain file.
    pub device: PathBuf,
    /// First byte; negative counts from the end of the device.
    pub offset: i64,
    /// Bytes of the copy with its header, 1 B to 16 MiB.
    pub size: usize,
    /// Bytes of an erase block, 0 where the device has none.
    pub sector: u64,
    /// Erase blocks set aside for the copy; 0 = as many as it needs.
    pub sectors: u64,
}

/// The places of the environment: one line, or two for a redundant one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvLayout {
    places: Vec<EnvPlace>,
}

/// Why a `fw_env.config` cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// No line names a place.
    #[error("no line names a device, an offset and a size")]
    Empty,
    /// A line has fewer than three readable fields.
    #[error("line {line} is not `device offset size [sector [sectors]]`")]
    Line {
        /// Counted from 1.
        line: usize,
    },
    /// A size that no environment has.
    #[error("line {line}: an environment of {size} bytes is not possible")]
    Size {
        /// Counted from 1.
        line: usize,
        /// As configured.
        size: u64,
    },
    /// The copies differ in size: no boot loader can use them as a pair.
    #[error("the two copies have {first} and {second} bytes; they must be equal")]
    DifferentSizes {
        /// Of the first copy.
        first: usize,
        /// Of the second copy.
        second: usize,
    },
    /// One write would touch both copies.
    #[error("the two copies overlap or share an erase block")]
    Overlap,
}

impl LayoutError {
    /// Whether the places can be read but are no pair.
    #[must_use]
    pub const fn is_redundancy(&self) -> bool {
        matches!(self, Self::DifferentSizes { .. } | Self::Overlap)
    }
}

/// Smallest size with room for a header and the end mark, and the largest that makes sense.
const SIZES: std::ops::RangeInclusive<u64> = 16..=16 << 20;

impl EnvLayout {
    /// Reads the text of a `fw_env.config`.
    ///
    /// Offsets as C's `%lli` (decimal, `0x` hexadecimal, leading `0` octal, may be negative), the other numbers as `%lx`
    /// (hexadecimal, with or without `0x`). Lines after the second place are not looked at, nor are fields after the
    /// fifth; both as the tools do.
    ///
    /// # Errors
    /// When a line is malformed, the sizes differ, or the copies overlap. Stricter than the tools, which skip what
    /// they cannot read: a skipped line would silently make a redundant environment a single one.
    pub fn parse(text: &str) -> Result<Self, LayoutError> {
        let places = text
            .lines()
            .enumerate()
            .map(|(index, line)| (index + 1, line.trim()))
            .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
            .take(2)
            .map(|(number, line)| place(number, line))
            .collect::<Result<Vec<_>, _>>()?;
        Self::new(places)
    }

    /// From places in order.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn new(places: Vec<EnvPlace>) -> Result<Self, LayoutError> {
        match places.as_slice() {
            [] => return Err(LayoutError::Empty),
            [first, second, ..] if first.size != second.size => {
                return Err(LayoutError::DifferentSizes { first: first.size, second: second.size });
            }
            [first, second, ..] if first.device == second.device && first.meets(second) => {
                return Err(LayoutError::Overlap);
            }
            _ => {}
        }
        Ok(Self { places })
    }

    /// One or two.
    #[must_use]
    pub fn places(&self) -> &[EnvPlace] {
        &self.places
    }

    /// Whether there are two.
    #[must_use]
    pub fn is_redundant(&self) -> bool {
        self.places.len() == 2
    }

    /// Bytes of each copy, with its header.
    #[must_use]
    pub fn size(&self) -> usize {
        self.places[0].size
    }
}

impl EnvPlace {
    /// First byte on a device of `device_size` bytes; `None` when it would lie before the device.
    #[must_use]
    pub fn start(&self, device_size: u64) -> Option<u64> {
        match u64::try_from(self.offset) {
            Ok(offset) => Some(offset),
            Err(_) => device_size.checked_sub(self.offset.unsigned_abs()),
        }
    }

    /// Whether the erase blocks of the two, on one device, have a byte in common.
    #[must_use]
    pub fn meets(&self, other: &Self) -> bool {
        let ((a, a_end), (b, b_end)) = (self.span(), other.span());
        // A negative and a positive offset are compared where the device's size is known.
        (a < 0) == (b < 0) && a < b_end && b < a_end
    }

    /// First byte and end of the erase blocks that a write may touch.
    fn span(&self) -> (i128, i128) {
        let (offset, size) = (i128::from(self.offset), self.size as i128);
        if self.sector == 0 {
            return (offset, offset + size);
        }
        let sector = i128::from(self.sector);
        let start = offset.div_euclid(sector) * sector;
        let used = (offset - start + size + sector - 1) / sector;
        (start, start + sector * used.max(i128::from(self.sectors)))
    }
}

fn place(line: usize, text: &str) -> Result<EnvPlace, LayoutError> {
    let malformed = LayoutError::Line { line };
    let mut fields = text.split_whitespace();
    let (Some(device), Some(offset), Some(size)) = (fields.next(), fields.next(), fields.next()) else {
        return Err(malformed);
    };
    let (Some(offset), Some(size)) = (any_base(offset), hexadecimal(size)) else { return Err(malformed) };
    if !SIZES.contains(&size) {
        return Err(LayoutError::Size { line, size });
    }
    let sector = fields.next().and_then(hexadecimal);
    let sectors = sector.and_then(|_| fields.next()).and_then(hexadecimal);
    Ok(EnvPlace {
        device: Path::new(device).to_owned(),
        offset,
        size: usize::try_from(size).map_err(|_| LayoutError::Size { line, size })?,
        sector: sector.unwrap_or(0),
        sectors: sectors.unwrap_or(0),
    })
}

/// `%lli` of C.
fn any_base(text: &str) -> Option<i64> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let value = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(hex) => unsigned(hex, 16)?,
        None if digits.len() > 1 && digits.starts_with('0') => unsigned(digits, 8)?,
        None => unsigned(digits, 10)?,
    };
    i64::try_from(value).ok()?.checked_mul(sign)
}

/// `%lx` of C, without a sign.
fn hexadecimal(text: &str) -> Option<u64> {
    unsigned(text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text), 16)
}

fn unsigned(digits: &str, base: u32) -> Option<u64> {
    // `from_str_radix` takes a sign; by here there must be none.
    digits.starts_with(|c: char| c.is_digit(base)).then(|| u64::from_str_radix(digits, base).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&[(&str, i64, usize)], LayoutError>) {
        let found = EnvLayout::parse(text);
        let found = found.as_ref().map(|l| {
            l.places().iter().map(|p| (p.device.to_str().unwrap(), p.offset, p.size)).collect::<Vec<_>>()
        });
        assert_eq!(found, expected.as_ref().map(|p| p.to_vec()), "{text:?}");
    }

    #[test]
    fn places_are_read_as_the_tools_read_them() {
        check("/dev/vda1 0x0 0x20000\n", Ok(&[("/dev/vda1", 0, 0x20000)]));
        check(
            "# comment\n\n  disk.img\t0x100000 20000\ndisk.img 1310720 0x20000 0x1000 1 # more\n",
            Ok(&[("disk.img", 0x100000, 0x20000), ("disk.img", 1_310_720, 0x20000)]),
        );
        check("e -0x4000 0x2000\ne -8192 2000", Ok(&[("e", -0x4000, 0x2000), ("e", -0x2000, 0x2000)]));
        check("e 010 4000\n", Ok(&[("e", 8, 0x4000)]));
        check("a 0 4000\nb 0 4000\nc rubbish\n", Ok(&[("a", 0, 0x4000), ("b", 0, 0x4000)]));
    }

    #[test]
    fn what_is_no_pair_or_no_place_is_refused() {
        check("", Err(LayoutError::Empty));
        check("#only\n", Err(LayoutError::Empty));
        check("/dev/x 0x0\n", Err(LayoutError::Line { line: 1 }));
        check("/dev/x 0x0 zz\n", Err(LayoutError::Line { line: 1 }));
        check("\n/dev/x +-1 4000\n", Err(LayoutError::Line { line: 2 }));
        check("x 0 1\n", Err(LayoutError::Size { line: 1, size: 1 }));
        check(
            "x 0 4000\nx 0x4000 8000\n",
            Err(LayoutError::DifferentSizes { first: 0x4000, second: 0x8000 }),
        );
        check("x 0 4000\nx 0x3fff 4000\n", Err(LayoutError::Overlap));
        check("x 0 4000\nx 0 4000\n", Err(LayoutError::Overlap));
        check("x 0 4000 8000\nx 0x4000 4000 8000\n", Err(LayoutError::Overlap));
        check("x 0 4000 4000 2\nx 0x4000 4000 4000 2\n", Err(LayoutError::Overlap));
    }

    #[test]
    fn a_negative_offset_counts_from_the_end() {
        let layout = EnvLayout::parse("x -0x2000 2000").unwrap();
        assert_eq!(layout.places()[0].start(0x10000), Some(0xe000));
        assert_eq!(layout.places()[0].start(0x1000), None);
    }
}
