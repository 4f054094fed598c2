//! CMS signatures by openssl, through the port.

use std::num::NonZeroU32;

use ota_core::error::SignatureFault;

use super::{
    openssl::{CA, ED25519, P256, P384, P521, Pki, RSA2048, RSA3072, SIGNER},
    world::{DAY, IMAGE, Keys, STRICT, accepted, cms, config_at, flips, now, read, refused, verify, write},
};
use crate::{EkuPolicy, Keyring, VerifyConfig, X509Policy};

fn with_eku(policy: EkuPolicy) -> VerifyConfig {
    VerifyConfig { x509: X509Policy { extended_key_usage: policy, require_crl: false }, ..config_at(now()) }
}

fn reason_of(pki: &Pki, signature: Vec<u8>) -> (SignatureFault, String) {
    refused(&Keys::of(&[&pki.pem("root")]).verifier_now(), IMAGE, &[cms(signature)])
}

#[test]
fn every_kind_of_key_signs_under_a_root_of_every_kind() {
    let pki = Pki::new();
    pki.root("r1", P256);
    pki.root("r2", ED25519);
    pki.root("r3", RSA3072);
    let pss = ["-keyopt", "rsa_padding_mode:pss", "-keyopt", "rsa_pss_saltlen:-1"];
    let cases: [(&str, &[&str], &str, &[&str]); 8] = [
        ("p256", P256, "r1", &["-md", "sha256"]),
        ("p256b", P256, "r3", &["-md", "sha384"]),
        ("p384", P384, "r2", &["-md", "sha384"]),
        ("p384b", P384, "r1", &["-md", "sha256"]),
        ("rsa", RSA3072, "r2", &["-md", "sha256"]),
        ("rsa", RSA3072, "r2", &["-md", "sha512"]),
        ("rsa", RSA3072, "r2", &[&["-md", "sha256"], &pss[..]].concat()),
        ("rsa", RSA3072, "r2", &[&["-md", "sha384"], &pss[..]].concat()),
    ];
    let keys = Keys::of(&[&pki.pem("r1"), &pki.pem("r2"), &pki.pem("r3")]);
    for (name, key, root, options) in cases {
        if !pki.pem(name).exists() {
            pki.issue(name, key, root, SIGNER);
        }
        let signature = pki.sign_with(&[name], options);
        let names = accepted(&keys.verifier_now(), IMAGE, &[cms(signature)]);
        assert_eq!(names, [format!("CN={name}")], "{options:?}");
    }
}

/// openssl makes CMS with Ed25519 from 3.2 on; Debian 12 has 3.0. The structure is RFC 8419's, the signature openssl's.
#[test]
fn an_ed25519_key_signs_in_the_shape_of_rfc_8419() {
    let pki = Pki::new();
    pki.root("root", ED25519);
    pki.issue("signer", ED25519, "root", SIGNER);
    let verifier = Keys::of(&[&pki.pem("root")]).verifier_now();
    assert_eq!(accepted(&verifier, IMAGE, &[cms(pki.sign_ed25519("signer"))]), ["CN=signer"]);
}

#[test]
fn pem_and_der_of_a_signature_are_the_same() {
    let pki = Pki::with_signer();
    let verifier = Keys::of(&[&pki.pem("root")]).verifier_now();
    let pem = pki.sign_with(&["signer"], &["-outform", "PEM"]);
    assert!(pem.starts_with(b"-----BEGIN CMS-----"));
    accepted(&verifier, IMAGE, &[cms(pem)]);
}

#[test]
fn the_signer_is_named_by_its_certificate() {
    let pki = Pki::with_signer();
    let verifier = Keys::of(&[&pki.pem("root")]).verifier_now();
    let vouched = verify(&verifier, IMAGE, &[cms(pki.sign("signer"))], STRICT).unwrap();
    pki.openssl(&["x509", "-in", "signer.pem", "-noout", "-fingerprint", "-sha256", "-out", "fingerprint"]);
    let text = String::from_utf8(read(&pki.path("fingerprint"))).unwrap();
    let expected = text.trim().split('=').nth(1).unwrap().replace(':', "").to_lowercase();
    assert_eq!(vouched.signers[0].fingerprint, expected);
}

