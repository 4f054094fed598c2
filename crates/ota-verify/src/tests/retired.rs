//! Keys that are taken back: revocation lists for X.509, the signed key list for all.

use ota_core::{Timestamp, error::SignatureFault};

use super::{
    gpg::Gpg,
    openssl::{CA, P256, Pki, SIGNER},
    world::{DAY, IMAGE, Keys, STRICT, accepted, cms, config_at, now, pgp, read, refused, verify, write},
};
use crate::{KeyList, Keyring, KeyringVerifier, VerifyConfig, X509Policy, digest::HashKind};

fn with_crl_required(secs: i64) -> VerifyConfig {
    VerifyConfig { x509: X509Policy { require_crl: true, ..X509Policy::default() }, ..config_at(secs) }
}

#[test]
fn a_revocation_list_takes_a_signer_back() {
    let pki = Pki::with_signer();
    let signature = [cms(pki.sign("signer"))];
    let nobody = Keys::of(&[&pki.pem("root"), &pki.revoke("root", &[])]);
    accepted(&nobody.verifier_now(), IMAGE, &signature);
    let keys = Keys::of(&[&pki.pem("root"), &pki.revoke("root", &["signer"])]);
    let (reason, what) = refused(&keys.verifier_now(), IMAGE, &signature);
    assert_eq!((reason, what.contains("CN=signer")), (SignatureFault::Revoked, true), "{what}");
}

#[test]
fn a_revocation_list_takes_an_intermediate_ca_back() {
    let pki = Pki::with_signer();
    pki.issue("middle", P256, "root", CA);
    pki.issue("low", P256, "middle", SIGNER);
    let signature = [cms(pki.sign_with(&["low"], &["-certfile", "middle.pem"]))];
    let keys = Keys::of(&[&pki.pem("root"), &pki.revoke("root", &["middle"])]);
    assert_eq!(refused(&keys.verifier_now(), IMAGE, &signature).0, SignatureFault::Revoked);
}

#[test]
fn a_revocation_list_in_der_counts_too_and_a_damaged_one_is_named() {
    let pki = Pki::with_signer();
    pki.revoke("root", &["signer"]);
    pki.openssl(&["crl", "-in", "root.crl", "-outform", "DER", "-out", "der.crl"]);
    let keys = Keys::of(&[&pki.pem("root"), &pki.path("der.crl")]);
    assert_eq!(refused(&keys.verifier_now(), IMAGE, &[cms(pki.sign("signer"))]).0, SignatureFault::Revoked);
    let mut damaged = read(&pki.path("der.crl"));
    damaged.truncate(100);
    let path = write(pki.dir(), "damaged.crl", &damaged);
    let error = Keyring::load(Keys::of(&[&path]).path()).expect_err("damaged").to_string();
    assert!(error.contains("damaged.crl"), "{error}");
}

#[test]
fn a_revocation_list_that_another_ca_signed_does_not_count_as_one() {
    let (pki, foreign) = (Pki::with_signer(), Pki::with_signer());
    let keys = Keys::of(&[&pki.pem("root"), &foreign.revoke("root", &[])]);
    assert!(verify(&keys.verifier_now(), IMAGE, &[cms(pki.sign("signer"))], STRICT).is_err());
}

#[test]
fn where_a_revocation_list_is_required_a_missing_or_expired_one_refuses() {
    let pki = Pki::with_signer();
    let signature = [cms(pki.sign("signer"))];
    let without = Keys::of(&[&pki.pem("root")]);
    assert_eq!(
        refused(&without.verifier(with_crl_required(now())), IMAGE, &signature).0,
        SignatureFault::Revoked
    );
    let keys = Keys::of(&[&pki.pem("root"), &pki.revoke("root", &[])]);
    accepted(&keys.verifier(with_crl_required(now())), IMAGE, &signature);
    accepted(&keys.verifier(config_at(now() + 6 * DAY)), IMAGE, &signature);
    let (reason, what) = refused(&keys.verifier(with_crl_required(now() + 6 * DAY)), IMAGE, &signature);
    assert_eq!((reason, what.contains("by the clock")), (SignatureFault::Revoked, true), "{what}");
}

fn list(serial: u64, marks: &[&str]) -> String {
    let retired: String = marks.iter().map(|mark| format!("retire {mark}\n")).collect();
    format!("ota-key-list 1\nserial {serial}\nissued 2025-03-10T14:30:00Z\n{retired}")
}

/// A home with the keys `old` and `new`, both trusted.
fn old_and_new() -> (Gpg, Keys) {
    let gpg = Gpg::new();
    gpg.key("old", "ed25519", "sign", "2y");
    gpg.key("new", "ed25519", "sign", "2y");
    let keys = Keys::of(&[&gpg.export("old"), &gpg.export("new")]);
    (gpg, keys)
}

