//! CMS signatures with an Ed25519 key, in the shape of RFC 8419.
//!
//! `openssl cms` makes them from 3.2 on only. So the message is put together here and the key stays with `openssl pkeyutl`,
//! which signs the attributes: content type and the SHA-512 of the image.

use std::{
    ffi::OsString,
    fs::{self, File},
    path::Path,
};

use cms::{
    cert::{CertificateChoices, IssuerAndSerialNumber},
    content_info::{CmsVersion, ContentInfo},
    signed_data::{EncapsulatedContentInfo, SignedData, SignerIdentifier, SignerInfo},
};
use const_oid::{
    ObjectIdentifier,
    db::{rfc5911, rfc5912, rfc8410},
};
use der::{
    Any, Decode as _, Encode as _,
    asn1::{OctetString, SetOfVec},
};
use ring::{
    digest::{Context, SHA512},
    signature::{ED25519, UnparsedPublicKey},
};
use rustls_pki_types::{
    CertificateDer,
    pem::{self, PemObject as _},
};
use x509_cert::{Certificate, attr::Attribute, spki::AlgorithmIdentifierOwned};

use crate::{ReleaseError, durable, error::at, external::OPENSSL};

/// What a certificate in DER begins with, and no PEM file does: a SEQUENCE.
const DER: u8 = 0x30;

/// The certificates of a PEM file in its order, or the one of a DER file.
pub(crate) fn certificates(path: &Path) -> Result<Vec<Certificate>, ReleaseError> {
    let refuse = |why: String| ReleaseError::Certificate { path: path.to_owned(), why };
    let bytes = fs::read(path).map_err(at("read", path))?;
    if bytes.first() == Some(&DER) {
        return Ok(vec![Certificate::from_der(&bytes).map_err(|error| refuse(error.to_string()))?]);
    }
    let one = |der: Result<CertificateDer<'_>, pem::Error>| {
        Certificate::from_der(&der.map_err(|error| refuse(error.to_string()))?)
            .map_err(|error| refuse(error.to_string()))
    };
    let found = CertificateDer::pem_slice_iter(&bytes).map(one).collect::<Result<Vec<_>, _>>()?;
    if found.is_empty() { Err(refuse("there is none in it".into())) } else { Ok(found) }
}

/// Whether the key of a certificate is an Ed25519 one.
pub(crate) fn is_of(certificate: &Certificate) -> bool {
    certificate.tbs_certificate.subject_public_key_info.algorithm.oid == rfc8410::ID_ED_25519
}

/// A detached signature over `image` by `key`, DER, with the certificates of signer and chain in it.
pub(crate) fn sign(
    image: &Path,
    key: &Path,
    signer: &Certificate,
    chain: Vec<Certificate>,
) -> Result<Vec<u8>, ReleaseError> {
    let digest = sha512(image)?;
    let (attributes, signed) = attributes(&digest).map_err(ReleaseError::Cms)?;
    let signature = raw(&signed, key)?;
    // `openssl cms` looks whether key and certificate belong together; pkeyutl signs with whatever key it gets.
    let public = signer.tbs_certificate.subject_public_key_info.subject_public_key.raw_bytes();
    UnparsedPublicKey::new(&ED25519, public)
        .verify(&signed, &signature)
        .map_err(|_| ReleaseError::Options("the key is not the one of the certificate"))?;
    message(attributes, signature, signer, chain).map_err(ReleaseError::Cms)
}

fn sha512(path: &Path) -> Result<Vec<u8>, ReleaseError> {
    let mut file = File::open(path).map_err(at("open", path))?;
    let mut hash = Context::new(&SHA512);
    durable::chunks(&mut file, path, |chunk| {
        hash.update(chunk);
        Ok(())
    })?;
    Ok(hash.finish().as_ref().to_vec())
}

/// The signed attributes, and their DER: what the key signs.
fn attributes(digest: &[u8]) -> der::Result<(SetOfVec<Attribute>, Vec<u8>)> {
    let attributes = SetOfVec::try_from(vec![
        attribute(rfc5911::ID_CONTENT_TYPE, Any::encode_from(&rfc5911::ID_DATA)?)?,
        attribute(rfc5911::ID_MESSAGE_DIGEST, Any::encode_from(&OctetString::new(digest)?)?)?,
    ])?;
    let signed = attributes.to_der()?;
    Ok((attributes, signed))
}

fn attribute(oid: ObjectIdentifier, value: Any) -> der::Result<Attribute> {
    Ok(Attribute { oid, values: vec![value].try_into()? })
}

/// `openssl pkeyutl` reads what it signs from a file only.
fn raw(signed: &[u8], key: &Path) -> Result<Vec<u8>, ReleaseError> {
    let folder = tempfile::tempdir().map_err(at("create a folder in", std::env::temp_dir()))?;
    let file = folder.path().join("attributes");
    fs::write(&file, signed).map_err(at("write", &file))?;
    let mut args: Vec<OsString> = ["pkeyutl", "-sign", "-rawin"].map(OsString::from).into();
    args.extend(["-inkey".into(), key.into(), "-in".into(), file.into()]);
    OPENSSL.output(args)
}

fn message(
    attributes: SetOfVec<Attribute>,
    signature: Vec<u8>,
    signer: &Certificate,
    chain: Vec<Certificate>,
) -> der::Result<Vec<u8>> {
    let sha512 = AlgorithmIdentifierOwned { oid: rfc5912::ID_SHA_512, parameters: None };
    let info = SignerInfo {
        version: CmsVersion::V1,
        sid: SignerIdentifier::IssuerAndSerialNumber(IssuerAndSerialNumber {
            issuer: signer.tbs_certificate.issuer.clone(),
            serial_number: signer.tbs_certificate.serial_number.clone(),
        }),
        digest_alg: sha512.clone(),
        signed_attrs: Some(attributes),
        signature_algorithm: AlgorithmIdentifierOwned { oid: rfc8410::ID_ED_25519, parameters: None },
        signature: OctetString::new(signature)?,
        unsigned_attrs: None,
    };
    let certificates = std::iter::once(signer.clone()).chain(chain).map(CertificateChoices::Certificate);
    let data = SignedData {
        version: CmsVersion::V1,
        digest_algorithms: vec![sha512].try_into()?,
        encap_content_info: EncapsulatedContentInfo { econtent_type: rfc5911::ID_DATA, econtent: None },
        certificates: Some(certificates.collect::<Vec<_>>().try_into()?),
        crls: None,
        signer_infos: vec![info].try_into()?,
    };
    let content = Any::encode_from(&data)?;
    ContentInfo { content_type: rfc5911::ID_SIGNED_DATA, content }.to_der()
}
