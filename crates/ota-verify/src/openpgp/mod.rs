//! Signatures by `OpenPGP` keys: detached, of type binary, by keys whose fingerprints are pinned by lying in the key
//! folder. rPGP does the parsing and the mathematics; every decision is here.
//!
//! Only version 4 keys and signatures count, with SHA-256, SHA-384 or SHA-512, and RSA from 3072 bits, ECDSA P-256 or
//! P-384, or Ed25519. No certification by third parties is looked at.

mod armor;
mod key;
mod signature;
mod standing;

pub use key::OpenpgpKey;
pub(crate) use signature::Statement;

use ota_core::error::SignatureFault;
use pgp::{
    composed::SignedPublicKey,
    crypto::hash::HashAlgorithm,
    ser::Serialize as _,
    types::{EcdsaPublicParams, EddsaLegacyPublicParams, KeyDetails, PublicParams},
};

use crate::{digest::HashKind, error::Refusal, x509::MIN_RSA_BITS};

/// The digest of a signature, when it is one that counts.
fn digest(algorithm: HashAlgorithm) -> Result<HashKind, Refusal> {
    match algorithm {
        HashAlgorithm::Sha256 => Ok(HashKind::Sha256),
        HashAlgorithm::Sha384 => Ok(HashKind::Sha384),
        HashAlgorithm::Sha512 => Ok(HashKind::Sha512),
        other => {
            let what = format!("digest {other} is not accepted, use SHA-256, SHA-384 or SHA-512");
            Err(Refusal::new(SignatureFault::WeakAlgorithm, what))
        }
    }
}

/// Refuses a key that is too short, or of a kind that does not count.
fn strong_enough(key: &impl KeyDetails) -> Result<(), Refusal> {
    let weak = |what: String| Err(Refusal::new(SignatureFault::WeakAlgorithm, what));
    match key.public_params() {
        PublicParams::Ed25519(_)
        | PublicParams::EdDSALegacy(EddsaLegacyPublicParams::Ed25519 { .. })
        | PublicParams::ECDSA(EcdsaPublicParams::P256 { .. } | EcdsaPublicParams::P384 { .. }) => Ok(()),
        PublicParams::RSA(params) => {
            // The modulus stands first, as a number with its length in bits in front.
            let bits = match params.to_bytes().as_deref() {
                Ok([high, low, ..]) => usize::from(u16::from_be_bytes([*high, *low])),
                _ => 0,
            };
            if bits >= MIN_RSA_BITS {
                return Ok(());
            }
            weak(format!("an RSA key of {bits} bits is too short, {MIN_RSA_BITS} are needed"))
        }
        _ => weak(format!("keys of kind {:?} are not accepted", key.algorithm())),
    }
}

/// First user id, for people; the key id where there is none.
fn name(key: &SignedPublicKey) -> String {
    match key.details.users.first() {
        Some(user) => String::from_utf8_lossy(user.id.id()).into_owned(),
        None => format!("key {}", key.legacy_key_id()),
    }
}
