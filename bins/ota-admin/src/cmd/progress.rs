//! `ota-admin progress`.

use ota_api::updates::ProgressResponse;

use super::{Context, jobs::failure_rows};
use crate::{
    exit::{Failure, Left},
    follow::{Goal, Patience, wait_for},
    output::facts,
};

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Job or deployment; the active job when not given.
    pub(crate) job: Option<String>,
    /// Show it until it ends.
    #[arg(long)]
    pub(crate) wait: bool,
    #[command(flatten)]
    pub(crate) patience: Patience,
}

pub(crate) async fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let client = context.client()?;
    let limit = args.patience.start();
    let left = Left { job: args.job.clone(), ..Left::default() };
    let mut progress = limit.bound(left, client.progress(args.job.as_deref())).await?;
    if args.wait {
        progress = wait_for(&client, &progress.job_id, Goal::Ended, &limit, context).await?;
    }
    context.out.show(&progress, text)
}

fn text(progress: &ProgressResponse) -> String {
    let numbers = &progress.progress;
    let mut rows = vec![
        ("Job", progress.job_id.clone()),
        ("Status", progress.status.to_string()),
        ("Operation", progress.current_operation.clone()),
        ("Version", format!("{} to partition {}", progress.version, progress.target_partition)),
    ];
    if !progress.ended {
        let bytes = format!("{} of {} bytes", numbers.bytes_downloaded, numbers.bytes_total);
        rows.push(("Progress", format!("{:.1} % ({bytes})", numbers.percentage)));
        rows.push(("Speed", format!("{}, {} left", numbers.speed, progress.eta)));
    }
    if let Some(waiting) = &progress.waiting_for {
        rows.push(("Waits for", waiting.reason.clone()));
        let blocking = waiting.constraints.iter();
        rows.extend(blocking.map(|c| ("Blocked by", format!("{}: {}", c.constraint, c.message))));
    }
    rows.extend(progress.failure.iter().flat_map(failure_rows));
    facts(rows)
}
