//! One upload on its way: bytes to a hidden file, their digest on the way, everything gone unless it is committed.

use std::{
    fs::File,
    io::{ErrorKind, Write as _},
    os::unix::fs::FileExt as _,
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
};

use nix::errno::Errno;
use ota_core::{
    ByteCount, ImageName, OtaError, Sha256Digest,
    error::{PortError, PortErrorKind, SignatureFault},
    ports::{ImageReader, Upload, UploadLabel, UploadWriter},
    release::{DetachedSignature, Evidence, SIGNATURES_OF_AN_ENDING, SignatureKind, StagedImage},
};
use ring::digest::{Context, SHA256};

use super::{
    Inner, port,
    record::{self, Record},
};
use crate::{
    FetchError,
    error::at,
    staging::{self, SUMS},
};

/// The quota is looked at each time so many more bytes have arrived.
const QUOTA_STEP: u64 = 16 << 20;

/// An upload that is arriving.
pub(super) struct Incoming {
    inner: Arc<Inner>,
    name: ImageName,
    hidden: String,
    file: File,
    hasher: Context,
    have: u64,
    /// Where the quota is looked at again.
    next_check: u64,
    reserved: bool,
    sealed: Option<StagedImage>,
}

impl Incoming {
    pub(super) fn begin(
        inner: Arc<Inner>,
        name: ImageName,
        announced: Option<ByteCount>,
    ) -> Result<Self, PortError> {
        let hidden = inner.hidden(&name);
        let file = inner.staging.make_new(&hidden).map_err(port)?;
        let incoming = Self {
            inner,
            name,
            hidden,
            file,
            hasher: Context::new(&SHA256),
            have: 0,
            next_check: QUOTA_STEP,
            reserved: announced.is_some(),
            sealed: None,
        };
        if let Some(announced) = announced {
            incoming.inner.staging.reserve(&incoming.file, 0, announced.get()).map_err(port)?;
        }
        Ok(incoming)
    }

    fn path(&self) -> PathBuf {
        self.inner.staging.named(&self.hidden)
    }

    fn sealed(&self) -> Result<&StagedImage, PortError> {
        self.sealed.as_ref().ok_or_else(|| PortErrorKind::Io("the upload is not sealed".into()).into())
    }

    /// What goes when the image comes: everything else if it brings something, else what the one before brought.
    fn dropped(&self, own: &[String]) -> Result<Vec<String>, PortError> {
        if own.is_empty() {
            let before = record::read(&self.inner.staging, &self.name).map_err(port)?;
            return Ok(before.map(|(record, _)| record.signatures).unwrap_or_default());
        }
        Ok(staging::beside().filter(|ending| !own.contains(ending)).collect())
    }

    /// The error of a write, with what the medium lacks.
    fn full(&self, error: std::io::Error, bytes: usize) -> FetchError {
        let number = error.raw_os_error().map(Errno::from_raw);
        if !matches!(number, Some(Errno::ENOSPC | Errno::EDQUOT | Errno::EFBIG)) {
            return at("write", self.path())(error);
        }
        FetchError::Space {
            required: ByteCount(bytes as u64),
            available: self.inner.staging.free_bytes().unwrap_or_default(),
        }
    }
}

impl UploadWriter for Incoming {
    fn append(&mut self, bytes: &[u8]) -> Result<(), PortError> {
        let more = bytes.len() as u64;
        if self.have + more > self.next_check {
            self.inner.check_quota(&self.name, self.have, self.have + more)?;
            self.next_check = self.have + more + QUOTA_STEP;
        }
        self.file.write_all(bytes).map_err(|error| port(self.full(error, bytes.len())))?;
        self.hasher.update(bytes);
        self.have += more;
        self.inner.arriving.fetch_add(more, Ordering::Relaxed);
        Ok(())
    }

    fn seal(&mut self) -> Result<StagedImage, PortError> {
        self.inner.check_quota(&self.name, self.have, self.have)?;
        if self.reserved {
            // Gives back what was set aside and not used.
            self.file.set_len(self.have).map_err(|error| port(at("shorten", self.path())(error)))?;
        }
        self.file.sync_all().map_err(|error| port(self.full(error, 0)))?;
        let mut digest = [0; 32];
        digest.copy_from_slice(self.hasher.clone().finish().as_ref());
        let image =
            StagedImage { name: self.name.clone(), size: ByteCount(self.have), sha256: Sha256Digest(digest) };
        self.sealed = Some(image.clone());
        Ok(image)
    }

    fn reader(&self) -> Result<Box<dyn ImageReader>, PortError> {
        self.sealed()?;
        let file = self.file.try_clone().map_err(|error| port(at("open", self.path())(error)))?;
        Ok(Box::new(Positioned { file, at: 0, path: self.path() }))
    }

    fn evidence(&self) -> Result<Evidence, PortError> {
        self.inner.staging.evidence_but(&self.name, &self.dropped(&[])?)
    }

    fn commit(self: Box<Self>, label: UploadLabel) -> Result<Upload, PortError> {
        let image = self.sealed()?.clone();
        let staging = &self.inner.staging;
        let _names = self.inner.lock();
        let beside = beside(&label)?;
        let own: Vec<String> = beside.iter().map(|(ending, _)| ending.clone()).collect();
        let record = Record {
            image,
            version: label.version,
            description: label.description,
            stored: label.stored,
            verification: label.verification,
            stamp: record::stamp_of(staging, &self.hidden, &self.file).map_err(port)?,
            dropped: self.dropped(&own)?,
            signatures: own,
        };
        record::commit(staging, &self.hidden, &record, &beside).map_err(port)?;
        Ok(record.into_upload(true))
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.inner.arriving.fetch_sub(self.have, Ordering::Relaxed);
        // After a commit there is nothing of that name any more.
        if let Err(error) = self.inner.staging.unlink(&self.hidden) {
            tracing::warn!(error = %error, "what is left of an upload was not removed");
        }
    }
}

/// What comes with an upload, by the endings under which it is kept.
fn beside(label: &UploadLabel) -> Result<Vec<(String, Vec<u8>)>, PortError> {
    let mut files = Vec::new();
    let mut add = |prefix: &str, signatures: &[DetachedSignature]| {
        signatures.iter().try_for_each(|signature| {
            let free = staging::next_ending(&files, prefix, ending(signature));
            files.push((free.ok_or_else(too_many)?, signature.bytes.clone()));
            Ok::<(), PortError>(())
        })
    };
    add("", &label.signatures)?;
    if let Some(checksums) = &label.checksums {
        add(&format!("{SUMS}."), &checksums.signatures)?;
        files.push((SUMS.into(), checksums.text.clone()));
    }
    Ok(files)
}

fn too_many() -> PortError {
    let what = format!("more than {SIGNATURES_OF_AN_ENDING} signatures of one kind");
    OtaError::SignatureInvalid { reason: SignatureFault::Malformed, what }.into()
}

/// The ending under which a signature is kept.
fn ending(signature: &DetachedSignature) -> &'static str {
    match signature.kind {
        SignatureKind::Cms => "p7s",
        SignatureKind::Openpgp if signature.bytes.starts_with(b"-----BEGIN") => "asc",
        SignatureKind::Openpgp => "sig",
    }
}

/// Reads an open file from its start, whatever others do with its position.
struct Positioned {
    file: File,
    at: u64,
    path: PathBuf,
}

impl ImageReader for Positioned {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize, PortError> {
        loop {
            match self.file.read_at(buf, self.at) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(port(at("read", &self.path)(error))),
                Ok(count) => {
                    self.at += count as u64;
                    return Ok(count);
                }
            }
        }
    }
}
