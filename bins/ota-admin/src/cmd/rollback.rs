//! `ota-admin rollback`.

use ota_api::updates::RollbackRequest;

use super::Context;
use crate::{
    ask::PinArgs,
    exit::Failure,
    follow::{Goal, Patience, line, wait_for},
};

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Refuse unless the other partition holds this version.
    #[arg(long, value_name = "VERSION")]
    pub(crate) target_version: Option<String>,
    /// Why; goes into the record.
    #[arg(long)]
    pub(crate) reason: Option<String>,
    #[command(flatten)]
    pub(crate) pin: PinArgs,
    /// Wait for the end, over the reboot.
    #[arg(long)]
    pub(crate) wait: bool,
    #[command(flatten)]
    pub(crate) patience: Patience,
}

pub(crate) async fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let client = context.client()?;
    let pin = Some(args.pin.read(&context.out, "PIN: ")?);
    let request = RollbackRequest { target_version: args.target_version, reason: args.reason, pin };
    let limit = args.patience.start();
    let started = client.rollback(&request).await?;
    if !args.wait {
        return context.out.show(&started, |s| format!("{} {}: {}", s.job_id, s.status, s.message));
    }
    let end = wait_for(&client, &started.job_id, Goal::Ended, &limit, context).await?;
    context.out.show(&end, line)
}
