//! Uploads in the staging folder: hidden while they arrive, whole and recorded when they have a name.
//!
//! Owns the files of uploads and their order of writing; see `record` for which there are. What an upload is good for is
//! decided by others. **Invariant:** under a name lies either the old image with its record or the new one with its own,
//! at every instant.

mod record;
mod writer;

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use ota_core::{
    ByteCount, ImageName, OtaError,
    error::PortError,
    ports::{ImageStore as _, Upload, UploadStore, UploadWriter, Verification},
    release::StagedImage,
};

use crate::{FetchError, Staging, error::During, staging::beside};

pub(crate) use record::record_name;
use writer::Incoming;

/// Uploads in a staging folder. Clones share everything.
#[derive(Clone, Debug)]
pub struct StagedUploads {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    staging: Staging,
    /// Most that all uploads together may take.
    quota: Option<ByteCount>,
    /// Bytes of uploads that are arriving.
    arriving: AtomicU64,
    /// Number of the next hidden file.
    next: AtomicU64,
    /// Held while names change.
    names: Mutex<()>,
}

impl StagedUploads {
    /// Takes up the uploads in `staging`, and removes what an earlier run did not finish; where nothing can be removed, a
    /// later one does.
    ///
    /// `quota`: most bytes that all uploads together may take; without one, what the medium has.
    ///
    /// # Errors
    /// `Io`.
    pub fn open(staging: Staging, quota: Option<ByteCount>) -> Result<Self, FetchError> {
        match record::recover(&staging) {
            Err(FetchError::Io { doing, path, source }) if takes_nothing(&source) => {
                tracing::warn!(doing, path = %path.display(), error = %source, "unfinished uploads stay");
            }
            recovered => recovered?,
        }
        let inner = Inner {
            staging,
            quota,
            arriving: AtomicU64::new(0),
            next: AtomicU64::new(0),
            names: Mutex::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }
}

/// Whether the file system is read-only, or full.
fn takes_nothing(error: &std::io::Error) -> bool {
    use std::io::ErrorKind as Kind;
    matches!(error.kind(), Kind::ReadOnlyFilesystem | Kind::StorageFull | Kind::QuotaExceeded)
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, ()> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hidden(&self, name: &ImageName) -> String {
        format!(".{name}.{}.incoming", self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// Whether an upload of `name` may grow to `length`, beside all others and what else is arriving. `have`: what is
    /// counted of it already.
    fn check_quota(&self, name: &ImageName, have: u64, length: u64) -> Result<(), PortError> {
        let Some(quota) = self.quota else { return Ok(()) };
        let stored = record::stored_bytes(&self.staging, name).map_err(port)?;
        let arriving = self.arriving.load(Ordering::Relaxed).saturating_sub(have);
        let available = quota.saturating_sub(stored + ByteCount(arriving));
        let required = ByteCount(length);
        if required > available {
            return Err(OtaError::InsufficientSpace { place: "uploads".into(), required, available }.into());
        }
        Ok(())
    }

    /// A name that something else has: a download, a signature, a checksum file.
    fn refuse_taken(&self, name: &ImageName) -> Result<(), PortError> {
        let busy = |with: String| Err(OtaError::SystemBusy { with }.into());
        if let Some(ending) = beside().find(|ending| name.as_str().ends_with(&format!(".{ending}"))) {
            return busy(format!(
                "signatures and checksums: files that end with .{ending} lie beside images"
            ));
        }
        let there = self.staging.find(name.as_str()).map_err(port)?.is_some();
        if there && record::read(&self.staging, name).map_err(port)?.is_none() {
            return busy(format!("the file {name}, which is in staging and is no upload"));
        }
        Ok(())
    }
}

impl UploadStore for StagedUploads {
    fn begin(
        &self,
        name: &ImageName,
        announced: Option<ByteCount>,
    ) -> Result<Box<dyn UploadWriter>, PortError> {
        self.inner.refuse_taken(name)?;
        self.inner.check_quota(name, 0, announced.map_or(0, ByteCount::get))?;
        let incoming = Incoming::begin(Arc::clone(&self.inner), name.clone(), announced)?;
        Ok(Box::new(incoming))
    }

    fn list(&self) -> Result<Vec<Upload>, PortError> {
        let files = self.inner.staging.names().map_err(port)?;
        let names = files.iter().filter_map(|file| record::image_of(file, ".upload"));
        names.filter_map(|name| self.find(&name).transpose()).collect()
    }

    fn find(&self, name: &ImageName) -> Result<Option<Upload>, PortError> {
        let _names = self.inner.lock();
        let found = record::read(&self.inner.staging, name).map_err(port)?;
        Ok(found.map(|(record, unchanged)| record.into_upload(unchanged)))
    }

    fn record_verification(
        &self,
        image: &StagedImage,
        verification: &Verification,
    ) -> Result<bool, PortError> {
        let _names = self.inner.lock();
        let staging = &self.inner.staging;
        let Some((mut record, true)) = record::read(staging, &image.name).map_err(port)? else {
            return Ok(false);
        };
        if record.image != *image {
            return Ok(false);
        }
        record.verification = Some(verification.clone());
        record::replace(staging, &self.inner.hidden(&image.name), &record).map_err(port)?;
        Ok(true)
    }

    fn remove(&self, name: &ImageName) -> Result<bool, PortError> {
        let _names = self.inner.lock();
        let staging = &self.inner.staging;
        if record::read(staging, name).map_err(port)?.is_none() {
            return Ok(false);
        }
        staging.remove(name)?;
        Ok(true)
    }
}

fn port(error: FetchError) -> PortError {
    error.into_port(During::Fetch)
}

#[cfg(test)]
mod tests;
