//! The one decision: given every signature that was found, may this image be installed, and who vouches for it.
//!
//! Pure. How a single signature is checked stands in [`crate::x509`] and [`crate::openpgp`]; what comes out of that
//! is a [`Finding`]. The rules, in the order they are applied:
//!
//! 1. A signature that is there and does not hold refuses the image, whoever else signed it.
//! 2. A retired key, or one below a retired CA, does not hold; nor does a development key, unless the device's
//!    configuration allows them.
//! 3. No signature at all refuses the image when the device requires one; else it is let through with no signer.
//! 4. The keys behind the signatures are counted, not the signatures: a key that signs twice counts once, and so does
//!    a key with two certificates. Fewer than the threshold refuses the image.

use std::{collections::BTreeSet, num::NonZeroU32};

use ota_core::{
    ByteCount, Sha256Digest,
    error::SignatureFault,
    release::{Signer, Vouched},
};

use crate::error::Refusal;

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyRole {
    /// Signs what is installed in the field.
    Release,
    /// Signs what is installed on a bench; counts only where the configuration says so.
    Development,
}

/// The key behind a signature that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Who it is, for people and records.
    pub signer: Signer,
    /// What makes two signatures be of one key: digest of the public key, or fingerprint of the primary key.
    pub identity: String,
    /// What the key is for.
    pub role: KeyRole,
    /// Every name by which a key list can retire it, in lower-case hexadecimal: digests of the certificates of its chain
    /// and of its public key, fingerprints of primary and sub-key.
    pub marks: Vec<String>,
}

/// One signature that was found, and what came of checking it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Where it was found, for people: `signature 2 (cms), signer 1`.
    pub origin: String,
    /// Whose signature holds, or why it does not.
    pub outcome: Result<Holder, Refusal>,
}

/// Everything that was found about an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Length of the image.
    pub size: ByteCount,
    /// Its digest.
    pub sha256: Sha256Digest,
    /// Whether a checksum file came with it; it must name this digest.
    pub checksummed: bool,
    /// One entry for each signature, up to the first that does not hold.
    pub findings: Vec<Finding>,
}

/// What the device requires.
#[derive(Clone, Copy, Debug)]
pub struct Required<'a> {
    /// Whether an image without any signature is refused.
    pub signature: bool,
    /// How many distinct keys must have signed.
    pub threshold: NonZeroU32,
    /// Whether development keys count.
    pub development_keys: bool,
    /// Marks of the keys that do not count any more.
    pub retired: &'a BTreeSet<String>,
}

/// Says who vouches for the image, or why it is refused. See the module for the rules.
///
/// # Errors
/// The first signature that does not hold; `Missing`; `Threshold`.
pub fn judge(found: &Found, required: Required<'_>) -> Result<Vouched, Refusal> {
    let mut signers = Vec::new();
    let mut keys = BTreeSet::new();
    for Finding { origin, outcome } in &found.findings {
        let holder = outcome.clone().map_err(|refusal| refusal.of(origin))?;
        if let Some(mark) = holder.marks.iter().find(|mark| required.retired.contains(*mark)) {
            return Err(retired_key(&holder, mark).of(origin));
        }
        if holder.role == KeyRole::Development && !required.development_keys {
            return Err(development_key(&holder).of(origin));
        }
        if keys.insert(holder.identity) {
            signers.push(holder.signer);
        }
    }
    if signers.is_empty() && required.signature {
        return Err(Refusal::new(
            SignatureFault::Missing,
            "the image carries no signature, this device requires one",
        ));
    }
    if !signers.is_empty() && signers.len() < required.threshold.get() as usize {
        return Err(below_threshold(&signers, required.threshold));
    }
    let Found { size, sha256, checksummed, .. } = *found;
    Ok(Vouched { sha256, size, signers, checksummed, trust: String::new() })
}

/// The outcomes up to the first refusal. It decides, and following one more chain of certificates costs time that an
/// attacker would like us to spend.
pub(crate) fn up_to_refusal(
    outcomes: impl Iterator<Item = Result<Holder, Refusal>>,
) -> Vec<Result<Holder, Refusal>> {
    let mut found = Vec::new();
    for outcome in outcomes {
        let refused = outcome.is_err();
        found.push(outcome);
        if refused {
            break;
        }
    }
    found
}

