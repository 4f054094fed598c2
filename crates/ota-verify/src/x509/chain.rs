//! Whether a certificate may sign for this device: chain to a configured CA, validity, purpose, strength, revocation.

use std::time::Duration;

use der::{Decode as _, Encode as _};
use ota_core::{
    error::SignatureFault,
    release::{SignatureKind, Signer},
};
use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{
    EndEntityCert, Error, ExpirationPolicy, ExtendedKeyUsageValidator, KeyPurposeIdIter, KeyUsage as Purpose,
    RevocationOptions, RevocationOptionsBuilder, UnknownStatusPolicy, VerifiedPath,
};
use x509_cert::{
    Certificate,
    ext::pkix::{ExtendedKeyUsage, KeyUsage},
};

use super::{
    Anchor, Crl, algorithm,
    anchor::{CODE_SIGNING, key_identity, may_sign_certificates, subject, validity},
};
use crate::{
    digest::HashKind,
    error::Refusal,
    moment::{Moment, Utc},
    policy::Holder,
};

/// What a signer's certificate must say about its purpose (`extendedKeyUsage`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EkuPolicy {
    /// `codeSigning` must be among its purposes.
    #[default]
    CodeSigning,
    /// `codeSigning` must be among them where it names any.
    CodeSigningIfPresent,
    /// Not looked at.
    Any,
}

/// What is asked of a chain beside that it holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct X509Policy {
    /// Purpose of the signer's certificate.
    pub extended_key_usage: EkuPolicy,
    /// Whether every CA of a chain must have a revocation list here that has not run out. Otherwise lists are used
    /// where there are some, also when they have run out: a device that is not visited for years still updates.
    pub require_crl: bool,
}

/// Everything a chain is judged by.
#[derive(Clone, Copy)]
pub(crate) struct Authority<'a> {
    pub(crate) anchors: &'a [Anchor],
    pub(crate) crls: &'a [Crl],
    pub(crate) policy: X509Policy,
    pub(crate) moment: Moment,
}

/// A certificate that may sign, and the DER of every certificate that its chain needed, its own last.
pub(crate) struct Accepted {
    pub(super) holder: Holder,
    pub(super) used: Vec<Vec<u8>>,
}

