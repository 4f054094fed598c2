//! What an update server offers, and what is known of an image.

use alloc::{format, string::String, vec::Vec};

use serde::{Deserialize, Serialize};

use crate::{ByteCount, ImageName, OtaError, Sha256Digest, Timestamp, UpdateId, Version};

/// A release on offer. Source: `update-sources.md` section 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// Name of the release at its source.
    pub id: UpdateId,
    /// Firmware version it brings.
    pub version: Version,
    /// What it changes, for people. Untrusted text until it is shown escaped.
    pub description: String,
    /// Signed length of the image as it is transferred.
    pub size: ByteCount,
    /// Signed SHA-256 of the image as it is transferred.
    pub sha256: Sha256Digest,
    /// When it was published, if the source says so.
    pub release_date: Option<Timestamp>,
    /// Whether the publisher wants it installed soon.
    pub critical: bool,
    /// Whether it takes a reboot to become active. Always so for slot images.
    pub requires_reboot: bool,
    /// Format of the image.
    pub kind: ImageKind,
    /// Name of the configured source it comes from.
    pub source: String,
    /// Versions for which the source offers a delta.
    pub deltas: Vec<Version>,
    /// Signed length of what a packed image unpacks to, where the source says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unpacked_size: Option<ByteCount>,
}

/// Format of an image. Source: `ota-api.rst`, "Supported Formats".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImageKind {
    /// A file system image written as it is (`.img`).
    Raw,
    /// A squashfs image written as it is (`.squashfs`).
    Squashfs,
    /// A compressed archive that is unpacked into a fresh file system (`.tar.gz`, `.tar.zst`).
    TarGz,
}

impl ImageKind {
    /// The word for people and on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Squashfs => "squashfs",
            Self::TarGz => "tar-gz",
        }
    }
}

/// How an image is compressed on its way to the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Packing {
    /// RFC 1952 (`.gz`).
    Gzip,
    /// RFC 8878 (`.zst`).
    Zstd,
}

impl Packing {
    /// The word for people and on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }
}

/// What a packed image becomes, found by unpacking all of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unpacked {
    /// How it was packed.
    pub packing: Packing,
    /// Length of what was in it: a file system image, or an archive.
    pub size: ByteCount,
    /// Digest of that.
    pub sha256: Sha256Digest,
    /// What a slot must hold at least to take it.
    pub space: ByteCount,
}

/// An image that lies whole in staging.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagedImage {
    /// Name in staging.
    pub name: ImageName,
    /// Length in bytes.
    pub size: ByteCount,
    /// Digest of the bytes that were received. The slot must end up with exactly these.
    pub sha256: Sha256Digest,
}

/// A detached signature over the bytes of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DetachedSignature {
    /// How it is encoded.
    pub kind: SignatureKind,
    /// The signature file, at most 64 KiB.
    pub bytes: Vec<u8>,
}

/// A checksum file (`SHA256SUMS`, `SHA512SUMS`) that came with an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChecksumFile {
    /// The file as it is.
    pub text: Vec<u8>,
    /// Detached signatures over it. Without any it shows integrity only.
    pub signatures: Vec<DetachedSignature>,
    /// Name under which it lists the image.
    pub name: String,
}

/// What came with an image to vouch for it. All of it must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// Detached signatures over the image.
    pub signatures: Vec<DetachedSignature>,
    /// A checksum file that lists it.
    pub checksums: Option<ChecksumFile>,
}

impl Evidence {
    /// Signatures over the image and nothing else.
    #[must_use]
    pub const fn signatures(signatures: Vec<DetachedSignature>) -> Self {
        Self { signatures, checksums: None }
    }

    /// Whether nothing came with the image.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.signatures.is_empty() && self.checksums.is_none()
    }
}

/// Encoding of a detached signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SignatureKind {
    /// CMS `SignedData` without content, DER or PEM, X.509 certificates (`.p7s`).
    Cms,
    /// `OpenPGP` detached signature, binary or armoured (`.sig`, `.asc`).
    Openpgp,
}

