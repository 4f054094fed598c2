//! Wycheproof's vectors through the function that checks the signature of a CMS signer; see `vectors/wycheproof`.

use std::{collections::BTreeSet, fmt::Debug};

use der::{Decode as _, Encode as _, asn1::BitString};
use ota_core::error::SignatureFault;
use rustls_pki_types::{AlgorithmIdentifier, alg_id};
use wycheproof::{HashFunction, TestResult, ecdsa, eddsa, rsa_pkcs1_verify, rsa_pss_verify};
use x509_cert::{
    Certificate, TbsCertificate, Version,
    name::Name,
    serial_number::SerialNumber,
    spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned},
    time::{Time, Validity},
};

use super::{algorithm, cms};
use crate::digest::HashKind;

/// What is known of all cases of one published set.
#[derive(Default)]
struct Tally {
    published: u32,
    refused: u32,
    wrong: Vec<String>,
    weak: bool,
}

impl Tally {
    fn add(&mut self, case: &str, result: TestResult, holds: bool) {
        match (result, holds) {
            (TestResult::Valid, false) => self.refused += 1,
            (TestResult::Invalid, true) => self.wrong.push(case.to_owned()),
            // What is acceptable may go either way.
            _ => self.published += 1,
        }
    }
}

/// The names of the sets with the reason why we refuse every signature of them, `*` for any letters.
fn explained() -> Vec<(&'static str, &'static str)> {
    let text = include_str!("../../vectors/wycheproof/deviations.txt");
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| line.split_once(": ").expect("SETS: the reason")).collect()
}

fn fits(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| name.strip_prefix(first)) else { return false };
    let mut last = "";
    for part in parts {
        let Some((_, after)) = rest.split_once(part) else { return false };
        (rest, last) = (after, part);
    }
    rest.is_empty() || (pattern.contains('*') && last.is_empty())
}

/// Compares the sets with what is published and explained; gives how many cases were compared.
fn compared(sets: Vec<(String, Tally)>) -> u32 {
    let explained = explained();
    let (mut cases, mut unexplained) = (0, Vec::new());
    for (name, tally) in sets {
        assert!(tally.wrong.is_empty(), "{name}: accepted although published as invalid: {:?}", tally.wrong);
        let reason = explained.iter().find(|(pattern, _)| fits(pattern, &name));
        let refused = tally.refused > 0 || tally.weak;
        if refused != reason.is_some() {
            unexplained.push(format!("{name}: {} valid ones refused, {reason:?}", tally.refused));
        }
        cases += tally.published + tally.refused;
    }
    assert!(unexplained.is_empty(), "{unexplained:#?}");
    cases
}

/// A certificate around a key: nothing but the key of it is looked at.
fn certificate_of(key: &SubjectPublicKeyInfoOwned) -> Certificate {
    let at = |secs| Time::try_from(std::time::UNIX_EPOCH + std::time::Duration::from_secs(secs)).unwrap();
    let algorithm = named(alg_id::ED25519);
    Certificate {
        tbs_certificate: TbsCertificate {
            version: Version::V3,
            serial_number: SerialNumber::new(&[1]).unwrap(),
            signature: algorithm.clone(),
            issuer: Name::default(),
            validity: Validity { not_before: at(0), not_after: at(1 << 31) },
            subject: Name::default(),
            subject_public_key_info: key.clone(),
            issuer_unique_id: None,
            subject_unique_id: None,
            extensions: None,
        },
        signature_algorithm: algorithm,
        signature: BitString::from_bytes(&[0]).unwrap(),
    }
}

/// As it stands in a CMS message.
fn named(id: AlgorithmIdentifier) -> AlgorithmIdentifierOwned {
    let length = u8::try_from(id.len()).unwrap();
    AlgorithmIdentifierOwned::from_der(&[&[0x30, length], &*id].concat()).unwrap()
}

/// Whether the signature is accepted. `algorithm`: none where no message can name it for us.
fn holds(
    key: &[u8],
    algorithm: Option<(AlgorithmIdentifierOwned, HashKind)>,
    message: &[u8],
    signature: &[u8],
) -> bool {
    let Ok(key) = SubjectPublicKeyInfoOwned::from_der(key) else { return false };
    let Some((algorithm, digest)) = algorithm else { return false };
    cms::holds(&algorithm, digest, &certificate_of(&key), message, signature).unwrap_or(false)
}

/// Whether the key is below the strength that we ask for.
fn is_weak(key: &[u8]) -> bool {
    let Ok(key) = SubjectPublicKeyInfoOwned::from_der(key) else { return false };
    matches!(algorithm::strong_enough(&key), Err(refusal) if refusal.reason == SignatureFault::WeakAlgorithm)
}

const fn digest(hash: HashFunction) -> Option<HashKind> {
    match hash {
        HashFunction::Sha2_256 => Some(HashKind::Sha256),
        HashFunction::Sha2_384 => Some(HashKind::Sha384),
        HashFunction::Sha2_512 => Some(HashKind::Sha512),
        _ => None,
    }
}

