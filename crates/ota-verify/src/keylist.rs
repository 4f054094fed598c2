//! The signed key list: how keys are retired in the field, without new firmware.
//!
//! Text, line by line, each ended by a line feed, in this order:
//!
//! ```text
//! ota-key-list 1
//! serial 7
//! issued 2025-03-10T14:30:00Z
//! expires 2026-03-10T14:30:00Z
//! retire 9f3c…                    any number of them
//! ```
//!
//! `expires` may be missing. What is retired: SHA-256 of a certificate (signer or CA) or of a public key (DER, as
//! `SubjectPublicKeyInfo`), 64 digits, or the fingerprint of an `OpenPGP` key or sub-key, 40 digits; lower case. The
//! list is signed like an image, by as many keys as an image needs; those that it retires itself do not count.

use std::collections::BTreeSet;

use ota_core::{Timestamp, error::SignatureFault};

use crate::{
    error::Refusal,
    moment::{Moment, Utc},
};

/// The longest list that is looked at, in bytes.
pub const MAX_KEY_LIST: usize = 256 * 1024;

/// A key list whose form is right. That its signatures hold is up to [`crate::KeyringVerifier::accept_key_list`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyList {
    serial: u64,
    issued: Timestamp,
    expires: Option<Timestamp>,
    retired: BTreeSet<String>,
}

impl KeyList {
    /// Reads a list.
    ///
    /// # Errors
    /// `Malformed`, with the number of the line.
    pub fn parse(text: &[u8]) -> Result<Self, Refusal> {
        if text.len() > MAX_KEY_LIST {
            return Err(malformed(0, "too long"));
        }
        let text = std::str::from_utf8(text).map_err(|_| malformed(0, "not text"))?;
        let body =
            text.strip_suffix('\n').ok_or_else(|| malformed(0, "cut short: the last line has no end"))?;
        let mut lines = body.split('\n').enumerate().map(|(index, line)| (index + 1, line)).peekable();
        let mut field = |name: &str| match lines.next_if(|(_, line)| line.starts_with(name)) {
            Some((number, line)) => Ok((number, line.get(name.len()..).unwrap_or_default())),
            None => {
                Err(malformed(lines.peek().map_or(0, |(number, _)| *number), &format!("no {name:?} here")))
            }
        };
        if field("ota-key-list ")?.1 != "1" {
            return Err(malformed(1, "of a format that is not known here"));
        }
        let (number, serial) = field("serial ")?;
        let serial = decimal(serial).ok_or_else(|| malformed(number, "no number"))?;
        let issued = field("issued ").and_then(date)?;
        let expires = field("expires ").ok().map(date).transpose()?;
        let mut retired = BTreeSet::new();
        for (number, line) in lines {
            let mark = line.strip_prefix("retire ").filter(|mark| is_mark(mark));
            retired.insert(mark.ok_or_else(|| malformed(number, "no retired key"))?.to_owned());
        }
        Ok(Self { serial, issued, expires, retired })
    }

    /// Number of the list; a newer one has a higher number.
    #[must_use]
    pub const fn serial(&self) -> u64 {
        self.serial
    }

    /// When it was made: a lower bound of the time, once its signatures hold.
    #[must_use]
    pub const fn issued(&self) -> Timestamp {
        self.issued
    }

    /// Marks of the keys that do not count any more.
    #[must_use]
    pub const fn retired(&self) -> &BTreeSet<String> {
        &self.retired
    }

    /// Whether it may replace the list with the number `floor`, at `moment`.
    pub(crate) fn check(&self, floor: u64, moment: Moment) -> Result<(), Refusal> {
        if self.serial < floor {
            let what = format!("key list {} is older than {floor}, which this device has seen", self.serial);
            return Err(Refusal::new(SignatureFault::MetadataRollback, what));
        }
        match self.expires {
            Some(expires) if expires <= moment.at => {
                let expired = Utc(u64::try_from(expires.as_secs()).unwrap_or(0));
                let what = format!("key list {} expired at {expired}, it is {moment}", self.serial);
                Err(Refusal::new(SignatureFault::MetadataExpired, what))
            }
            _ => Ok(()),
        }
    }
}

fn malformed(line: usize, what: &str) -> Refusal {
    Refusal::malformed(format!("the key list is damaged in line {line}: {what}"))
}

/// Digits without sign and leading zero: one way to write a number.
fn decimal(text: &str) -> Option<u64> {
    let canonical = text == "0" || text.starts_with(|first: char| matches!(first, '1'..='9'));
    if canonical && text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

fn date((number, text): (usize, &str)) -> Result<Timestamp, Refusal> {
    let date: der::DateTime =
        text.parse().map_err(|_| malformed(number, "no date like 2025-03-10T14:30:00Z"))?;
    let secs =
        i64::try_from(date.unix_duration().as_secs()).map_err(|_| malformed(number, "too late a date"))?;
    Ok(Timestamp::from_secs(secs))
}

fn is_mark(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "ota-key-list 1\nserial 7\nissued 2025-03-10T14:30:00Z\nexpires 2026-03-10T14:30:00Z\n\
        retire 00000000000000000000000000000000000000ff\n";

    #[test]
    fn a_list_says_its_number_its_dates_and_what_it_retires() {
        let list = KeyList::parse(LIST.as_bytes()).unwrap();
        assert_eq!((list.serial(), list.issued()), (7, Timestamp::from_secs(1_741_617_000)));
        assert!(list.retired().contains("00000000000000000000000000000000000000ff"));
        let endless = LIST.replace("expires 2026-03-10T14:30:00Z\n", "");
        assert_eq!(KeyList::parse(endless.as_bytes()).unwrap().expires, None);
    }

    #[test]
    fn a_list_of_another_form_is_refused_with_the_line() {
        let cases = [
            (LIST.replace("list 1", "list 2"), "line 1"),
            (LIST.replace("serial 7", "serial 07"), "line 2"),
            (LIST.replace("serial 7", "serial -7"), "line 2"),
            (LIST.replace("serial 7\n", ""), "line 2"),
            (LIST.replace("issued 2025-03-10", "issued 2025-13-10"), "line 3"),
            (LIST.replace("retire 00", "retire FF"), "line 5"),
            (LIST.replace("retire", "keep"), "line 5"),
            (format!("{LIST}\n"), "line 6"),
            (LIST.trim_end().to_owned(), "cut short"),
            (String::new(), "cut short"),
        ];
        for (text, expected) in cases {
            let what = KeyList::parse(text.as_bytes()).expect_err(&text).what;
            assert!(what.contains(expected), "{what} for {text}");
        }
    }

    #[test]
    fn an_older_or_expired_list_is_refused() {
        let list = KeyList::parse(LIST.as_bytes()).unwrap();
        let at = |secs| Moment::latest(Timestamp::from_secs(secs), true, Timestamp::from_secs(0), None);
        assert_eq!(list.check(7, at(1_741_617_000)), Ok(()));
        let reason = |outcome: Result<(), Refusal>| outcome.expect_err("refused").reason;
        assert_eq!(reason(list.check(8, at(1_741_617_000))), SignatureFault::MetadataRollback);
        assert_eq!(reason(list.check(7, at(1_841_617_000))), SignatureFault::MetadataExpired);
    }
}
