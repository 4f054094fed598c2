//! A code-signing authority for images: a CA and a leaf certificate, P-256, made by `openssl`.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use crate::{ReleaseError, durable, error::at, external::OPENSSL};

/// Names and life of the certificates.
#[derive(Clone, Debug)]
pub struct CodeSigningOptions {
    /// Folder for the four files; created with mode 0700.
    pub folder: PathBuf,
    /// Common name of the CA.
    pub ca_name: String,
    /// Common name of the signer.
    pub signer_name: String,
    /// Days that the CA certificate holds.
    pub ca_days: u32,
    /// Days that the signer's certificate holds.
    pub signer_days: u32,
}

impl CodeSigningOptions {
    /// CA for twenty years, signer for five.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            ca_name: "OTA release CA".into(),
            signer_name: "OTA release signer".into(),
            ca_days: 7300,
            signer_days: 1825,
        }
    }
}

/// Files of a code-signing authority, all PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodeSigningCa {
    /// Private key of the CA (0600). Belongs offline.
    pub ca_key: PathBuf,
    /// Certificate of the CA: what devices trust.
    pub ca_certificate: PathBuf,
    /// Private key of the signer (0600).
    pub signer_key: PathBuf,
    /// Certificate of the signer, extended key usage `codeSigning`.
    pub signer_certificate: PathBuf,
}

/// Makes `ca.key`, `ca.pem`, `signer.key` and `signer.pem` in the folder.
///
/// # Errors
/// [`ReleaseError::AlreadyThere`] when one of them exists; [`ReleaseError::Start`], [`ReleaseError::Failed`]; `Io`.
pub fn make_code_signing_ca(options: &CodeSigningOptions) -> Result<CodeSigningCa, ReleaseError> {
    let folder = &options.folder;
    durable::make_folder(folder, true)?;
    let made = CodeSigningCa {
        ca_key: folder.join("ca.key"),
        ca_certificate: folder.join("ca.pem"),
        signer_key: folder.join("signer.key"),
        signer_certificate: folder.join("signer.pem"),
    };
    let files = [&made.ca_key, &made.ca_certificate, &made.signer_key, &made.signer_certificate];
    if let Some(there) = files.into_iter().find(|file| file.exists()) {
        return Err(ReleaseError::AlreadyThere(there.clone()));
    }
    make_key(&made.ca_key)?;
    make_key(&made.signer_key)?;
    certify_ca(options, &made)?;
    certify_signer(options, &made)?;
    Ok(made)
}

fn make_key(path: &Path) -> Result<(), ReleaseError> {
    let file = path.as_os_str();
    let curve = "ec_paramgen_curve:P-256";
    OPENSSL.run([
        "genpkey".as_ref(),
        "-algorithm".as_ref(),
        "EC".as_ref(),
        "-pkeyopt".as_ref(),
        curve.as_ref(),
        "-out".as_ref(),
        file,
    ])?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(at("protect", path))
}

fn certify_ca(options: &CodeSigningOptions, made: &CodeSigningCa) -> Result<(), ReleaseError> {
    let (days, subject) = (options.ca_days.to_string(), subject(&options.ca_name)?);
    OPENSSL.run([
        "req".as_ref(),
        "-x509".as_ref(),
        "-new".as_ref(),
        "-sha256".as_ref(),
        "-key".as_ref(),
        made.ca_key.as_os_str(),
        "-subj".as_ref(),
        subject.as_ref(),
        "-days".as_ref(),
        days.as_ref(),
        "-addext".as_ref(),
        "keyUsage=critical,keyCertSign,cRLSign".as_ref(),
        "-out".as_ref(),
        made.ca_certificate.as_os_str(),
    ])
}

fn certify_signer(options: &CodeSigningOptions, made: &CodeSigningCa) -> Result<(), ReleaseError> {
    let (days, subject) = (options.signer_days.to_string(), subject(&options.signer_name)?);
    let request = options.folder.join(".signer.csr");
    let extensions = options.folder.join(".signer.ext");
    let text = "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n\
                extendedKeyUsage=codeSigning\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n";
    durable::write(&extensions, text.as_bytes(), 0o600)?;
    OPENSSL.run([
        "req".as_ref(),
        "-new".as_ref(),
        "-sha256".as_ref(),
        "-key".as_ref(),
        made.signer_key.as_os_str(),
        "-subj".as_ref(),
        subject.as_ref(),
        "-out".as_ref(),
        request.as_os_str(),
    ])?;
    OPENSSL.run([
        "x509".as_ref(),
        "-req".as_ref(),
        "-sha256".as_ref(),
        "-in".as_ref(),
        request.as_os_str(),
        "-CA".as_ref(),
        made.ca_certificate.as_os_str(),
        "-CAkey".as_ref(),
        made.ca_key.as_os_str(),
        "-set_serial".as_ref(),
        serial()?.as_ref(),
        "-days".as_ref(),
        days.as_ref(),
        "-extfile".as_ref(),
        extensions.as_os_str(),
        "-out".as_ref(),
        made.signer_certificate.as_os_str(),
    ])?;
    for temporary in [&request, &extensions] {
        fs::remove_file(temporary).map_err(at("remove", temporary))?;
    }
    Ok(())
}

/// A random positive serial number of 127 bits.
fn serial() -> Result<String, ReleaseError> {
    use ring::rand::SecureRandom as _;
    let mut bytes = [0; 16];
    ring::rand::SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| ReleaseError::Options("the system has no random numbers"))?;
    bytes[0] &= 0x7f;
    Ok(format!("0x{}", hex::encode(bytes)))
}

fn subject(name: &str) -> Result<String, ReleaseError> {
    let fine = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || " ._-@()".contains(c));
    if fine {
        return Ok(format!("/CN={name}"));
    }
    let rule = "letters, digits, blanks and . _ - @ ( )";
    Err(ReleaseError::BadName { what: "common name", text: name.into(), rule })
}
