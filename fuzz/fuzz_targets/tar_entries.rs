//! An archive, entry by entry: what is let through has a name below the root.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ota_core::ByteCount;
use ota_image::archive::{ArchivePolicy, walk};

fuzz_target!(|bytes: &[u8]| {
    let policy = ArchivePolicy { device_nodes: true, capacity: ByteCount(1 << 20) };
    let _ = walk(bytes, policy, |entry, _| {
        let path = entry.path.as_bytes();
        assert!(!path.starts_with(b"/") && path.split(|byte| *byte == b'/').all(|part| part != b".."));
        Ok(())
    });
});
