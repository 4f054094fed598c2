//! `ota-admin cancel`.

use super::Context;
use crate::exit::Failure;

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Job or deployment.
    pub(crate) job: String,
    /// Why; goes into the record.
    #[arg(long)]
    pub(crate) reason: Option<String>,
}

pub(crate) async fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let answer = context.client()?.cancel(&args.job, args.reason.as_deref()).await?;
    super::judge::show(&answer, context)
}
