//! `ota-admin pause` and `ota-admin resume`.

use super::Context;
use crate::exit::Failure;

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Job or deployment; the active job when not given.
    pub(crate) job: Option<String>,
}

pub(crate) async fn pause(args: Args, context: &mut Context) -> Result<(), Failure> {
    let answer = context.client()?.pause(args.job.as_deref()).await?;
    super::judge::show(&answer, context)
}

pub(crate) async fn resume(args: Args, context: &mut Context) -> Result<(), Failure> {
    let answer = context.client()?.resume(args.job.as_deref()).await?;
    super::judge::show(&answer, context)
}
