//! What the fuzz targets below `fuzz/` feed with bytes, a function each. A target is a call of one of these and nothing else, so that
//! what cargo-fuzz runs is compiled and tested with everything: the mutations of `tests/mutations.rs` go through the same functions.
//!
//! Not in a release: this module is there in tests and with the feature `fuzzing`.

use std::{sync::Arc, time::Duration};

use ota_core::{
    ByteCount, Sha256Digest, Timestamp,
    ports::{Clock, VerifyPolicy},
    release::{DetachedSignature, SignatureKind, Vouched},
};

use crate::{Keyring, KeyringVerifier, Manifest, Trailer, VerifyConfig, format};

/// A name below `fuzz/fuzz_targets/`, and what it calls.
pub type Target = (&'static str, fn(&[u8]));

/// Every target with its name: that of its function and of its file.
pub const TARGETS: [Target; 4] =
    [("trailer", trailer), ("cms", cms), ("openpgp", openpgp), ("image_header", image_header)];

/// 2025-03-10T14:30:00Z, for ever.
struct Noon;

impl Clock for Noon {
    fn wall(&self) -> Timestamp {
        Timestamp::from_secs(1_741_617_000)
    }
    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
    fn wall_is_trusted(&self) -> bool {
        true
    }
}

/// The end of a one-file image, and a manifest.
///
/// # Panics
/// When what is read is not written the same again.
pub fn trailer(bytes: &[u8]) {
    if let Ok(Some((trailer, image_len))) = Trailer::decode(bytes, bytes.len() as u64) {
        let image = usize::try_from(image_len).ok().and_then(|length| bytes.get(..length));
        let again = trailer.encode(image_len).map(|end| [image.unwrap_or_default(), &end].concat());
        assert!(again.is_ok_and(|again| again == bytes), "a trailer is not written as it was read");
        drop(Manifest::decode(&trailer.manifest));
    }
    if let Ok(manifest) = Manifest::decode(bytes) {
        assert_eq!(manifest.encode().as_bytes(), bytes, "a manifest is not written as it was read");
    }
}

/// A CMS signature, judged without keys.
///
/// # Panics
/// When it is accepted.
pub fn cms(bytes: &[u8]) {
    without_keys(SignatureKind::Cms, bytes);
}

/// An `OpenPGP` signature, judged without keys.
///
/// # Panics
/// When it is accepted.
pub fn openpgp(bytes: &[u8]) {
    without_keys(SignatureKind::Openpgp, bytes);
}

fn without_keys(kind: SignatureKind, bytes: &[u8]) {
    let config = VerifyConfig::new(Arc::new(Noon), Timestamp::from_secs(0));
    let verifier = KeyringVerifier::new(Keyring::default(), config);
    let signature = DetachedSignature { kind, bytes: bytes.to_vec() };
    judge(&verifier, VerifyPolicy { require_signature: false }, &signature);
}

/// A signature file beside an image that no key of `verifier` has signed.
///
/// # Panics
/// When it is accepted.
pub fn judge(verifier: &KeyringVerifier, policy: VerifyPolicy, signature: &DetachedSignature) {
    let verdict = verifier.verify_bytes(b"another image", std::slice::from_ref(signature), policy);
    assert!(verdict.is_err(), "accepted for another image: {}", hex::encode(&signature.bytes));
}

/// The front of an image: squashfs and ext4 superblocks, partition tables, and what people upload by mistake.
pub fn image_header(bytes: &[u8]) {
    let size = ByteCount(bytes.len() as u64);
    let sha256 = Sha256Digest([0; 32]);
    let vouched = Vouched { sha256, size, signers: Vec::new(), checksummed: false, trust: String::new() };
    drop(format::inspect(&vouched, bytes));
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use super::*;

    /// CI does not build `fuzz/`, which needs another toolchain: so there must be nothing in it that could break.
    #[test]
    fn every_fuzz_target_is_one_call_of_a_function_that_is_tested_here() {
        let fuzz = Path::new("../../fuzz");
        let manifest = fs::read_to_string(fuzz.join("Cargo.toml")).unwrap();
        let mut ours = BTreeSet::new();
        for file in fs::read_dir(fuzz.join("fuzz_targets")).unwrap() {
            let file = file.unwrap().file_name().into_string().unwrap();
            let name = file.strip_suffix(".rs").unwrap();
            let text = fs::read_to_string(fuzz.join("fuzz_targets").join(&file)).unwrap();
            let code: Vec<&str> =
                text.lines().filter(|line| !line.is_empty() && !line.starts_with("//!")).collect();
            let call = |of: &str| format!("fuzz_target!(|bytes: &[u8]| {of}::fuzzing::{name}(bytes));");
            let (verify, image) = (call("ota_verify"), call("ota_image"));
            let [no_main, import, last] = code[..] else { panic!("{file} has more than a call: {code:?}") };
            assert_eq!((no_main, import), ("#![no_main]", "use libfuzzer_sys::fuzz_target;"), "{file}");
            assert!(last == verify || last == image, "{file}: {last}");
            assert!(
                manifest.contains(&format!("[[bin]]\nname = \"{name}\"\npath = \"fuzz_targets/{file}\"\n"))
            );
            if last == verify {
                ours.insert(name.to_owned());
            }
        }
        assert_eq!(ours, BTreeSet::from(TARGETS.map(|(name, _)| name.to_owned())));
        for krate in ["ota-image", "ota-verify"] {
            let features =
                format!("{krate} = {{ path = \"../crates/{krate}\", features = [\"fuzzing\"] }}\n");
            assert!(manifest.contains(&features), "{features}");
        }
    }

    #[test]
    fn a_fuzz_target_takes_whatever_comes() {
        for (_, target) in TARGETS {
            for bytes in [&b""[..], b"\0", &[0xff; 4096], b"-----BEGIN CMS-----\n", &[0x30; 70_000]] {
                target(bytes);
            }
        }
    }
}