#[test]
fn a_signer_named_by_its_key_id_is_accepted() {
    let pki = Pki::with_signer();
    pki.certify("signer", "signer", "root", &format!("{SIGNER}subjectKeyIdentifier=hash\n"), &[]);
    let signature = pki.sign_with(&["signer"], &["-keyid"]);
    accepted(&Keys::of(&[&pki.pem("root")]).verifier_now(), IMAGE, &[cms(signature)]);
}

#[test]
fn intermediates_in_the_message_lead_to_the_root() {
    let pki = Pki::with_signer();
    pki.issue("middle", P384, "root", CA);
    pki.issue("low", P256, "middle", SIGNER);
    let verifier = Keys::of(&[&pki.pem("root")]).verifier_now();
    accepted(&verifier, IMAGE, &[cms(pki.sign_with(&["low"], &["-certfile", "middle.pem"]))]);
    let (reason, what) = refused(&verifier, IMAGE, &[cms(pki.sign("low"))]);
    assert_eq!(reason, SignatureFault::Untrusted, "{what}");

    let both = [read(&pki.pem("middle")), read(&pki.pem("root"))].concat();
    write(pki.dir(), "both.pem", &both);
    accepted(&verifier, IMAGE, &[cms(pki.sign_with(&["low"], &["-certfile", "both.pem"]))]);

    let directly = Keys::of(&[&pki.pem("middle")]).verifier_now();
    accepted(&directly, IMAGE, &[cms(pki.sign("low"))]);
}

#[test]
fn a_certificate_that_no_signature_needs_is_refused() {
    let pki = Pki::with_signer();
    pki.root("other", P256);
    let (reason, what) = reason_of(&pki, pki.sign_with(&["signer"], &["-certfile", "other.pem"]));
    assert_eq!(reason, SignatureFault::Malformed);
    assert!(what.contains("no signature needs"), "{what}");
}

#[test]
fn a_chain_may_not_be_longer_than_a_ca_allows() {
    let pki = Pki::new();
    pki.root_with("root", P256, &CA.replace("CA:TRUE", "CA:TRUE,pathlen:0"), "30");
    pki.issue("middle", P256, "root", &CA.replace("CA:TRUE", "CA:TRUE,pathlen:0"));
    pki.issue("lower", P256, "middle", CA);
    pki.issue("signer", P256, "lower", SIGNER);
    let chain = [read(&pki.pem("middle")), read(&pki.pem("lower"))].concat();
    write(pki.dir(), "chain.pem", &chain);
    let (reason, what) = reason_of(&pki, pki.sign_with(&["signer"], &["-certfile", "chain.pem"]));
    assert_eq!(reason, SignatureFault::KeyUsage, "{what}");
}

#[test]
fn a_signer_of_another_ca_is_untrusted_also_under_the_same_name() {
    let (pki, foreign) = (Pki::with_signer(), Pki::with_signer());
    let (reason, what) = reason_of(&pki, foreign.sign("signer"));
    assert_eq!((reason, what.contains("CN=signer")), (SignatureFault::Untrusted, true), "{what}");
    let empty = Keys::of(&[]).verifier_now();
    assert_eq!(refused(&empty, IMAGE, &[cms(pki.sign("signer"))]).0, SignatureFault::Untrusted);
}

#[test]
fn a_signature_of_another_image_is_a_mismatch() {
    let pki = Pki::with_signer();
    let verifier = Keys::of(&[&pki.pem("root")]).verifier_now();
    let signature = cms(pki.sign("signer"));
    for (_, image) in flips(IMAGE) {
        assert_eq!(refused(&verifier, &image, std::slice::from_ref(&signature)).0, SignatureFault::Mismatch);
    }
    for image in [&IMAGE[1..], &IMAGE[..IMAGE.len() - 1], &[IMAGE, b"\0"].concat(), b""] {
        assert_eq!(refused(&verifier, image, std::slice::from_ref(&signature)).0, SignatureFault::Mismatch);
    }
}