fn of_hash(
    hash: HashFunction,
    ids: [Option<AlgorithmIdentifier>; 3],
) -> Option<(AlgorithmIdentifierOwned, HashKind)> {
    let [of_256, of_384, of_512] = ids;
    let digest = digest(hash)?;
    let id = match digest {
        HashKind::Sha256 => of_256,
        HashKind::Sha384 => of_384,
        HashKind::Sha512 => of_512,
    };
    Some((named(id?), digest))
}

macro_rules! tally {
    ($module:ident, $algorithm:expr) => {
        tally(
            $module::TestName::all(),
            |name| $module::TestSet::load(name).unwrap().test_groups,
            |group, tally| {
                tally.weak |= is_weak(&group.der);
                for test in &group.tests {
                    let holds = holds(&group.der, $algorithm(group), &test.msg, &test.sig);
                    tally.add(&format!("{} {}", test.tc_id, test.comment), test.result, holds);
                }
            },
        )
    };
}

fn tally<N: Debug + Copy, G>(
    names: Vec<N>,
    groups: impl Fn(N) -> Vec<G>,
    mut of_group: impl FnMut(&G, &mut Tally),
) -> Vec<(String, Tally)> {
    let of_set = |name: N| {
        let mut tally = Tally::default();
        groups(name).iter().for_each(|group| of_group(group, &mut tally));
        (format!("{name:?}"), tally)
    };
    names.into_iter().map(of_set).collect()
}

#[test]
fn ecdsa_and_ed25519_vectors_end_as_published_or_are_explained() {
    let of_group = |group: &ecdsa::TestGroup| {
        of_hash(
            group.hash,
            [Some(alg_id::ECDSA_SHA256), Some(alg_id::ECDSA_SHA384), Some(alg_id::ECDSA_SHA512)],
        )
    };
    let cases = compared(tally!(ecdsa, of_group));
    assert!(cases > 2000, "{cases} cases of ECDSA");
    let of_group = |_: &eddsa::TestGroup| Some((named(alg_id::ED25519), HashKind::Sha512));
    let cases = compared(tally!(eddsa, of_group));
    assert!(cases > 100, "{cases} cases of EdDSA");
}

#[test]
fn rsa_vectors_end_as_published_or_are_explained() {
    let of_group = |group: &rsa_pkcs1_verify::TestGroup| {
        let ids = [alg_id::RSA_PKCS1_SHA256, alg_id::RSA_PKCS1_SHA384, alg_id::RSA_PKCS1_SHA512];
        of_hash(group.hash, ids.map(Some))
    };
    let cases = compared(tally!(rsa_pkcs1_verify, of_group));
    assert!(cases > 2000, "{cases} cases of PKCS#1");
    let cases = compared(tally!(rsa_pss_verify, pss));
    assert!(cases > 500, "{cases} cases of PSS");
}

/// What a message names that is signed so: the salt's length stands at its end.
fn pss(group: &rsa_pss_verify::TestGroup) -> Option<(AlgorithmIdentifierOwned, HashKind)> {
    if group.mgf_hash != Some(group.hash) {
        return None;
    }
    let ids = [alg_id::RSA_PSS_SHA256, alg_id::RSA_PSS_SHA384, alg_id::RSA_PSS_SHA512];
    let (id, digest) = of_hash(group.hash, ids.map(Some))?;
    let mut der = id.to_der().unwrap();
    *der.last_mut().unwrap() = u8::try_from(group.salt_size).unwrap();
    Some((AlgorithmIdentifierOwned::from_der(&der).unwrap(), digest))
}

/// The mathematics of short keys are the same as of those that we accept, and published with more cases.
#[test]
fn keys_of_2048_bits_are_checked_rightly_although_none_is_accepted() {
    let mut seen = BTreeSet::new();
    for (name, tally) in tally!(rsa_pkcs1_verify, |group: &rsa_pkcs1_verify::TestGroup| {
        let ids = [alg_id::RSA_PKCS1_SHA256, alg_id::RSA_PKCS1_SHA384, alg_id::RSA_PKCS1_SHA512];
        of_hash(group.hash, ids.map(Some))
    }) {
        if tally.weak && tally.refused == 0 {
            assert!(tally.wrong.is_empty(), "{name}: {:?}", tally.wrong);
            seen.insert(name);
        }
    }
    assert!(seen.len() >= 3, "{seen:?}");
}

#[test]
fn every_explanation_is_of_a_set_that_there_is() {
    let names = |names: &[&dyn Debug]| names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>();
    let mut all = Vec::new();
    ecdsa::TestName::all().iter().for_each(|name| all.extend(names(&[name])));
    eddsa::TestName::all().iter().for_each(|name| all.extend(names(&[name])));
    rsa_pkcs1_verify::TestName::all().iter().for_each(|name| all.extend(names(&[name])));
    rsa_pss_verify::TestName::all().iter().for_each(|name| all.extend(names(&[name])));
    for (pattern, reason) in explained() {
        assert!(all.iter().any(|name| fits(pattern, name)), "{pattern}: {reason}");
    }
}

#[test]
fn a_pattern_fits_with_any_letters_for_its_star() {
    for (pattern, name, expected) in [
        ("A", "A", true),
        ("A", "AB", false),
        ("A*", "AB", true),
        ("*B", "AB", true),
        ("A*C*", "AbCd", true),
        ("*X*", "AB", false),
    ] {
        assert_eq!(fits(pattern, name), expected, "{pattern} {name}");
    }
}
