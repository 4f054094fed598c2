//! Uploaded images: how they get into staging, what is kept of them, what is found in them.

use alloc::{boxed::Box, string::String, vec::Vec};

use serde::{Deserialize, Serialize};

use super::{ImageReader, Observer};
use crate::{
    ByteCount, ImageName, OtaError, Timestamp, Version,
    error::PortError,
    release::{
        ChecksumFile, DetachedSignature, Evidence, ImageKind, Packing, StagedImage, Unpacked, Vouched,
    },
};

/// An uploaded image in staging.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upload {
    /// Name, length and digest of the file as it was received, a trailer included.
    pub image: StagedImage,
    /// Label that its owner gave it.
    pub version: Version,
    /// What its owner said of it. Untrusted text until it is shown escaped.
    pub description: Option<String>,
    /// When it was whole.
    pub stored: Timestamp,
    /// The last verification of exactly these bytes; none once the file has changed.
    pub verification: Option<Verification>,
}

/// What was found when an image was verified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verification {
    /// Who vouches for which bytes: those that are written to a slot. Of a one-file image, the ones in front of the
    /// trailer.
    pub vouched: Vouched,
    /// What the image is; none when it does not fit this device and nobody asked that it does.
    pub facts: Option<ImageFacts>,
    /// When.
    pub at: Timestamp,
}

impl Verification {
    /// Whether a trusted key signed the image.
    #[must_use]
    pub const fn signed(&self) -> bool {
        !self.vouched.signers.is_empty()
    }
}

/// What an image turned out to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageFacts {
    /// Format of the image; of a packed one, of what is in it.
    pub kind: ImageKind,
    /// The format for people, `squashfs (zstd)`.
    pub format: String,
    /// `partition_layout` of the answer to `upload/verify`: `standard`, one file system for one slot.
    pub partition_layout: String,
    /// How the image is compressed, where it is: it does not go into a slot as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packing: Option<Packing>,
    /// What it unpacks to; known once [`ImageInspector::look_inside`] has read all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unpacked: Option<Unpacked>,
}

/// What an upload becomes when it is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadLabel {
    /// See [`Upload::version`].
    pub version: Version,
    /// See [`Upload::description`].
    pub description: Option<String>,
    /// The detached signatures that came with it. With `checksums`, they replace all that lies beside an image of this name;
    /// without both, only what an earlier upload brought is dropped.
    pub signatures: Vec<DetachedSignature>,
    /// The checksum file that came with it.
    pub checksums: Option<ChecksumFile>,
    /// The verification that it has passed already.
    pub verification: Option<Verification>,
    /// Now.
    pub stored: Timestamp,
}

/// Uploads in staging, with a record of each that survives a power cut. Errors of all: `Io`.
pub trait UploadStore: Send + Sync {
    /// Begins an image. Nothing of it is seen under `name` until it is committed; what lies there stays until then.
    ///
    /// `announced`: how long the image will be at most, where that is known; the space is set aside at once.
    ///
    /// # Errors
    /// `InsufficientSpace` (OTA_003) for the medium or the quota; `SystemBusy` (OTA_014) when the name is taken by
    /// something that is no upload.
    fn begin(
        &self,
        name: &ImageName,
        announced: Option<ByteCount>,
    ) -> Result<Box<dyn UploadWriter>, PortError>;

    /// All uploads, by name.
    ///
    /// # Errors
    /// See the trait.
    fn list(&self) -> Result<Vec<Upload>, PortError>;

    /// The upload of this name.
    ///
    /// # Errors
    /// See the trait.
    fn find(&self, name: &ImageName) -> Result<Option<Upload>, PortError>;

    /// Notes a verification of `image`. `false` when the upload is by now another one, or its file has changed.
    ///
    /// # Errors
    /// See the trait.
    fn record_verification(
        &self,
        image: &StagedImage,
        verification: &Verification,
    ) -> Result<bool, PortError>;

    /// Deletes the upload with its signatures and record; `false` when there is none.
    ///
    /// # Errors
    /// See the trait.
    fn remove(&self, name: &ImageName) -> Result<bool, PortError>;
}

/// An image on its way into staging. Dropped without [`commit`](Self::commit), it leaves nothing behind.
pub trait UploadWriter: Send {
    /// Takes the next bytes.
    ///
    /// # Errors
    /// `InsufficientSpace` (OTA_003) for the medium or the quota; `Io`.
    fn append(&mut self, bytes: &[u8]) -> Result<(), PortError>;

    /// Nothing more comes: makes the bytes durable and tells what they are.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    fn seal(&mut self) -> Result<StagedImage, PortError>;

    /// Reads the sealed bytes from the start.
    ///
    /// # Errors
    /// `Io`.
    fn reader(&self) -> Result<Box<dyn ImageReader>, PortError>;

    /// What would lie beside it if it were committed without signature and checksums of its own.
    ///
    /// # Errors
    /// `Io`; `SignatureInvalid` (`malformed`) when one is larger than 64 KiB.
    fn evidence(&self) -> Result<Evidence, PortError>;

    /// Puts the sealed image in the place of the one of its name, with signature and record, all or nothing. Durable on
    /// return.
    ///
    /// # Errors
    /// `Io`; the earlier image is then still there, unless the very last step failed.
    fn commit(self: Box<Self>, label: UploadLabel) -> Result<Upload, PortError>;
}

/// Says what an image is, by its first bytes, after its verification.
pub trait ImageInspector: Send + Sync {
    /// How much of the front of an image it wants, in bytes.
    fn head_len(&self) -> usize;

    /// What the image is. `vouched`: the verdict on it, without which nothing of it is looked at; `head`: its first
    /// [`head_len`](Self::head_len) bytes, all of them where it is shorter.
    ///
    /// # Errors
    /// `InvalidImage` (OTA_005): damaged, cut short, or of a format that no slot takes.
    fn inspect(&self, vouched: &Vouched, head: &[u8]) -> Result<ImageFacts, OtaError>;

    /// Unpacks all of a packed image in memory, piece by piece, and says what is in it. `facts`: what [`inspect`](Self::inspect)
    /// said; `image`: the bytes that were vouched for, from their start; `signed`: the signed length of what comes out of them,
    /// where there is one, beyond which nothing is unpacked. Nothing is written. Reports how much of `image` was read.
    ///
    /// # Errors
    /// `InvalidImage` (OTA_005): damaged, an entry that may not be unpacked, or nothing that a slot takes;
    /// `ChecksumMismatch` (OTA_007) when `image` is no longer what was vouched for, or unpacks to another length than `signed`; `SystemBusy` (OTA_014) when stopped; `Io`.
    fn look_inside(
        &self,
        facts: ImageFacts,
        vouched: &Vouched,
        image: &mut dyn ImageReader,
        signed: Option<ByteCount>,
        observer: Observer<'_>,
    ) -> Result<ImageFacts, PortError> {
        let _ = (vouched, image, signed, observer);
        let what = alloc::format!("{} images are not unpacked here", facts.format);
        Err(OtaError::InvalidImage { what }.into())
    }
}
