//! Staging in memory.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use ota_core::{
    ByteCount, ImageName, Sha256Digest,
    error::{PortError, PortErrorKind},
    ports::{FileEnd, ImageReader, ImageStore},
    release::{ChecksumFile, DetachedSignature, Evidence, StagedImage},
};

use crate::faults::Faults;

/// Staged images with their signatures.
#[derive(Debug)]
pub struct MemStaging {
    inner: Mutex<Staged>,
    /// Opens that are to fail.
    pub open_faults: Faults,
}

#[derive(Debug, Default)]
struct Staged {
    images: BTreeMap<ImageName, Arc<[u8]>>,
    evidence: BTreeMap<ImageName, Evidence>,
    free: ByteCount,
    /// Bytes that unfinished downloads take.
    unfinished: BTreeMap<ImageName, ByteCount>,
    removed: Vec<ImageName>,
}

impl MemStaging {
    /// Puts a whole image there, replacing one of that name, and describes it.
    pub fn put(&self, name: &ImageName, bytes: &[u8]) -> StagedImage {
        self.with(|staged| staged.images.insert(name.clone(), bytes.into()));
        StagedImage {
            name: name.clone(),
            size: ByteCount(bytes.len() as u64),
            sha256: Sha256Digest::of(bytes),
        }
    }

    /// Puts a detached signature beside an image.
    pub fn sign(&self, name: &ImageName, signature: DetachedSignature) {
        self.with(|staged| staged.evidence.entry(name.clone()).or_default().signatures.push(signature));
    }

    /// Puts a checksum file beside an image.
    pub fn list(&self, name: &ImageName, checksums: ChecksumFile) {
        self.with(|staged| staged.evidence.entry(name.clone()).or_default().checksums = Some(checksums));
    }

    /// The bytes under `name`.
    pub fn bytes(&self, name: &ImageName) -> Option<Arc<[u8]>> {
        self.with(|staged| staged.images.get(name).cloned())
    }

    /// Names of all staged images.
    pub fn names(&self) -> Vec<ImageName> {
        self.with(|staged| staged.images.keys().cloned().collect())
    }

    /// Names that were removed, in order, with repetitions.
    pub fn removed(&self) -> Vec<ImageName> {
        self.with(|staged| staged.removed.clone())
    }

    /// What `free` answers.
    pub fn set_free(&self, free: ByteCount) {
        self.with(|staged| staged.free = free);
    }

    /// An unfinished download of `name` takes so many of the bytes that are free.
    pub fn set_unfinished(&self, name: &ImageName, bytes: ByteCount) {
        self.with(|staged| {
            staged.free = staged.free.saturating_sub(bytes);
            staged.unfinished.insert(name.clone(), bytes);
        });
    }

    fn with<R>(&self, look: impl FnOnce(&mut Staged) -> R) -> R {
        look(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Default for MemStaging {
    /// Empty, with 1 GiB free.
    fn default() -> Self {
        let staged = Staged { free: ByteCount(1 << 30), ..Staged::default() };
        Self { inner: Mutex::new(staged), open_faults: Faults::default() }
    }
}

impl ImageStore for MemStaging {
    fn open(&self, name: &ImageName) -> Result<Box<dyn ImageReader>, PortError> {
        self.open_faults.call()?;
        let bytes = self.bytes(name);
        bytes
            .map(|bytes| Box::new(MemReader::new(bytes)) as Box<dyn ImageReader>)
            .ok_or_else(|| PortErrorKind::Io(format!("{name} is not in staging")).into())
    }

    fn end(&self, name: &ImageName, most: usize) -> Result<FileEnd, PortError> {
        let bytes = self.bytes(name);
        let bytes = bytes.ok_or_else(|| PortErrorKind::Io(format!("{name} is not in staging")))?;
        let end = bytes[bytes.len().saturating_sub(most)..].to_vec();
        Ok(FileEnd { bytes: end, length: ByteCount(bytes.len() as u64) })
    }

    fn evidence(&self, name: &ImageName) -> Result<Evidence, PortError> {
        Ok(self.with(|staged| staged.evidence.get(name).cloned().unwrap_or_default()))
    }

    fn remove(&self, name: &ImageName) -> Result<(), PortError> {
        self.with(|staged| {
            staged.images.remove(name);
            staged.evidence.remove(name);
            staged.removed.push(name.clone());
        });
        Ok(())
    }

    fn free(&self) -> Result<ByteCount, PortError> {
        Ok(self.with(|staged| staged.free))
    }

    fn room_for(&self, name: &ImageName) -> Result<ByteCount, PortError> {
        Ok(self.with(|staged| staged.free + staged.unfinished.get(name).copied().unwrap_or_default()))
    }

    fn forget_unfinished(&self, keep: &ImageName) -> Result<(), PortError> {
        self.with(|staged| {
            let gone: u64 =
                staged.unfinished.iter().filter(|(name, _)| *name != keep).map(|(_, b)| b.get()).sum();
            staged.unfinished.retain(|name, _| name == keep);
            staged.free = staged.free + ByteCount(gone);
        });
        Ok(())
    }
}

/// Reads bytes in memory, at most 4,093 at a time, so that readers meet short reads.
#[derive(Debug)]
pub struct MemReader {
    bytes: Arc<[u8]>,
    at: usize,
}

impl MemReader {
    /// From the start of `bytes`.
    pub fn new(bytes: impl Into<Arc<[u8]>>) -> Self {
        Self { bytes: bytes.into(), at: 0 }
    }
}

impl ImageReader for MemReader {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize, PortError> {
        let rest = &self.bytes[self.at..];
        let count = rest.len().min(buf.len()).min(4093);
        buf[..count].copy_from_slice(&rest[..count]);
        self.at += count;
        Ok(count)
    }
}

/// Reads everything, at most `limit` bytes and one more.
pub(crate) fn read_all(image: &mut dyn ImageReader, limit: ByteCount) -> Result<Vec<u8>, PortError> {
    let mut all = Vec::new();
    let mut buf = [0; 4096];
    while all.len() as u64 <= limit.get() {
        match image.read(&mut buf)? {
            0 => break,
            count => all.extend_from_slice(&buf[..count]),
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_goes_on_with_the_old_bytes_when_the_name_is_replaced() {
        let staging = MemStaging::default();
        let name: ImageName = "one.img".parse().unwrap();
        staging.put(&name, &[1; 10_000]);
        let mut reader = staging.open(&name).unwrap();
        staging.put(&name, &[2; 10]);
        assert_eq!(read_all(&mut *reader, ByteCount(20_000)).unwrap(), vec![1; 10_000]);
        staging.remove(&name).unwrap();
        assert!(staging.open(&name).is_err());
    }
}
