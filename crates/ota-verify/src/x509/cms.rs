//! CMS `SignedData` without content (RFC 5652): taken apart, then each signer checked over the digests of the image.

use cms::{
    content_info::{CmsVersion, ContentInfo},
    signed_data::{SignedData, SignerIdentifier, SignerInfo},
};
use const_oid::{ObjectIdentifier, db::rfc5911};
use der::{
    Any, Decode as _, Encode as _, Header, Length, Tag,
    asn1::{OctetStringRef, SetOfVec},
};
use ota_core::error::SignatureFault;
use rustls_pki_types::CertificateDer;
use webpki::EndEntityCert;
use x509_cert::{
    Certificate, attr::Attribute, ext::pkix::SubjectKeyIdentifier, spki::AlgorithmIdentifierOwned,
};

use super::{algorithm, chain::Authority, encoding};
use crate::{
    digest::{ContentDigests, HashKind},
    error::Refusal,
    policy::{Holder, up_to_refusal},
};

/// More signers or certificates than this are refused.
const MAX_PARTS: usize = 16;

/// A CMS file that keeps to the profile; nothing of it is checked against keys yet.
pub(crate) struct Statement {
    signers: Vec<Claim>,
    certificates: Vec<Certificate>,
}

/// One `SignerInfo`, with the digest it needs of the image.
struct Claim {
    info: SignerInfo,
    digest: Result<HashKind, Refusal>,
}

impl Statement {
    /// Takes a file apart. Zero signers is a refusal (`Missing`).
    pub(crate) fn parse(file: &[u8]) -> Result<Self, Refusal> {
        let der = encoding::cms_der(file)?;
        let data = signed_data(&der)?;
        let certificates = plain_certificates(&data)?;
        let infos = data.signer_infos.0.as_slice();
        if infos.is_empty() {
            return Err(Refusal::new(SignatureFault::Missing, "is a CMS message without a signer"));
        }
        if infos.len() > MAX_PARTS || certificates.len() > MAX_PARTS {
            return Err(Refusal::malformed(format!("has more than {MAX_PARTS} signers or certificates")));
        }
        check_outer(&data)?;
        let claim =
            |info: &SignerInfo| Claim { digest: algorithm::digest(&info.digest_alg), info: info.clone() };
        Ok(Self { signers: infos.iter().map(claim).collect(), certificates })
    }

    /// How many signatures it holds.
    pub(crate) const fn signers(&self) -> usize {
        self.signers.len()
    }

    /// The digests of the image that its signers need.
    pub(crate) fn digests(&self) -> impl Iterator<Item = HashKind> + '_ {
        self.signers.iter().filter_map(|claim| claim.digest.as_ref().ok().copied())
    }

    /// Checks the signers in the order of the file, up to the first whose signature does not hold.
    pub(crate) fn check(
        &self,
        content: &ContentDigests,
        authority: Authority<'_>,
    ) -> Vec<Result<Holder, Refusal>> {
        let mut used = Vec::new();
        let checked =
            self.signers.iter().map(|claim| self.check_signer(claim, content, authority, &mut used));
        let mut outcomes = up_to_refusal(checked);
        if outcomes.iter().all(Result::is_ok) && !self.all_needed(&used, authority) {
            outcomes.push(Err(Refusal::malformed("carries a certificate that no signature needs")));
        }
        outcomes
    }

    fn check_signer(
        &self,
        claim: &Claim,
        content: &ContentDigests,
        authority: Authority<'_>,
        used: &mut Vec<Vec<u8>>,
    ) -> Result<Holder, Refusal> {
        let kind = claim.digest.clone()?;
        let attributes =
            claim.info.signed_attrs.as_ref().ok_or_else(|| Refusal::malformed("has no signed attributes"))?;
        check_content_type(attributes)?;
        check_message_digest(attributes, kind, content)?;
        let certificate = self.certificate_of(&claim.info.sid)?;
        algorithm::strong_enough(&certificate.tbs_certificate.subject_public_key_info)?;
        check_signature(&claim.info, kind, attributes, certificate)?;
        let others = self.others(certificate)?;
        let accepted = authority.accept(certificate, &others)?;
        used.extend(accepted.used);
        Ok(accepted.holder)
    }

    fn certificate_of(&self, sid: &SignerIdentifier) -> Result<&Certificate, Refusal> {
        let mut matching = self.certificates.iter().filter(|certificate| names(sid, certificate));
        match (matching.next(), matching.next()) {
            (Some(certificate), None) => Ok(certificate),
            (None, _) => Err(Refusal::malformed("the certificate of the signer is not in the message")),
            (Some(_), Some(_)) => Err(Refusal::malformed("two certificates in the message fit the signer")),
        }
    }

    fn others(&self, signer: &Certificate) -> Result<Vec<CertificateDer<'static>>, Refusal> {
        let others = self.certificates.iter().filter(|certificate| *certificate != signer);
        others.map(|certificate| certificate.to_der().map(CertificateDer::from).map_err(damaged)).collect()
    }

    /// A certificate beside the chains would be bytes that nothing covers. The CA itself may be there, as configured.
    fn all_needed(&self, used: &[Vec<u8>], authority: Authority<'_>) -> bool {
        self.certificates.iter().all(|certificate| {
            certificate.to_der().is_ok_and(|der| {
                used.contains(&der)
                    || authority.anchors.iter().any(|anchor| anchor.der.as_ref() == der.as_slice())
            })
        })
    }
}

