//! Images: where they are staged, who checks them, who writes them.

use alloc::boxed::Box;

use crate::{
    ByteCount, ImageName, OtaError, Sha256Digest, Slot, Version,
    error::{PortError, PortErrorKind},
    release::{Evidence, ImageKind, Unpacked, Vouched},
};

/// A stream of bytes; `std::io::Read` without std.
pub trait ImageReader: Send {
    /// Fills the front of `buf` and says how much; 0 at the end.
    ///
    /// # Errors
    /// `Io` when the medium fails.
    fn read(&mut self, buf: &mut [u8]) -> Result<usize, PortError>;
}

impl<R: ImageReader + ?Sized> ImageReader for &mut R {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize, PortError> {
        (**self).read(buf)
    }
}

impl<R: ImageReader + ?Sized> ImageReader for Box<R> {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize, PortError> {
        (**self).read(buf)
    }
}

/// The first bytes of an image; what is appended to it is not read.
pub struct Front<R> {
    bytes: R,
    left: ByteCount,
}

impl<R: ImageReader> Front<R> {
    /// The first `length` bytes of `bytes`.
    pub const fn new(bytes: R, length: ByteCount) -> Self {
        Self { bytes, left: length }
    }
}

impl<R: ImageReader> ImageReader for Front<R> {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize, PortError> {
        let most = usize::try_from(self.left.get()).unwrap_or(usize::MAX).min(buf.len());
        let count = self.bytes.read(buf.get_mut(..most).unwrap_or_default())?;
        self.left = self.left.saturating_sub(ByteCount(count as u64));
        Ok(count)
    }
}

/// Whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Go on.
    Continue,
    /// Stop as soon as possible; the result is then an error of kind `SystemBusy`.
    Stop,
}

/// Told how far a long operation is; says whether to go on. May block to pause it.
pub type Observer<'a> = &'a mut dyn FnMut(WriteProgress) -> Flow;

/// How far a long operation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteProgress {
    /// Bytes given to the slot so far.
    Written(ByteCount),
    /// Bytes read back so far.
    ReadBack(ByteCount),
}

/// What a stream of image bytes has to turn out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageExpectation {
    /// Exact length.
    pub size: ByteCount,
    /// Digest of all of it.
    pub sha256: Sha256Digest,
}

/// Writes slots. Source: `durable-steps.md` section 2, steps 3–4.
pub trait SlotWriter: Send + Sync {
    /// How many bytes fit, asked of the device itself.
    ///
    /// # Errors
    /// `InvalidPartition` (OTA_008) when the slot is not configured; `Io`.
    fn capacity(&self, slot: Slot) -> Result<ByteCount, PortError>;

    /// Writes `image` to `slot`: all chunks but the first, sync, the first chunk, sync; the digest is taken of the bytes
    /// as they are written; then everything is read back past the page cache and compared.
    ///
    /// Memory use does not depend on the size. On success the slot holds exactly the expected bytes. On any error the
    /// slot's content is unknown.
    ///
    /// # Errors
    /// `InvalidPartition` (OTA_008) for the booted or a mounted slot; `InsufficientSpace` (OTA_003);
    /// `ChecksumMismatch` (OTA_007) when the bytes are not the expected ones or do not read back; `SystemBusy`
    /// (OTA_014) when the observer stopped it; `Io`.
    fn write(
        &self,
        slot: Slot,
        image: &mut dyn ImageReader,
        expect: ImageExpectation,
        observer: Observer<'_>,
    ) -> Result<(), PortError>;

    /// Digest of the first `size` bytes of `slot`, read past the page cache.
    ///
    /// # Errors
    /// `InvalidPartition`, `InsufficientSpace` when the slot is shorter than `size`; `SystemBusy` when stopped; `Io`.
    fn digest(&self, slot: Slot, size: ByteCount, observer: Observer<'_>) -> Result<Sha256Digest, PortError>;

    /// Unpacks a packed image into `slot`: a file system image as [`write`](Self::write) would write it, an archive into a
    /// fresh file system that is then read back and compared with it, entry by entry.
    ///
    /// Gives the front of the slot that is to be recorded: its length, and its digest as read from the medium. Progress is
    /// told in bytes of the packed image. On any error the slot's content is unknown.
    ///
    /// # Errors
    /// As [`write`](Self::write); `InvalidImage` (OTA_005) where nothing is unpacked here.
    fn write_packed(
        &self,
        slot: Slot,
        image: PackedImage<'_>,
        observer: Observer<'_>,
    ) -> Result<ImageExpectation, PortError> {
        let _ = (slot, observer);
        let what = alloc::format!("{} images are not unpacked here", image.unpacked.packing.as_str());
        Err(OtaError::InvalidImage { what }.into())
    }

    /// Takes `slot` for a while as a block device that file system tools can work on, after the same checks as for a write.
    ///
    /// # Errors
    /// As [`write`](Self::write); `Io` where there are no block devices.
    fn claim(&self, slot: Slot) -> Result<Box<dyn SlotClaim>, PortError> {
        Err(PortErrorKind::Io(alloc::format!("slot {slot} is no block device")).into())
    }
}

/// A slot as a block device, until it is dropped.
pub trait SlotClaim: Send + Sync {
    /// Path of the block device.
    fn device(&self) -> &str;

    /// Bytes it holds.
    fn capacity(&self) -> ByteCount;

