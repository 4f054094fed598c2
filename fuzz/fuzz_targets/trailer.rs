//! The trailer of a one-file image, and the manifest in it: what is read is written the same again.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| ota_verify::fuzzing::trailer(bytes));
