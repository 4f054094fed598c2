//! A signature file, taken apart and judged.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ota_core::release::SignatureKind;

fuzz_target!(|bytes: &[u8]| ota_fuzz::judge(SignatureKind::Cms, bytes));
