//! `ota-admin snapshot`.

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use ota_api::{
    auth::Secret,
    snapshots::{CreateSnapshotRequest, RestoreSnapshotRequest, SnapshotInfo},
};

use super::Context;
use crate::{
    ask::{self, OptionalPin, with_pin},
    exit::Failure,
    follow::Limit,
    output::table,
};

/// Most that is read of an identity file.
const IDENTITY_MAX: u64 = 32 * 1024;

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) what: What,
}

#[derive(Clone, Debug, clap::Subcommand)]
pub(crate) enum What {
    /// List the snapshots, newest first.
    List,
    /// Save the configured settings.
    Create {
        /// For people.
        #[arg(long)]
        description: Option<String>,
    },
    /// Put the files of a snapshot back; what is not in it stays.
    Restore {
        /// Which snapshot.
        id: String,
        /// File of the age identity that opens an encrypted one (`/dev/fd/N` for a descriptor).
        #[arg(long, value_name = "FILE")]
        identity_file: Option<PathBuf>,
        #[command(flatten)]
        pin: OptionalPin,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
}

pub(crate) async fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let client = context.client()?;
    match args.what {
        What::List => {
            let list = client.snapshots().await?;
            context.out.show(&list, |list| rows(&list.snapshots))
        }
        What::Create { description } => {
            let made = client.create_snapshot(&CreateSnapshotRequest { description }).await?;
            context.out.show(&made, one)
        }
        What::Restore { id, identity_file, pin, yes } => {
            if !yes && !ask::yes(&mut context.out, &format!("Replace settings by those of {id}?"))? {
                return Err(Failure::Interrupted("; nothing was put back".into()));
            }
            let identity = identity_file.as_deref().map(identity_in).transpose()?;
            let send = async |pin| {
                let request = RestoreSnapshotRequest { identity: identity.clone(), pin };
                client.restore_snapshot(&id, &request).await
            };
            let done = with_pin(pin.given()?, &context.out, &mut Limit::default(), send).await?;
            context.out.show(&done, |done| format!("{}: {}", done.status, done.message))
        }
    }
}

fn identity_in(path: &Path) -> Result<Secret, Failure> {
    let named = || format!("cannot read the identity file {}", path.display());
    let mut text = String::new();
    let file = fs::File::open(path).with_context(named)?;
    file.take(IDENTITY_MAX).read_to_string(&mut text).with_context(named)?;
    Ok(text.into())
}

fn one(made: &SnapshotInfo) -> String {
    let skipped: String = made.skipped.iter().map(|name| format!("\nnot in it: {name}")).collect();
    format!("{}: {} file(s), {} bytes{skipped}", made.id, made.files.unwrap_or(0), made.size)
}

fn rows(snapshots: &[SnapshotInfo]) -> String {
    if snapshots.is_empty() {
        return "no snapshots".into();
    }
    let rows = snapshots.iter().map(|snapshot| {
        [
            snapshot.id.clone(),
            snapshot.created_at.to_string(),
            snapshot.cause.clone().unwrap_or_default(),
            snapshot.files.map_or_else(String::new, |files| files.to_string()),
            snapshot.size.to_string(),
            if snapshot.encrypted { "yes" } else { "no" }.into(),
            snapshot.description.clone().unwrap_or_default(),
        ]
    });
    table(["SNAPSHOT", "CREATED", "CAUSE", "FILES", "BYTES", "ENCRYPTED", "DESCRIPTION"], rows)
}
