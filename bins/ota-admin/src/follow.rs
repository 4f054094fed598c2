//! Following a job to its goal, through cut connections and the gateway's reboot.

use std::time::Duration;

use ota_api::{updates::ProgressResponse, words::JobStatus};
use ota_client::Client;
use ota_core::ErrorCode;
use tokio::time::{Instant, sleep};

use crate::{
    cmd::Context,
    exit::{Failure, JobEnded},
    view::{Scale, View},
};

/// How often a job is looked at, and how long a gateway may stay away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pace {
    /// Time between two looks.
    pub(crate) poll: Duration,
    /// Give up after this long without an answer.
    pub(crate) give_up: Duration,
    /// Look no longer than this, whatever the job does; no limit when `None`.
    pub(crate) limit: Option<Duration>,
}

impl Default for Pace {
    /// Twice a second; ten minutes for a reboot; as long as the job takes.
    fn default() -> Self {
        Self { poll: Duration::from_millis(500), give_up: Duration::from_secs(600), limit: None }
    }
}

/// How long people wait for a job at most.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Patience {
    /// With --wait: seconds to wait at most; then the job goes on alone and the exit code is 124.
    #[arg(long, value_name = "SECONDS", requires = "wait", value_parser = clap::value_parser!(u64).range(1..))]
    wait_timeout: Option<u64>,
}

/// How far a job is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Goal {
    /// Until the image is verified and whole in staging.
    Downloaded,
    /// Until the job has ended, or waits for somebody else to reboot the gateway.
    Installed,
    /// Until the job has ended.
    Ended,
}

/// Follows `job` until its goal in front of the user; gives its last state.
///
/// # Errors
/// As [`follow`].
pub(crate) async fn wait_for(
    client: &Client,
    job: &str,
    goal: Goal,
    patience: Patience,
    context: &mut Context,
) -> Result<ProgressResponse, Failure> {
    let pace = Pace { limit: patience.wait_timeout.map(Duration::from_secs), ..context.pace };
    let scale = if goal == Goal::Downloaded { Scale::Phase } else { Scale::Whole };
    let mut view = View::new(&mut context.out, scale);
    let end = follow(client, job, goal, pace, &mut view).await;
    view.end();
    end
}

/// How a job that was waited for stands, in a line.
pub(crate) fn line(end: &ProgressResponse) -> String {
    format!("{} {}: {}", end.job_id, end.status, end.current_operation)
}

/// Follows `job` until its goal; gives its last state.
///
/// # Errors
/// [`Failure::Job`] when it ends otherwise; [`Failure::Client`] when the gateway refuses or stays away too long;
/// [`Failure::Interrupted`] on Ctrl-C; [`Failure::TimedOut`] when `pace.limit` is over.
pub(crate) async fn follow(
    client: &Client,
    job: &str,
    goal: Goal,
    pace: Pace,
    view: &mut View<'_>,
) -> Result<ProgressResponse, Failure> {
    unless_interrupted(job, pace.limit, look_until(client, job, goal, pace, view)).await
}

/// The outcome of `work` on `job`, unless Ctrl-C or the end of our patience comes first: then the job goes on without us.
pub(crate) async fn unless_interrupted<T>(
    job: &str,
    limit: Option<Duration>,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let next =
        format!("; job {job} goes on at the gateway (ota-admin progress {job}, ota-admin cancel {job})");
    let out_of_patience = async {
        match limit {
            Some(limit) => sleep(limit).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        outcome = work => outcome,
        _ = tokio::signal::ctrl_c() => Err(Failure::Interrupted(next)),
        () = out_of_patience => {
            Err(Failure::TimedOut { seconds: limit.unwrap_or_default().as_secs(), next })
        }
    }
}

async fn look_until(
    client: &Client,
    job: &str,
    goal: Goal,
    pace: Pace,
    view: &mut View<'_>,
) -> Result<ProgressResponse, Failure> {
    let mut heard = Instant::now();
    loop {
        match client.progress(Some(job)).await {
            Ok(progress) => {
                heard = Instant::now();
                view.show(&progress)?;
                if let Some(end) = reached(goal, &progress) {
                    return end.map(|()| progress);
                }
            }
            Err(error) if error.may_pass() && heard.elapsed() < pace.give_up => view.away(&error.chain())?,
            Err(error) => return Err(error.into()),
        }
        sleep(pace.poll).await;
    }
}

/// Whether the job is where it should be, or somewhere from where it cannot get there.
fn reached(goal: Goal, progress: &ProgressResponse) -> Option<Result<(), Failure>> {
    let waits_for = progress.waiting_for.as_ref().map(|waiting| waiting.reason.as_str());
    match progress.status {
        JobStatus::Succeeded => Some(Ok(())),
        JobStatus::Failed | JobStatus::Cancelled | JobStatus::RolledBack => Some(Err(ended(progress))),
        JobStatus::Confirming if waits_for == Some("judgement") => Some(Err(ended(progress))),
        JobStatus::Rebooting if goal == Goal::Installed && waits_for == Some("reboot") => Some(Ok(())),
        JobStatus::Queued | JobStatus::Downloading | JobStatus::Paused | JobStatus::Verifying => None,
        JobStatus::Downloaded
        | JobStatus::Scheduled
        | JobStatus::Installing
        | JobStatus::Rebooting
        | JobStatus::Confirming => (goal == Goal::Downloaded).then_some(Ok(())),
    }
}

fn ended(progress: &ProgressResponse) -> Failure {
    let failure = progress.failure.as_ref();
    let code = failure.and_then(|failure| failure.code.as_deref());
    Failure::Job(Box::new(JobEnded {
        job: progress.job_id.clone(),
        status: progress.status.into(),
        code: ErrorCode::ALL.into_iter().find(|known| Some(known.to_string().as_str()) == code),
        why: failure.map(|failure| failure.message.clone()).unwrap_or_default(),
        actions: failure.map(|failure| failure.suggested_actions.clone()).unwrap_or_default(),
        request_id: failure.and_then(|failure| failure.request_id.clone()),
    }))
}