fn retired_key(holder: &Holder, mark: &str) -> Refusal {
    Refusal::new(
        SignatureFault::Revoked,
        format!("{} was retired by the key list ({mark})", holder.signer.name),
    )
}

fn development_key(holder: &Holder) -> Refusal {
    let what = format!("{} is a development key, this device accepts release keys only", holder.signer.name);
    Refusal::new(SignatureFault::Untrusted, what)
}

fn below_threshold(signers: &[Signer], threshold: NonZeroU32) -> Refusal {
    let names: Vec<&str> = signers.iter().map(|signer| signer.name.as_str()).collect();
    let what =
        format!("{} distinct key(s) signed ({}), {threshold} are needed", signers.len(), names.join(", "));
    Refusal::new(SignatureFault::Threshold, what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ota_core::release::SignatureKind;

    fn by(key: &str, role: KeyRole) -> Finding {
        let signer = Signer { kind: SignatureKind::Cms, fingerprint: format!("{key}00"), name: key.into() };
        Finding {
            origin: "signature 1".into(),
            outcome: Ok(Holder { signer, identity: key.into(), role, marks: vec![key.into()] }),
        }
    }

    fn bad(reason: SignatureFault) -> Finding {
        Finding { origin: "signature 9".into(), outcome: Err(Refusal::new(reason, "does not hold")) }
    }

    fn check(
        findings: Vec<Finding>,
        signature: bool,
        threshold: u32,
        development_keys: bool,
    ) -> Result<usize, Refusal> {
        let found =
            Found { size: ByteCount(3), sha256: Sha256Digest::of(b"abc"), checksummed: false, findings };
        let threshold = NonZeroU32::new(threshold).unwrap();
        let retired = &BTreeSet::from(["old".to_owned()]);
        judge(&found, Required { signature, threshold, development_keys, retired })
            .map(|vouched| vouched.signers.len())
    }

    fn reason(outcome: Result<usize, Refusal>) -> SignatureFault {
        outcome.expect_err("must be refused").reason
    }

    #[test]
    fn an_unsigned_image_passes_only_where_none_is_required() {
        assert_eq!(reason(check(vec![], true, 1, false)), SignatureFault::Missing);
        assert_eq!(check(vec![], false, 2, false), Ok(0));
    }

    #[test]
    fn one_signature_that_does_not_hold_refuses_the_image_whoever_else_signed() {
        for fault in [SignatureFault::Untrusted, SignatureFault::Expired, SignatureFault::Malformed] {
            let findings = vec![by("a", KeyRole::Release), by("b", KeyRole::Release), bad(fault)];
            assert_eq!(reason(check(findings.clone(), true, 1, false)), fault);
            assert_eq!(
                reason(check(findings, false, 1, false)),
                fault,
                "also where no signature is required"
            );
        }
    }

    #[test]
    fn a_refusal_says_where_the_signature_was_found() {
        let refusal = check(vec![bad(SignatureFault::Expired)], true, 1, false).expect_err("refused");
        assert_eq!(refusal.what, "signature 9: does not hold");
    }

    #[test]
    fn a_key_that_signs_twice_counts_once() {
        let twice = vec![by("a", KeyRole::Release), by("a", KeyRole::Release)];
        assert_eq!(check(twice.clone(), true, 1, false), Ok(1));
        assert_eq!(reason(check(twice, true, 2, false)), SignatureFault::Threshold);
        assert_eq!(check(vec![by("a", KeyRole::Release), by("b", KeyRole::Release)], true, 2, false), Ok(2));
    }

    #[test]
    fn an_image_signed_by_too_few_is_refused_even_where_an_unsigned_one_would_pass() {
        assert_eq!(
            reason(check(vec![by("a", KeyRole::Release)], false, 2, false)),
            SignatureFault::Threshold
        );
    }

    #[test]
    fn a_retired_key_does_not_hold() {
        let findings = vec![by("a", KeyRole::Release), by("old", KeyRole::Release)];
        assert_eq!(reason(check(findings, true, 1, false)), SignatureFault::Revoked);
    }

    #[test]
    fn a_development_key_counts_only_where_it_is_allowed() {
        assert_eq!(
            reason(check(vec![by("d", KeyRole::Development)], true, 1, false)),
            SignatureFault::Untrusted
        );
        assert_eq!(check(vec![by("d", KeyRole::Development)], true, 1, true), Ok(1));
    }
}