    /// Makes what was written durable, and the next reads come from the medium.
    ///
    /// # Errors
    /// `Io`; final, as that of a sync.
    fn settle(&self) -> Result<(), PortError>;
}

/// A packed image that was looked into; see [`SlotWriter::write_packed`].
#[derive(Clone, Copy)]
pub struct PackedImage<'a> {
    /// What its bytes must turn out to be.
    pub expect: ImageExpectation,
    /// What is in it.
    pub kind: ImageKind,
    /// What was found by unpacking it before.
    pub unpacked: &'a Unpacked,
    /// Opens it at its start; it is read more than once.
    pub open: &'a (dyn Fn() -> Result<Box<dyn ImageReader>, PortError> + Sync),
}

/// What the device demands of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifyPolicy {
    /// Whether a signature by a trusted key is required. Without it an image without any signature is let through;
    /// one that carries a signature which does not hold is refused in any case.
    pub require_signature: bool,
}

/// What an image states of itself under its signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stated {
    /// Version that it brings.
    pub version: Version,
    /// Its format.
    pub kind: ImageKind,
    /// Length of what it unpacks to, where it says it.
    pub unpacked_size: Option<ByteCount>,
}

impl Stated {
    /// Whether it is for the version under which the image goes.
    ///
    /// # Errors
    /// `InvalidImage` (OTA_005).
    pub fn check_version(&self, label: &Version) -> Result<(), OtaError> {
        if self.version == *label {
            return Ok(());
        }
        let what = alloc::format!("signed as {}, labelled as {label}", self.version);
        Err(OtaError::InvalidImage { what })
    }

    /// Whether the image is of the format that it was signed as.
    ///
    /// # Errors
    /// `InvalidImage` (OTA_005).
    pub fn check_kind(&self, found: &super::ImageFacts) -> Result<(), OtaError> {
        if self.kind == found.kind {
            return Ok(());
        }
        let what = alloc::format!("signed as {}, but it is {}", self.kind.as_str(), found.format);
        Err(OtaError::InvalidImage { what })
    }
}

/// The end of a staged file, and how long all of it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileEnd {
    /// Its last bytes.
    pub bytes: alloc::vec::Vec<u8>,
    /// Length of the file.
    pub length: ByteCount,
}

/// Checks that trusted keys vouch for an image. Nothing of the image is parsed.
pub trait ImageVerifier: Send + Sync {
    /// Reads `image` once, takes its digest and checks what came with it.
    ///
    /// # Errors
    /// `SignatureInvalid` (OTA_006) with the reason; `ChecksumMismatch` (OTA_007) when the bytes are not `expect`;
    /// `Io`; `SystemBusy` when stopped.
    fn verify(
        &self,
        image: &mut dyn ImageReader,
        expect: ImageExpectation,
        evidence: &Evidence,
        policy: VerifyPolicy,
        observer: Observer<'_>,
    ) -> Result<Vouched, PortError>;

    /// The same, with what the image states of itself under the signature, where it states something.
    ///
    /// # Errors
    /// As [`verify`](Self::verify).
    fn verify_stated(
        &self,
        image: &mut dyn ImageReader,
        expect: ImageExpectation,
        evidence: &Evidence,
        policy: VerifyPolicy,
        observer: Observer<'_>,
    ) -> Result<(Vouched, Option<Stated>), PortError> {
        Ok((self.verify(image, expect, evidence, policy, observer)?, None))
    }

    /// A mark of the keys, lists and rules that it judges by: as long as it is the same, what was accepted once would be
    /// accepted again, but for the time. What it accepts carries it, [`Vouched::trust`].
    fn trust(&self) -> alloc::string::String {
        alloc::string::String::new()
    }

    /// How much of the end of a staged file [`guarded`](Self::guarded) wants, in bytes.
    fn end_len(&self) -> usize {
        0
    }

    /// The same bytes of an image that was vouched for, read once more to be written: where it carries signed digests of its
    /// blocks, reading fails at the end of the first block that is another one by now. `end`: the end of the file it lies in.
    fn guarded(&self, image: Box<dyn ImageReader>, vouched: &Vouched, end: &FileEnd) -> Box<dyn ImageReader> {
        let _ = (vouched, end);
        image
    }
}

/// Images in staging.
pub trait ImageStore: Send + Sync {
    /// Opens a staged image. The reader keeps reading the same file even when the name is replaced.
    ///
    /// # Errors
    /// `Io` when it is not there or cannot be read.
    fn open(&self, name: &ImageName) -> Result<Box<dyn ImageReader>, PortError>;

    /// The last bytes of a staged image, `most` of them or all; and how long it is.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    fn end(&self, name: &ImageName, most: usize) -> Result<FileEnd, PortError>;

    /// What is kept beside it: detached signatures, a checksum file.
    ///
    /// # Errors
    /// `Io`; `SignatureInvalid` (`malformed`) when one is larger than 64 KiB.
    fn evidence(&self, name: &ImageName) -> Result<Evidence, PortError>;

    /// Deletes it with its signatures; no error when it is not there.
    ///
    /// # Errors
    /// `Io`.
    fn remove(&self, name: &ImageName) -> Result<(), PortError>;

    /// Free bytes where images are staged.
    ///
    /// # Errors
    /// `Io`.
    fn free(&self) -> Result<ByteCount, PortError>;

    /// Bytes that a download of `name` may take: what is free, and what it has there already.
    ///
    /// # Errors
    /// `Io`.
    fn room_for(&self, name: &ImageName) -> Result<ByteCount, PortError> {
        let _ = name;
        self.free()
    }

    /// Deletes what downloads of other images than `keep` have left unfinished.
    ///
    /// # Errors
    /// `Io`.
    fn forget_unfinished(&self, keep: &ImageName) -> Result<(), PortError> {
        let _ = keep;
        Ok(())
    }
}
