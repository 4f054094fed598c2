//! Detached `OpenPGP` signatures: taken apart, then checked over the digests of the image.

use std::io::BufReader;

use ota_core::{
    error::SignatureFault,
    release::{SignatureKind, Signer},
};
use pgp::{
    armor::BlockType,
    packet::{
        Packet, PacketParser, PacketTrait as _, Signature, SignatureType, SignatureVersion, SubpacketData,
        SubpacketType,
    },
    ser::Serialize as _,
    types::{KeyDetails, VerifyingKey},
};

use super::{OpenpgpKey, armor, digest, standing, strong_enough};
use crate::{
    digest::{ContentDigests, HashKind},
    error::Refusal,
    moment::{Moment, Utc},
    policy::{Holder, up_to_refusal},
};

/// More signatures in one file than this are refused.
const MAX_PARTS: usize = 16;

/// How far ahead of ours the clock of a signer may be.
const CLOCK_SKEW_SECS: u64 = 300;

/// A signature file that keeps to the profile; nothing of it is checked against keys yet.
#[derive(Debug)]
pub(crate) struct Statement {
    signatures: Vec<Claim>,
}

/// One signature packet, with the digest it needs of the image.
#[derive(Debug)]
struct Claim {
    signature: Signature,
    /// What the signer hashed behind the image: the hashed part of the packet and its length.
    suffix: Vec<u8>,
    digest: Result<HashKind, Refusal>,
}

impl Statement {
    /// Takes a file apart. Zero signatures is a refusal (`Missing`).
    pub(crate) fn parse(file: &[u8]) -> Result<Self, Refusal> {
        if file.is_empty() {
            return Err(Refusal::new(SignatureFault::Missing, "is empty"));
        }
        let bytes = armor::packets(file, BlockType::Signature).map_err(Refusal::malformed)?;
        let signatures = signatures(&bytes)?.into_iter().map(Claim::new).collect::<Result<Vec<_>, _>>()?;
        if signatures.is_empty() {
            return Err(Refusal::new(SignatureFault::Missing, "holds no signature"));
        }
        Ok(Self { signatures })
    }

    /// How many signatures it holds.
    pub(crate) const fn signers(&self) -> usize {
        self.signatures.len()
    }

    /// The digests of the image that its signatures need.
    pub(crate) fn digests(&self) -> impl Iterator<Item = HashKind> + '_ {
        self.signatures.iter().filter_map(|claim| claim.digest.as_ref().ok().copied())
    }

    /// Checks the signatures in the order of the file, up to the first that does not hold.
    pub(crate) fn check(
        &self,
        content: &ContentDigests,
        keys: &[OpenpgpKey],
        moment: Moment,
    ) -> Vec<Result<Holder, Refusal>> {
        up_to_refusal(self.signatures.iter().map(|claim| claim.check(content, keys, moment)))
    }
}

/// Every byte of the file must belong to a signature packet in the one encoding that we would give it.
fn signatures(bytes: &[u8]) -> Result<Vec<Signature>, Refusal> {
    let mut found = Vec::new();
    let mut again = Vec::new();
    for packet in PacketParser::new(BufReader::new(bytes)) {
        match packet {
            Ok(Packet::Signature(signature)) if found.len() < MAX_PARTS => {
                let written = signature.to_writer_with_header(&mut again);
                written.map_err(|error| Refusal::malformed(format!("cannot be encoded: {error}")))?;
                found.push(signature);
            }
            Ok(Packet::Signature(_)) => {
                return Err(Refusal::malformed(format!("holds more than {MAX_PARTS} signatures")));
            }
            Ok(other) => {
                return Err(Refusal::malformed(format!(
                    "holds a packet that is no signature: {:?}",
                    other.tag()
                )));
            }
            Err(error) => return Err(Refusal::malformed(format!("is not an OpenPGP signature: {error}"))),
        }
    }
    if again == bytes {
        Ok(found)
    } else {
        Err(Refusal::malformed("is cut short, or not in the plain encoding"))
    }
}

impl Claim {
    fn new(signature: Signature) -> Result<Self, Refusal> {
        let version = signature.version();
        let Some(config) = signature.config().filter(|_| version == SignatureVersion::V4) else {
            return Err(Refusal::malformed(format!("is of version {version:?}, only 4 counts")));
        };
        if config.typ() != SignatureType::Binary {
            return Err(Refusal::malformed(format!("is of type {:?}, only Binary counts", config.typ())));
        }
        check_subpackets(&signature)?;
        let digest = digest(config.hash_alg);
        Ok(Self { suffix: suffix(&signature)?, digest, signature })
    }

    fn check(
        &self,
        content: &ContentDigests,
        keys: &[OpenpgpKey],
        moment: Moment,
    ) -> Result<Holder, Refusal> {
        let kind = self.digest.clone()?;
        let hash = content
            .followed_by(kind, &self.suffix)
            .ok_or_else(|| Refusal::malformed(format!("{kind} was not taken of the image")))?;
        for key in keys {
            if self.is_by(&key.key.primary_key) {
                self.holds(&key.key.primary_key, &hash)?;
                let standing = standing::of_primary(&key.key, moment);
                return self.conclude(key, &key.key.primary_key, standing, moment);
            }
            if let Some(subkey) = key.key.public_subkeys.iter().find(|subkey| self.is_by(&subkey.key)) {
                self.holds(&subkey.key, &hash)?;
                let standing = standing::of_subkey(&key.key, subkey, moment);
                return self.conclude(key, &subkey.key, standing, moment);
            }
        }
        let what = format!("is by {}, which is not among the keys of this device", self.issuer());
        Err(Refusal::new(SignatureFault::Untrusted, what))
    }

