//! One digest for all that a verifier judges by: keys, revocation lists, key list, rules. Not the time.

use super::KeyringVerifier;
use crate::{digest::ContentHasher, policy::KeyRole};

impl KeyringVerifier {
    /// Changes with everything that may change a verdict, but for the time. See `ota_core::ports::ImageVerifier::trust`.
    pub(super) fn mark(&self) -> String {
        let mut hasher = ContentHasher::new([]);
        let mut add = |what: &str, bytes: &[u8]| {
            hasher.update(format!("{what} {}\n", bytes.len()).as_bytes());
            hasher.update(bytes);
        };
        for anchor in self.keyring.anchors() {
            add(role(anchor.role()), anchor.fingerprint().as_bytes());
        }
        for list in self.keyring.crls() {
            add("crl", list.fingerprint().as_bytes());
        }
        for key in self.keyring.openpgp() {
            add(role(key.role()), &key.export());
        }
        add("list", self.key_list.serial().to_string().as_bytes());
        for mark in self.key_list.retired() {
            add("retired", mark.as_bytes());
        }
        let config = &self.config;
        let (threshold, development) = (config.threshold, config.development_keys);
        let rules = format!("{threshold} {development} {:?} {:?}", config.x509, config.model);
        add("rules", rules.as_bytes());
        hasher.finish().sha256.to_string()
    }
}

const fn role(role: KeyRole) -> &'static str {
    match role {
        KeyRole::Release => "release",
        KeyRole::Development => "development",
    }
}
