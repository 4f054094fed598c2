//! Verifies images that people upload: signature first, then format, then whether they fit this device.

use std::sync::{
    Arc, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use ota_core::{
    ByteCount, Slot, Version,
    error::{OtaError, PortError},
    ports::{
        Flow, Front, ImageExpectation, ImageFacts, ImageReader, Observer, Stated, Verification, VerifyPolicy,
    },
    release::{Evidence, StagedImage, Vouched, refuse_below_floor},
};

use crate::{Engine, EngineError, engine::Shared, runner::refuse_larger_than_slot, vouch::unchecked};

/// Verify an image.
pub struct ExamineRequest {
    /// What it must turn out to be.
    pub image: StagedImage,
    /// Label that its owner gave it.
    pub version: Version,
    /// Two readers of its bytes, each from the start: a packed image is read again once it is vouched for. Those in staging
    /// when absent.
    pub bytes: Option<[Box<dyn ImageReader>; 2]>,
    /// What came with it to vouch for it; what lies beside it in staging when absent.
    pub evidence: Option<Evidence>,
    /// `false` is refused unless the device's policy allows unsigned images; detached signatures and checksums are then not
    /// looked at.
    pub verify_signature: bool,
    /// Whether an image that does not fit this device is refused; it is else verified without facts.
    pub check_compatibility: bool,
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
        let mut observer = |_| if stop.load(Ordering::Relaxed) { Flow::Stop } else { Flow::Continue };
        let again = self.vouch(&mut request, &mut observer)?;
        let vouched = again.vouched.clone();
        let fits = self.fitting(&request, target, again, &mut observer);
        let facts = match fits {
            Ok(facts) => Some(facts),
            Err(error) if request.check_compatibility => return Err(error),
            Err(_) => None,
        };
        Ok(Verification { vouched, facts, at: self.ports.clock.wall() })
    }

    /// Whether trusted keys vouch for it, what it states of itself, and its first bytes: of one and the same reading.
    fn vouch(&self, request: &mut ExamineRequest, observer: Observer<'_>) -> Result<VouchedFor, EngineError> {
        if !request.verify_signature && !self.config.allow_unsigned {
            return Err(unchecked().into());
        }
        let image = &request.image;
        let evidence = match request.evidence.take() {
            _ if !request.verify_signature => Evidence::default(),
            Some(given) => given,
            None => self.ports.images.evidence(&image.name)?,
        };
        let [bytes, again] = match request.bytes.take() {
            Some(given) => given,
            None => [self.ports.images.open(&image.name)?, self.ports.images.open(&image.name)?],
        };
        let mut reader = KeepHead::new(bytes, self.ports.inspector.head_len());
        let expect = ImageExpectation { size: image.size, sha256: image.sha256 };
        let policy = VerifyPolicy { require_signature: !self.config.allow_unsigned };
        let (vouched, stated) =
            self.ports.verifier.verify_stated(&mut reader, expect, &evidence, policy, observer)?;
        Ok(VouchedFor { vouched, stated, head: reader.head, again })
    }

    fn fitting(
        &self,
        request: &ExamineRequest,
        target: Slot,
        image: VouchedFor,
        observer: Observer<'_>,
    ) -> Result<ImageFacts, EngineError> {
        let VouchedFor { vouched, stated, head, again } = image;
        let signed = stated.as_ref().and_then(|stated| stated.unpacked_size);
        stated.as_ref().map_or(Ok(()), |stated| stated.check_version(&request.version))?;
        refuse_below_floor(self.floor()?.as_ref(), &request.version)?;
        let facts = self.facts_of(&vouched, &head, again, signed, observer)?;
        stated.map_or(Ok(()), |stated| stated.check_kind(&facts))?;
        refuse_larger_than_slot(self, target, space(&facts, &vouched))?;
        Ok(facts)
    }

    /// What an image is; one that is packed is unpacked for that, in memory. `head`: its first bytes; `bytes`: all of them,
    /// from the start; `signed`: the signed length of what is in it, where there is one.
    pub(crate) fn facts_of(
        &self,
        vouched: &Vouched,
        head: &[u8],
        bytes: Box<dyn ImageReader>,
        signed: Option<ByteCount>,
        observer: Observer<'_>,
    ) -> Result<ImageFacts, PortError> {
        let inspector = &self.ports.inspector;
        let facts = inspector.inspect(vouched, head)?;
        if facts.packing.is_none() {
            return Ok(facts);
        }
        let mut bytes = Front::new(bytes, vouched.size);
        let facts = inspector.look_inside(facts, vouched, &mut bytes, signed, observer)?;
        let of = ImageExpectation { size: vouched.size, sha256: vouched.sha256 };
        *self.looked_into.lock().unwrap_or_else(PoisonError::into_inner) = Some((of, facts.clone()));
        Ok(facts)
    }

    /// What is in the packed image of this length and digest, where this run has looked into it. It says what was in those bytes,
    /// not what lies in staging by now: whoever unpacks that holds what comes out against it.
    pub(crate) fn known_facts(&self, image: ImageExpectation) -> Option<ImageFacts> {
        let known = self.looked_into.lock().unwrap_or_else(PoisonError::into_inner);
        known.as_ref().filter(|(of, _)| *of == image).map(|(_, facts)| facts.clone())
    }
}

/// What a slot must hold to take an image.
pub(crate) fn space(facts: &ImageFacts, vouched: &Vouched) -> ByteCount {
    facts.unpacked.as_ref().map_or(vouched.size, |unpacked| unpacked.space)
}

/// An image that trusted keys vouch for.
struct VouchedFor {
    vouched: Vouched,
    stated: Option<Stated>,
    head: Vec<u8>,
    /// The same bytes once more.
    again: Box<dyn ImageReader>,
}

/// Keeps the front of what is read through it.
pub(crate) struct KeepHead {
    bytes: Box<dyn ImageReader>,
    pub(crate) head: Vec<u8>,
    keep: usize,
}

impl KeepHead {
    pub(crate) fn new(bytes: Box<dyn ImageReader>, keep: usize) -> Self {
        Self { bytes, head: Vec::new(), keep }
    }

    /// The front alone.
    pub(crate) fn of(bytes: Box<dyn ImageReader>, keep: usize) -> Result<Vec<u8>, PortError> {
        let mut this = Self::new(bytes, keep);
        let mut buffer = vec![0; keep];
        while this.head.len() < keep && this.read(&mut buffer)? > 0 {}
        Ok(this.head)
    }
}

impl ImageReader for KeepHead {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize, PortError> {
        let count = self.bytes.read(buf)?;
        let missing = self.keep.saturating_sub(self.head.len()).min(count);
        self.head.extend_from_slice(buf.get(..missing).unwrap_or_default());
        Ok(count)
    }
}
