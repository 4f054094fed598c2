//! Extended headers of POSIX archives: records `LENGTH KEY=VALUE\n`, whose values may be any bytes.

use std::ffi::CString;

use crate::error::ImageError;

/// The records of one extended header that matter here.
#[derive(Debug, Default)]
pub(super) struct Records<'a> {
    pub(super) path: Option<&'a [u8]>,
    pub(super) linkpath: Option<&'a [u8]>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) mtime: Option<(i64, i64)>,
    pub(super) attributes: Vec<(CString, Vec<u8>)>,
    /// Why its entry is refused: something that would be lost.
    pub(super) refused: Option<String>,
}

impl<'a> Records<'a> {
    pub(super) fn parse(mut bytes: &'a [u8]) -> Result<Self, ImageError> {
        let mut records = Self::default();
        while !bytes.is_empty() {
            let (key, value, rest) = record(bytes).ok_or_else(damaged)?;
            records.take(key, value).ok_or_else(damaged)?;
            bytes = rest;
        }
        Ok(records)
    }

    fn take(&mut self, key: &'a [u8], value: &'a [u8]) -> Option<()> {
        const ATTRIBUTE: &[u8] = b"SCHILY.xattr.";
        match key {
            b"path" => self.path = Some(value),
            b"linkpath" => self.linkpath = Some(value),
            b"size" => self.size = Some(number(value)?),
            b"uid" => self.uid = Some(number(value)?),
            b"gid" => self.gid = Some(number(value)?),
            b"mtime" => self.mtime = Some(time(value)?),
            b"RHT.security.selinux" => self.attribute(b"security.selinux", value)?,
            _ if key.starts_with(ATTRIBUTE) => self.attribute(key.strip_prefix(ATTRIBUTE)?, value)?,
            _ if key.starts_with(b"SCHILY.acl.") => {
                self.refused = Some("has an ACL as text; pack it with --xattrs and without --acls".into());
            }
            _ if key.starts_with(b"GNU.sparse.") => {
                self.refused = Some("is a sparse file; pack it without --sparse".into());
            }
            // Times of access, names of owners, comments: not kept by a file system, or told twice.
            _ => {}
        }
        Some(())
    }

    fn attribute(&mut self, name: &[u8], value: &[u8]) -> Option<()> {
        let name = CString::new(name).ok().filter(|name| name.as_bytes().contains(&b'.'))?;
        if !self.attributes.iter().any(|(known, _)| *known == name) {
            self.attributes.push((name, value.to_vec()));
        }
        Some(())
    }
}

/// A header for all entries that follow may say nothing about them: who reads it otherwise would unpack something else.
pub(super) fn check_global(mut bytes: &[u8]) -> Result<(), ImageError> {
    while !bytes.is_empty() {
        let (key, _, rest) = record(bytes).ok_or_else(damaged)?;
        if !matches!(key, b"comment" | b"charset" | b"hdrcharset") {
            let key = key.escape_ascii();
            return Err(ImageError::archive(format!("the archive sets {key} for all of its entries")));
        }
        bytes = rest;
    }
    Ok(())
}

fn damaged() -> ImageError {
    ImageError::archive("the archive is damaged: an extended header cannot be read")
}

/// Key and value of the first record, and what follows it.
fn record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let blank = bytes.iter().take(20).position(|byte| *byte == b' ')?;
    let length = usize::try_from(number(bytes.get(..blank)?)?).ok()?;
    let body = bytes.get(blank + 1..length)?.strip_suffix(b"\n")?;
    let equals = body.iter().position(|byte| *byte == b'=')?;
    let (key, value) = (body.get(..equals)?, body.get(equals + 1..)?);
    (!key.is_empty()).then_some((key, value, bytes.get(length..)?))
}

fn number(digits: &[u8]) -> Option<u64> {
    let good = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(digits).ok().filter(|_| good)?.parse().ok()
}

/// Decimal seconds, perhaps negative, perhaps with a fraction; digits below the nanosecond are left out.
fn time(value: &[u8]) -> Option<(i64, i64)> {
    let (negative, digits) = value.strip_prefix(b"-").map_or((false, value), |digits| (true, digits));
    let mut parts = digits.splitn(2, |byte| *byte == b'.');
    let seconds = i64::try_from(number(parts.next()?)?).ok()?;
    let nanos = match parts.next() {
        None => 0,
        Some(fraction) => {
            number(fraction)?;
            let nine = fraction.iter().copied().chain(std::iter::repeat(b'0')).take(9).collect::<Vec<_>>();
            i64::try_from(number(&nine)?).ok()?
        }
    };
    Some(match (negative, nanos) {
        (false, _) => (seconds, nanos),
        (true, 0) => (-seconds, 0),
        (true, _) => (-seconds - 1, 1_000_000_000 - nanos),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_with_any_bytes_in_their_values() {
        let bytes = b"11 path=ab\n30 SCHILY.xattr.user.x=a\n=b\0c\n22 mtime=12.000000050\n13 uid=70000\n";
        let records = Records::parse(bytes).unwrap();
        assert_eq!(records.path, Some(&b"ab"[..]));
        assert_eq!(records.attributes, [(c"user.x".to_owned(), b"a\n=b\0c".to_vec())]);
        assert_eq!((records.mtime, records.uid), (Some((12, 50)), Some(70_000)));
    }

    #[test]
    fn times_before_1970_and_with_fractions_are_exact() {
        assert_eq!(time(b"-1.25"), Some((-2, 750_000_000)));
        assert_eq!(time(b"-3"), Some((-3, 0)));
        assert_eq!(time(b"1.123456789999"), Some((1, 123_456_789)));
        for bad in [&b""[..], b".5", b"1.", b"1e3", b"+1", b"99999999999999999999"] {
            assert_eq!(time(bad), None);
        }
    }

    #[test]
    fn a_damaged_header_and_one_for_all_entries_are_refused() {
        for bad in [&b"11 path=a\n"[..], b"path=a\n", b"9 path=a", b"10 pathaaa\n", b"8 =abc\n\n", b"5 \n"] {
            assert!(Records::parse(bad).is_err(), "{}", bad.escape_ascii());
        }
        assert!(check_global(b"13 comment=x\n").is_ok());
        assert!(check_global(b"10 path=x\n").is_err());
    }
}
