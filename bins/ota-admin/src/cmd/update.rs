//! `ota-admin update`: the whole way to the confirmed boot of the new version, in one command.

use std::{cell::Cell, time::Duration};

use ota_api::{
    auth::Secret,
    system::SystemStatus,
    updates::{DownloadRequest, InstallRequest, UpdateInfo},
};
use ota_client::{Client, ClientError};
use ota_core::Version;
use serde::Serialize;

use super::{Context, check, install::StrategyArg};
use crate::{
    ask::{self, OptionalPin, with_pin},
    exit::{Failure, Left},
    follow::{Goal, Limit, Pace, follow, unless_interrupted},
    view::{Scale, View},
};

/// What an early end says.
const NOTHING: &str = "; nothing was started";

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Release to install, as `ota-admin check` names it; may be left out when only one is on offer.
    #[arg(conflicts_with = "latest")]
    pub(crate) update_id: Option<String>,
    /// Take the highest version on offer.
    #[arg(long)]
    pub(crate) latest: bool,
    /// Do not ask before the download.
    #[arg(short, long)]
    pub(crate) yes: bool,
    /// When and how the image is installed.
    #[arg(long, value_enum, default_value = "seamless")]
    pub(crate) strategy: StrategyArg,
    /// Seconds that the gateway may stay away, for its reboot.
    #[arg(long, value_name = "SECONDS", default_value = "600", value_parser = clap::value_parser!(u64).range(1..=86400))]
    pub(crate) reboot_timeout: u64,
    /// Seconds to wait at most for all of it, without questions; then the job goes on alone and the exit code is 124.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) wait_timeout: Option<u64>,
    #[command(flatten)]
    pub(crate) pin: OptionalPin,
}

/// What the command achieved.
#[derive(Serialize)]
struct Updated {
    status: &'static str,
    job_id: String,
    update_id: String,
    version: String,
    partition: Option<String>,
    previous_version: Option<String>,
}

pub(crate) async fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let mut limit = Limit::start(args.wait_timeout);
    let client = context.client()?;
    // Before the download: a file that cannot be read is told now, and a descriptor is read once.
    let pin = args.pin.given()?;
    let before =
        limit.bound(NOTHING.into(), client.status()).await?.partitions.active.and_then(|slot| slot.version);
    let update = choose(limit.bound(NOTHING.into(), client.check()).await?.updates, &args)?;
    if !args.yes {
        let from = before.as_deref().unwrap_or("an unknown version");
        let question = format!("Update from {from} to {} and reboot the gateway?", update.version);
        if !limit.aside(|| ask::yes(&mut context.out, &question))? {
            return Err(Failure::Interrupted(NOTHING.into()));
        }
    }
    let pace = Pace { give_up: Duration::from_secs(args.reboot_timeout), ..context.pace };
    let started = client.download(&download(&update)).await?;
    let job = &started.job_id;
    let mut view = View::new(&mut context.out, Scale::Whole);
    let begun = begin(&client, job, (args.strategy, pin), pace, &mut limit, &mut view).await;
    let end = match begun {
        Ok(()) => follow(&client, job, Goal::Ended, pace, &limit, &mut view).await,
        Err(failure) => Err(failure),
    };
    view.end();
    end?;
    // It is confirmed: that the gateway does not say where in time makes no failure of it.
    let place = unless_interrupted(job, limit.bound(Left::default(), client.status())).await.ok();
    let updated = Updated {
        status: "confirmed",
        partition: place.and_then(|status| running(&status, &update)),
        job_id: started.job_id,
        update_id: update.id,
        version: update.version,
        previous_version: before,
    };
    context.out.show(&updated, |u| {
        let place = u.partition.as_ref().map(|p| format!(" from partition {p}")).unwrap_or_default();
        format!("{} runs{place} and is confirmed", u.version)
    })
}

/// The download goes on or stays as it is, and installing it is a request that nobody sends any more.
fn not_installed(failure: Failure, job: &str, strategy: StrategyArg) -> Failure {
    if matches!(failure, Failure::Job(_)) {
        return failure;
    }
    let next = format!(
        "the gateway does not install job {job} by itself: once it is downloaded, \
         `ota-admin install {job} --reboot-after --wait --strategy {}` does",
        strategy.word()
    );
    Failure::NotInstalled { failure: Box::new(failure), job: job.into(), next }
}

/// The request for the installation was sent, and nothing came back.
fn unanswered(failure: Failure, job: &str) -> Failure {
    let next =
        format!("whether the installation was accepted is not known: `ota-admin progress {job}` tells");
    Failure::NotInstalled { failure: Box::new(failure), job: job.into(), next }
}

fn download(update: &UpdateInfo) -> DownloadRequest {
    DownloadRequest {
        update_id: update.id.clone(),
        version: Some(update.version.clone()),
        target_partition: None,
        priority: None,
        verify_signature: true,
    }
}

/// Waits for the download and asks for the installation.
async fn begin(
    client: &Client,
    job: &str,
    (strategy, pin): (StrategyArg, Option<Secret>),
    pace: Pace,
    limit: &mut Limit,
    view: &mut View<'_>,
) -> Result<(), Failure> {
    let downloaded = follow(client, job, Goal::Downloaded, pace, limit, view).await;
    downloaded.map_err(|failure| not_installed(failure, job, strategy))?;
    let request = InstallRequest {
        job_id: job.into(),
        strategy: Some(strategy.into()),
        reboot_after: true,
        rollback_on_failure: true,
        pin: None,
    };
    let open = Cell::new(false);
    let send = async |pin| {
        open.set(true);
        let answer = client.install(&InstallRequest { pin, ..request.clone() }).await;
        // Without a connection the request has not gone out.
        let settled = matches!(answer, Ok(_) | Err(ClientError::Api(_) | ClientError::Unreachable { .. }));
        open.set(!settled);
        answer
    };
    let begun = unless_interrupted(job, with_pin(pin, view.step_aside(), limit, send)).await;
    begun.map(drop).map_err(|failure| {
        if open.get() { unanswered(failure, job) } else { not_installed(failure, job, strategy) }
    })
}

/// The partition that runs the new version, when the gateway says so.
fn running(status: &SystemStatus, update: &UpdateInfo) -> Option<String> {
    let active = status.partitions.active.as_ref()?;
    // With or without a leading v: the same version.
    let version = |text: &str| text.parse::<Version>().ok();
    let runs = version(active.version.as_deref()?)? == version(&update.version)?;
    runs.then(|| active.name.to_string())
}

fn choose(updates: Vec<UpdateInfo>, args: &Args) -> Result<UpdateInfo, Failure> {
    if updates.is_empty() {
        return Err(Failure::NothingToDo);
    }
    if let Some(id) = &args.update_id {
        let on_offer = check::list(&updates);
        let known = updates.into_iter().find(|update| update.id == *id);
        return known.ok_or_else(|| Failure::Usage(format!("{id} is not on offer:\n{on_offer}")));
    }
    match updates.len() {
        2.. if !args.latest => {
            let on_offer = check::list(&updates);
            Err(Failure::Usage(format!("name one of these, or give --latest:\n{on_offer}")))
        }
        _ => {
            let version = |update: &UpdateInfo| update.version.parse::<Version>().ok();
            let highest = updates.into_iter().max_by(|a, b| version(a).cmp(&version(b)));
            highest.ok_or(Failure::NothingToDo)
        }
    }
}
