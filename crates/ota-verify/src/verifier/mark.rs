//! One digest for all that a verifier judges by: keys, revocation lists, key list, rules. Not the time.

use std::collections::BTreeSet;

use super::VerifyConfig;
use crate::{digest::ContentHasher, keylist::KeyList, keyring::Keyring, policy::KeyRole};

/// Changes with everything that may change a verdict, but for the time: with the rules of this program, too. In which order the
/// folder gave them does not count. See `ota_core::ports::ImageVerifier::trust`.
pub(super) fn of(keyring: &Keyring, config: &VerifyConfig, key_list: &KeyList) -> String {
    let mut parts = BTreeSet::new();
    let mut add = |what: &'static str, bytes: &[u8]| parts.insert((what, bytes.to_vec()));
    for anchor in keyring.anchors() {
        add(role(anchor.role()), anchor.fingerprint().as_bytes());
    }
    for list in keyring.crls() {
        add("crl", list.fingerprint().as_bytes());
    }
    for key in keyring.openpgp() {
        add(role(key.role()), &key.export());
    }
    add("list", key_list.serial().to_string().as_bytes());
    for mark in key_list.retired() {
        add("retired", mark.as_bytes());
    }
    let VerifyConfig { threshold, development_keys, x509, model, build_time, .. } = config;
    let rules = format!("{} {threshold} {development_keys} {x509:?} {model:?}", build_time.as_secs());
    add("rules", rules.as_bytes());
    let mut hasher = ContentHasher::new([]);
    for (what, bytes) in parts {
        hasher.update(format!("{what} {}\n", bytes.len()).as_bytes());
        hasher.update(&bytes);
    }
    hasher.finish().sha256.to_string()
}

const fn role(role: KeyRole) -> &'static str {
    match role {
        KeyRole::Release => "release",
        KeyRole::Development => "development",
    }
}
