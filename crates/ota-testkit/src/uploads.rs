//! Uploads in memory, over the staging in memory, so that what was uploaded can be deployed.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ota_core::{
    ByteCount, ImageName, OtaError, Sha256Digest,
    error::{PortError, PortErrorKind},
    ports::{ImageReader, ImageStore as _, Upload, UploadLabel, UploadStore, UploadWriter, Verification},
    release::{Evidence, StagedImage},
};

use crate::{
    faults::Faults,
    images::{MemReader, MemStaging},
};

/// Uploads over a [`MemStaging`], whose free bytes limit them. Clones share everything.
#[derive(Clone, Debug)]
pub struct MemUploads {
    staging: Arc<MemStaging>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    uploads: Mutex<BTreeMap<ImageName, Upload>>,
    arriving: Mutex<Vec<u64>>,
    append_faults: Faults,
    commit_faults: Faults,
}

impl MemUploads {
    /// Over `staging`.
    #[must_use]
    pub fn new(staging: Arc<MemStaging>) -> Self {
        Self { staging, shared: Arc::default() }
    }

    /// Appends that are to fail.
    #[must_use]
    pub fn append_faults(&self) -> &Faults {
        &self.shared.append_faults
    }

    /// Commits that are to fail.
    #[must_use]
    pub fn commit_faults(&self) -> &Faults {
        &self.shared.commit_faults
    }

    /// How many uploads are on their way.
    pub fn arriving(&self) -> usize {
        lock(&self.shared.arriving).len()
    }

    /// Exchanges the staged bytes behind everybody's back; the record stays as it is.
    pub fn exchange(&self, name: &ImageName, bytes: &[u8]) {
        self.staging.put(name, bytes);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl UploadStore for MemUploads {
    fn begin(
        &self,
        name: &ImageName,
        announced: Option<ByteCount>,
    ) -> Result<Box<dyn UploadWriter>, PortError> {
        refuse_beyond(&self.staging, announced.unwrap_or_default())?;
        let mut arriving = lock(&self.shared.arriving);
        let number = arriving.last().map_or(0, |last| last + 1);
        arriving.push(number);
        drop(arriving);
        let (uploads, name) = (self.clone(), name.clone());
        Ok(Box::new(MemIncoming { uploads, name, number, bytes: Vec::new(), sealed: None }))
    }

    fn list(&self) -> Result<Vec<Upload>, PortError> {
        Ok(lock(&self.shared.uploads).values().cloned().collect())
    }

    fn find(&self, name: &ImageName) -> Result<Option<Upload>, PortError> {
        // A deployed image is removed from staging by the engine.
        let there = self.staging.bytes(name).is_some();
        Ok(lock(&self.shared.uploads).get(name).filter(|_| there).cloned())
    }

    fn record_verification(
        &self,
        image: &StagedImage,
        verification: &Verification,
    ) -> Result<bool, PortError> {
        let mut uploads = lock(&self.shared.uploads);
        let Some(upload) = uploads.get_mut(&image.name).filter(|upload| upload.image == *image) else {
            return Ok(false);
        };
        upload.verification = Some(verification.clone());
        Ok(true)
    }

    fn remove(&self, name: &ImageName) -> Result<bool, PortError> {
        let known = lock(&self.shared.uploads).remove(name).is_some();
        if known {
            self.staging.remove(name)?;
        }
        Ok(known)
    }
}

fn refuse_beyond(staging: &MemStaging, required: ByteCount) -> Result<(), PortError> {
    let available = staging.free()?;
    if required > available {
        return Err(OtaError::InsufficientSpace { place: "staging".into(), required, available }.into());
    }
    Ok(())
}

struct MemIncoming {
    uploads: MemUploads,
    name: ImageName,
    number: u64,
    bytes: Vec<u8>,
    sealed: Option<StagedImage>,
}

impl UploadWriter for MemIncoming {
    fn append(&mut self, bytes: &[u8]) -> Result<(), PortError> {
        self.uploads.shared.append_faults.call()?;
        self.bytes.extend_from_slice(bytes);
        refuse_beyond(&self.uploads.staging, ByteCount(self.bytes.len() as u64))
    }

    fn seal(&mut self) -> Result<StagedImage, PortError> {
        let image = StagedImage {
            name: self.name.clone(),
            size: ByteCount(self.bytes.len() as u64),
            sha256: Sha256Digest::of(&self.bytes),
        };
        self.sealed = Some(image.clone());
        Ok(image)
    }

    fn reader(&self) -> Result<Box<dyn ImageReader>, PortError> {
        Ok(Box::new(MemReader::new(self.bytes.as_slice())))
    }

    fn evidence(&self) -> Result<Evidence, PortError> {
        let replaces = lock(&self.uploads.shared.uploads).contains_key(&self.name);
        if replaces { Ok(Evidence::default()) } else { self.uploads.staging.evidence(&self.name) }
    }

    fn commit(self: Box<Self>, label: UploadLabel) -> Result<Upload, PortError> {
        self.uploads.shared.commit_faults.call()?;
        let image =
            self.sealed.clone().ok_or_else(|| PortErrorKind::Io("the upload is not sealed".into()))?;
        let staging = &self.uploads.staging;
        let brings = !label.signatures.is_empty() || label.checksums.is_some();
        if brings || lock(&self.uploads.shared.uploads).contains_key(&self.name) {
            staging.remove(&self.name)?;
        }
        staging.put(&self.name, &self.bytes);
        for signature in label.signatures {
            staging.sign(&self.name, signature);
        }
        if let Some(checksums) = label.checksums {
            staging.list(&self.name, checksums);
        }
        let upload = Upload {
            image,
            version: label.version,
            description: label.description,
            stored: label.stored,
            verification: label.verification,
        };
        lock(&self.uploads.shared.uploads).insert(self.name.clone(), upload.clone());
        Ok(upload)
    }
}

impl Drop for MemIncoming {
    fn drop(&mut self) {
        lock(&self.uploads.shared.arriving).retain(|number| *number != self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label() -> UploadLabel {
        UploadLabel {
            version: "v1.0.0".parse().unwrap(),
            description: None,
            signatures: Vec::new(),
            checksums: None,
            verification: None,
            stored: ota_core::Timestamp::from_secs(0),
        }
    }

    #[test]
    fn only_what_is_committed_is_there() {
        let staging = Arc::new(MemStaging::default());
        let uploads = MemUploads::new(Arc::clone(&staging));
        let name: ImageName = "a.img".parse().unwrap();
        let mut dropped = uploads.begin(&name, None).unwrap();
        dropped.append(b"gone").unwrap();
        assert_eq!(uploads.arriving(), 1);
        drop(dropped);
        assert_eq!((uploads.arriving(), uploads.find(&name).unwrap()), (0, None));
        let mut kept = uploads.begin(&name, None).unwrap();
        kept.append(b"kept").unwrap();
        kept.seal().unwrap();
        kept.commit(label()).unwrap();
        assert_eq!(staging.bytes(&name).as_deref(), Some(&b"kept"[..]));
        assert_eq!(uploads.list().unwrap().len(), 1);
    }
}
