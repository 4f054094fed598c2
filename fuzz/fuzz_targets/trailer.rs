//! The trailer of a one-file image, and the manifest in it: what is read is written the same again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ota_verify::{Manifest, Trailer};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(Some((trailer, image_len))) = Trailer::decode(bytes, bytes.len() as u64) {
        let image = &bytes[..usize::try_from(image_len).expect("within the file")];
        assert_eq!([image, &trailer.encode(image_len).expect("was within its bounds")].concat(), bytes);
        let _ = Manifest::decode(&trailer.manifest);
    }
    if let Ok(manifest) = Manifest::decode(bytes) {
        assert_eq!(manifest.encode().as_bytes(), bytes);
    }
});
