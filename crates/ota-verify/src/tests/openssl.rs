//! Certificates and CMS signatures by the `openssl` program.

use std::{
    ops::Range,
    path::{Path, PathBuf},
    time::Duration,
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
    Any, DateTime, DecodePem as _, Encode as _,
    asn1::{OctetString, SetOfVec},
};
use tempfile::TempDir;
use x509_cert::{Certificate, attr::Attribute, spki::AlgorithmIdentifierOwned};

use super::world::{DAY, IMAGE, now, program, read, run, write};
use crate::digest::HashKind;

/// Extensions of a signer that may sign here.
pub(super) const SIGNER: &str =
    "basicConstraints=CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=codeSigning\n";
pub(super) const CA: &str = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n";

pub(super) const ED25519: &[&str] = &["ed25519"];
pub(super) const P256: &[&str] = &["ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
pub(super) const P384: &[&str] = &["ec", "-pkeyopt", "ec_paramgen_curve:P-384"];
pub(super) const P521: &[&str] = &["ec", "-pkeyopt", "ec_paramgen_curve:P-521"];
pub(super) const RSA2048: &[&str] = &["rsa:2048"];
pub(super) const RSA3072: &[&str] = &["rsa:3072"];

/// A folder with keys and certificates, `NAME.key` and `NAME.pem`.
pub(super) struct Pki(TempDir);

impl Pki {
    pub(super) fn new() -> Self {
        let pki = Self(TempDir::new().unwrap());
        write(pki.dir(), "image", IMAGE);
        pki
    }

    /// A root `root` and a signer `signer` below it, both P-256.
    pub(super) fn with_signer() -> Self {
        let pki = Self::new();
        pki.root("root", P256);
        pki.issue("signer", P256, "root", SIGNER);
        pki
    }

    pub(super) fn dir(&self) -> &Path {
        self.0.path()
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir().join(name)
    }

    pub(super) fn pem(&self, name: &str) -> PathBuf {
        self.path(&format!("{name}.pem"))
    }

    pub(super) fn openssl(&self, arguments: &[&str]) {
        run("openssl", program("openssl").current_dir(self.dir()).args(arguments));
    }

    pub(super) fn root(&self, name: &str, key: &[&str]) {
        self.root_with(name, key, CA, "30");
    }

    pub(super) fn root_with(&self, name: &str, key: &[&str], extensions: &str, days: &str) {
        self.request(name, key);
        write(self.dir(), "ext", extensions.as_bytes());
        let (csr, key, pem) = (format!("{name}.csr"), format!("{name}.key"), format!("{name}.pem"));
        self.openssl(&[
            "x509", "-req", "-in", &csr, "-signkey", &key, "-extfile", "ext", "-days", days, "-out", &pem,
        ]);
    }

    /// A key and a certificate for it by `issuer`, valid for ten days.
    pub(super) fn issue(&self, name: &str, key: &[&str], issuer: &str, extensions: &str) {
        self.request(name, key);
        self.certify(name, name, issuer, extensions, &[]);
    }

    /// A certificate `pem` for the request `csr`.
    pub(super) fn certify(&self, pem: &str, csr: &str, issuer: &str, extensions: &str, more: &[&str]) {
        write(self.dir(), "ext", extensions.as_bytes());
        let (csr, pem) = (format!("{csr}.csr"), format!("{pem}.pem"));
        let (ca, ca_key) = (format!("{issuer}.pem"), format!("{issuer}.key"));
        let fixed = [
            "x509",
            "-req",
            "-in",
            &csr,
            "-CA",
            &ca,
            "-CAkey",
            &ca_key,
            "-CAcreateserial",
            "-extfile",
            "ext",
            "-out",
            &pem,
            "-days",
            "10",
        ];
        self.openssl(&[&fixed[..], more].concat());
    }

    fn request(&self, name: &str, key: &[&str]) {
        let (csr, file, subject) = (format!("{name}.csr"), format!("{name}.key"), format!("/CN={name}"));
        let fixed = ["-nodes", "-keyout", &file, "-out", &csr, "-subj", &subject];
        self.openssl(&[&["req", "-new", "-newkey"], key, &fixed[..]].concat());
    }

    /// A revocation list by `issuer` over `revoked`, valid for five days from now: `ISSUER.crl`, PEM.
    pub(super) fn revoke(&self, issuer: &str, revoked: &[&str]) -> PathBuf {
        self.list(issuer, revoked, "01", now()..now() + 5 * DAY)
    }

    /// The same with a number (hexadecimal digits, in pairs) and from when to when it is valid.
    pub(super) fn list(&self, issuer: &str, revoked: &[&str], number: &str, valid: Range<i64>) -> PathBuf {
        let config = "[ca]\ndefault_ca=d\n[d]\ndatabase=index.txt\ncrlnumber=number\ndefault_md=sha256\n\
            default_crl_days=5\ncrl_extensions=e\n[e]\nauthorityKeyIdentifier=keyid:always\n";
        write(self.dir(), "ca.cnf", config.as_bytes());
        write(self.dir(), "index.txt", b"");
        write(self.dir(), "number", format!("{number}\n").as_bytes());
        let (pem, key, crl) = (format!("{issuer}.pem"), format!("{issuer}.key"), format!("{issuer}.crl"));
        let ca = ["ca", "-config", "ca.cnf", "-cert", &pem, "-keyfile", &key];
        for name in revoked {
            self.openssl(&[&ca[..], &["-revoke", &format!("{name}.pem")]].concat());
        }
        let (from, until) = (compact(valid.start), compact(valid.end));
        let dates = ["-crl_lastupdate", &from, "-crl_nextupdate", &until];
        self.openssl(&[&ca[..], &["-gencrl", "-out", &crl], &dates].concat());
        self.path(&crl)
    }

    /// A detached signature over the file `image`, DER.
    pub(super) fn sign(&self, signer: &str) -> Vec<u8> {
        self.sign_with(&[signer], &[])
    }

    /// The same with more arguments and signers.
    pub(super) fn sign_with(&self, signers: &[&str], more: &[&str]) -> Vec<u8> {
        self.sign_file("image", signers, more)
    }

    /// The same over another file.
    pub(super) fn sign_file(&self, file: &str, signers: &[&str], more: &[&str]) -> Vec<u8> {
        let files: Vec<(String, String)> =
            signers.iter().map(|name| (format!("{name}.pem"), format!("{name}.key"))).collect();
        let mut arguments =
            vec!["cms", "-sign", "-binary", "-in", file, "-outform", "DER", "-out", "signature"];
        for (pem, key) in &files {
            arguments.extend(["-signer", pem, "-inkey", key]);
        }
        arguments.extend(more);
        self.openssl(&arguments);
        read(&self.path("signature"))
    }

    /// The same with an Ed25519 key: put together here, signed by `openssl pkeyutl`.
    pub(super) fn sign_ed25519(&self, signer: &str) -> Vec<u8> {
        let digest = OctetString::new(HashKind::Sha512.of(IMAGE)).unwrap();
        let attributes = SetOfVec::try_from(vec![
            attribute(rfc5911::ID_CONTENT_TYPE, Any::encode_from(&rfc5911::ID_DATA).unwrap()),
            attribute(rfc5911::ID_MESSAGE_DIGEST, Any::encode_from(&digest).unwrap()),
        ])
        .unwrap();
        write(self.dir(), "attributes", &attributes.to_der().unwrap());
        let key = format!("{signer}.key");
        self.openssl(&["pkeyutl", "-sign", "-rawin", "-inkey", &key, "-in", "attributes", "-out", "raw"]);
        let certificate = Certificate::from_pem(read(&self.pem(signer))).unwrap();
        let sha512 = AlgorithmIdentifierOwned { oid: rfc5912::ID_SHA_512, parameters: None };
        let info = SignerInfo {
            version: CmsVersion::V1,
            sid: SignerIdentifier::IssuerAndSerialNumber(IssuerAndSerialNumber {
                issuer: certificate.tbs_certificate.issuer.clone(),
                serial_number: certificate.tbs_certificate.serial_number.clone(),
            }),
            digest_alg: sha512.clone(),
            signed_attrs: Some(attributes),
            signature_algorithm: AlgorithmIdentifierOwned { oid: rfc8410::ID_ED_25519, parameters: None },
            signature: OctetString::new(read(&self.path("raw"))).unwrap(),
            unsigned_attrs: None,
        };
        let data = SignedData {
            version: CmsVersion::V1,
            digest_algorithms: vec![sha512].try_into().unwrap(),
            encap_content_info: EncapsulatedContentInfo { econtent_type: rfc5911::ID_DATA, econtent: None },
            certificates: Some(vec![CertificateChoices::Certificate(certificate)].try_into().unwrap()),
            crls: None,
            signer_infos: vec![info].try_into().unwrap(),
        };
        let content = Any::encode_from(&data).unwrap();
        ContentInfo { content_type: rfc5911::ID_SIGNED_DATA, content }.to_der().unwrap()
    }
}

/// `20250310143000Z`, as openssl wants it.
fn compact(secs: i64) -> String {
    let since = Duration::from_secs(u64::try_from(secs).unwrap());
    DateTime::from_unix_duration(since).unwrap().to_string().replace(['-', ':', 'T'], "")
}

fn attribute(oid: ObjectIdentifier, value: Any) -> Attribute {
    Attribute { oid, values: vec![value].try_into().unwrap() }
}
