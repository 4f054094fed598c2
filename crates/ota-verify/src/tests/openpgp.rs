//! `OpenPGP` signatures by gpg, through the port.

use std::num::NonZeroU32;

use ota_core::error::SignatureFault;
use pgp::armor::Dearmor;

use super::{
    gpg::Gpg,
    openssl::Pki,
    world::{DAY, IMAGE, Keys, STRICT, accepted, cms, config_at, flips, now, pgp, refused, verify, write},
};
use crate::{Keyring, VerifyConfig};

fn keys_of(gpg: &Gpg) -> Keys {
    Keys::of(&[&gpg.export("signer")])
}

#[test]
fn every_kind_of_key_signs_armoured_and_binary() {
    let gpg = Gpg::new();
    for algorithm in ["ed25519", "nistp256", "nistp384", "rsa3072", "rsa4096"] {
        gpg.key(algorithm, algorithm, "sign", "2y");
        let verifier = Keys::of(&[&gpg.export(algorithm)]).verifier_now();
        for options in [
            &["--digest-algo", "SHA256"][..],
            &["--digest-algo", "SHA384"],
            &["--armor", "--digest-algo", "SHA512"],
        ] {
            if algorithm == "nistp384" && options.contains(&"SHA256") {
                continue; // gpg wants a digest as long as the curve
            }
            let signature = pgp(gpg.sign_with(algorithm, options));
            assert_eq!(
                accepted(&verifier, IMAGE, &[signature]),
                [format!("{algorithm} <{algorithm}@example.org>")]
            );
        }
    }
}

#[test]
fn the_signer_is_named_by_the_fingerprint_of_its_primary_key() {
    let gpg = Gpg::with_signer("ed25519");
    let vouched = verify(&keys_of(&gpg).verifier_now(), IMAGE, &[pgp(gpg.sign("signer"))], STRICT).unwrap();
    assert_eq!(vouched.signers[0].fingerprint, gpg.fingerprint("signer").to_lowercase());
}

#[test]
fn a_binary_export_is_a_key_file_too() {
    let gpg = Gpg::with_signer("ed25519");
    let path = write(gpg.dir(), "signer.gpg", &gpg.gpg(&["--export", "signer"]));
    accepted(&Keys::of(&[&path]).verifier_now(), IMAGE, &[pgp(gpg.sign("signer"))]);
}

#[test]
fn a_signing_sub_key_signs_in_the_name_of_its_primary_key() {
    let gpg = Gpg::new();
    gpg.key("signer", "ed25519", "cert", "2y");
    gpg.gpg(&["--quick-add-key", &gpg.fingerprint("signer"), "rsa3072", "sign", "1y"]);
    let signature = [pgp(gpg.sign("signer"))];
    let vouched = verify(&keys_of(&gpg).verifier_now(), IMAGE, &signature, STRICT).unwrap();
    assert_eq!(vouched.signers[0].fingerprint, gpg.fingerprint("signer").to_lowercase());

    let after_the_sub_key = keys_of(&gpg).verifier(config_at(now() + 400 * DAY));
    let (reason, what) = refused(&after_the_sub_key, IMAGE, &signature);
    assert_eq!((reason, what.contains("sub-key expired")), (SignatureFault::Expired, true), "{what}");

    gpg.edit("signer", "key 1\nrevkey\ny\n0\n\ny\nsave\n");
    let (reason, what) = refused(&keys_of(&gpg).verifier_now(), IMAGE, &signature);
    assert_eq!((reason, what.contains("sub-key")), (SignatureFault::Revoked, true), "{what}");
}

#[test]
fn two_sub_keys_of_one_primary_key_are_one_signer() {
    let gpg = Gpg::new();
    gpg.key("signer", "ed25519", "sign", "2y");
    gpg.gpg(&["--quick-add-key", &gpg.fingerprint("signer"), "ed25519", "sign", "1y"]);
    let by_primary = gpg.sign_with(&format!("{}!", gpg.fingerprint("signer")), &[]);
    let by_sub_key = gpg.sign("signer");
    assert_ne!(by_primary[..40], by_sub_key[..40], "two keys must have signed");
    let two = VerifyConfig { threshold: NonZeroU32::new(2).unwrap(), ..config_at(now()) };
    let verifier = keys_of(&gpg).verifier(two);
    assert_eq!(refused(&verifier, IMAGE, &[pgp(by_primary), pgp(by_sub_key)]).0, SignatureFault::Threshold);
}

#[test]
fn a_key_of_each_kind_together_make_two_signers() {
    let (gpg, pki) = (Gpg::with_signer("ed25519"), Pki::with_signer());
    let two = VerifyConfig { threshold: NonZeroU32::new(2).unwrap(), ..config_at(now()) };
    let verifier = Keys::of(&[&gpg.export("signer"), &pki.pem("root")]).verifier(two);
    let signatures = [pgp(gpg.sign("signer")), cms(pki.sign("signer"))];
    assert_eq!(accepted(&verifier, IMAGE, &signatures).len(), 2);
    assert_eq!(refused(&verifier, IMAGE, &signatures[..1]).0, SignatureFault::Threshold);
}

