//! A verifier that does as it is told, but really checks the digest.

use std::sync::{Mutex, PoisonError};

use ota_core::{
    ByteCount, OtaError, Sha256Digest,
    error::{PortError, SignatureFault},
    ports::{ImageExpectation, ImageReader, ImageVerifier, Observer, VerifyPolicy, WriteProgress},
    release::{DetachedSignature, Evidence, Signer, Vouched},
};

use crate::{faults::Faults, images::read_all, slots::go_on};

/// Accepts every signature until it is told to refuse.
#[derive(Debug, Default)]
pub struct FakeVerifier {
    refuse: Mutex<Option<SignatureFault>>,
    trust: Mutex<String>,
    /// Calls that are to fail, with any kind of error; its count is the number of calls.
    pub faults: Faults,
}

impl FakeVerifier {
    /// Every image with a signature is refused for `reason` from now on.
    pub fn refuse(&self, reason: SignatureFault) {
        *self.refuse.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
    }

    /// As if the device had other keys from now on: what it accepts is marked with this.
    pub fn set_trust(&self, mark: &str) {
        *self.trust.lock().unwrap_or_else(PoisonError::into_inner) = mark.into();
    }

    /// Every signature is accepted from now on.
    pub fn accept(&self) {
        *self.refuse.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl ImageVerifier for FakeVerifier {
    fn verify(
        &self,
        image: &mut dyn ImageReader,
        expect: ImageExpectation,
        evidence: &Evidence,
        policy: VerifyPolicy,
        observer: Observer<'_>,
    ) -> Result<Vouched, PortError> {
        self.faults.call()?;
        let signatures = &evidence.signatures;
        let bytes = read_all(image, expect.size)?;
        go_on(observer, WriteProgress::ReadBack(ByteCount(bytes.len() as u64)))?;
        let digest = Sha256Digest::of(&bytes);
        if bytes.len() as u64 != expect.size.get() || digest != expect.sha256 {
            return Err(OtaError::digest_mismatch(&expect.sha256, &digest).into());
        }
        let refused = *self.refuse.lock().unwrap_or_else(PoisonError::into_inner);
        let reason = refused.filter(|_| !signatures.is_empty() || policy.require_signature);
        let missing = (signatures.is_empty() && policy.require_signature).then_some(SignatureFault::Missing);
        if let Some(reason) = reason.or(missing) {
            return Err(OtaError::SignatureInvalid { reason, what: "as the test wants it".into() }.into());
        }
        let mut signers: Vec<Signer> = signatures.iter().map(signer).collect();
        signers.sort();
        signers.dedup();
        Ok(Vouched { sha256: digest, size: expect.size, signers, checksummed: false, trust: self.trust() })
    }

    fn trust(&self) -> String {
        self.trust.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn signer(signature: &DetachedSignature) -> Signer {
    Signer {
        kind: signature.kind,
        fingerprint: Sha256Digest::of(&signature.bytes).to_string(),
        name: "CN=Test Signer".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::images::MemReader;
    use ota_core::{ports::Flow, release::SignatureKind};

    #[test]
    fn the_digest_counts_even_when_every_signature_is_accepted() {
        let verifier = FakeVerifier::default();
        let expect = ImageExpectation { size: ByteCount(3), sha256: Sha256Digest::of(b"abc") };
        let signatures = [DetachedSignature { kind: SignatureKind::Cms, bytes: b"s".to_vec() }];
        let verify = |bytes: &[u8], signatures: &[DetachedSignature]| {
            let policy = VerifyPolicy { require_signature: true };
            let evidence = Evidence::signatures(signatures.to_vec());
            verifier.verify(&mut MemReader::new(bytes), expect, &evidence, policy, &mut |_| Flow::Continue)
        };
        assert_eq!(verify(b"abc", &signatures).unwrap().signers.len(), 1);
        assert!(verify(b"abd", &signatures).is_err());
        assert!(verify(b"abc", &[]).is_err());
        verifier.refuse(SignatureFault::Untrusted);
        assert!(verify(b"abc", &signatures).is_err());
    }
}