fn damaged(error: der::Error) -> Refusal {
    Refusal::malformed(format!("is not a CMS message: {error}"))
}

/// Decodes, and refuses encodings that are not canonical.
///
/// `der` decodes strictly already; what it might let pass would come out shorter when encoded again. The bytes
/// themselves are not compared, because `der` 0.7 does not order every SET OF as X.690 does.
fn signed_data(der: &[u8]) -> Result<SignedData, Refusal> {
    let outer = ContentInfo::from_der(der).map_err(damaged)?;
    if outer.content_type != rfc5911::ID_SIGNED_DATA {
        return Err(Refusal::malformed("is a CMS message of another type than SignedData"));
    }
    let data: SignedData = outer.content.decode_as().map_err(damaged)?;
    let again =
        ContentInfo { content_type: outer.content_type, content: Any::encode_from(&data).map_err(damaged)? };
    if again.to_der().map_err(damaged)?.len() != der.len() {
        return Err(Refusal::malformed("is not encoded in DER"));
    }
    Ok(data)
}

fn plain_certificates(data: &SignedData) -> Result<Vec<Certificate>, Refusal> {
    let choices = data.certificates.iter().flat_map(|set| set.0.iter());
    choices
        .map(|choice| match choice {
            cms::cert::CertificateChoices::Certificate(certificate) => Ok(certificate.clone()),
            cms::cert::CertificateChoices::Other(_) => {
                Err(Refusal::malformed("has a certificate that is not X.509"))
            }
        })
        .collect()
}

/// What stands around the signers and is covered by none of them has one right value only.
fn check_outer(data: &SignedData) -> Result<(), Refusal> {
    if data.encap_content_info.econtent.is_some() {
        return Err(Refusal::malformed("has its content attached; a detached signature is needed"));
    }
    if data.encap_content_info.econtent_type != rfc5911::ID_DATA {
        return Err(Refusal::malformed("signs another type of content than data"));
    }
    if data.crls.is_some() {
        return Err(Refusal::malformed(
            "carries revocation lists; they belong into the key folder of the device",
        ));
    }
    let by_key_id = |info: &SignerInfo| matches!(info.sid, SignerIdentifier::SubjectKeyIdentifier(_));
    let version = |by_key_id: bool| if by_key_id { CmsVersion::V3 } else { CmsVersion::V1 };
    let infos = &data.signer_infos.0;
    if data.version != version(infos.iter().any(by_key_id)) {
        return Err(Refusal::malformed("has a version that does not fit its signers"));
    }
    for info in infos.iter() {
        if info.version != version(by_key_id(info)) {
            return Err(Refusal::malformed("has a signer of a version that does not fit it"));
        }
        if info.unsigned_attrs.is_some() {
            return Err(Refusal::malformed("has unsigned attributes"));
        }
    }
    let announced =
        data.digest_algorithms.iter().all(|algorithm| infos.iter().any(|i| i.digest_alg == *algorithm));
    let complete =
        infos.iter().all(|info| data.digest_algorithms.iter().any(|known| info.digest_alg == *known));
    if !announced || !complete {
        return Err(Refusal::malformed("announces other digests than its signers use"));
    }
    Ok(())
}

