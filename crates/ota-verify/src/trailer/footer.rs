//! The last 64 bytes of a one-file image. Text, so that a shell script can write them.
//!
//! | Offset | Length | Content |
//! |---|---|---|
//! | 0 | 12 | `OTA-TRAILER `, with the blank |
//! | 12 | 4 | version, `0001` |
//! | 16 | 1 | blank |
//! | 17 | 8 | length of the manifest, lower-case hexadecimal |
//! | 25 | 1 | blank |
//! | 26 | 8 | length of all signature records |
//! | 34 | 1 | blank |
//! | 35 | 16 | length of the image |
//! | 51 | 12 | hyphens |
//! | 63 | 1 | line feed |

use super::{MAX_MANIFEST, MAX_RECORDS};
use crate::error::Refusal;

/// Length of the footer in bytes.
pub const FOOTER_LEN: usize = 64;

const MAGIC: &[u8] = b"OTA-TRAILER ";
const VERSION: &[u8] = b"0001";

/// Where the parts of a one-file image are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Footer {
    manifest_len: usize,
    records_len: usize,
    image_len: u64,
}

impl Footer {
    /// For parts of these lengths, in bytes.
    ///
    /// # Errors
    /// When a part is longer than a trailer may have.
    pub fn new(manifest_len: usize, records_len: usize, image_len: u64) -> Result<Self, Refusal> {
        if manifest_len > MAX_MANIFEST || records_len > MAX_RECORDS {
            return Err(Refusal::malformed("the trailer is too long"));
        }
        Ok(Self { manifest_len, records_len, image_len })
    }

    /// Reads the last bytes of a file of `file_len` bytes. `None` when they are no footer.
    ///
    /// # Errors
    /// `Malformed` when they are one of another version, or one that does not fit the file.
    pub fn decode(bytes: &[u8; FOOTER_LEN], file_len: u64) -> Result<Option<Self>, Refusal> {
        if !bytes.starts_with(MAGIC) {
            return Ok(None);
        }
        let version = bytes.get(12..16).unwrap_or_default();
        if version != VERSION {
            let version = String::from_utf8_lossy(version);
            return Err(Refusal::malformed(format!(
                "the trailer is of version {version:?}, only 0001 is known"
            )));
        }
        let damaged = || Refusal::malformed("the footer of the trailer is damaged");
        let field = |range| bytes.get(range).and_then(hex_number).ok_or_else(damaged);
        let length = |range| field(range).and_then(|length| usize::try_from(length).map_err(|_| damaged()));
        let footer = Self::new(length(17..25)?, length(26..34)?, field(35..51)?)?;
        let parts = (footer.manifest_len + footer.records_len + FOOTER_LEN) as u64;
        if footer.encode() != *bytes || footer.image_len.checked_add(parts) != Some(file_len) {
            return Err(damaged());
        }
        Ok(Some(footer))
    }

    /// The 64 bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; FOOTER_LEN] {
        let Self { manifest_len, records_len, image_len } = self;
        let text =
            format!("OTA-TRAILER 0001 {manifest_len:08x} {records_len:08x} {image_len:016x}------------\n");
        let mut bytes = [b'-'; FOOTER_LEN];
        bytes.iter_mut().zip(text.bytes()).for_each(|(to, from)| *to = from);
        bytes
    }

    /// Length of the manifest in bytes.
    #[must_use]
    pub const fn manifest_len(&self) -> usize {
        self.manifest_len
    }

    /// Length of all signature records in bytes.
    #[must_use]
    pub const fn records_len(&self) -> usize {
        self.records_len
    }

    /// Length of the image in bytes.
    #[must_use]
    pub const fn image_len(&self) -> u64 {
        self.image_len
    }
}

/// Lower-case hexadecimal digits, up to 16 of them.
pub(super) fn hex_number(digits: &[u8]) -> Option<u64> {
    let good = digits.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
    let text = std::str::from_utf8(digits).ok().filter(|_| good)?;
    u64::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_footer_has_one_form() {
        let footer = Footer::new(10, 20, 1 << 40).unwrap();
        let file_len = (1 << 40) + 10 + 20 + 64;
        let bytes = footer.encode();
        assert_eq!(Footer::decode(&bytes, file_len), Ok(Some(footer)));
        for index in 0..FOOTER_LEN {
            for mask in 1..=255 {
                let mut copy = bytes;
                copy[index] ^= mask;
                let decoded = Footer::decode(&copy, file_len);
                assert!(matches!(decoded, Err(_) | Ok(None)), "byte {index} as {:#x}", copy[index]);
            }
        }
    }

    #[test]
    fn a_footer_that_does_not_fit_its_file_is_refused() {
        let bytes = Footer::new(10, 20, 1000).unwrap().encode();
        for file_len in [0, 64, 1093, 1095, u64::MAX] {
            assert!(Footer::decode(&bytes, file_len).is_err(), "{file_len}");
        }
        let huge = Footer { manifest_len: 0, records_len: 0, image_len: u64::MAX }.encode();
        assert!(Footer::decode(&huge, 63).is_err(), "lengths do not wrap");
    }
}
