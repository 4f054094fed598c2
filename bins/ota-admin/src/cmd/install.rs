//! `ota-admin install`.

use ota_api::{updates::InstallRequest, words::Strategy};
use ota_core::job;

use super::Context;
use crate::{
    ask::{OptionalPin, with_pin},
    exit::Failure,
    follow::{Goal, Patience, line, wait_for},
};

/// When and how, as it is typed.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum StrategyArg {
    /// Write the inactive partition in the background.
    Seamless,
    /// Start and reboot inside the next update window.
    #[value(alias = "maintenance_window")]
    MaintenanceWindow,
    /// Full speed, reboot as soon as safety allows.
    Immediate,
}

impl StrategyArg {
    /// As it is typed.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Seamless => "seamless",
            Self::MaintenanceWindow => "maintenance-window",
            Self::Immediate => "immediate",
        }
    }
}

impl From<StrategyArg> for Strategy {
    fn from(arg: StrategyArg) -> Self {
        match arg {
            StrategyArg::Seamless => job::Strategy::Seamless,
            StrategyArg::MaintenanceWindow => job::Strategy::MaintenanceWindow,
            StrategyArg::Immediate => job::Strategy::Immediate,
        }
        .into()
    }
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Job (or deployment) whose image is to be installed.
    pub(crate) job: String,
    /// When and how.
    #[arg(long, value_enum, default_value = "seamless")]
    pub(crate) strategy: StrategyArg,
    /// Restart the gateway once the partition is switched and safety allows.
    #[arg(long)]
    pub(crate) reboot_after: bool,
    /// Do not go back by itself when a health check of the new version fails; the boot loader's trial stays.
    #[arg(long)]
    pub(crate) no_rollback_on_failure: bool,
    /// Wait for the end: the confirmed boot, or, without --reboot-after, until only the reboot is missing.
    #[arg(long)]
    pub(crate) wait: bool,
    #[command(flatten)]
    pub(crate) patience: Patience,
    #[command(flatten)]
    pub(crate) pin: OptionalPin,
}

pub(crate) async fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let client = context.client()?;
    let request = InstallRequest {
        job_id: args.job.clone(),
        strategy: Some(args.strategy.into()),
        reboot_after: args.reboot_after,
        rollback_on_failure: !args.no_rollback_on_failure,
        pin: None,
    };
    let send = async |pin| client.install(&InstallRequest { pin, ..request.clone() }).await;
    let mut limit = args.patience.start();
    let started = with_pin(args.pin.given()?, &context.out, &mut limit, send).await?;
    if !args.wait {
        return context.out.show(&started, |s| {
            format!("{} {} (about {}): {}", s.job_id, s.status, s.estimated_duration, s.message)
        });
    }
    let goal = if args.reboot_after { Goal::Ended } else { Goal::Installed };
    let end = wait_for(&client, &started.job_id, goal, &limit, context).await?;
    context.out.show(&end, line)
}
