//! The boot loader's own way to its environment: loading by its rule, saving as `saveenv` does.
//!
//! Written after U-Boot (`env/common.c`, `include/env_internal.h`), not after `ota-boot`, so that the two check each other.
//! Owns the bytes of the copies only; what the variables decide is in `ota_testkit::bootloader`.

use ota_testkit::bootloader::Variables;

/// Where the copies are within one medium: `copies` of `size` bytes, one behind the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Places {
    /// One or two.
    pub(crate) copies: usize,
    /// Bytes of each, with its header.
    pub(crate) size: usize,
}

/// What was loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Loaded {
    /// The variables, none when no copy is good.
    pub(crate) variables: Variables,
    /// Which copy they are from; `None`: from the defaults that are compiled in.
    pub(crate) copy: Option<usize>,
    flag: u8,
}

impl Places {
    fn header(self) -> usize {
        if self.copies == 2 { 5 } else { 4 }
    }

    /// First byte of a copy.
    #[must_use]
    pub(crate) fn start(self, copy: usize) -> usize {
        copy * self.size
    }

    /// Loads what counts.
    #[must_use]
    pub(crate) fn load(self, medium: &[u8]) -> Loaded {
        let good: Vec<Option<u8>> =
            (0..self.copies).map(|copy| self.flag_of(self.copy(medium, copy))).collect();
        let chosen = match good.as_slice() {
            [Some(0), Some(255)] => Some(0),
            [Some(255), Some(0)] => Some(1),
            [Some(first), Some(second)] => Some(usize::from(second > first)),
            [first, rest @ ..] => {
                let second = rest.first().is_some_and(Option::is_some).then_some(1);
                first.map(|_| 0).or(second)
            }
            [] => None,
        };
        let Some(copy) = chosen else {
            return Loaded { variables: Variables::new(), copy: None, flag: 0 };
        };
        let data = &self.copy(medium, copy)[self.header()..];
        Loaded { variables: parse(data), copy: Some(copy), flag: good[copy].unwrap_or(0) }
    }

    /// The bytes that `saveenv` writes, and where: the copy that was not loaded.
    ///
    /// # Panics
    /// When the variables do not fit.
    #[must_use]
    pub(crate) fn save(self, loaded: &Loaded, variables: &Variables) -> (usize, Vec<u8>) {
        let target = if self.copies == 2 { loaded.copy.map_or(0, |copy| 1 - copy) } else { 0 };
        (self.start(target), self.seal(loaded.flag.wrapping_add(1), variables))
    }

    /// A whole copy.
    ///
    /// # Panics
    /// When the variables do not fit.
    #[must_use]
    pub(crate) fn seal(self, flag: u8, variables: &Variables) -> Vec<u8> {
        let mut data: Vec<u8> =
            variables.iter().flat_map(|(name, value)| format!("{name}={value}\0").into_bytes()).collect();
        assert!(data.len() + self.header() < self.size, "the variables do not fit");
        data.resize(self.size - self.header(), 0);
        let mut copy = crc32(&data).to_ne_bytes().to_vec();
        if self.copies == 2 {
            copy.push(flag);
        }
        copy.extend_from_slice(&data);
        copy
    }

    /// The variables of one copy, when it is good.
    pub(crate) fn read(self, copy: &[u8]) -> Option<Variables> {
        let whole = copy.len() == self.size;
        whole.then(|| self.flag_of(copy))?.map(|_| parse(&copy[self.header()..]))
    }

    fn copy(self, medium: &[u8], copy: usize) -> &[u8] {
        &medium[self.start(copy)..self.start(copy) + self.size]
    }

    fn flag_of(self, copy: &[u8]) -> Option<u8> {
        let crc = u32::from_ne_bytes([copy[0], copy[1], copy[2], copy[3]]);
        (crc == crc32(&copy[self.header()..])).then(|| if self.copies == 2 { copy[4] } else { 0 })
    }
}

fn parse(data: &[u8]) -> Variables {
    let mut variables = Variables::new();
    let mut rest = data;
    while let Some(end) = memchr::memchr(0, rest).filter(|end| *end > 0) {
        let text = String::from_utf8_lossy(&rest[..end]);
        if let Some((name, value)) = text.split_once('=') {
            variables.insert(name.to_owned(), value.to_owned());
        }
        rest = &rest[end + 1..];
    }
    variables
}

/// CRC-32 as zlib has it.
fn crc32(data: &[u8]) -> u32 {
    crc32fast::hash(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: Places = Places { copies: 2, size: 256 };

    fn vars(text: &str) -> Variables {
        text.lines().filter_map(|l| l.split_once('=')).map(|(n, v)| (n.to_owned(), v.to_owned())).collect()
    }

    #[test]
    fn the_checksum_is_that_of_zlib() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn a_save_goes_to_the_other_copy_and_counts_from_then_on() {
        let mut medium = [TWO.seal(255, &vars("a=1")), vec![0xff; 256]].concat();
        let mut flags = Vec::new();
        for n in 0..4 {
            let loaded = TWO.load(&medium);
            let (at, bytes) = TWO.save(&loaded, &vars(&format!("a={n}")));
            flags.push((at, bytes[4]));
            medium[at..at + bytes.len()].copy_from_slice(&bytes);
            assert_eq!(TWO.load(&medium).variables, vars(&format!("a={n}")));
        }
        assert_eq!(flags, [(256, 0), (0, 1), (256, 2), (0, 3)]);
    }

    #[test]
    fn a_bad_copy_does_not_count_and_two_of_them_are_the_defaults() {
        let mut medium = [TWO.seal(1, &vars("a=old")), TWO.seal(2, &vars("a=new"))].concat();
        medium[300] ^= 1;
        assert_eq!((TWO.load(&medium).variables, TWO.load(&medium).copy), (vars("a=old"), Some(0)));
        medium[100] ^= 1;
        assert_eq!(TWO.load(&medium).copy, None);
    }
}