#[test]
fn every_flipped_byte_of_a_der_signature_is_refused() {
    let pki = Pki::new();
    pki.root("root", ED25519);
    pki.issue("signer", ED25519, "root", SIGNER);
    let verifier = Keys::of(&[&pki.pem("root")]).verifier_now();
    let signature = pki.sign_ed25519("signer");
    accepted(&verifier, IMAGE, &[cms(signature.clone())]);
    for (index, damaged) in flips(&signature) {
        let outcome = verify(&verifier, IMAGE, &[cms(damaged)], STRICT);
        assert!(outcome.is_err(), "byte {index} of {} may be changed", signature.len());
    }
}

/// PEM is a transport encoding. A change that is not refused must decode to the very same DER: what surrounds the
/// message, and which line end is used, is nobody's statement.
#[test]
fn every_flipped_byte_of_a_pem_signature_is_refused_or_means_the_same() {
    let pki = Pki::with_signer();
    let verifier = Keys::of(&[&pki.pem("root")]).verifier_now();
    let signature = pki.sign_with(&["signer"], &["-outform", "PEM"]);
    let (_, der) = der::pem::decode_vec(&signature).unwrap();
    for (index, damaged) in flips(&signature) {
        if verify(&verifier, IMAGE, &[cms(damaged.clone())], STRICT).is_ok() {
            let (_, again) = der::pem::decode_vec(&damaged).unwrap();
            assert_eq!(again, der, "byte {index} may be changed");
        }
    }
}

#[test]
fn a_signature_cut_anywhere_or_continued_is_refused() {
    let pki = Pki::with_signer();
    let verifier = Keys::of(&[&pki.pem("root")]).verifier_now();
    let signature = pki.sign("signer");
    for length in 0..signature.len() {
        assert!(verify(&verifier, IMAGE, &[cms(&signature[..length])], STRICT).is_err(), "cut at {length}");
    }
    let longer = [signature.as_slice(), b"\0"].concat();
    assert_eq!(refused(&verifier, IMAGE, &[cms(longer)]).0, SignatureFault::Malformed);
}

#[test]
fn validity_is_judged_at_the_time_of_the_device_and_the_text_says_which() {
    let pki = Pki::with_signer();
    let keys = Keys::of(&[&pki.pem("root")]);
    let signature = [cms(pki.sign("signer"))];
    let later = keys.verifier(config_at(now() + 11 * DAY));
    let (reason, what) = refused(&later, IMAGE, &signature);
    assert_eq!(reason, SignatureFault::Expired);
    assert!(what.contains("by the clock"), "{what}");
    let earlier = keys.verifier(config_at(now() - DAY));
    assert_eq!(refused(&earlier, IMAGE, &signature).0, SignatureFault::NotYetValid);
}

#[test]
fn a_clock_set_back_does_not_revive_an_expired_signer() {
    let pki = Pki::with_signer();
    let keys = Keys::of(&[&pki.pem("root")]);
    let signature = [cms(pki.sign("signer"))];
    let build =
        VerifyConfig { build_time: ota_core::Timestamp::from_secs(now() + 11 * DAY), ..config_at(now()) };
    let (reason, what) = refused(&keys.verifier(build), IMAGE, &signature);
    assert_eq!((reason, what.contains("the build time")), (SignatureFault::Expired, true), "{what}");
    let floor = ota_core::Timestamp::from_secs(now() + 12 * DAY);
    let stored = VerifyConfig { stored_floor: std::sync::Arc::new(move || Some(floor)), ..config_at(0) };
    let (reason, what) = refused(&keys.verifier(stored), IMAGE, &signature);
    assert_eq!(
        (reason, what.contains("the latest time vouched for")),
        (SignatureFault::Expired, true),
        "{what}"
    );
}

#[test]
fn an_expired_root_is_not_trusted() {
    let pki = Pki::new();
    pki.root_with("root", P256, CA, "2");
    pki.issue("signer", P256, "root", SIGNER);
    let later = Keys::of(&[&pki.pem("root")]).verifier(config_at(now() + 3 * DAY));
    let (reason, what) = refused(&later, IMAGE, &[cms(pki.sign("signer"))]);
    assert_eq!((reason, what.contains("CA CN=root expired")), (SignatureFault::Expired, true), "{what}");
}