fn sign_list(gpg: &Gpg, text: &str, name: &str) -> Vec<u8> {
    write(gpg.dir(), "list", text.as_bytes());
    gpg.gpg(&["--local-user", name, "--output", "list.sig", "--detach-sign", "list"]);
    read(&gpg.dir().join("list.sig"))
}

#[test]
fn a_signed_key_list_retires_a_key() {
    let (gpg, keys) = old_and_new();
    let by_old = [pgp(gpg.sign("old"))];
    accepted(&keys.verifier_now(), IMAGE, &by_old);
    let text = list(2, &[&gpg.fingerprint("old").to_lowercase()]);
    let signature = sign_list(&gpg, &text, "new");
    let verifier = keys.verifier_now();
    let accepted_list = verifier.accept_key_list(text.as_bytes(), &[pgp(signature)], 1).unwrap();
    let verifier = verifier.with_key_list(accepted_list);
    let (reason, what) = refused(&verifier, IMAGE, &by_old);
    assert_eq!((reason, what.contains("retired by the key list")), (SignatureFault::Revoked, true), "{what}");
    accepted(&verifier, IMAGE, &[pgp(gpg.sign("new"))]);
}

#[test]
fn a_signed_key_list_retires_certificates_and_public_keys() {
    let (gpg, pki) = (Gpg::with_signer("ed25519"), Pki::with_signer());
    let keys = Keys::of(&[&gpg.export("signer"), &pki.pem("root")]);
    pki.openssl(&["x509", "-in", "root.pem", "-outform", "DER", "-out", "root.der"]);
    pki.openssl(&["pkey", "-in", "signer.key", "-pubout", "-outform", "DER", "-out", "public.der"]);
    for file in ["root.der", "public.der"] {
        let text = list(1, &[&hex::encode(HashKind::Sha256.of(&read(&pki.path(file))))]);
        let signature = sign_list(&gpg, &text, "signer");
        let verifier = keys.verifier_now();
        let accepted_list = verifier.accept_key_list(text.as_bytes(), &[pgp(signature)], 0).unwrap();
        let verifier = verifier.with_key_list(accepted_list);
        assert_eq!(
            refused(&verifier, IMAGE, &[cms(pki.sign("signer"))]).0,
            SignatureFault::Revoked,
            "{file}"
        );
    }
}

fn reason_of_list(verifier: &KeyringVerifier, text: &str, signature: &[u8], floor: u64) -> SignatureFault {
    verifier.accept_key_list(text.as_bytes(), &[pgp(signature)], floor).expect_err("must be refused").reason
}

#[test]
fn a_key_list_that_is_unsigned_changed_old_or_signed_by_a_retired_key_is_refused() {
    let (gpg, keys) = old_and_new();
    let verifier = keys.verifier_now();
    let text = list(5, &[&gpg.fingerprint("old").to_lowercase()]);
    let unsigned = verifier.accept_key_list(text.as_bytes(), &[], 0).expect_err("unsigned").reason;
    assert_eq!(unsigned, SignatureFault::Missing);
    let by_new = sign_list(&gpg, &text, "new");
    assert_eq!(reason_of_list(&verifier, &list(6, &[]), &by_new, 0), SignatureFault::Mismatch);
    assert_eq!(reason_of_list(&verifier, &text, &by_new, 6), SignatureFault::MetadataRollback);
    let by_old = sign_list(&gpg, &text, "old");
    assert_eq!(reason_of_list(&verifier, &text, &by_old, 0), SignatureFault::Revoked);

    let verifier = verifier.with_key_list(KeyList::parse(text.as_bytes()).unwrap());
    let empty = list(6, &[]);
    assert_eq!(
        reason_of_list(&verifier, &empty, &sign_list(&gpg, &empty, "old"), 0),
        SignatureFault::Revoked
    );
    let stale = list(4, &[]);
    assert_eq!(
        reason_of_list(&verifier, &stale, &sign_list(&gpg, &stale, "new"), 0),
        SignatureFault::MetadataRollback
    );
}

#[test]
fn a_key_list_is_loaded_from_a_file_with_its_signature_beside_it() {
    let (gpg, keys) = old_and_new();
    let verifier = keys.verifier_now();
    let path = gpg.dir().join("list");
    assert_eq!(verifier.load_key_list(&path, 0).unwrap(), None);
    sign_list(&gpg, &list(3, &[]), "new");
    let loaded = verifier.load_key_list(&path, 0).unwrap().unwrap();
    assert_eq!((loaded.serial(), loaded.issued()), (3, Timestamp::from_secs(1_741_617_000)));
    let error = verifier.load_key_list(&path, 4).expect_err("older").to_string();
    assert!(error.contains("/list: key list 3 is older than 4"), "{error}");
}
