//! Detached signatures of images, made by the tools that release engineers keep their keys in.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use ota_core::release::SignatureKind;

use crate::{
    ReleaseError, durable, ed25519,
    external::{GPG, OPENSSL, shell},
};

/// Who signs, and how.
#[derive(Clone, Debug)]
pub enum SignMethod {
    /// CMS with an X.509 certificate, DER, through `openssl cms`; with an Ed25519 key through `openssl pkeyutl`.
    Cms {
        /// Private key, PEM.
        key: PathBuf,
        /// The signer's certificate, PEM.
        certificate: PathBuf,
        /// Further certificates up to the CA that devices trust, PEM.
        chain: Option<PathBuf>,
    },
    /// Through a command of one's own: an HSM, a token over PKCS#11, a signing service.
    Command {
        /// Command line for the shell: reads what is to be signed, writes the signature.
        command: String,
        /// What it writes.
        kind: SignatureKind,
    },
    /// `OpenPGP` through `gpg`, with its agent and key ring.
    Openpgp {
        /// Fingerprint or user id of the key.
        key: String,
        /// Key ring other than the user's own.
        homedir: Option<PathBuf>,
        /// Text (`.asc`) instead of binary (`.sig`).
        armor: bool,
    },
}

impl SignMethod {
    /// Encoding of the signatures it makes.
    #[must_use]
    pub const fn kind(&self) -> SignatureKind {
        match self {
            Self::Cms { .. } => SignatureKind::Cms,
            Self::Openpgp { .. } => SignatureKind::Openpgp,
            Self::Command { kind, .. } => *kind,
        }
    }

    const fn ending(&self) -> &'static str {
        match self {
            Self::Cms { .. } | Self::Command { kind: SignatureKind::Cms, .. } => "p7s",
            Self::Command { kind: SignatureKind::Openpgp, .. } => "sig",
            Self::Openpgp { armor: true, .. } => "asc",
            Self::Openpgp { armor: false, .. } => "sig",
        }
    }
}

/// Signs `image`; the signature is written to `output`, else beside the image as `IMAGE.p7s`, `.asc` or `.sig`.
///
/// Returns where it was written. The image is streamed. What lay there before stays until the new signature is whole.
///
/// # Errors
/// [`ReleaseError::Start`] names the missing package; [`ReleaseError::Failed`] holds what the tool said.
pub fn sign_detached(
    image: &Path,
    method: &SignMethod,
    output: Option<&Path>,
) -> Result<PathBuf, ReleaseError> {
    let output = output.map_or_else(|| beside(image, method.ending()), Path::to_path_buf);
    let signature = match method {
        SignMethod::Cms { key, certificate, chain } => cms(image, key, certificate, chain.as_deref())?,
        SignMethod::Command { command, .. } => shell(command, image)?,
        SignMethod::Openpgp { key, homedir, armor } => openpgp(image, key, homedir.as_deref(), *armor)?,
    };
    if signature.is_empty() {
        return Err(ReleaseError::Options("the signing command wrote nothing to standard output"));
    }
    durable::write(&output, &signature, 0o644)?;
    Ok(output)
}

fn cms(image: &Path, key: &Path, certificate: &Path, chain: Option<&Path>) -> Result<Vec<u8>, ReleaseError> {
    if let Some(signer) = ed25519::certificates(certificate)?.first().filter(|signer| ed25519::is_of(signer))
    {
        let others = chain.map(ed25519::certificates).transpose()?.unwrap_or_default();
        return ed25519::sign(image, key, signer, others);
    }
    let mut args: Vec<OsString> =
        ["cms", "-sign", "-binary", "-outform", "DER", "-md", "sha256"].map(OsString::from).into();
    args.extend(["-in".into(), image.into(), "-inkey".into(), key.into()]);
    args.extend(["-signer".into(), certificate.into()]);
    if let Some(chain) = chain {
        args.extend(["-certfile".into(), chain.into()]);
    }
    OPENSSL.output(args)
}

fn openpgp(image: &Path, key: &str, homedir: Option<&Path>, armor: bool) -> Result<Vec<u8>, ReleaseError> {
    let mut args: Vec<OsString> = ["--batch", "--digest-algo", "SHA256"].map(OsString::from).into();
    if let Some(homedir) = homedir {
        args.extend(["--homedir".into(), homedir.into()]);
    }
    if armor {
        args.push("--armor".into());
    }
    args.extend(["--local-user".into(), key.into(), "--output".into(), "-".into()]);
    args.extend(["--detach-sign".into(), image.into()]);
    GPG.output(args)
}

fn beside(image: &Path, ending: &str) -> PathBuf {
    let mut name = image.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    name.into()
}
