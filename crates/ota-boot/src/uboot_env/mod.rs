//! The U-Boot environment, natively.
//!
//! This file owns the codec of the variables: bytes in, the same bytes out, but for what was asked to change.
//! [`copies`] owns the header and the rule by which one of two copies is taken, [`store`] the reading and writing of
//! the copies. What our variables mean is in [`crate::scheme`].

pub mod copies;
#[cfg(test)]
mod interop;
pub mod store;

use crate::error::BootError;

pub use copies::{Choice, Format, select};
pub use store::{EnvSettings, EnvStore};

/// The variables of one copy, in order, byte for byte.
///
/// On the medium: `name=value\0name=value\0\0`, then anything. An entry without `=` is kept as it stands. Source: U-Boot
/// `lib/hashtable.c` (`himport_r`), doc/README of `CONFIG_ENV_*`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    entries: Vec<Vec<u8>>,
}

/// The bytes are not variables: the mark at their end is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the variables do not end within the copy")]
pub struct Unterminated;

impl Environment {
    /// Reads the data part of a copy.
    ///
    /// # Errors
    /// When the empty entry that ends the variables is missing.
    pub fn parse(data: &[u8]) -> Result<Self, Unterminated> {
        let mut entries = Vec::new();
        let mut rest = data;
        loop {
            let end = rest.iter().position(|&b| b == 0).ok_or(Unterminated)?;
            let (entry, tail) = rest.split_at(end);
            if entry.is_empty() {
                return Ok(Self { entries });
            }
            entries.push(entry.to_vec());
            rest = tail.get(1..).unwrap_or_default();
        }
    }

    /// The data part of a copy: the variables, the end mark, zeros up to `len` bytes.
    ///
    /// # Errors
    /// `EnvFull` when they do not fit.
    pub fn serialise(&self, len: usize) -> Result<Vec<u8>, BootError> {
        let required = self.entries.iter().map(|e| e.len() + 1).sum::<usize>() + 1;
        // Without variables the end mark is the data's first byte; a second zero keeps readers that look for two.
        let required = required.max(2);
        if required > len {
            return Err(BootError::EnvFull { required, available: len });
        }
        let mut data = Vec::with_capacity(len);
        for entry in &self.entries {
            data.extend_from_slice(entry);
            data.push(0);
        }
        data.resize(len, 0);
        Ok(data)
    }

    /// The value of `name`. Of several entries with one name the last counts, as for the boot loader.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&[u8]> {
        self.entries
            .iter()
            .rev()
            .find_map(|e| split(e).filter(|(n, _)| *n == name.as_bytes()).map(|(_, v)| v))
    }

    /// The value of `name` as text; bytes that are not UTF-8 read as `None`, like a missing variable.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.value(name).and_then(|v| std::str::from_utf8(v).ok())
    }

    /// Sets `name`, in its place where it has one, else at the end. Both without zero bytes, the name without `=`.
    pub fn set(&mut self, name: &str, value: &str) {
        debug_assert!(
            !name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0'),
            "{name}={value}"
        );
        let entry = format!("{name}={value}").into_bytes();
        let first = self.entries.iter().position(|e| is_named(e, name));
        match first {
            None => self.entries.push(entry),
            Some(index) => {
                self.entries[index] = entry;
                let mut seen = 0;
                self.entries.retain(|e| !is_named(e, name) || std::mem::replace(&mut seen, 1) == 0);
            }
        }
    }

    /// Removes `name`.
    pub fn unset(&mut self, name: &str) {
        self.entries.retain(|e| !is_named(e, name));
    }

    /// Every entry as it stands, in order.
    pub fn entries(&self) -> impl Iterator<Item = &[u8]> {
        self.entries.iter().map(Vec::as_slice)
    }
}

fn split(entry: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = entry.iter().position(|&b| b == b'=')?;
    Some((&entry[..at], &entry[at + 1..]))
}

fn is_named(entry: &[u8], name: &str) -> bool {
    split(entry).is_some_and(|(n, _)| n == name.as_bytes())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(1_u8..=255, 1..40)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn any_entries_come_back_byte_for_byte(entries in prop::collection::vec(entry(), 0..30), spare in 0_usize..50) {
            let environment = Environment { entries };
            let len = environment.entries.iter().map(|e| e.len() + 1).sum::<usize>() + 2 + spare;
            let data = environment.serialise(len).unwrap();
            prop_assert_eq!(data.len(), len);
            prop_assert_eq!(Environment::parse(&data), Ok(environment));
        }

        #[test]
        fn any_bytes_parse_or_are_refused_and_never_change(data in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(environment) = Environment::parse(&data) {
                let again = environment.serialise(data.len().max(2)).unwrap();
                let used = environment.entries.iter().map(|e| e.len() + 1).sum::<usize>();
                prop_assert_eq!(&again[..used], &data[..used]);
            }
        }

        #[test]
        fn setting_one_variable_leaves_the_others_and_their_order(
            mut entries in prop::collection::vec(entry(), 0..20), at in 0_usize..20, value in "[ -~]{0,20}"
        ) {
            entries.retain(|e| !is_named(e, "BOOT_ORDER"));
            let foreign = entries.clone();
            entries.insert(at.min(entries.len()), b"BOOT_ORDER=A B".to_vec());
            entries.push(b"BOOT_ORDER=twice".to_vec());
            let mut environment = Environment { entries };
            environment.set("BOOT_ORDER", &value);
            prop_assert_eq!(environment.text("BOOT_ORDER"), Some(value.as_str()));
            prop_assert_eq!(environment.entries.iter().position(|e| is_named(e, "BOOT_ORDER")), Some(at.min(foreign.len())));
            environment.unset("BOOT_ORDER");
            prop_assert_eq!(environment.entries, foreign);
        }
    }

    #[test]
    fn the_last_of_two_equal_names_counts_and_a_name_without_value_is_kept() {
        let environment = Environment::parse(b"x=1\0lone\0x=2\0=odd\0\0garbage").unwrap();
        assert_eq!(environment.text("x"), Some("2"));
        assert_eq!(environment.text("lone"), None);
        assert_eq!(environment.entries().count(), 4);
    }

    #[test]
    fn variables_that_do_not_end_are_refused() {
        assert_eq!(Environment::parse(b"x=1"), Err(Unterminated));
        assert_eq!(Environment::parse(b"x=1\0"), Err(Unterminated));
        assert_eq!(Environment::parse(b""), Err(Unterminated));
        assert_eq!(Environment::parse(b"\0"), Ok(Environment::default()));
    }

    #[test]
    fn what_does_not_fit_is_refused_with_both_numbers() {
        let mut environment = Environment::default();
        environment.set("a", "12345");
        assert!(environment.serialise(9).is_ok());
        assert!(matches!(environment.serialise(8), Err(BootError::EnvFull { required: 9, available: 8 })));
    }
}
