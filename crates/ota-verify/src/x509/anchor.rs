//! What the device is told to trust: CA certificates, and the lists of certificates that their CAs took back.

use std::path::{Path, PathBuf};

use const_oid::db::rfc5280;
use der::{Decode as _, Encode as _};
use rustls_pki_types::{CertificateDer, TrustAnchor};
use webpki::{BorrowedCertRevocationList, CertRevocationList};
use x509_cert::{
    Certificate,
    ext::pkix::{BasicConstraints, KeyUsage},
};

use super::algorithm;
use crate::{digest::HashKind, error::VerifyError, policy::KeyRole};

/// A CA certificate that signers may chain to.
#[derive(Debug)]
pub struct Anchor {
    pub(super) der: CertificateDer<'static>,
    pub(super) trust: TrustAnchor<'static>,
    pub(super) certificate: Certificate,
    pub(super) role: KeyRole,
    file: PathBuf,
}

impl Anchor {
    /// Takes a CA certificate in DER; `file` is where it was found.
    ///
    /// # Errors
    /// When it cannot be read, is not a CA certificate, or its key is too weak. Its validity is judged at each use.
    pub fn from_der(der: Vec<u8>, role: KeyRole, file: &Path) -> Result<Self, VerifyError> {
        let refuse = |what: String| VerifyError::content(file, what);
        let der = CertificateDer::from(der);
        let certificate = Certificate::from_der(&der)
            .map_err(|error| refuse(format!("is not an X.509 certificate: {error}")))?;
        require_ca(&certificate).map_err(|what| refuse(format!("{} {what}", subject(&certificate))))?;
        algorithm::strong_enough(&certificate.tbs_certificate.subject_public_key_info)
            .map_err(|refusal| refuse(refusal.what))?;
        let trust = webpki::anchor_from_trusted_cert(&der)
            .map_err(|error| refuse(format!("cannot be a trust anchor: {error}")))?
            .to_owned();
        Ok(Self { trust, certificate, role, file: file.to_owned(), der })
    }

    /// Its subject, for people.
    #[must_use]
    pub fn subject(&self) -> String {
        subject(&self.certificate)
    }

    /// SHA-256 of the certificate, in lower-case hexadecimal.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        hex::encode(HashKind::Sha256.of(&self.der))
    }

    /// What signers below it are for.
    #[must_use]
    pub const fn role(&self) -> KeyRole {
        self.role
    }

    /// Where it was found.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// From when to when it is valid, in seconds since 1970.
    #[must_use]
    pub fn validity(&self) -> (u64, u64) {
        validity(&self.certificate)
    }
}

pub(super) fn subject(certificate: &Certificate) -> String {
    certificate.tbs_certificate.subject.to_string()
}

pub(super) fn validity(certificate: &Certificate) -> (u64, u64) {
    let validity = certificate.tbs_certificate.validity;
    (validity.not_before.to_unix_duration().as_secs(), validity.not_after.to_unix_duration().as_secs())
}

/// Digest of the public key, the same for every certificate of one key.
pub(super) fn key_identity(certificate: &Certificate) -> String {
    let key = certificate.tbs_certificate.subject_public_key_info.to_der().unwrap_or_default();
    hex::encode(HashKind::Sha256.of(&key))
}

fn require_ca(certificate: &Certificate) -> Result<(), &'static str> {
    let is_ca = certificate
        .tbs_certificate
        .get::<BasicConstraints>()
        .ok()
        .flatten()
        .is_some_and(|(_, basic)| basic.ca);
    if !is_ca {
        return Err(
            "is not a CA certificate (basicConstraints CA:TRUE is missing); put the CA here, not the signer",
        );
    }
    if !may_sign_certificates(certificate) {
        return Err("may not sign certificates (its key usage lacks keyCertSign)");
    }
    Ok(())
}

/// Whether its key usage, when it has one, lets it sign certificates. webpki does not look at that.
pub(super) fn may_sign_certificates(certificate: &Certificate) -> bool {
    match certificate.tbs_certificate.get::<KeyUsage>() {
        Ok(None) => true,
        Ok(Some((_, usage))) => usage.key_cert_sign(),
        Err(_) => false,
    }
}

/// A list of certificates that their CA took back.
#[derive(Debug)]
pub struct Crl {
    pub(super) list: CertRevocationList<'static>,
    file: PathBuf,
}

impl Crl {
    /// Takes a revocation list in DER; `file` is where it was found. Its signature is checked at each use.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn from_der(der: &[u8], file: &Path) -> Result<Self, VerifyError> {
        let list = BorrowedCertRevocationList::from_der(der)
            .and_then(|list| list.to_owned())
            .map_err(|error| VerifyError::content(file, format!("is not a revocation list: {error}")))?;
        Ok(Self { list: list.into(), file: file.to_owned() })
    }

    /// Where it was found.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }
}

/// `codeSigning`, RFC 5280 section 4.2.1.12.
pub(super) const CODE_SIGNING: const_oid::ObjectIdentifier = rfc5280::ID_KP_CODE_SIGNING;
