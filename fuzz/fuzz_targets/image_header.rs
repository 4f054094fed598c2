//! The front of an image: squashfs and ext4 superblocks, partition tables, and what people upload by mistake.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| ota_verify::fuzzing::image_header(bytes));
