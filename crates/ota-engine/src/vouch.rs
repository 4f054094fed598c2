//! Whether trusted keys vouch for the image of a job: once it has arrived, and again before the slot is touched where this
//! gateway was started with other keys since.

use ota_core::{
    error::{OtaError, PortError, SignatureFault},
    job::{Input, Job},
    ports::VerifyPolicy,
    release::Vouched,
};

use crate::{
    effects::{Watch, expectation, same_digest},
    engine::Shared,
    examine::{KeepHead, space},
    facts::failure,
    runner::refuse_larger_than_slot,
};

/// What an image is refused with that no trusted key signed.
pub(crate) fn unsigned() -> OtaError {
    OtaError::SignatureInvalid {
        reason: SignatureFault::PolicyRequiresSignature,
        what: "no trusted key signed this image, and this device installs signed images only".into(),
    }
}

/// What a request is refused with that wants no signature to be checked.
pub(crate) fn unchecked() -> OtaError {
    OtaError::SignatureInvalid {
        reason: SignatureFault::PolicyRequiresSignature,
        what: "this device installs signed images only".into(),
    }
}

/// The signature first, then what the image is and whether the slot holds it: nothing of the slot is touched yet.
pub(crate) fn verify(shared: &Shared, job: &Job, observer: Watch<'_>) -> Input {
    let mut run = || -> Result<Vouched, PortError> {
        let (name, expect) = expectation(job)?;
        let images = &shared.ports.images;
        let evidence = images.evidence(&name)?;
        let mut image = KeepHead::new(images.open(&name)?, shared.ports.inspector.head_len());
        let policy = VerifyPolicy { require_signature: job.verify_signature };
        let verifier = &shared.ports.verifier;
        let (vouched, stated) = verifier.verify_stated(&mut image, expect, &evidence, policy, observer)?;
        stated.as_ref().map_or(Ok(()), |stated| stated.check_version(&job.release.version))?;
        let signed = stated.as_ref().and_then(|stated| stated.unpacked_size).or(job.release.unpacked_size);
        let facts = shared.facts_of(&vouched, &image.head, images.open(&name)?, signed, observer)?;
        stated.map_or(Ok(()), |stated| stated.check_kind(&facts))?;
        refuse_larger_than_slot(shared, job.target, space(&facts, &vouched))?;
        Ok(vouched)
    };
    run().map_or_else(|error| Input::VerifyFailed(failure(&error)), Input::Verified)
}

/// The gateway may have been started with other keys, lists or rules since the image was verified: then what was found counts
/// no more, and it is asked for again before anything is touched.
pub(crate) fn vouched_still(shared: &Shared, job: &Job, observer: Watch<'_>) -> Result<(), PortError> {
    let Some(vouched) = &job.vouched else { return Ok(()) };
    let Shared { ports, config, .. } = shared;
    if vouched.signers.is_empty() {
        return if config.allow_unsigned { Ok(()) } else { Err(unsigned().into()) };
    }
    if vouched.trust == ports.verifier.trust() {
        return Ok(());
    }
    tracing::info!(job = %job.id, "verified with other keys or rules than there are now: verifying again");
    let (name, expect) = expectation(job)?;
    let (mut image, evidence) = (ports.images.open(&name)?, ports.images.evidence(&name)?);
    let policy = VerifyPolicy { require_signature: true };
    let again = ports.verifier.verify(&mut *image, expect, &evidence, policy, observer)?;
    same_digest(&vouched.sha256, &again.sha256)
}
