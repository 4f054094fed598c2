//! `ota-admin sign`: a detached signature beside the image.

use std::path::PathBuf;

use ota_release::{SignMethod, sign_detached};
use serde_json::json;

use super::Context;
use crate::exit::Failure;

#[derive(Clone, Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("who").required(true).args(["key", "gpg_key"]))]
pub(crate) struct Args {
    /// Image to sign.
    pub(crate) file: PathBuf,
    /// Private key, PEM: makes a CMS signature IMAGE.p7s (needs openssl).
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub(crate) key: Option<PathBuf>,
    /// The signer's certificate, PEM.
    #[arg(long, value_name = "FILE", requires = "key")]
    pub(crate) cert: Option<PathBuf>,
    /// Certificates between the signer's and the authority that devices trust, PEM.
    #[arg(long, value_name = "FILE", requires = "key")]
    pub(crate) chain: Option<PathBuf>,
    /// Fingerprint or user id: makes an OpenPGP signature IMAGE.sig (needs gpg).
    #[arg(long, value_name = "KEY", conflicts_with = "key")]
    pub(crate) gpg_key: Option<String>,
    /// Key ring of gpg.
    #[arg(long, value_name = "DIR", requires = "gpg_key")]
    pub(crate) gpg_home: Option<PathBuf>,
    /// Write the OpenPGP signature as text, IMAGE.asc.
    #[arg(long, requires = "gpg_key")]
    pub(crate) armor: bool,
    /// Write the signature here and not beside the image.
    #[arg(long, value_name = "FILE")]
    pub(crate) to: Option<PathBuf>,
}

pub(crate) fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let method = match (args.key, args.cert, args.gpg_key) {
        (Some(key), Some(certificate), _) => SignMethod::Cms { key, certificate, chain: args.chain },
        (_, _, Some(key)) => SignMethod::Openpgp { key, homedir: args.gpg_home, armor: args.armor },
        _ => return Err(Failure::Usage("give --key and --cert, or --gpg-key".into())),
    };
    let signature = sign_detached(&args.file, &method, args.to.as_deref())?;
    let document = json!({"image": args.file, "signature": signature, "type": method.kind()});
    context.out.show(&document, |_| signature.display().to_string())
}
