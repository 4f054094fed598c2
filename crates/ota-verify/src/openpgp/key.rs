//! `OpenPGP` keys that the device is told to trust.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use ota_core::error::SignatureFault;
use pgp::{
    armor::BlockType,
    composed::{Deserializable as _, SignedPublicKey, SignedPublicSubKey},
    packet::PacketTrait as _,
    ser::Serialize as _,
    types::{KeyDetails as _, KeyVersion, Tag},
};

use super::{armor, name, standing, strong_enough};
use crate::{
    error::{Refusal, VerifyError},
    moment::Moment,
    policy::KeyRole,
};

/// A public key with its sub-keys, trusted because its file lies in the key folder.
#[derive(Debug)]
pub struct OpenpgpKey {
    pub(super) key: SignedPublicKey,
    pub(super) role: KeyRole,
    file: PathBuf,
}

impl OpenpgpKey {
    /// Takes every key of an exported file, armoured or binary; `file` is where it was found.
    ///
    /// # Errors
    /// When it cannot be read, holds no public key, or one that nothing here can check.
    pub fn from_export(bytes: &[u8], role: KeyRole, file: &Path) -> Result<Vec<Self>, VerifyError> {
        let refuse = |what: String| VerifyError::content(file, what);
        let packets = armor::packets(bytes, BlockType::PublicKey).map_err(refuse)?;
        if pgp::packet::PacketParser::new(packets.as_slice())
            .flatten()
            .any(|packet| matches!(packet.tag(), Tag::SecretKey | Tag::SecretSubkey))
        {
            return Err(refuse("holds a private key; take it off this device".into()));
        }
        let keys = SignedPublicKey::from_bytes_many(packets.as_slice())
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| refuse(format!("is not an export of OpenPGP public keys: {error}")))?;
        if keys.is_empty() {
            return Err(refuse("holds no OpenPGP public key".into()));
        }
        let own = |key: SignedPublicKey| {
            if key.version() != KeyVersion::V4 {
                return Err(refuse(format!(
                    "{} is a key of version {:?}, only 4 counts",
                    name(&key),
                    key.version()
                )));
            }
            strong_enough(&key.primary_key)
                .map_err(|refusal| refuse(format!("{}: {refusal}", name(&key))))?;
            Ok(Self { key, role, file: file.to_owned() })
        };
        keys.into_iter().map(own).collect()
    }

    /// Whether another export is of the same primary key.
    pub(crate) fn is_same_key(&self, other: &Self) -> bool {
        self.key.fingerprint() == other.key.fingerprint()
    }

    /// Takes up what another export of the same key says. Role and file stay.
    ///
    /// Which statements count is decided at each use: any revocation, the newest of the others.
    pub(crate) fn merge(&mut self, other: Self) {
        let (ours, theirs) = (&mut self.key, other.key);
        ours.details.revocation_signatures.extend(theirs.details.revocation_signatures);
        ours.details.direct_signatures.extend(theirs.details.direct_signatures);
        for user in theirs.details.users {
            match ours.details.users.iter_mut().find(|known| known.id.id() == user.id.id()) {
                Some(known) => known.signatures.extend(user.signatures),
                None => ours.details.users.push(user),
            }
        }
        for subkey in theirs.public_subkeys {
            let same = |known: &&mut SignedPublicSubKey| known.key.fingerprint() == subkey.key.fingerprint();
            match ours.public_subkeys.iter_mut().find(same) {
                Some(known) => known.signatures.extend(subkey.signatures),
                None => ours.public_subkeys.push(subkey),
            }
        }
    }

    /// Fingerprint of the primary key, in lower-case hexadecimal.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        self.key.fingerprint().to_string()
    }

    /// The key with its sub-keys and all that it says of them, binary.
    pub(crate) fn export(&self) -> Vec<u8> {
        // What was read can be written; a key that could not would still be told apart by its fingerprint.
        self.key.to_bytes().unwrap_or_else(|_| self.fingerprint().into_bytes())
    }

    /// First user id, for people.
    #[must_use]
    pub fn name(&self) -> String {
        name(&self.key)
    }

    /// What it is for.
    #[must_use]
    pub const fn role(&self) -> KeyRole {
        self.role
    }

    /// Where it was found.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Whether it, or one of its sub-keys, may sign at `moment`, for people; else why not. `retired`: fingerprints of keys and
    /// sub-keys that do not count any more.
    ///
    /// # Errors
    /// The refusal that a signature by it would get.
    pub fn usable(&self, moment: Moment, retired: &BTreeSet<String>) -> Result<String, Refusal> {
        let is_retired = |fingerprint: String| {
            let what = format!("{fingerprint} was retired by the key list");
            let refusal = Refusal::new(SignatureFault::Revoked, what);
            if retired.contains(&fingerprint) { Err(refusal) } else { Ok(()) }
        };
        is_retired(self.fingerprint())?;
        let primary = standing::of_primary(&self.key, moment);
        let mut good = primary.is_ok();
        let mut why = primary;
        let mut gone = Vec::new();
        for subkey in &self.key.public_subkeys {
            let fingerprint = subkey.key.fingerprint().to_string();
            let may_sign = standing::of_subkey(&self.key, subkey, moment);
            match may_sign.and_then(|()| is_retired(fingerprint.clone())) {
                Ok(()) => good = true,
                Err(refusal) if retired.contains(&fingerprint) => {
                    gone.push(fingerprint);
                    why = Err(refusal);
                }
                Err(_) => {}
            }
        }
        match why {
            Err(refusal) if !good => Err(refusal),
            _ if gone.is_empty() => Ok("usable".into()),
            _ => Ok(format!("usable, but not its sub-key {}, which the key list retires", gone.join(", "))),
        }
    }
}
