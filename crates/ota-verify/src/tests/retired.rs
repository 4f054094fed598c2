//! Keys that are taken back: revocation lists for X.509, the signed key list for all.

use std::collections::BTreeSet;

use ota_core::{Timestamp, error::SignatureFault, ports::ImageVerifier as _};

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

/// A list names its CA, not the key of it. A CA whose key was renewed may take back with the new key what it signed with the old
/// one, and that looks like two CAs of one name: so the newest list of the name must be signed with the key of the chain, else it
/// is refused. See docs/security.md.
#[test]
fn of_two_cas_of_one_name_the_one_without_the_newest_list_is_refused() {
    let (one, two) = (Pki::with_signer(), Pki::with_signer());
    let later = now() + 5 * DAY;
    let roots = [read(&one.pem("root")), read(&two.pem("root"))];
    let lists = [
        read(&one.list("root", &[], "01", now() - DAY..later)),
        read(&two.list("root", &[], "01", now()..later)),
    ];
    let signatures = [[cms(one.sign("signer"))], [cms(two.sign("signer"))]];
    let both: [(&str, &[u8]); 2] = [("one.pem", &roots[0]), ("two.pem", &roots[1])];
    let without = Keys::named(&both).verifier_now();
    for signature in &signatures {
        accepted(&without, IMAGE, signature);
    }
    for names in [["one.crl", "two.crl"], ["two.crl", "one.crl"]] {
        let listed: [(&str, &[u8]); 2] = [(names[0], &lists[0]), (names[1], &lists[1])];
        let with = Keys::named(&[both, listed].concat()).verifier_now();
        accepted(&with, IMAGE, &signatures[1]);
        assert!(verify(&with, IMAGE, &signatures[0], STRICT).is_err());
    }
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

/// Key folders with the root and two lists of it, under names in this order and in the other.
fn in_both_orders(pki: &Pki, lists: [&[u8]; 2]) -> [Keys; 2] {
    let root = read(&pki.pem("root"));
    let [one, two] = lists;
    [(one, two), (two, one)]
        .map(|(first, last)| Keys::named(&[("root.pem", &root), ("ca-1.crl", first), ("ca-2.crl", last)]))
}

#[test]
fn of_two_revocation_lists_of_one_ca_the_newer_one_counts_whatever_they_are_called() {
    let pki = Pki::with_signer();
    let signature = [cms(pki.sign("signer"))];
    let later = now() + 5 * DAY;
    for (old, new) in [((now() - 2 * DAY, "02"), (now() - DAY, "01")), ((now(), "09"), (now(), "0100"))] {
        let nobody = |(made, number): (i64, &str)| read(&pki.list("root", &[], number, made..later));
        let signer = |(made, number): (i64, &str)| read(&pki.list("root", &["signer"], number, made..later));
        for keys in in_both_orders(&pki, [&nobody(old), &signer(new)]) {
            assert_eq!(refused(&keys.verifier_now(), IMAGE, &signature).0, SignatureFault::Revoked);
        }
        // Taken off hold: the older list says nothing any more.
        for keys in in_both_orders(&pki, [&signer(old), &nobody(new)]) {
            accepted(&keys.verifier_now(), IMAGE, &signature);
        }
    }
}

#[test]
fn an_expired_revocation_list_does_not_stand_in_the_way_of_a_current_one_of_its_ca() {
    let pki = Pki::with_signer();
    let signature = [cms(pki.sign("signer"))];
    let expired = read(&pki.list("root", &[], "01", now() - 9 * DAY..now() - 4 * DAY));
    let current = read(&pki.list("root", &[], "02", now()..now() + 5 * DAY));
    for keys in in_both_orders(&pki, [&expired, &current]) {
        accepted(&keys.verifier(with_crl_required(now())), IMAGE, &signature);
    }
}

/// Key folders with two exports, under names in this order and in the other.
fn exports_in_both_orders(one: &[u8], two: &[u8]) -> [Keys; 2] {
    [(one, two), (two, one)].map(|(first, last)| Keys::named(&[("a.asc", first), ("b.asc", last)]))
}

#[test]
fn a_revocation_in_any_export_of_a_key_counts_whatever_the_files_are_called() {
    let gpg = Gpg::with_signer("ed25519");
    gpg.gpg(&["--quick-add-key", &gpg.fingerprint("signer"), "nistp256/ecdsa", "sign", "1y"]);
    let by_primary = [pgp(gpg.sign_with(&format!("{}!", gpg.fingerprint("signer")), &[]))];
    let by_subkey = [pgp(gpg.sign("signer"))];
    let export = || read(&gpg.export("signer"));
    let old = export();
    gpg.edit("signer", "key 1\nrevkey\ny\n0\n\ny\nsave\n");
    let without_subkey = export();
    gpg.revoke("signer");
    let revoked = export();
    for keys in exports_in_both_orders(&old, &without_subkey) {
        accepted(&keys.verifier_now(), IMAGE, &by_primary);
        assert_eq!(refused(&keys.verifier_now(), IMAGE, &by_subkey).0, SignatureFault::Revoked);
    }
    for keys in exports_in_both_orders(&old, &revoked) {
        assert_eq!(refused(&keys.verifier_now(), IMAGE, &by_primary).0, SignatureFault::Revoked);
    }
    // One among the development keys takes a release key back, too.
    let release = Keys::named(&[("a.asc", &old)]).with_development(&write(gpg.dir(), "b.asc", &revoked));
    assert_eq!(refused(&release.verifier_now(), IMAGE, &by_primary).0, SignatureFault::Revoked);
}

#[test]
fn exports_of_one_key_are_one_key_with_the_newest_expiry_and_all_sub_keys() {
    let gpg = Gpg::with_signer("ed25519");
    let old = read(&gpg.export("signer"));
    let by_primary = pgp(gpg.sign("signer"));
    gpg.gpg(&["--quick-add-key", &gpg.fingerprint("signer"), "nistp256/ecdsa", "sign", "1y"]);
    let by_subkey = pgp(gpg.sign("signer"));
    let tomorrow = format!("{}!", now() + DAY);
    gpg.gpg(&["--faked-system-time", &tomorrow, "--quick-set-expire", &gpg.fingerprint("signer"), "5y"]);
    let renewed = read(&gpg.export("signer"));
    for keys in exports_in_both_orders(&old, &renewed) {
        assert_eq!(Keyring::load(keys.path()).unwrap().openpgp().len(), 1);
        let later = config_at(now() + 3 * 365 * DAY);
        accepted(&keys.verifier(later), IMAGE, std::slice::from_ref(&by_primary));
        accepted(&keys.verifier_now(), IMAGE, std::slice::from_ref(&by_subkey));
        let two = VerifyConfig { threshold: std::num::NonZeroU32::new(2).unwrap(), ..config_at(now()) };
        let both = [by_primary.clone(), by_subkey.clone()];
        assert_eq!(refused(&keys.verifier(two), IMAGE, &both).0, SignatureFault::Threshold);
    }
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

#[test]
fn whatever_may_change_a_verdict_changes_the_mark_of_what_is_trusted_and_nothing_else_does() {
    let (gpg, pki) = (Gpg::with_signer("ed25519"), Pki::with_signer());
    let (root, key) = (read(&pki.pem("root")), read(&gpg.export("signer")));
    let list = read(&pki.revoke("root", &[]));
    let mark = |files: &[(&str, &[u8])], config: VerifyConfig| {
        KeyringVerifier::new(Keyring::load(Keys::named(files).path()).unwrap(), config).trust()
    };
    let all: [(&str, &[u8]); 3] = [("a.pem", &root), ("b.asc", &key), ("c.crl", &list)];
    let today = mark(&all, config_at(now()));
    let renamed: [(&str, &[u8]); 3] = [("c.pem", &root), ("b.gpg", &key), ("a.crl", &list)];
    assert_eq!(mark(&renamed, config_at(now() + DAY)), today, "neither names nor the time count");
    let newer = read(&pki.revoke("root", &["signer"]));
    gpg.revoke("signer");
    let revoked = read(&gpg.export("signer"));
    let strict = |change: fn(&mut VerifyConfig)| {
        let mut config = config_at(now());
        change(&mut config);
        mark(&all, config)
    };
    let others = [
        mark(&all[1..], config_at(now())),
        mark(&[all[0], all[1], ("c.crl", &newer)], config_at(now())),
        mark(&[all[0], ("b.asc", &revoked), all[2]], config_at(now())),
        strict(|config| config.threshold = std::num::NonZeroU32::new(2).unwrap()),
        strict(|config| config.development_keys = true),
        // Another program may judge by other rules.
        strict(|config| config.build_time = Timestamp::from_secs(1)),
        strict(|config| config.x509.require_crl = true),
        strict(|config| config.model = Some("IGW-5000".into())),
    ];
    assert!(others.iter().all(|other| *other != today), "{others:?}");
    let verifier = Keys::named(&all).verifier_now();
    let retiring = KeyList::parse(b"ota-key-list 1\nserial 1\nissued 2025-03-10T14:30:00Z\n").unwrap();
    assert_ne!(verifier.with_key_list(retiring).trust(), today);
    let keys = Keys::named(&[("a.pem", &root)]);
    let vouched = verify(&keys.verifier_now(), IMAGE, &[cms(pki.sign("signer"))], STRICT).unwrap();
    assert_eq!(vouched.trust, keys.verifier_now().trust());
}

#[test]
fn a_key_whose_signing_sub_key_is_retired_is_told_as_retired() {
    let gpg = Gpg::new();
    gpg.key("signer", "ed25519", "cert", "2y");
    gpg.gpg(&["--quick-add-key", &gpg.fingerprint("signer"), "ed25519", "sign", "1y"]);
    let verifier = Keys::of(&[&gpg.export("signer")]).verifier_now();
    let signature = pgp(gpg.sign("signer"));
    let key = &verifier.keyring().openpgp()[0];
    let moment = verifier.config().moment();
    assert_eq!(key.usable(moment, &BTreeSet::new()).unwrap(), "usable");
    let subkeys = gpg.gpg(&["--with-colons", "--with-subkey-fingerprint", "--list-keys", "signer"]);
    let subkeys = String::from_utf8(subkeys).unwrap();
    let subkey = subkeys.lines().filter(|line| line.starts_with("fpr:")).nth(1).unwrap();
    let subkey = subkey.split(':').nth(9).unwrap().to_lowercase();
    let retired = BTreeSet::from([subkey.clone()]);
    let refusal = key.usable(moment, &retired).unwrap_err();
    assert!(refusal.reason == SignatureFault::Revoked && refusal.what.contains(&subkey), "{refusal}");
    let list = KeyList::parse(list(1, &[&subkey]).as_bytes()).unwrap();
    let verifier = verifier.with_key_list(list);
    assert_eq!(refused(&verifier, IMAGE, &[signature]).0, SignatureFault::Revoked);

    gpg.gpg(&["--quick-add-key", &gpg.fingerprint("signer"), "ed25519", "sign", "1y"]);
    let verifier = Keys::of(&[&gpg.export("signer")]).verifier_now();
    // The new one may be of a later second.
    let moment = verifier.config().moment();
    let usable = verifier.keyring().openpgp()[0].usable(moment, &retired).unwrap();
    assert!(usable.contains("but not its sub-key") && usable.contains(&subkey), "{usable}");
}
