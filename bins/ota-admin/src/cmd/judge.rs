//! `ota-admin confirm` and `ota-admin reject`: a person judges the trial.

use ota_api::updates::JobResponse;

use super::Context;
use crate::exit::Failure;

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Why; goes into the record.
    #[arg(long)]
    pub(crate) reason: Option<String>,
}

pub(crate) async fn confirm(args: Args, context: &mut Context) -> Result<(), Failure> {
    let answer = context.client()?.confirm(args.reason.as_deref()).await?;
    show(&answer, context)
}

pub(crate) async fn reject(args: Args, context: &mut Context) -> Result<(), Failure> {
    let answer = context.client()?.reject(args.reason.as_deref()).await?;
    show(&answer, context)
}

/// What became of a job.
pub(super) fn show(answer: &JobResponse, context: &mut Context) -> Result<(), Failure> {
    context.out.show(answer, |a| format!("{} {}: {}", a.job_id, a.status, a.message))
}
