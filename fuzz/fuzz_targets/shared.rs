//! What several targets need: a verifier without keys, so that a file goes as far as it can without a signature that holds.

use std::{sync::Arc, time::Duration};

use ota_core::{
    Timestamp,
    ports::{Clock, VerifyPolicy},
    release::{DetachedSignature, SignatureKind},
};
use ota_verify::{Keyring, KeyringVerifier, VerifyConfig};

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

/// Takes a signature file apart and judges it; without a key nothing may be accepted.
pub fn judge(kind: SignatureKind, bytes: &[u8]) {
    let config = VerifyConfig::new(Arc::new(Noon), Timestamp::from_secs(0));
    let verifier = KeyringVerifier::new(Keyring::default(), config);
    let signature = DetachedSignature { kind, bytes: bytes.to_vec() };
    let verdict = verifier.verify_bytes(b"an image", &[signature], VerifyPolicy { require_signature: false });
    assert!(verdict.is_err(), "accepted without a key");
}
