//! An archive, entry by entry: what is let through has a name below the root.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| ota_image::fuzzing::tar_entries(bytes));