#[test]
fn weak_digests_and_keys_are_refused() {
    let pki = Pki::with_signer();
    assert_eq!(
        reason_of(&pki, pki.sign_with(&["signer"], &["-md", "sha1"])).0,
        SignatureFault::WeakAlgorithm
    );
    assert_eq!(
        reason_of(&pki, pki.sign_with(&["signer"], &["-md", "sha224"])).0,
        SignatureFault::WeakAlgorithm
    );
    pki.issue("short", RSA2048, "root", SIGNER);
    let (reason, what) = reason_of(&pki, pki.sign("short"));
    assert_eq!((reason, what.contains("2048 bits")), (SignatureFault::WeakAlgorithm, true), "{what}");
    pki.issue("odd", P521, "root", SIGNER);
    assert_eq!(reason_of(&pki, pki.sign("odd")).0, SignatureFault::WeakAlgorithm);
    pki.issue("long", RSA3072, "root", SIGNER);
    let (reason, what) = reason_of(&pki, pki.sign_with(&["long"], &["-keyopt", "rsa_padding_mode:pss"]));
    assert_eq!((reason, what.contains("saltlen")), (SignatureFault::WeakAlgorithm, true), "{what}");
}

#[test]
fn a_chain_signed_with_sha1_or_by_a_short_key_is_refused() {
    let pki = Pki::with_signer();
    pki.certify("signer", "signer", "root", SIGNER, &["-sha1"]);
    assert_eq!(reason_of(&pki, pki.sign("signer")).0, SignatureFault::WeakAlgorithm);
    pki.issue("middle", RSA2048, "root", CA);
    pki.issue("low", P256, "middle", SIGNER);
    assert_eq!(
        reason_of(&pki, pki.sign_with(&["low"], &["-certfile", "middle.pem"])).0,
        SignatureFault::WeakAlgorithm
    );
}

#[test]
fn a_certificate_must_be_meant_for_signing_code() {
    let pki = Pki::with_signer();
    let mail = SIGNER.replace("codeSigning", "emailProtection");
    let none = SIGNER.replace("extendedKeyUsage=codeSigning\n", "");
    let other_use = SIGNER.replace("digitalSignature", "keyEncipherment");
    let cases = [
        (mail.as_str(), EkuPolicy::CodeSigning, false),
        (&mail, EkuPolicy::CodeSigningIfPresent, false),
        (&mail, EkuPolicy::Any, true),
        (&none, EkuPolicy::CodeSigning, false),
        (&none, EkuPolicy::CodeSigningIfPresent, true),
        (&none, EkuPolicy::Any, true),
        (&other_use, EkuPolicy::Any, false),
        (&SIGNER.replace("FALSE", "TRUE"), EkuPolicy::Any, false),
    ];
    for (extensions, policy, good) in cases {
        pki.certify("signer", "signer", "root", extensions, &[]);
        let signature = [cms(pki.sign_with(&["signer"], &["-nosmimecap"]))];
        let verifier = Keys::of(&[&pki.pem("root")]).verifier(with_eku(policy));
        if good {
            accepted(&verifier, IMAGE, &signature);
        } else {
            assert_eq!(
                refused(&verifier, IMAGE, &signature).0,
                SignatureFault::KeyUsage,
                "{extensions} {policy:?}"
            );
        }
    }
}

#[test]
fn attached_content_missing_attributes_and_missing_signers_are_refused() {
    let pki = Pki::with_signer();
    let (reason, what) = reason_of(&pki, pki.sign_with(&["signer"], &["-nodetach"]));
    assert_eq!((reason, what.contains("attached")), (SignatureFault::Malformed, true), "{what}");
    let (reason, what) = reason_of(&pki, pki.sign_with(&["signer"], &["-noattr"]));
    assert_eq!((reason, what.contains("signed attributes")), (SignatureFault::Malformed, true), "{what}");
    let (reason, what) = reason_of(&pki, pki.sign_with(&["signer"], &["-nocerts"]));
    assert_eq!((reason, what.contains("not in the message")), (SignatureFault::Malformed, true), "{what}");
    let (reason, _) = reason_of(&pki, pki.sign_with(&["signer"], &["-stream", "-indef"]));
    assert_eq!(reason, SignatureFault::Malformed);
    pki.openssl(&["crl2pkcs7", "-nocrl", "-certfile", "signer.pem", "-outform", "DER", "-out", "bare"]);
    let (reason, what) = reason_of(&pki, read(&pki.path("bare")));
    assert_eq!((reason, what.contains("without a signer")), (SignatureFault::Missing, true), "{what}");
    assert_eq!(reason_of(&pki, Vec::new()).0, SignatureFault::Missing);
    assert_eq!(reason_of(&pki, b"not a signature".to_vec()).0, SignatureFault::Malformed);
    assert_eq!(reason_of(&pki, read(&pki.pem("signer"))).0, SignatureFault::Malformed);
}

