//! Which algorithms count: ring's, above the strength we ask for. What is not listed here is refused as weak.

use const_oid::db::{rfc5912, rfc8410};
use der::{Decode as _, Encode as _, Reader as _, SliceReader, asn1::UintRef};
use ota_core::error::SignatureFault;
use rustls_pki_types::{AlgorithmIdentifier, SignatureVerificationAlgorithm, alg_id};
use webpki::ring as algorithms;
use x509_cert::spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};

use crate::{digest::HashKind, error::Refusal};

/// Shortest RSA modulus that is accepted, in bits.
pub(crate) const MIN_RSA_BITS: usize = 3072;

/// Algorithms that may have signed a certificate or a revocation list.
pub(super) static IN_CERTIFICATES: &[&dyn SignatureVerificationAlgorithm] = &[
    algorithms::ED25519,
    algorithms::ECDSA_P256_SHA256,
    algorithms::ECDSA_P256_SHA384,
    algorithms::ECDSA_P384_SHA256,
    algorithms::ECDSA_P384_SHA384,
    algorithms::RSA_PKCS1_2048_8192_SHA256,
    algorithms::RSA_PKCS1_2048_8192_SHA384,
    algorithms::RSA_PKCS1_2048_8192_SHA512,
    algorithms::RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
    algorithms::RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
    algorithms::RSA_PSS_2048_8192_SHA512_LEGACY_KEY,
];

/// The digest that an algorithm identifier names, when it is one that counts.
pub(super) fn digest(algorithm: &AlgorithmIdentifierOwned) -> Result<HashKind, Refusal> {
    let kind = match algorithm.oid {
        rfc5912::ID_SHA_256 => HashKind::Sha256,
        rfc5912::ID_SHA_384 => HashKind::Sha384,
        rfc5912::ID_SHA_512 => HashKind::Sha512,
        oid => {
            let what = format!("digest {} is not accepted, use SHA-256, SHA-384 or SHA-512", name_of(oid));
            return Err(Refusal::new(SignatureFault::WeakAlgorithm, what));
        }
    };
    match &algorithm.parameters {
        Some(parameters) if !parameters.is_null() => {
            Err(Refusal::malformed("a digest algorithm has parameters"))
        }
        _ => Ok(kind),
    }
}

/// The ring algorithms that a signer's `signatureAlgorithm` may stand for, given the digest it names beside it.
///
/// There is one for each curve, because the identifier does not say the curve; the key decides.
pub(super) fn candidates(
    algorithm: &AlgorithmIdentifierOwned,
    digest: HashKind,
) -> Result<Vec<&'static dyn SignatureVerificationAlgorithm>, Refusal> {
    let der = algorithm.to_der().map_err(|_| Refusal::malformed("signature algorithm cannot be encoded"))?;
    // Without its outer header, which is two bytes below 128 bytes of content, that is what webpki compares.
    let id = der.get(2..).unwrap_or_default();
    let is = |known: AlgorithmIdentifier| *known == *id;
    let found = IN_CERTIFICATES
        .iter()
        .copied()
        .filter(|known| match digest_in(known.signature_alg_id()) {
            Some(own) => {
                own == digest && (is(known.signature_alg_id()) || is(alg_id::RSA_ENCRYPTION) && pkcs1(*known))
            }
            None => is(known.signature_alg_id()),
        })
        .collect::<Vec<_>>();
    if found.is_empty() {
        let what = format!("signature algorithm {} with {digest} is not accepted", name_of(algorithm.oid));
        return Err(Refusal::new(SignatureFault::WeakAlgorithm, what + hint(algorithm)));
    }
    Ok(found)
}

fn hint(algorithm: &AlgorithmIdentifierOwned) -> &'static str {
    match algorithm.oid {
        rfc5912::ID_RSASSA_PSS => {
            "; with RSASSA-PSS digest, mask and salt length must agree (rsa_pss_saltlen:-1)"
        }
        rfc5912::ECDSA_WITH_SHA_512 => "; sign with SHA-256 or SHA-384 (openssl: -md sha256)",
        _ => "",
    }
}

fn pkcs1(algorithm: &dyn SignatureVerificationAlgorithm) -> bool {
    [alg_id::RSA_PKCS1_SHA256, alg_id::RSA_PKCS1_SHA384, alg_id::RSA_PKCS1_SHA512]
        .contains(&algorithm.signature_alg_id())
}

/// The digest inside a signature algorithm; `None` for Ed25519, which hashes by itself.
fn digest_in(id: AlgorithmIdentifier) -> Option<HashKind> {
    match id {
        alg_id::ECDSA_SHA256 | alg_id::RSA_PKCS1_SHA256 | alg_id::RSA_PSS_SHA256 => Some(HashKind::Sha256),
        alg_id::ECDSA_SHA384 | alg_id::RSA_PKCS1_SHA384 | alg_id::RSA_PSS_SHA384 => Some(HashKind::Sha384),
        alg_id::RSA_PKCS1_SHA512 | alg_id::RSA_PSS_SHA512 => Some(HashKind::Sha512),
        _ => None,
    }
}

/// Refuses a public key that is too short, or of a kind that nothing here can check.
pub(super) fn strong_enough(key: &SubjectPublicKeyInfoOwned) -> Result<(), Refusal> {
    let weak = |what: String| Err(Refusal::new(SignatureFault::WeakAlgorithm, what));
    match key.algorithm.oid {
        rfc5912::RSA_ENCRYPTION => match rsa_bits(key.subject_public_key.raw_bytes()) {
            Some(bits) if bits >= MIN_RSA_BITS => Ok(()),
            Some(bits) => weak(format!("an RSA key of {bits} bits is too short, {MIN_RSA_BITS} are needed")),
            None => Err(Refusal::malformed("an RSA key cannot be read")),
        },
        rfc5912::ID_EC_PUBLIC_KEY => match key.algorithm.parameters.as_ref().map(|p| p.decode_as()) {
            Some(Ok(rfc5912::SECP_256_R_1 | rfc5912::SECP_384_R_1)) => Ok(()),
            Some(Ok(curve)) => weak(format!("curve {} is not accepted, use P-256 or P-384", name_of(curve))),
            _ => Err(Refusal::malformed("a key does not name its curve")),
        },
        rfc8410::ID_ED_25519 => Ok(()),
        oid => weak(format!("keys of kind {} are not accepted", name_of(oid))),
    }
}

fn rsa_bits(public_key: &[u8]) -> Option<usize> {
    let mut reader = SliceReader::new(public_key).ok()?;
    let modulus = reader.sequence(|fields| {
        let modulus = UintRef::decode(fields)?;
        UintRef::decode(fields)?;
        Ok(modulus)
    });
    let bytes = modulus.ok()?.as_bytes();
    let first = bytes.first()?;
    Some(bytes.len() * 8 - first.leading_zeros() as usize)
}

fn name_of(oid: const_oid::ObjectIdentifier) -> String {
    const_oid::db::DB.by_oid(&oid).map_or_else(|| oid.to_string(), str::to_owned)
}
