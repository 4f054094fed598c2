//! The block digests of a manifest, compared while an image is read once more to be written: damage ends it at the block and
//! not at the end. What decides over the image is its digest as a whole.

use ota_core::{ByteCount, OtaError, Sha256Digest, error::PortError, ports::ImageReader};

use crate::{Manifest, digest::ContentHasher};

/// An image whose blocks are compared.
pub(crate) struct Blocks {
    image: Box<dyn ImageReader>,
    manifest: Manifest,
    /// Number of the block that is being read, from 0.
    number: usize,
    hasher: ContentHasher,
    /// Bytes of it that were read.
    have: u64,
}

impl Blocks {
    pub(crate) fn new(image: Box<dyn ImageReader>, manifest: Manifest) -> Self {
        Self { image, manifest, number: 0, hasher: ContentHasher::new([]), have: 0 }
    }

    /// Takes bytes that were read, up to the end of the image.
    fn take(&mut self, mut bytes: &[u8]) -> Result<(), OtaError> {
        while !bytes.is_empty() {
            let Some(length) = self.length() else { return Ok(()) };
            let now = usize::try_from(length - self.have).unwrap_or(usize::MAX).min(bytes.len());
            let (block, rest) = bytes.split_at(now);
            self.hasher.update(block);
            self.have += now as u64;
            if self.have == length {
                self.compare()?;
            }
            bytes = rest;
        }
        Ok(())
    }

    /// Length of the block that is being read; none behind the last one.
    fn length(&self) -> Option<u64> {
        let Manifest { size, block_size, .. } = &self.manifest;
        let from = block_size.checked_mul(self.number as u64)?;
        size.get().checked_sub(from).filter(|left| *left > 0).map(|left| left.min(*block_size))
    }

    fn compare(&mut self) -> Result<(), OtaError> {
        let hasher = std::mem::replace(&mut self.hasher, ContentHasher::new([]));
        let found = hasher.finish().sha256;
        self.have = 0;
        match self.manifest.blocks.get(self.number) {
            Some(promised) if *promised == found => {
                self.number += 1;
                Ok(())
            }
            promised => Err(self.differs(promised, &found)),
        }
    }

    fn differs(&self, promised: Option<&Sha256Digest>, found: &Sha256Digest) -> OtaError {
        let from = ByteCount(self.manifest.block_size.saturating_mul(self.number as u64));
        let place = format!("block {} (from byte {})", self.number, from.get());
        let expected = promised.map_or_else(|| "no such block".into(), |digest| format!("sha256:{digest}"));
        OtaError::ChecksumMismatch {
            expected: format!("{expected} of {place}"),
            actual: format!("sha256:{found}"),
        }
    }
}

impl ImageReader for Blocks {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize, PortError> {
        let read = self.image.read(buf)?;
        self.take(buf.get(..read).unwrap_or_default())?;
        Ok(read)
    }
}