#[test]
fn signers_are_counted_by_key() {
    let pki = Pki::with_signer();
    pki.issue("second", P384, "root", SIGNER);
    // One key with two certificates is one signer.
    pki.certify("renewed", "signer", "root", SIGNER, &[]);
    std::fs::copy(pki.path("signer.key"), pki.path("renewed.key")).unwrap();
    let two = VerifyConfig { threshold: NonZeroU32::new(2).unwrap(), ..config_at(now()) };
    let verifier = Keys::of(&[&pki.pem("root")]).verifier(two);
    let names = accepted(&verifier, IMAGE, &[cms(pki.sign_with(&["signer", "second"], &[]))]);
    assert_eq!(names.len(), 2);
    assert_eq!(accepted(&verifier, IMAGE, &[cms(pki.sign("signer")), cms(pki.sign("second"))]).len(), 2);
    let once = cms(pki.sign("signer"));
    let (reason, what) = refused(&verifier, IMAGE, &[once.clone(), once.clone()]);
    assert_eq!((reason, what.contains("2 are needed")), (SignatureFault::Threshold, true), "{what}");
    assert_eq!(refused(&verifier, IMAGE, &[once, cms(pki.sign("renewed"))]).0, SignatureFault::Threshold);
}

#[test]
fn of_two_signers_in_one_message_both_must_hold() {
    let pki = Pki::with_signer();
    let mail = SIGNER.replace("codeSigning", "emailProtection");
    pki.issue("second", P256, "root", &mail);
    let (reason, what) = reason_of(&pki, pki.sign_with(&["signer", "second"], &[]));
    assert_eq!(reason, SignatureFault::KeyUsage, "{what}");
    assert!(what.starts_with("signature 1 (cms), signer "), "{what}");
}

#[test]
fn development_keys_count_where_the_configuration_says_so() {
    let pki = Pki::with_signer();
    pki.root("bench", P256);
    pki.issue("dev", P256, "bench", SIGNER);
    let keys = Keys::of(&[&pki.pem("root")]).with_development(&pki.pem("bench"));
    let signature = [cms(pki.sign("dev"))];
    let (reason, what) = refused(&keys.verifier_now(), IMAGE, &signature);
    assert_eq!((reason, what.contains("development key")), (SignatureFault::Untrusted, true), "{what}");
    let bench = VerifyConfig { development_keys: true, ..config_at(now()) };
    accepted(&keys.verifier(bench), IMAGE, &signature);
}

#[test]
fn a_key_folder_that_cannot_be_used_names_the_file() {
    let pki = Pki::with_signer();
    write(pki.dir(), "text.pem", b"hello");
    pki.issue("weak", RSA2048, "root", CA);
    let key = pki.path("root.key");
    std::fs::copy(&key, pki.path("key.pem")).unwrap();
    let cases = [
        ("signer.pem", "not a CA certificate"),
        ("text.pem", "neither PEM nor DER"),
        ("key.pem", "private key"),
        ("weak.pem", "2048 bits"),
    ];
    for (file, text) in cases {
        let error = Keyring::load(Keys::of(&[&pki.path(file)]).path()).expect_err(file).to_string();
        assert!(error.contains(file) && error.contains(text), "{error}");
    }
    let error = Keyring::load(&pki.path("nowhere")).expect_err("no folder").to_string();
    assert!(error.contains("nowhere"), "{error}");
}
