//! `ota-admin upload`: images that people bring themselves.

use std::path::PathBuf;

use ota_api::{
    upload::{DeployRequest, UploadList, VerifyRequest, VerifyResponse},
    words::Partition,
};
use ota_client::{Client, UploadFile};
use ota_core::Slot;

use super::{Context, install::StrategyArg};
use crate::{
    ask::{OptionalPin, with_pin},
    exit::Failure,
    follow::{Goal, Patience, line, wait_for},
    output::table,
    view::{Sending, Waiting},
};

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) what: What,
}

#[derive(Clone, Debug, clap::Subcommand)]
pub(crate) enum What {
    /// List what was uploaded.
    List,
    /// Send an image; one of the same name is replaced once the new one is whole.
    Send {
        /// The image; its base name becomes the name at the gateway.
        image: PathBuf,
        /// Version label.
        #[arg(long, value_name = "VERSION")]
        release_version: String,
        /// Detached signature file; may be given several times.
        #[arg(long, value_name = "FILE")]
        signature: Vec<PathBuf>,
        /// Checksum file (SHA256SUMS, SHA512SUMS) that names the image.
        #[arg(long, value_name = "FILE")]
        checksums: Option<PathBuf>,
        /// Detached signature over the checksum file; may be given several times.
        #[arg(long, value_name = "FILE", requires = "checksums")]
        checksums_signature: Vec<PathBuf>,
        /// For people.
        #[arg(long)]
        description: Option<String>,
        /// Digest that the image must have, 64 hexadecimal digits.
        #[arg(long, value_name = "HEX")]
        sha256: Option<String>,
        /// Verify it, too.
        #[arg(long)]
        verify: bool,
    },
    /// Check the signature, the format and whether it fits the gateway.
    Verify {
        /// Name at the gateway.
        name: String,
    },
    /// Install a verified image.
    Deploy(Deploy),
    /// Remove an image and its signatures.
    Remove {
        /// Name at the gateway.
        name: String,
    },
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Deploy {
    /// Name at the gateway.
    name: String,
    /// Refuse unless the upload has this version label.
    #[arg(long, value_name = "VERSION")]
    release_version: Option<String>,
    /// Partition that will receive it, A or B; the one that does not run when not given.
    #[arg(long, value_name = "PARTITION")]
    target: Option<Slot>,
    /// When and how.
    #[arg(long, value_enum, default_value = "seamless")]
    strategy: StrategyArg,
    /// Leave the reboot to somebody else.
    #[arg(long)]
    no_reboot: bool,
    /// Do not go back by itself when a health check of the new version fails; the boot loader's trial stays.
    #[arg(long)]
    no_rollback_on_failure: bool,
    /// Wait for the end: the confirmed boot, or, with --no-reboot, until only the reboot is missing.
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    patience: Patience,
    #[command(flatten)]
    pin: OptionalPin,
}

pub(crate) async fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let client = context.client()?;
    match args.what {
        What::List => context.out.show(&client.uploads().await?, rows),
        What::Send {
            image,
            release_version: version,
            signature,
            checksums,
            checksums_signature,
            description,
            sha256,
            verify,
        } => {
            let file =
                UploadFile { image, version, description, signature, checksums, checksums_signature, sha256 };
            let mut view = Sending::new(&mut context.out, file.image.display().to_string());
            let sent = client.upload_watched(&file, &mut |sent, total| view.show(sent, total)).await;
            view.end();
            let sent = sent?;
            if !verify {
                return context
                    .out
                    .show(&sent, |s| format!("{} {} {}", s.file.name, s.status, s.file.checksum));
            }
            verified(&client, sent.file.name, context).await
        }
        What::Verify { name } => verified(&client, name, context).await,
        What::Deploy(args) => deploy(args, context).await,
        What::Remove { name } => {
            let done = client.remove_upload(&name).await?;
            context.out.show(&done, |done| done.message.clone())
        }
    }
}

async fn verified(client: &Client, filename: String, context: &mut Context) -> Result<(), Failure> {
    let waiting = Waiting::new(&context.out, format!("the gateway verifies {filename}"));
    let request = VerifyRequest { filename, verify_signature: true, check_compatibility: true };
    let found = client.verify(&request).await?;
    drop(waiting);
    context.out.show(&found, verdict)
}

async fn deploy(args: Deploy, context: &mut Context) -> Result<(), Failure> {
    let client = context.client()?;
    let request = DeployRequest {
        filename: args.name,
        version: args.release_version,
        target_partition: args.target.map(|slot| Partition::from(slot).to_string()),
        strategy: Some(args.strategy.into()),
        pin: None,
        reboot_after: !args.no_reboot,
        rollback_on_failure: !args.no_rollback_on_failure,
    };
    let send = async |pin| client.deploy(&DeployRequest { pin, ..request.clone() }).await;
    let mut limit = args.patience.start();
    let started = with_pin(args.pin.given()?, &context.out, &mut limit, send).await?;
    if !args.wait {
        return context.out.show(&started, |s| format!("{} ({}): {}", s.deployment_id, s.job_id, s.message));
    }
    let goal = if args.no_reboot { Goal::Installed } else { Goal::Ended };
    let end = wait_for(&client, &started.job_id, goal, &limit, context).await?;
    context.out.show(&end, line)
}

fn verdict(found: &VerifyResponse) -> String {
    let file = &found.file;
    let signed = if file.signature_valid { "signed by a trusted key" } else { "not signed by a trusted key" };
    let fits = if file.compatible { "fits this gateway" } else { "does not fit this gateway" };
    format!("{} {} {}: {signed}, {fits}", file.name, file.version, found.status)
}

fn rows(list: &UploadList) -> String {
    if list.uploads.is_empty() {
        return "no uploads".into();
    }
    let rows = list.uploads.iter().map(|upload| {
        [
            upload.file.name.clone(),
            upload.file.version.clone(),
            upload.file.size.to_string(),
            upload.uploaded_at.to_string(),
            upload.verified_at.map_or_else(|| "no".into(), |at| at.to_string()),
            if upload.signature_valid { "yes" } else { "no" }.into(),
            if upload.ready_for_deployment { "yes" } else { "no" }.into(),
        ]
    });
    table(["FILE", "VERSION", "BYTES", "UPLOADED", "VERIFIED", "SIGNED", "READY"], rows)
}
