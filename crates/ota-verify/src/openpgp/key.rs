//! `OpenPGP` keys that the device is told to trust.

use std::path::{Path, PathBuf};

use pgp::{
    armor::BlockType,
    composed::{Deserializable as _, SignedPublicKey},
    packet::PacketTrait as _,
    types::{KeyDetails as _, KeyVersion, Tag},
};

use super::{armor, name, standing, strong_enough};
use crate::{error::VerifyError, moment::Moment, policy::KeyRole};

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

    /// Fingerprint of the primary key, in lower-case hexadecimal.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        self.key.fingerprint().to_string()
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

    /// Whether it, or one of its sub-keys, may sign at `moment`; else why not.
    ///
    /// # Errors
    /// The refusal that a signature by it would get.
    pub fn usable(&self, moment: Moment) -> Result<(), crate::Refusal> {
        let primary = standing::of_primary(&self.key, moment).map(|_| ());
        let mut subkeys = self.key.public_subkeys.iter();
        if primary.is_ok() || subkeys.any(|subkey| standing::of_subkey(&self.key, subkey, moment).is_ok()) {
            return Ok(());
        }
        primary
    }
}
