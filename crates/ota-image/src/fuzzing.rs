//! What the fuzz target `tar_entries` below `fuzz/` feeds with bytes; the target is a call of it and nothing else. The mutations of
//! `archive/tests.rs` go through it, too. Not in a release: this module is there in tests and with the feature `fuzzing`.

use std::io;

use ota_core::ByteCount;

use crate::archive::{ArchivePolicy, walk};

/// A name below `fuzz/fuzz_targets/`, and what it calls.
pub type Target = (&'static str, fn(&[u8]));

/// Every target with its name: that of its function and of its file.
pub const TARGETS: [Target; 1] = [("tar_entries", tar_entries)];

/// An archive, entry by entry with its data.
///
/// # Panics
/// When an entry is let through whose name leads out of the root.
pub fn tar_entries(bytes: &[u8]) {
    let policy = ArchivePolicy { device_nodes: true, capacity: ByteCount(1 << 20) };
    let walked = walk(bytes, policy, |entry, data| {
        let path = entry.path.as_bytes();
        let below = !path.starts_with(b"/") && path.split(|byte| *byte == b'/').all(|part| part != b"..");
        assert!(below, "{entry:?} leads out of the root");
        drop(io::copy(data, &mut io::sink()));
        Ok(())
    });
    drop(walked);
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// CI does not build `fuzz/`; what such a file may hold is asked in `ota-verify`.
    #[test]
    fn the_fuzz_targets_of_this_crate_are_those_that_are_tested_here() {
        let mut ours = Vec::new();
        for file in fs::read_dir("../../fuzz/fuzz_targets").unwrap() {
            let path = file.unwrap().path();
            if fs::read_to_string(&path).unwrap().contains("ota_image::fuzzing::") {
                ours.push(path.file_stem().unwrap().to_str().unwrap().to_owned());
            }
        }
        assert_eq!(ours, TARGETS.map(|(name, _)| name));
    }
}