fn check_content_type(attributes: &SetOfVec<Attribute>) -> Result<(), Refusal> {
    let value = only(attributes, rfc5911::ID_CONTENT_TYPE, "contentType")?;
    match value.decode_as::<ObjectIdentifier>() {
        Ok(rfc5911::ID_DATA) => Ok(()),
        _ => Err(Refusal::malformed("its signed content type is not data")),
    }
}

fn check_message_digest(
    attributes: &SetOfVec<Attribute>,
    kind: HashKind,
    content: &ContentDigests,
) -> Result<(), Refusal> {
    let value = only(attributes, rfc5911::ID_MESSAGE_DIGEST, "messageDigest")?;
    let signed = value.decode_as::<OctetStringRef<'_>>().map_err(damaged)?;
    let found =
        content.get(kind).ok_or_else(|| Refusal::malformed(format!("{kind} was not taken of the image")))?;
    if signed.as_bytes() != found {
        return Err(Refusal::new(
            SignatureFault::Mismatch,
            format!("is over another image: its signed {kind} differs"),
        ));
    }
    Ok(())
}

/// The one value of an attribute that must be there once.
fn only<'a>(
    attributes: &'a SetOfVec<Attribute>,
    oid: ObjectIdentifier,
    name: &str,
) -> Result<&'a Any, Refusal> {
    let mut found = attributes.iter().filter(|attribute| attribute.oid == oid);
    match (found.next(), found.next()) {
        (Some(attribute), None) if attribute.values.len() == 1 => {
            attribute.values.get(0).ok_or_else(|| Refusal::malformed(format!("{name} is empty")))
        }
        _ => Err(Refusal::malformed(format!("does not have exactly one signed {name}"))),
    }
}

/// The signature is over the attributes as a `SET OF` (RFC 5652 section 5.4), while in the message they stand under an
/// implicit tag: they are encoded anew.
fn check_signature(
    info: &SignerInfo,
    kind: HashKind,
    attributes: &SetOfVec<Attribute>,
    certificate: &Certificate,
) -> Result<(), Refusal> {
    let signed = set_of(attributes)?;
    if holds(&info.signature_algorithm, kind, certificate, &signed, info.signature.as_bytes())? {
        Ok(())
    } else {
        Err(Refusal::new(
            SignatureFault::Mismatch,
            "does not hold: the signed attributes were changed or another key signed",
        ))
    }
}

/// Whether `signature` is over `signed`, by the key of a certificate.
pub(super) fn holds(
    algorithm: &AlgorithmIdentifierOwned,
    digest: HashKind,
    certificate: &Certificate,
    signed: &[u8],
    signature: &[u8],
) -> Result<bool, Refusal> {
    let der = CertificateDer::from(certificate.to_der().map_err(damaged)?);
    let leaf = EndEntityCert::try_from(&der).map_err(|error| {
        Refusal::malformed(format!("the certificate of the signer cannot be used: {error}"))
    })?;
    let mut candidates = algorithm::candidates(algorithm, digest)?.into_iter();
    Ok(candidates.any(|algorithm| leaf.verify_signature(algorithm, signed, signature).is_ok()))
}

/// Encodes anew as X.690 section 11.6 orders it: by the encodings as bytes.
fn set_of(attributes: &SetOfVec<Attribute>) -> Result<Vec<u8>, Refusal> {
    let encoded: Result<Vec<_>, _> = attributes.iter().map(Attribute::to_der).collect();
    let mut encoded = encoded.map_err(damaged)?;
    encoded.sort_unstable();
    let content = encoded.concat();
    let header = Length::try_from(content.len()).and_then(|length| Header::new(Tag::Set, length));
    let mut set = header.and_then(|header| header.to_der()).map_err(damaged)?;
    set.extend(content);
    Ok(set)
}

fn names(sid: &SignerIdentifier, certificate: &Certificate) -> bool {
    let tbs = &certificate.tbs_certificate;
    match sid {
        SignerIdentifier::IssuerAndSerialNumber(id) => {
            id.issuer == tbs.issuer && id.serial_number == tbs.serial_number
        }
        SignerIdentifier::SubjectKeyIdentifier(id) => {
            tbs.get::<SubjectKeyIdentifier>().ok().flatten().is_some_and(|(_, own)| own == *id)
        }
    }
}