#[test]
fn several_signatures_in_one_file_are_several_signers() {
    let gpg = Gpg::with_signer("ed25519");
    gpg.key("second", "nistp256", "sign", "2y");
    let both = [gpg.sign("signer"), gpg.sign("second")].concat();
    let verifier = Keys::of(&[&gpg.export("signer"), &gpg.export("second")]).verifier_now();
    assert_eq!(accepted(&verifier, IMAGE, &[pgp(both.clone())]).len(), 2);
    assert_eq!(refused(&keys_of(&gpg).verifier_now(), IMAGE, &[pgp(both)]).0, SignatureFault::Untrusted);
}

#[test]
fn a_key_that_is_not_in_the_folder_is_untrusted() {
    let (gpg, foreign) = (Gpg::with_signer("ed25519"), Gpg::with_signer("ed25519"));
    let (reason, what) = refused(&keys_of(&gpg).verifier_now(), IMAGE, &[pgp(foreign.sign("signer"))]);
    assert_eq!(reason, SignatureFault::Untrusted);
    assert!(what.contains(&foreign.fingerprint("signer").to_lowercase()), "{what}");
}

#[test]
fn a_signature_of_another_image_is_a_mismatch() {
    let gpg = Gpg::with_signer("ed25519");
    let verifier = keys_of(&gpg).verifier_now();
    let signature = [pgp(gpg.sign("signer"))];
    for (_, image) in flips(IMAGE) {
        assert_eq!(refused(&verifier, &image, &signature).0, SignatureFault::Mismatch);
    }
    for image in [&IMAGE[1..], &IMAGE[..IMAGE.len() - 1], &[IMAGE, b"\0"].concat(), b""] {
        assert_eq!(refused(&verifier, image, &signature).0, SignatureFault::Mismatch);
    }
}

#[test]
fn every_flipped_byte_of_a_binary_signature_is_refused() {
    let gpg = Gpg::with_signer("ed25519");
    gpg.key("second", "nistp256", "sign", "2y");
    let verifier = Keys::of(&[&gpg.export("signer"), &gpg.export("second")]).verifier_now();
    for name in ["signer", "second"] {
        let signature = gpg.sign(name);
        accepted(&verifier, IMAGE, &[pgp(signature.clone())]);
        for (index, damaged) in flips(&signature) {
            let outcome = verify(&verifier, IMAGE, &[pgp(damaged)], STRICT);
            assert!(outcome.is_err(), "byte {index} of {} may be changed", signature.len());
        }
    }
}

/// Armour is a transport encoding. A change that is not refused must decode to the very same packet: comment lines and
/// line ends are nobody's statement.
#[test]
fn every_flipped_byte_of_an_armoured_signature_is_refused_or_means_the_same() {
    let gpg = Gpg::with_signer("ed25519");
    let verifier = keys_of(&gpg).verifier_now();
    let signature = gpg.sign_with("signer", &["--armor", "--comment", "made by a test"]);
    let dearmor = |text: &[u8]| {
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut Dearmor::new(text), &mut bytes).map(|_| bytes)
    };
    let packet = dearmor(&signature).unwrap();
    for (index, damaged) in flips(&signature) {
        if verify(&verifier, IMAGE, &[pgp(damaged.clone())], STRICT).is_ok() {
            assert_eq!(dearmor(damaged.trim_ascii()).unwrap(), packet, "byte {index} may be changed");
        }
    }
}

#[test]
fn a_signature_cut_anywhere_or_continued_is_refused() {
    let gpg = Gpg::with_signer("ed25519");
    let verifier = keys_of(&gpg).verifier_now();
    let signature = gpg.sign("signer");
    for length in 0..signature.len() {
        assert!(verify(&verifier, IMAGE, &[pgp(&signature[..length])], STRICT).is_err(), "cut at {length}");
    }
    for tail in [&b"\0"[..], b"\x88", &signature[..20], b"\xca\x03PGP"] {
        let longer = [signature.as_slice(), tail].concat();
        assert_eq!(refused(&verifier, IMAGE, &[pgp(longer)]).0, SignatureFault::Malformed);
    }
    let armoured = gpg.sign_with("signer", &["--armor"]);
    let longer = [armoured.as_slice(), b"and more\n"].concat();
    assert_eq!(refused(&verifier, IMAGE, &[pgp(longer)]).0, SignatureFault::Malformed);
    assert_eq!(refused(&verifier, IMAGE, &[pgp(armoured.repeat(2))]).0, SignatureFault::Malformed);
}

