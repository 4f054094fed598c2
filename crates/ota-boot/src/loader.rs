//! How old the boot loader is.
//!
//! Owns reading a version out of the text that U-Boot says of itself. Where that text comes from is in
//! [`boot_control`](crate::boot_control).

/// Oldest U-Boot, year and month, that updates are installed with: before it the environment's redundancy had faults
/// that no user space can mend. Source: `power-safety.md`.
pub const OLDEST: (u32, u32) = (2024, 1);

/// Whether `version` tells of a boot loader older than [`OLDEST`]. A text without a release number tells nothing.
#[must_use]
pub fn is_too_old(version: &str) -> bool {
    release(version).is_some_and(|release| release < OLDEST)
}

/// The first `YYYY.MM` of a text such as `U-Boot 2025.01-3 (Apr 08 2025 - 23:05:58 +0000)`.
fn release(version: &str) -> Option<(u32, u32)> {
    let words = version.split(|c: char| !c.is_ascii_digit() && c != '.');
    words.filter_map(|word| word.split_once('.')).find_map(|(year, rest)| {
        let month = rest.split('.').next()?;
        let plausible = year.len() == 4 && month.len() == 2;
        plausible.then(|| Some((year.parse().ok()?, month.parse().ok()?)))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_before_2024_01_are_too_old_and_texts_without_one_tell_nothing() {
        for (text, old) in [
            ("U-Boot 2025.01-3 (Apr 08 2025 - 23:05:58 +0000)", false),
            ("U-Boot 2024.01", false),
            ("2023.10", true),
            ("U-Boot 2019.04-00123-gabc (Jan 01 2020)", true),
            ("U-Boot SPL 2023.10-rc4", true),
            ("barebox 2.1", false),
            ("", false),
        ] {
            assert_eq!(is_too_old(text), old, "{text}");
        }
    }
}
