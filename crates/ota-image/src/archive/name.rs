//! Names inside of the new file system.

use std::{ffi::OsStr, fmt, os::unix::ffi::OsStrExt as _, path::Path};

/// Longest name of an entry, in bytes.
const MAX_PATH: usize = 4096;
/// Longest part of one.
const MAX_PART: usize = 255;

/// A path below the root: its parts joined by single slashes, none of them empty, `.` or `..`. Empty for the root itself.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct InnerPath(Vec<u8>);

impl InnerPath {
    /// Reads the name of an entry; `./` in front and `/` behind are left out.
    ///
    /// # Errors
    /// What is wrong with it, as the end of a sentence.
    pub fn parse(name: &[u8]) -> Result<Self, &'static str> {
        if name.is_empty() {
            return Err("has no name");
        }
        if name.starts_with(b"/") {
            return Err("has an absolute name");
        }
        if name.contains(&0) {
            return Err("has a zero byte in its name");
        }
        let mut path = Vec::new();
        for part in name.split(|byte| *byte == b'/') {
            match part {
                b"" | b"." => continue,
                b".." => return Err("has a name with .."),
                _ if part.len() > MAX_PART => return Err("has a name that is too long"),
                _ => {}
            }
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(part);
        }
        if path.len() > MAX_PATH { Err("has a name that is too long") } else { Ok(Self(path)) }
    }

    /// Whether it is the root itself.
    #[must_use]
    pub const fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// As a relative path.
    #[must_use]
    pub fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }

    /// The folder it is in, and its name there; the root is in itself, as `.`.
    #[must_use]
    pub fn split(&self) -> (&[u8], &[u8]) {
        match self.0.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => {
                (self.0.get(..slash).unwrap_or_default(), self.0.get(slash + 1..).unwrap_or_default())
            }
            None if self.0.is_empty() => (b"", b"."),
            None => (b"", &self.0),
        }
    }

    /// Every folder above it but the root, from the top.
    pub fn above(&self) -> impl Iterator<Item = &[u8]> {
        let slashes = self.0.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        slashes.filter_map(|(at, _)| self.0.get(..at))
    }

    /// Whether a symbolic link of this name may have `target`: it must not climb above the root.
    ///
    /// # Errors
    /// What is wrong with it, as the end of a sentence.
    pub fn check_link(&self, target: &[u8]) -> Result<(), &'static str> {
        if target.is_empty() || target.len() >= MAX_PATH || target.contains(&0) {
            return Err("links to a name that no link can have");
        }
        let mut depth = if target.starts_with(b"/") { 0 } else { self.above().count() };
        for part in target.split(|byte| *byte == b'/') {
            match part {
                b"" | b"." => {}
                b".." => depth = depth.checked_sub(1).ok_or("links out of the root")?,
                _ => depth += 1,
            }
        }
        Ok(())
    }
}

impl fmt::Display for InnerPath {
    /// As text, with what cannot be printed escaped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "./{}", self.0.escape_ascii())
    }
}

impl fmt::Debug for InnerPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_becomes_its_parts() {
        for (name, path, above) in [
            (&b"./"[..], "./", 0),
            (b".", "./", 0),
            (b"./usr/lib/", "./usr/lib", 1),
            (b"a//b/./c", "./a/b/c", 2),
            (b"a\xff\nb", "./a\\xff\\nb", 0),
        ] {
            let read = InnerPath::parse(name).unwrap();
            assert_eq!((read.to_string(), read.above().count()), (path.to_owned(), above));
        }
    }

    #[test]
    fn a_name_that_leads_elsewhere_is_refused() {
        for name in
            [&b""[..], b"/", b"/etc/passwd", b"..", b"../x", b"a/../b", b"a/..", b"a\0b", &[b'a'; 256]]
        {
            assert!(InnerPath::parse(name).is_err(), "{}", name.escape_ascii());
        }
        assert!(InnerPath::parse(&b"abc/".repeat(2000)).is_err());
    }

    #[test]
    fn a_symbolic_link_stays_within_the_root() {
        let link = InnerPath::parse(b"usr/lib/x").unwrap();
        for target in
            [&b"y"[..], b"../../bin", b"/etc/mtab", b"/proc/self/mounts", b"../../.", b"a/../../../b"]
        {
            assert_eq!(link.check_link(target), Ok(()), "{}", target.escape_ascii());
        }
        for target in
            [&b""[..], b"../../..", b"../../../etc", b"/..", b"/a/../../b", b"a/../../../../b", b"a\0"]
        {
            assert!(link.check_link(target).is_err(), "{}", target.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn whatever_is_accepted_has_no_part_that_leads_elsewhere(name in proptest::collection::vec(
            prop_oneof![Just(b'/'), Just(b'.'), Just(b'a'), any::<u8>()], 0..40)
        ) {
            if let Ok(path) = InnerPath::parse(&name) {
                prop_assert!(!path.as_bytes().starts_with(b"/"));
                if !path.is_root() {
                    for part in path.as_bytes().split(|b| *b == b'/') {
                        prop_assert!(!part.is_empty() && part != b"." && part != b".." && !part.contains(&0));
                    }
                }
            }
        }
    }
}
