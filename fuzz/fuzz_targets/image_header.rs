//! The front of an image: squashfs and ext4 superblocks, partition tables, and what people upload by mistake.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ota_core::{ByteCount, Sha256Digest, release::Vouched};

fuzz_target!(|bytes: &[u8]| {
    let size = ByteCount(bytes.len() as u64);
    let sha256 = Sha256Digest([0; 32]);
    let vouched = Vouched { sha256, size, signers: Vec::new(), checksummed: false, trust: String::new() };
    let _ = ota_verify::format::inspect(&vouched, bytes);
});
