//! `ota-admin keygen`: keys of the release engineer.

use std::path::PathBuf;

use ota_release::{CodeSigningOptions, RepoDir, RoleName, RotateOptions, make_code_signing_ca};
use serde_json::json;

use super::Context;
use crate::{exit::Failure, output::facts};

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) what: What,
}

#[derive(Clone, Debug, clap::Subcommand)]
pub(crate) enum What {
    /// Make a certificate authority and a code-signing certificate for images (needs openssl).
    CodeSigning {
        /// Folder for ca.key, ca.pem, signer.key and signer.pem; created.
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
        /// Common name of the authority.
        #[arg(long, default_value = "OTA release CA")]
        ca_name: String,
        /// Common name of the signer.
        #[arg(long, default_value = "OTA release signer")]
        signer_name: String,
        /// Days that the authority's certificate holds.
        #[arg(long, default_value = "7300")]
        ca_days: u32,
        /// Days that the signer's certificate holds.
        #[arg(long, default_value = "1825")]
        signer_days: u32,
    },
    /// Give roles of a repository fresh keys: a new root, signed by the old and the new root keys, is published.
    /// The first keys are made by `ota-admin repo init`.
    Tuf {
        /// Folder of the repository.
        #[arg(long, value_name = "DIR")]
        repo: PathBuf,
        /// Folder of its keys.
        #[arg(long, value_name = "DIR")]
        keys: PathBuf,
        /// Role that gets fresh keys; may be given several times.
        #[arg(long, value_enum, required = true)]
        role: Vec<RoleArg>,
    },
}

/// Role of a repository, as it is typed.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum RoleArg {
    Root,
    Targets,
    Snapshot,
    Timestamp,
}

impl From<RoleArg> for RoleName {
    fn from(arg: RoleArg) -> Self {
        match arg {
            RoleArg::Root => Self::Root,
            RoleArg::Targets => Self::Targets,
            RoleArg::Snapshot => Self::Snapshot,
            RoleArg::Timestamp => Self::Timestamp,
        }
    }
}

pub(crate) fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    match args.what {
        What::CodeSigning { dir, ca_name, signer_name, ca_days, signer_days } => {
            let made = make_code_signing_ca(&CodeSigningOptions {
                folder: dir,
                ca_name,
                signer_name,
                ca_days,
                signer_days,
            })?;
            let document = json!({
                "ca_key": made.ca_key, "ca_certificate": made.ca_certificate,
                "signer_key": made.signer_key, "signer_certificate": made.signer_certificate,
            });
            context.out.show(&document, |_| {
                facts([
                    ("Devices trust", made.ca_certificate.display().to_string()),
                    ("Keep offline", made.ca_key.display().to_string()),
                    (
                        "Sign with",
                        format!(
                            "ota-admin sign IMAGE --key {} --cert {}",
                            made.signer_key.display(),
                            made.signer_certificate.display()
                        ),
                    ),
                ])
            })
        }
        What::Tuf { repo, keys, role } => {
            let options = RotateOptions {
                roles: role.into_iter().map(RoleName::from).collect(),
                ..RotateOptions::default()
            };
            let published = RepoDir::open(repo, keys)?.rotate(&options, context.now)?;
            context.out.show(&published, super::repo::versions)
        }
    }
}
