//! What the device is told to trust: CA certificates, and the lists of certificates that their CAs took back.

use std::path::{Path, PathBuf};

use const_oid::{AssociatedOid as _, db::rfc5280};
use der::{Decode as _, Encode as _};
use rustls_pki_types::{CertificateDer, TrustAnchor};
use webpki::{BorrowedCertRevocationList, CertRevocationList};
use x509_cert::{
    Certificate,
    crl::CertificateList,
    ext::pkix::{BasicConstraints, CrlNumber, KeyUsage},
    time::Time,
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

    /// Every name by which a key list can retire it, in lower-case hexadecimal: digests of the certificate and of its public
    /// key.
    #[must_use]
    pub fn marks(&self) -> [String; 2] {
        [self.fingerprint(), key_identity(&self.certificate)]
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
    fingerprint: String,
    issuer: String,
    /// Seconds since 1970.
    made: u64,
    next: Option<u64>,
    /// Big-endian, without leading zeros.
    number: Vec<u8>,
    file: PathBuf,
}

impl Crl {
    /// Takes a revocation list in DER; `file` is where it was found. Its signature is checked at each use.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn from_der(der: &[u8], file: &Path) -> Result<Self, VerifyError> {
        let refuse = |error: String| VerifyError::content(file, format!("is not a revocation list: {error}"));
        let list = BorrowedCertRevocationList::from_der(der)
            .and_then(|list| list.to_owned())
            .map_err(|error| refuse(error.to_string()))?;
        let dated = CertificateList::from_der(der).map_err(|error| refuse(error.to_string()))?.tbs_cert_list;
        let number =
            dated.crl_extensions.iter().flatten().find(|extension| extension.extn_id == CrlNumber::OID);
        let number = number.map(|extension| CrlNumber::from_der(extension.extn_value.as_bytes())).transpose();
        let number = number.map_err(|error| refuse(format!("its number cannot be read: {error}")))?;
        let secs = |time: Time| time.to_unix_duration().as_secs();
        Ok(Self {
            list: list.into(),
            fingerprint: hex::encode(HashKind::Sha256.of(der)),
            issuer: dated.issuer.to_string(),
            made: secs(dated.this_update),
            next: dated.next_update.map(secs),
            number: number.map(|number| number.0.as_bytes().to_vec()).unwrap_or_default(),
            file: file.to_owned(),
        })
    }

    /// Puts the newest list first. Of several that cover a certificate the first one counts.
    pub(crate) fn newest_first(lists: &mut [Self]) {
        lists.sort_by(|a, b| b.age().cmp(&a.age()));
    }

    /// Greater is newer: when it was made, then its number.
    fn age(&self) -> (u64, usize, &[u8]) {
        (self.made, self.number.len(), &self.number)
    }

    /// SHA-256 of the list, in lower-case hexadecimal.
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Subject of the CA that made it, for people.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// When it was made, in seconds since 1970.
    #[must_use]
    pub const fn made(&self) -> u64 {
        self.made
    }

    /// By when there is to be a newer one, in seconds since 1970, where it says so.
    #[must_use]
    pub const fn next(&self) -> Option<u64> {
        self.next
    }

    /// Where it was found.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }
}

/// `codeSigning`, RFC 5280 section 4.2.1.12.
pub(super) const CODE_SIGNING: const_oid::ObjectIdentifier = rfc5280::ID_KP_CODE_SIGNING;