impl SignatureKind {
    /// Told from the content: PEM and DER begin with marks of their own; everything else is taken for OpenPGP, whose packets
    /// set the first bit.
    #[must_use]
    pub fn of(signature: &[u8]) -> Self {
        let text = signature.trim_ascii_start();
        let armoured = text.starts_with(b"-----BEGIN PGP");
        if (text.starts_with(b"-----BEGIN") && !armoured) || signature.first() == Some(&0x30) {
            Self::Cms
        } else {
            Self::Openpgp
        }
    }
}

/// Endings of signature files, in the order in which they are looked for.
pub const SIGNATURE_ENDINGS: [(&str, SignatureKind); 3] =
    [("sig", SignatureKind::Openpgp), ("asc", SignatureKind::Openpgp), ("p7s", SignatureKind::Cms)];

/// Most signatures of one ending beside a file.
pub const SIGNATURES_OF_AN_ENDING: usize = 8;

/// `p7s`, `p7s.2` to `p7s.8`: the names that signatures of one ending have beside a file.
pub fn numbered_endings(ending: &str) -> impl Iterator<Item = String> {
    (1..=SIGNATURES_OF_AN_ENDING).map(move |number| match number {
        1 => ending.into(),
        _ => format!("{ending}.{number}"),
    })
}

/// The endings of all signatures that may lie beside a file.
pub fn signature_endings() -> impl Iterator<Item = (String, SignatureKind)> {
    let all = |(ending, kind)| numbered_endings(ending).map(move |ending| (ending, kind));
    SIGNATURE_ENDINGS.into_iter().flat_map(all)
}

/// How far an accepted image is vouched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Assurance {
    /// Nothing that came with it says which bytes it is to have.
    Nothing,
    /// Its bytes are those that a checksum file names; nobody says who made them.
    Integrity,
    /// Trusted keys say who made it.
    Authenticity,
}

impl Assurance {
    /// The word for it in the user's API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Nothing => "none",
            Self::Integrity => "integrity",
            Self::Authenticity => "authenticity",
        }
    }
}

/// Who vouches for an image, after the verifier accepted it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vouched {
    /// Digest of the bytes that the signature covers.
    pub sha256: Sha256Digest,
    /// How many bytes those are.
    pub size: ByteCount,
    /// One entry for each distinct key that signed; empty when the policy allowed an unsigned image.
    pub signers: Vec<Signer>,
    /// Whether a checksum file that came with it names its digest.
    #[serde(default)]
    pub checksummed: bool,
    /// By which keys and rules it was judged, as [`crate::ports::ImageVerifier::trust`] names them: where that says something
    /// else by now, the answer is void. Empty where nobody said.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub trust: String,
}

impl Vouched {
    /// How far it goes. A bare checksum is integrity, not authenticity.
    #[must_use]
    pub const fn assurance(&self) -> Assurance {
        match (self.signers.is_empty(), self.checksummed) {
            (false, _) => Assurance::Authenticity,
            (true, true) => Assurance::Integrity,
            (true, false) => Assurance::Nothing,
        }
    }
}

/// A key whose signature held.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Signer {
    /// How the signature was encoded.
    pub kind: SignatureKind,
    /// SHA-256 of the certificate, or the `OpenPGP` fingerprint, in lower-case hexadecimal.
    pub fingerprint: String,
    /// Subject of the certificate or user id of the key, for people.
    pub name: String,
}

/// Refuses a version below the security floor of the device.
///
/// # Errors
/// `InvalidImage` (OTA_005).
pub fn refuse_below_floor(floor: Option<&Version>, version: &Version) -> Result<(), OtaError> {
    match floor {
        Some(floor) if version < floor => Err(OtaError::InvalidImage {
            what: alloc::format!("{version} is below the security floor {floor} of this device"),
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::SignatureKind;

    #[test]
    fn the_kind_of_a_signature_shows_in_its_first_bytes() {
        for (bytes, kind) in [
            (&b"-----BEGIN PKCS7-----"[..], SignatureKind::Cms),
            (b"-----BEGIN CMS-----", SignatureKind::Cms),
            (b"\x30\x82\x01\x02", SignatureKind::Cms),
            (b"-----BEGIN PGP SIGNATURE-----", SignatureKind::Openpgp),
            (b"\x89\x02\x33", SignatureKind::Openpgp),
            (b"\xc2\xc1\x73", SignatureKind::Openpgp),
        ] {
            assert_eq!(SignatureKind::of(bytes), kind, "{bytes:?}");
        }
    }
}