#[test]
fn validity_is_judged_at_the_time_of_the_device() {
    let gpg = Gpg::with_signer("ed25519");
    let keys = keys_of(&gpg);
    let signature = [pgp(gpg.sign("signer"))];
    let (reason, what) = refused(&keys.verifier(config_at(now() + 3 * 365 * DAY)), IMAGE, &signature);
    assert_eq!((reason, what.contains("key expired at")), (SignatureFault::Expired, true), "{what}");
    let (reason, what) = refused(&keys.verifier(config_at(now() - DAY)), IMAGE, &signature);
    assert_eq!((reason, what.contains("the key is of ")), (SignatureFault::NotYetValid, true), "{what}");
    let brief = [pgp(gpg.sign_with("signer", &["--default-sig-expire", "5d"]))];
    accepted(&keys.verifier(config_at(now() + 4 * DAY)), IMAGE, &brief);
    let (reason, what) = refused(&keys.verifier(config_at(now() + 6 * DAY)), IMAGE, &brief);
    assert_eq!((reason, what.contains("expired at")), (SignatureFault::Expired, true), "{what}");
}

#[test]
fn a_signature_of_the_future_is_not_yet_valid() {
    let gpg = Gpg::with_signer("ed25519");
    let keys = keys_of(&gpg);
    let tomorrow = format!("{}!", now() + DAY);
    let signature = [pgp(gpg.sign_with("signer", &["--faked-system-time", &tomorrow]))];
    assert_eq!(refused(&keys.verifier_now(), IMAGE, &signature).0, SignatureFault::NotYetValid);
    accepted(&keys.verifier(config_at(now() + 2 * DAY)), IMAGE, &signature);
}

#[test]
fn an_expiry_that_was_moved_counts_as_moved() {
    let gpg = Gpg::with_signer("ed25519");
    let signature = [pgp(gpg.sign("signer"))];
    let later = || config_at(now() + 3 * 365 * DAY);
    refused(&keys_of(&gpg).verifier(later()), IMAGE, &signature);
    gpg.gpg(&[
        "--faked-system-time",
        &format!("{}!", now() + DAY),
        "--quick-set-expire",
        &gpg.fingerprint("signer"),
        "5y",
    ]);
    accepted(&keys_of(&gpg).verifier(later()), IMAGE, &signature);
}

#[test]
fn a_revoked_key_is_refused() {
    let gpg = Gpg::with_signer("ed25519");
    let signature = [pgp(gpg.sign("signer"))];
    accepted(&keys_of(&gpg).verifier_now(), IMAGE, &signature);
    gpg.revoke("signer");
    let (reason, what) = refused(&keys_of(&gpg).verifier_now(), IMAGE, &signature);
    assert_eq!((reason, what.contains("was revoked")), (SignatureFault::Revoked, true), "{what}");
}

#[test]
fn weak_digests_keys_and_other_types_are_refused() {
    let gpg = Gpg::with_signer("ed25519");
    gpg.key("rsa", "rsa3072", "sign", "2y");
    let verifier = Keys::of(&[&gpg.export("signer"), &gpg.export("rsa")]).verifier_now();
    for options in [&["--digest-algo", "SHA1"][..], &["--digest-algo", "SHA224"]] {
        let signature = [pgp(gpg.sign_with("rsa", options))];
        assert_eq!(refused(&verifier, IMAGE, &signature).0, SignatureFault::WeakAlgorithm, "{options:?}");
    }
    let text = [pgp(gpg.sign_with("signer", &["--textmode"]))];
    let (reason, what) = refused(&verifier, IMAGE, &text);
    assert_eq!((reason, what.contains("type Text")), (SignatureFault::Malformed, true), "{what}");
    gpg.gpg(&["--output", "attached", "--sign", "image"]);
    let attached = [pgp(super::world::read(&gpg.dir().join("attached")))];
    assert_eq!(refused(&verifier, IMAGE, &attached).0, SignatureFault::Malformed);
}

#[test]
fn a_key_file_that_cannot_be_used_names_the_file() {
    let gpg = Gpg::with_signer("rsa2048");
    let private = gpg.gpg(&["--armor", "--export-secret-keys", "signer"]);
    write(gpg.dir(), "private.asc", &private);
    write(gpg.dir(), "binary.gpg", &gpg.gpg(&["--export-secret-keys", "signer"]));
    write(gpg.dir(), "text.asc", b"hello");
    write(gpg.dir(), "signature.asc", &gpg.sign_with("signer", &["--armor"]));
    gpg.export("signer");
    let cases = [
        ("private.asc", "private key"),
        ("binary.gpg", "private key"),
        ("text.asc", "neither armoured nor binary"),
        ("signature.asc", "PGP SIGNATURE"),
        ("signer.asc", "2048 bits"),
    ];
    for (file, text) in cases {
        let error = Keyring::load(Keys::of(&[&gpg.dir().join(file)]).path()).expect_err(file).to_string();
        assert!(error.contains(file) && error.contains(text), "{error}");
    }
}
