//! A CMS signature file, taken apart and judged.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| ota_verify::fuzzing::cms(bytes));
