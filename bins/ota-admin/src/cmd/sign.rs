//! `ota-admin sign`: a detached signature beside the image, or a trailer in it.

use std::path::PathBuf;

use ota_release::{SignMethod, sign_detached};
use serde_json::json;

use super::{Context, embed};
use crate::exit::Failure;

#[derive(Clone, Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("who").required(true).args(["key", "gpg_key", "command"]))]
pub(crate) struct Args {
    /// Image to sign.
    pub(crate) file: PathBuf,
    /// Private key, PEM or PKCS#8: makes a CMS signature IMAGE.p7s (needs openssl).
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
    /// Sign through a command of your own (HSM, PKCS#11, signing service): it reads what is to be signed and writes the
    /// detached signature.
    #[arg(long, value_name = "COMMAND")]
    pub(crate) command: Option<String>,
    /// What that command writes.
    #[arg(long, value_enum, requires = "command", default_value = "cms")]
    pub(crate) command_writes: embed::Encoding,
    /// Write the signature, or with --embed the one-file image, here.
    #[arg(long, value_name = "FILE")]
    pub(crate) to: Option<PathBuf>,
    /// Make a one-file image: manifest and signature in a trailer behind the image (docs/image-trailer.md).
    #[arg(long, requires_all = ["to", "release_version", "model"])]
    pub(crate) embed: bool,
    /// Add a signature to a one-file image that has some, over the manifest it has.
    #[arg(long, requires = "to", conflicts_with = "embed")]
    pub(crate) add: bool,
    #[command(flatten)]
    pub(crate) manifest: embed::ManifestArgs,
}

pub(crate) fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let method = match (args.key, args.cert, args.gpg_key, args.command) {
        (Some(key), Some(certificate), ..) => SignMethod::Cms { key, certificate, chain: args.chain },
        (_, _, Some(key), _) => SignMethod::Openpgp { key, homedir: args.gpg_home, armor: args.armor },
        (_, _, _, Some(command)) => SignMethod::Command { command, kind: args.command_writes.into() },
        _ => return Err(Failure::Usage("give --key and --cert, --gpg-key, or --command".into())),
    };
    if let (true, Some(to)) = (args.embed || args.add, &args.to) {
        let manifest = if args.add {
            embed::add(&args.file, to, &method)?
        } else {
            embed::embed(&args.file, to, &args.manifest, &method)?
        };
        let document = json!({
            "image": args.file, "one_file_image": to, "type": method.kind(),
            "sha256": manifest.sha256.to_string(), "size": manifest.size, "blocks": manifest.blocks.len(),
        });
        return context.out.show(&document, |_| to.display().to_string());
    }
    let signature = sign_detached(&args.file, &method, args.to.as_deref())?;
    let document = json!({"image": args.file, "signature": signature, "type": method.kind()});
    context.out.show(&document, |_| signature.display().to_string())
}