    /// The signature holds for `by`, the primary key or a sub-key of `key`: does it count?
    fn conclude(
        &self,
        key: &OpenpgpKey,
        by: &impl KeyDetails,
        standing: Result<(), Refusal>,
        moment: Moment,
    ) -> Result<Holder, Refusal> {
        standing.and_then(|()| self.is_current(by, moment)).map_err(|refusal| refusal.of(&key.name()))?;
        let fingerprint = key.fingerprint();
        let marks = vec![fingerprint.clone(), by.fingerprint().to_string()];
        let signer =
            Signer { kind: SignatureKind::Openpgp, fingerprint: fingerprint.clone(), name: key.name() };
        Ok(Holder { signer, identity: fingerprint, role: key.role, marks })
    }

    /// Whether every issuer that the signature names is this key, and it names one.
    fn is_by(&self, key: &impl KeyDetails) -> bool {
        let (ids, prints) = (self.signature.issuer_key_id(), self.signature.issuer_fingerprint());
        !(ids.is_empty() && prints.is_empty())
            && ids.iter().all(|id| **id == key.legacy_key_id())
            && prints.iter().all(|print| **print == key.fingerprint())
    }

    fn issuer(&self) -> String {
        let print = self.signature.issuer_fingerprint().first().map(|print| format!("key {print}"));
        let id = || self.signature.issuer_key_id().first().map(|id| format!("key {id}"));
        print.or_else(id).unwrap_or_else(|| "a key it does not name".into())
    }

    fn holds(&self, key: &impl VerifyingKey, hash: &[u8]) -> Result<(), Refusal> {
        strong_enough(key)?;
        let mismatch =
            || Refusal::new(SignatureFault::Mismatch, "does not hold: it is over another image, or damaged");
        let (Some(config), Some(bytes)) = (self.signature.config(), self.signature.signature()) else {
            return Err(mismatch());
        };
        if config.pub_alg != key.algorithm() {
            return Err(Refusal::malformed("names another algorithm than its key"));
        }
        // The first two bytes of the digest stand in the packet in clear.
        if self.signature.signed_hash_value().is_none_or(|start| !hash.starts_with(&start)) {
            return Err(mismatch());
        }
        key.verify(config.hash_alg, hash, bytes).map_err(|_| mismatch())
    }

    fn is_current(&self, key: &impl KeyDetails, moment: Moment) -> Result<(), Refusal> {
        let Some(created) = self.signature.created().map(|created| u64::from(created.as_secs())) else {
            return Err(Refusal::malformed("does not say when it was made"));
        };
        if created > moment.secs() + CLOCK_SKEW_SECS {
            let what = format!("was made at {}, it is {moment}", Utc(created));
            return Err(Refusal::new(SignatureFault::NotYetValid, what));
        }
        if created < u64::from(key.created_at().as_secs()) {
            return Err(Refusal::malformed("is older than its key"));
        }
        let lasts = self.signature.signature_expiration_time().map_or(0, |span| u64::from(span.as_secs()));
        if lasts > 0 && moment.secs() >= created + lasts {
            let what = format!("expired at {}, it is {moment}", Utc(created + lasts));
            return Err(Refusal::new(SignatureFault::Expired, what));
        }
        Ok(())
    }
}

/// The part that no signature covers may name the issuer and nothing else; what is covered must be understood where
/// it says so.
fn check_subpackets(signature: &Signature) -> Result<(), Refusal> {
    let config = signature.config();
    for subpacket in config.iter().flat_map(|config| config.unhashed_subpackets()) {
        let issuer =
            matches!(subpacket.data, SubpacketData::IssuerKeyId(_) | SubpacketData::IssuerFingerprint(_));
        if !issuer || subpacket.is_critical {
            return Err(Refusal::malformed(format!("has {:?} outside of what is signed", subpacket.typ())));
        }
    }
    for subpacket in config.iter().flat_map(|config| config.hashed_subpackets()) {
        let unknown = matches!(
            subpacket.typ(),
            SubpacketType::Other(_) | SubpacketType::Experimental(_) | SubpacketType::Notation
        );
        if unknown && subpacket.is_critical {
            return Err(Refusal::malformed(format!(
                "has a critical {:?} that is not known here",
                subpacket.typ()
            )));
        }
    }
    Ok(())
}

/// RFC 4880 section 5.2.4: version, type, algorithms, hashed subpackets, then version, 0xff and the length of that.
fn suffix(signature: &Signature) -> Result<Vec<u8>, Refusal> {
    let damaged = || Refusal::malformed("is cut short");
    let body = signature.to_bytes().map_err(|_| damaged())?;
    let [_, _, _, _, high, low, ..] = *body.as_slice() else { return Err(damaged()) };
    let hashed = 6 + u16::from_be_bytes([high, low]);
    let mut suffix = body.get(..usize::from(hashed)).ok_or_else(damaged)?.to_vec();
    suffix.extend([4, 0xff]);
    suffix.extend(u32::from(hashed).to_be_bytes());
    Ok(suffix)
}
