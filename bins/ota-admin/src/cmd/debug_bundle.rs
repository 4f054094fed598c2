//! `ota-admin debug-bundle`.

use std::path::PathBuf;

use super::Context;
use crate::{exit::Failure, keep::Kept};

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// File that receives the archive (tar, gzipped); must not exist.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: PathBuf,
}

pub(crate) async fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let client = context.client()?;
    let mut kept = Kept::start(&args.file, &context.out)?;
    client.debug_bundle(&mut |bytes| kept.write(bytes)).await?;
    context.out.show(&kept.finish()?, |done| format!("{} ({} bytes)", done.file, done.bytes))
}
