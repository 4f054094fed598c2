//! `ota-admin download`.

use ota_api::{
    updates::DownloadRequest,
    words::{Partition, Priority},
};
use ota_core::{Slot, job};

use super::Context;
use crate::{
    exit::Failure,
    follow::{Goal, Patience, wait_for},
};

/// Speed and IO share, as it is typed.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum PriorityArg {
    Low,
    Normal,
    High,
    Critical,
}

impl From<PriorityArg> for Priority {
    fn from(arg: PriorityArg) -> Self {
        match arg {
            PriorityArg::Low => job::Priority::Low,
            PriorityArg::Normal => job::Priority::Normal,
            PriorityArg::High => job::Priority::High,
            PriorityArg::Critical => job::Priority::Critical,
        }
        .into()
    }
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Release to download, as `ota-admin check` names it.
    pub(crate) update_id: String,
    /// Partition that will receive it, A or B; the one that does not run when not given.
    #[arg(long, value_name = "PARTITION")]
    pub(crate) target: Option<Slot>,
    /// Share of speed and IO.
    #[arg(long, value_enum)]
    pub(crate) priority: Option<PriorityArg>,
    /// Wait until the image is downloaded and verified.
    #[arg(long)]
    pub(crate) wait: bool,
    #[command(flatten)]
    pub(crate) patience: Patience,
}

pub(crate) async fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let client = context.client()?;
    let request = DownloadRequest {
        update_id: args.update_id,
        version: None,
        target_partition: args.target.map(|slot| Partition::from(slot).to_string()),
        priority: args.priority.map(Priority::from),
        verify_signature: true,
    };
    let limit = args.patience.start();
    let started = client.download(&request).await?;
    if !args.wait {
        return context.out.show(&started, |s| {
            format!("{} {} (about {}): {}", s.job_id, s.status, s.estimated_duration, s.message)
        });
    }
    let end = wait_for(&client, &started.job_id, Goal::Downloaded, &limit, context).await?;
    context.out.show(&end, |p| format!("{} {}: install it with `ota-admin install {0}`", p.job_id, p.status))
}
