//! `SHA256SUMS` and `SHA512SUMS` files, as coreutils write and check them. What they say is integrity; authenticity
//! comes from a signature over the file.

use std::{collections::BTreeMap, fmt};

use ota_core::{OtaError, release::ChecksumFile};

use crate::digest::{ContentDigests, HashKind};

/// The longest file that is looked at, in bytes.
pub const MAX_CHECKSUMS: usize = 1 << 20;

/// The digests of a checksum file by file name, all of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checksums {
    kind: HashKind,
    entries: BTreeMap<String, Vec<u8>>,
}

/// The file is no checksum file; says where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the checksum file is damaged in line {line}: {what}")]
pub struct BadChecksums {
    line: usize,
    what: &'static str,
}

impl Checksums {
    /// Reads lines `DIGEST  NAME` (or `DIGEST *NAME`) and `SHA256 (NAME) = DIGEST`. The length of the digest says its kind.
    ///
    /// # Errors
    /// Anything else, digests of two kinds, one name with two digests, names that coreutils would escape, more than
    /// [`MAX_CHECKSUMS`] bytes.
    pub fn parse(file: &[u8]) -> Result<Self, BadChecksums> {
        let whole = |what| BadChecksums { line: 0, what };
        if file.len() > MAX_CHECKSUMS {
            return Err(whole("too long"));
        }
        let text = std::str::from_utf8(file).map_err(|_| whole("not text"))?;
        let mut kinds = None;
        let mut entries = BTreeMap::new();
        for (index, line) in text.lines().enumerate() {
            let bad = |what| BadChecksums { line: index + 1, what };
            let (digest, name) =
                plain(line).or_else(|| tagged(line)).ok_or_else(|| bad("no digest with a name"))?;
            let kind = kind_of(digest).ok_or_else(|| bad("neither SHA-256 nor SHA-512"))?;
            if *kinds.get_or_insert(kind) != kind {
                return Err(bad("digests of two kinds in one file"));
            }
            let digest = hex::decode(digest).map_err(|_| bad("a digest is not hexadecimal"))?;
            if entries.insert(name.to_owned(), digest.clone()).is_some_and(|before| before != digest) {
                return Err(bad("one name with two digests"));
            }
        }
        Ok(Self { kind: kinds.ok_or_else(|| whole("empty"))?, entries })
    }

    /// The kind of its digests.
    #[must_use]
    pub const fn kind(&self) -> HashKind {
        self.kind
    }

    /// The digest of a file, by its name without folders.
    #[must_use]
    pub fn digest_of(&self, name: &str) -> Option<&[u8]> {
        let bare = |listed: &str| listed.strip_prefix("./").unwrap_or(listed) == name;
        self.entries.iter().find(|(listed, _)| bare(listed)).map(|(_, digest)| digest.as_slice())
    }
}

fn plain(line: &str) -> Option<(&str, &str)> {
    let (digest, rest) = line.split_once(' ')?;
    let name = rest.strip_prefix([' ', '*'])?;
    usable(digest, name)
}

fn tagged(line: &str) -> Option<(&str, &str)> {
    let rest = line.strip_prefix("SHA256 (").or_else(|| line.strip_prefix("SHA512 ("))?;
    let (name, digest) = rest.rsplit_once(") = ")?;
    usable(digest, name).filter(|_| line.starts_with("SHA256") == (digest.len() == 64))
}

/// A line that coreutils escaped starts with a backslash; such names do not occur in staging.
fn usable<'a>(digest: &'a str, name: &'a str) -> Option<(&'a str, &'a str)> {
    let good = !name.is_empty() && !name.contains(|letter: char| letter == '\\' || letter.is_control());
    good.then_some((digest, name))
}

fn kind_of(digest: &str) -> Option<HashKind> {
    match digest.len() {
        64 => Some(HashKind::Sha256),
        128 => Some(HashKind::Sha512),
        _ => None,
    }
}

/// What a checksum file promises of one image.
pub(crate) struct Sums {
    kind: HashKind,
    promised: Vec<u8>,
}

impl Sums {
    /// Reads the file. Call it only when its signatures hold, if it has some.
    ///
    /// # Errors
    /// `InvalidImage` (OTA_005) when it is no checksum file or does not name the image.
    pub(crate) fn read(file: &ChecksumFile) -> Result<Self, OtaError> {
        let invalid = |what| OtaError::InvalidImage { what };
        let list = Checksums::parse(&file.text).map_err(|error| invalid(error.to_string()))?;
        let missing = || invalid(format!("the checksum file does not name {}", file.name));
        let promised = list.digest_of(&file.name).ok_or_else(missing)?.to_vec();
        Ok(Self { kind: list.kind(), promised })
    }

    /// The digest of the image that is needed.
    pub(crate) const fn kind(&self) -> HashKind {
        self.kind
    }

    /// # Errors
    /// `ChecksumMismatch` (OTA_007).
    pub(crate) fn check(self, content: &ContentDigests) -> Result<(), OtaError> {
        let found = content.get(self.kind).unwrap_or_default();
        if found == self.promised {
            return Ok(());
        }
        let (expected, actual) = (Named(self.kind, &self.promised), Named(self.kind, &found));
        Err(OtaError::ChecksumMismatch { expected: expected.to_string(), actual: actual.to_string() })
    }
}

/// A digest with its kind, for texts: `sha512:9f3c…`.
struct Named<'a>(HashKind, &'a [u8]);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.0 {
            HashKind::Sha256 => "sha256",
            HashKind::Sha384 => "sha384",
            HashKind::Sha512 => "sha512",
        };
        write!(f, "{kind}:{}", hex::encode(self.1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(name: &str) -> String {
        format!("{}  {name}\n", hex::encode(HashKind::Sha256.of(name.as_bytes())))
    }

    #[test]
    fn the_three_ways_to_write_a_line_are_read() {
        let digest = hex::encode(HashKind::Sha256.of(b"a"));
        for text in [
            format!("{digest}  a\n"),
            format!("{digest} *a"),
            format!("SHA256 (a) = {digest}\r\n"),
            format!("{digest}  ./a\n"),
        ] {
            let sums = Checksums::parse(text.as_bytes()).unwrap();
            assert_eq!(sums.digest_of("a"), Some(HashKind::Sha256.of(b"a").as_slice()), "{text}");
            assert_eq!(sums.digest_of("b"), None);
        }
    }

    #[test]
    fn what_is_no_checksum_file_is_refused_with_the_line() {
        let long = format!("{}  b\n", hex::encode(HashKind::Sha512.of(b"b")));
        let digest = hex::encode(HashKind::Sha256.of(b"x"));
        let cases = [
            String::new(),
            "hello\n".into(),
            line("a") + "\n",
            line("a") + &long,
            line("a") + &format!("{digest}  a\n"),
            format!("\\{}", line("a")),
            format!("{}  a\n", "g".repeat(64)),
            format!("{}  a\n", "0".repeat(40)),
            format!("SHA512 (a) = {digest}\n"),
            format!("{digest}  \n"),
        ];
        for text in cases {
            assert!(Checksums::parse(text.as_bytes()).is_err(), "{text:?}");
        }
    }
}
