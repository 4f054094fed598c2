//! `ota-admin rollback`.

use std::time::Duration;

use ota_api::updates::RollbackRequest;

use super::Context;
use crate::{
    ask::PinArgs,
    exit::Failure,
    follow::{Goal, line, wait_for},
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
    /// With --wait: seconds to wait at most; then the job goes on alone and the exit code is 124.
    #[arg(long, value_name = "SECONDS", requires = "wait", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) wait_timeout: Option<u64>,
}

pub(crate) async fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let client = context.client()?;
    let pin = Some(args.pin.read("PIN: ")?);
    let request = RollbackRequest { target_version: args.target_version, reason: args.reason, pin };
    let started = client.rollback(&request).await?;
    if !args.wait {
        return context.out.show(&started, |s| format!("{} {}: {}", s.job_id, s.status, s.message));
    }
    context.pace.limit = args.wait_timeout.map(Duration::from_secs);
    let end = wait_for(&client, &started.job_id, Goal::Ended, context).await?;
    context.out.show(&end, line)
}
