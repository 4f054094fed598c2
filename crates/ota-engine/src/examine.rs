//! Verifies images that people upload: signature first, then format, then whether they fit this device.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use ota_core::{
    ByteCount, Slot, Version,
    error::{OtaError, PortError, SignatureFault},
    ports::{
        Flow, ImageExpectation, ImageFacts, ImageInspector, ImageReader, Stated, Verification, VerifyPolicy,
    },
    release::{DetachedSignature, ImageKind, StagedImage, Vouched},
};

use crate::{
    Engine, EngineError,
    engine::Shared,
    runner::{refuse_below_floor, refuse_larger_than_slot},
};

/// Verify an image.
pub struct ExamineRequest {
    /// What it must turn out to be.
    pub image: StagedImage,
    /// Label that its owner gave it.
    pub version: Version,
    /// Its bytes; those in staging when absent.
    pub bytes: Option<Box<dyn ImageReader>>,
    /// Its detached signatures; those beside it in staging when absent.
    pub signatures: Option<Vec<DetachedSignature>>,
    /// `false` is refused unless the device's policy allows unsigned images; detached signatures are then not looked at.
    pub verify_signature: bool,
    /// Whether an image that does not fit this device is refused; it is else verified without facts.
    pub check_compatibility: bool,
    /// Knows formats.
    pub inspector: Arc<dyn ImageInspector>,
}

/// Stops the work when the one who asked is gone.
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Engine {
    /// Verifies an uploaded image, as it must be before it can be deployed. Reads all of it, once; one image at a time.
    ///
    /// # Errors
    /// `SystemBusy` (OTA_014) while another one is verified; `SignatureInvalid` (OTA_006); `ChecksumMismatch` (OTA_007)
    /// when the bytes are no longer those of the upload; `InvalidImage` (OTA_005) and `InsufficientSpace` (OTA_003)
    /// when it does not fit this device.
    pub async fn examine(&self, request: ExamineRequest) -> Result<Verification, EngineError> {
        let one_at_a_time = Arc::clone(&self.shared.examining).try_acquire_owned();
        let Ok(permit) = one_at_a_time else {
            return Err(OtaError::SystemBusy { with: "the verification of another image".into() }.into());
        };
        let target = self.inactive_slot(None)?;
        let stop = StopOnDrop(Arc::default());
        let stopped = Arc::clone(&stop.0);
        self.blocking(move |shared| {
            // The next one may start only when this one no longer reads.
            let _permit = permit;
            shared.examine(request, target, &stopped)
        })
        .await?
    }
}

impl Shared {
    fn examine(
        &self,
        mut request: ExamineRequest,
        target: Slot,
        stop: &AtomicBool,
    ) -> Result<Verification, EngineError> {
        let (vouched, stated, head) = self.vouch(&mut request, stop)?;
        let fits = self.fitting(&request, target, &vouched, stated.as_ref(), &head);
        let facts = match fits {
            Ok(facts) => Some(facts),
            Err(error) if request.check_compatibility => return Err(error),
            Err(_) => None,
        };
        Ok(Verification { vouched, facts, at: self.ports.clock.wall() })
    }

    /// Whether trusted keys vouch for it, what it states of itself, and its first bytes: of one and the same reading.
    fn vouch(
        &self,
        request: &mut ExamineRequest,
        stop: &AtomicBool,
    ) -> Result<(Vouched, Option<Stated>, Vec<u8>), EngineError> {
        if !request.verify_signature && !self.config.allow_unsigned {
            return Err(OtaError::SignatureInvalid {
                reason: SignatureFault::PolicyRequiresSignature,
                what: "this device installs signed images only".into(),
            }
            .into());
        }
        let image = &request.image;
        let signatures = match request.signatures.take() {
            _ if !request.verify_signature => Vec::new(),
            Some(given) => given,
            None => self.ports.images.signatures(&image.name)?,
        };
        let bytes = match request.bytes.take() {
            Some(given) => given,
            None => self.ports.images.open(&image.name)?,
        };
        let mut reader = KeepHead { bytes, head: Vec::new(), keep: request.inspector.head_len() };
        let expect = ImageExpectation { size: image.size, sha256: image.sha256 };
        let policy = VerifyPolicy { require_signature: !self.config.allow_unsigned };
        let mut observer = |_| if stop.load(Ordering::Relaxed) { Flow::Stop } else { Flow::Continue };
        let (vouched, stated) =
            self.ports.verifier.verify_stated(&mut reader, expect, &signatures, policy, &mut observer)?;
        Ok((vouched, stated, reader.head))
    }

    fn fitting(
        &self,
        request: &ExamineRequest,
        target: Slot,
        vouched: &Vouched,
        stated: Option<&Stated>,
        head: &[u8],
    ) -> Result<ImageFacts, EngineError> {
        let facts = request.inspector.inspect(vouched, head)?;
        let invalid = |what: String| EngineError::from(OtaError::InvalidImage { what });
        if facts.kind == ImageKind::TarGz {
            let what =
                format!("{} archives are not unpacked here; upload the file system image", facts.format);
            return Err(invalid(what));
        }
        if let Some(stated) = stated.filter(|stated| stated.version != request.version) {
            let what = format!("signed as {}, labelled as {}", stated.version, request.version);
            return Err(invalid(what));
        }
        refuse_below_floor(self.floor()?.as_ref(), &request.version)?;
        refuse_larger_than_slot(self, target, vouched.size)?;
        Ok(facts)
    }
}

/// Keeps the front of what is read through it.
struct KeepHead {
    bytes: Box<dyn ImageReader>,
    head: Vec<u8>,
    keep: usize,
}

impl ImageReader for KeepHead {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize, PortError> {
        let count = self.bytes.read(buf)?;
        let missing = self.keep.saturating_sub(self.head.len()).min(count);
        self.head.extend_from_slice(buf.get(..missing).unwrap_or_default());
        Ok(count)
    }
}

/// The first bytes of an image; what is appended to it is not read.
pub(crate) struct Front {
    bytes: Box<dyn ImageReader>,
    left: ByteCount,
}

impl Front {
    pub(crate) fn new(bytes: Box<dyn ImageReader>, length: ByteCount) -> Self {
        Self { bytes, left: length }
    }
}

impl ImageReader for Front {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize, PortError> {
        let most = usize::try_from(self.left.get()).unwrap_or(usize::MAX).min(buf.len());
        let count = self.bytes.read(buf.get_mut(..most).unwrap_or_default())?;
        self.left = self.left.saturating_sub(ByteCount(count as u64));
        Ok(count)
    }
}
