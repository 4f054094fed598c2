//! What an image is, by the first bytes of it: looked at only when its signature holds, before anything is written.
//!
//! Pure, over bytes in memory. Nothing is unpacked or mounted; whether the image fits the slot is left to whoever knows
//! the slot.

mod disk;
mod ext4;
mod squashfs;

use std::fmt;

use ota_core::{
    ByteCount, OtaError,
    ports::{ImageFacts, ImageInspector},
    release::{ImageKind, Packing, Vouched},
};

/// How much of the front of an image [`inspect`] wants, in bytes; all of it where the image is shorter. The first descriptor
/// of ISO 9660 is at 32 KiB.
pub const HEAD_LEN: usize = 36 * 1024;

/// What an image turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// Its format.
    pub format: ImageFormat,
    /// How many bytes the file system has by its own account; unknown of an archive.
    pub content: Option<ByteCount>,
    /// Name that its maker gave the file system.
    pub label: Option<String>,
    /// `partition_layout` of the answer to `upload/verify`: `standard`, one file system for one slot.
    pub partition_layout: &'static str,
}

/// The formats that can become the content of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageFormat {
    /// Squashfs 4.0 with this compressor.
    Squashfs(&'static str),
    /// An ext2, ext3 or ext4 file system.
    Ext(&'static str),
    /// Something compressed with gzip: an archive or an image; what is in it shows when it is unpacked.
    Gzip,
    /// Something compressed with zstd.
    Zstd,
}

impl ImageFormat {
    /// The kind of the release that such an image belongs to; of a packed one an archive, until it is looked into.
    #[must_use]
    pub const fn kind(self) -> ImageKind {
        match self {
            Self::Squashfs(_) => ImageKind::Squashfs,
            Self::Ext(_) => ImageKind::Raw,
            Self::Gzip | Self::Zstd => ImageKind::TarGz,
        }
    }

    /// How it is compressed as a whole.
    #[must_use]
    pub const fn packing(self) -> Option<Packing> {
        match self {
            Self::Squashfs(_) | Self::Ext(_) => None,
            Self::Gzip => Some(Packing::Gzip),
            Self::Zstd => Some(Packing::Zstd),
        }
    }
}

impl fmt::Display for ImageFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Squashfs(compressor) => write!(f, "squashfs ({compressor})"),
            Self::Ext(name) => f.write_str(name),
            Self::Gzip => f.write_str("gzip"),
            Self::Zstd => f.write_str("zstd"),
        }
    }
}

/// Says what an image is.
///
/// `vouched`: the verdict on it, without which nothing of it is looked at; its `size` is that of the image without a
/// trailer. `head`: its first [`HEAD_LEN`] bytes.
///
/// # Errors
/// `InvalidImage` (OTA_005): a whole disk with partitions, cut short, damaged, or of a format that no slot takes.
pub fn inspect(vouched: &Vouched, head: &[u8]) -> Result<Inspection, OtaError> {
    recognise(vouched.size, head).map_err(|what| OtaError::InvalidImage { what })
}

/// The adapter of `ota_core::ports::ImageInspector`.
#[derive(Clone, Copy, Debug, Default)]
pub struct HeadInspector;

impl ImageInspector for HeadInspector {
    fn head_len(&self) -> usize {
        HEAD_LEN
    }

    fn inspect(&self, vouched: &Vouched, head: &[u8]) -> Result<ImageFacts, OtaError> {
        let Inspection { format, partition_layout, .. } = inspect(vouched, head)?;
        Ok(ImageFacts {
            kind: format.kind(),
            packing: format.packing(),
            format: format.to_string(),
            partition_layout: partition_layout.into(),
            unpacked: None,
        })
    }
}

fn recognise(size: ByteCount, head: &[u8]) -> Result<Inspection, String> {
    let head = head.get(..usize::try_from(size.get()).unwrap_or(usize::MAX)).unwrap_or(head);
    if (head.len() as u64) < size.get().min(HEAD_LEN as u64) {
        return Err("the front of the image could not be read whole".into());
    }
    if head.starts_with(squashfs::MAGIC) {
        return squashfs::inspect(head, size);
    }
    if let Some(refusal) = disk::gpt(head) {
        return Err(refusal);
    }
    if ext4::is_one(head) {
        return ext4::inspect(head, size);
    }
    if head.starts_with(&[0x1f, 0x8b, 0x08]) {
        return Ok(archive(ImageFormat::Gzip));
    }
    if head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        return Ok(archive(ImageFormat::Zstd));
    }
    if let Some(name) = foreign(head) {
        return Err(format!("{name} is not accepted; a slot takes squashfs, ext4 or a tar.gz archive"));
    }
    Err(disk::mbr(head)
        .unwrap_or_else(|| "no known format; a slot takes squashfs, ext4 or a tar.gz archive".into()))
}

const fn archive(format: ImageFormat) -> Inspection {
    Inspection { format, content: None, label: None, partition_layout: STANDARD }
}

const STANDARD: &str = "standard";

/// Formats that people upload by mistake, so that the answer says which.
fn foreign(head: &[u8]) -> Option<&'static str> {
    let known: [(usize, &[u8], &str); 12] = [
        (0, b"\xfd7zXZ\0", "an xz file"),
        (0, b"BZh", "a bzip2 file"),
        (0, b"PK\x03\x04", "a zip file"),
        (0, b"\xd0\x0d\xfe\xed", "a device tree or FIT image"),
        (0, b"\x27\x05\x19\x56", "a U-Boot image"),
        (0, b"\x7fELF", "a program"),
        (54, b"FAT1", "a FAT file system"),
        (82, b"FAT32", "a FAT file system"),
        (257, b"ustar", "a tar archive that is not compressed"),
        (1024, b"\x10\x20\xf5\xf2", "an F2FS file system"),
        (1024, b"\xe2\xe1\xf5\xe0", "an EROFS file system"),
        (0x8001, b"CD001", "an ISO 9660 image"),
    ];
    known
        .iter()
        .find(|(at, magic, _)| head.get(*at..).is_some_and(|rest| rest.starts_with(magic)))
        .map(|known| known.2)
}

/// Little-endian numbers of a header; `None` past its end.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn u16(&self, at: usize) -> Option<u16> {
        self.0.get(at..)?.first_chunk().map(|bytes| u16::from_le_bytes(*bytes))
    }

    fn u32(&self, at: usize) -> Option<u32> {
        self.0.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
    }

    fn u64(&self, at: usize) -> Option<u64> {
        self.0.get(at..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
    }
}

#[cfg(test)]
pub(crate) mod tests;