impl Authority<'_> {
    /// Follows the chain from `signer` over `others` to a configured CA.
    pub(crate) fn accept(
        &self,
        signer: &Certificate,
        others: &[CertificateDer<'_>],
    ) -> Result<Accepted, Refusal> {
        let name = subject(signer);
        self.accept_named(signer, others).map_err(|refusal| refusal.of(&format!("certificate {name}")))
    }

    fn accept_named(&self, signer: &Certificate, others: &[CertificateDer<'_>]) -> Result<Accepted, Refusal> {
        let der = encode(signer)?;
        let leaf_der = CertificateDer::from(der.as_slice());
        let leaf = EndEntityCert::try_from(&leaf_der).map_err(|error| self.refusal(&error))?;
        let trusts: Vec<_> = self.anchors.iter().map(|anchor| anchor.trust.clone()).collect();
        let now = UnixTime::since_unix_epoch(Duration::from_secs(self.moment.secs()));
        let crls: Vec<_> = self.crls.iter().map(|crl| &crl.list).collect();
        let path = leaf
            .verify_for_usage(
                algorithm::IN_CERTIFICATES,
                &trusts,
                others,
                now,
                CertificatePurpose(self.policy.extended_key_usage),
                self.revocation(&crls)?,
                None,
            )
            .map_err(|error| self.refusal(&error))?;
        self.check_signer(signer)?;
        let anchor = self.anchor_of(&path)?;
        let mut used = self.check_issuers(&path, anchor)?;
        used.push(der);
        let identity = key_identity(signer);
        let mut marks: Vec<String> = used.iter().map(|der| hex::encode(HashKind::Sha256.of(der))).collect();
        let fingerprint = marks.last().cloned().unwrap_or_default();
        marks.extend(
            used.iter().filter_map(|der| Certificate::from_der(der).ok()).map(|used| key_identity(&used)),
        );
        let signer = Signer { kind: SignatureKind::Cms, fingerprint, name: subject(signer) };
        Ok(Accepted { holder: Holder { signer, identity, role: anchor.role, marks }, used })
    }

    fn revocation<'c>(
        &self,
        crls: &'c [&'c webpki::CertRevocationList<'c>],
    ) -> Result<Option<RevocationOptions<'c>>, Refusal> {
        let Ok(options) = RevocationOptionsBuilder::new(crls) else {
            return if self.policy.require_crl {
                Err(Refusal::new(
                    SignatureFault::Revoked,
                    "this device requires a revocation list and has none",
                ))
            } else {
                Ok(None)
            };
        };
        let (unknown, expired) = if self.policy.require_crl {
            (UnknownStatusPolicy::Deny, ExpirationPolicy::Enforce)
        } else {
            (UnknownStatusPolicy::Allow, ExpirationPolicy::Ignore)
        };
        Ok(Some(options.with_status_policy(unknown).with_expiration_policy(expired).build()))
    }

    /// What webpki leaves to its caller about the signer: key usage, required purpose, strength of the key.
    fn check_signer(&self, signer: &Certificate) -> Result<(), Refusal> {
        let usage = |what: &str| Err(Refusal::new(SignatureFault::KeyUsage, what));
        let tbs = &signer.tbs_certificate;
        match tbs.get::<KeyUsage>() {
            Ok(Some((_, bits))) if !bits.digital_signature() => {
                return usage("its key usage lacks digitalSignature");
            }
            Err(_) => return Err(Refusal::malformed("its key usage cannot be read")),
            Ok(_) => {}
        }
        if self.policy.extended_key_usage == EkuPolicy::CodeSigning {
            match tbs.get::<ExtendedKeyUsage>() {
                Ok(Some((_, purposes))) if purposes.0.contains(&CODE_SIGNING) => {}
                Err(_) => return Err(Refusal::malformed("its extended key usage cannot be read")),
                Ok(_) => {
                    return usage("it is not meant for code signing (extendedKeyUsage lacks codeSigning)");
                }
            }
        }
        algorithm::strong_enough(&tbs.subject_public_key_info)
    }

    fn anchor_of(&self, path: &VerifiedPath<'_>) -> Result<&Anchor, Refusal> {
        let trust = path.anchor();
        let same = |anchor: &&Anchor| {
            anchor.trust.subject == trust.subject
                && anchor.trust.subject_public_key_info == trust.subject_public_key_info
        };
        // Of two certificates of one CA key the one that is valid now counts: that is how a CA is renewed.
        let mut anchors = self.anchors.iter().filter(same);
        let first = anchors
            .next()
            .ok_or_else(|| Refusal::new(SignatureFault::Untrusted, "its CA is not configured"))?;
        match self.check_validity(&first.certificate) {
            Ok(()) => Ok(first),
            Err(refusal) => {
                anchors.find(|next| self.check_validity(&next.certificate).is_ok()).ok_or(refusal)
            }
        }
    }

    /// What webpki leaves to its caller about the CAs; returns the DER of those between signer and anchor.
    fn check_issuers(&self, path: &VerifiedPath<'_>, anchor: &Anchor) -> Result<Vec<Vec<u8>>, Refusal> {
        let mut used = vec![anchor.der.to_vec()];
        for issuer in path.intermediate_certificates() {
            let der = issuer.der();
            let certificate = Certificate::from_der(&der)
                .map_err(|_| Refusal::malformed("a certificate of its chain is damaged"))?;
            let name = subject(&certificate);
            if !may_sign_certificates(&certificate) {
                let what = format!("CA {name} may not sign certificates");
                return Err(Refusal::new(SignatureFault::KeyUsage, what));
            }
            algorithm::strong_enough(&certificate.tbs_certificate.subject_public_key_info)
                .map_err(|refusal| refusal.of(&format!("CA {name}")))?;
            used.push(der.to_vec());
        }
        Ok(used)
    }

    /// webpki takes an anchor for valid at any time; we do not, as openssl does not.
    fn check_validity(&self, certificate: &Certificate) -> Result<(), Refusal> {
        let (from, to) = validity(certificate);
        let now = self.moment.secs();
        let name = subject(certificate);
        if now > to {
            let what = format!("CA {name} expired at {}, it is {}", Utc(to), self.moment);
            return Err(Refusal::new(SignatureFault::Expired, what));
        }
        if now < from {
            let what = format!("CA {name} is valid from {}, it is {}", Utc(from), self.moment);
            return Err(Refusal::new(SignatureFault::NotYetValid, what));
        }
        Ok(())
    }

    fn refusal(&self, error: &Error) -> Refusal {
        let moment = self.moment;
        let (reason, what) = match error {
            Error::CertExpired { not_after, .. } => (
                SignatureFault::Expired,
                format!("it or a CA of its chain expired at {}, it is {moment}", Utc(not_after.as_secs())),
            ),
            Error::CertNotValidYet { not_before, .. } => (
                SignatureFault::NotYetValid,
                format!(
                    "it or a CA of its chain is valid from {}, it is {moment}",
                    Utc(not_before.as_secs())
                ),
            ),
            Error::CertRevoked => (SignatureFault::Revoked, "it or a CA of its chain was revoked".into()),
            Error::CrlExpired { .. } | Error::UnknownRevocationStatus => (
                SignatureFault::Revoked,
                format!("no current revocation list covers its chain: {error}, it is {moment}"),
            ),
            Error::InvalidCrlSignatureForPublicKey => (
                SignatureFault::Malformed,
                "the newest revocation list of its CA's name is signed with another key; take that list away, or give \
                 each CA a name of its own"
                    .into(),
            ),
            Error::UnknownIssuer | Error::InvalidSignatureForPublicKey => {
                (SignatureFault::Untrusted, "it does not chain to a CA that this device trusts".into())
            }
            Error::RequiredEkuNotFoundContext(_) => {
                (SignatureFault::KeyUsage, "it or a CA of its chain is not meant for code signing".into())
            }
            Error::CaUsedAsEndEntity
            | Error::EndEntityUsedAsCa
            | Error::PathLenConstraintViolated
            | Error::NameConstraintViolation => {
                (SignatureFault::KeyUsage, format!("it may not sign here: {error}"))
            }
            Error::UnsupportedSignatureAlgorithmContext(_)
            | Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => (
                SignatureFault::WeakAlgorithm,
                format!("its chain is signed with an algorithm that is not accepted: {error}"),
            ),
            other => (SignatureFault::Malformed, format!("its chain cannot be followed: {other}")),
        };
        Refusal::new(reason, what)
    }
}

fn encode(certificate: &Certificate) -> Result<Vec<u8>, Refusal> {
    certificate.to_der().map_err(|_| Refusal::malformed("a certificate cannot be encoded"))
}

/// The value bytes of [`CODE_SIGNING`], as webpki wants them.
const CODE_SIGNING_DER: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 3];

/// What webpki asks of every certificate of the chain; that the signer names `codeSigning` at all is asked apart,
/// because CAs rarely do.
struct CertificatePurpose(EkuPolicy);

impl ExtendedKeyUsageValidator for CertificatePurpose {
    fn validate(&self, purposes: KeyPurposeIdIter<'_, '_>) -> Result<(), Error> {
        match self.0 {
            EkuPolicy::Any => Ok(()),
            EkuPolicy::CodeSigning | EkuPolicy::CodeSigningIfPresent => {
                Purpose::required_if_present(CODE_SIGNING_DER).validate(purposes)
            }
        }
    }
}
