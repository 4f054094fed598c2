//! Following a job to its goal, through cut connections and the gateway's reboot.

use std::time::Duration;

use ota_api::{updates::ProgressResponse, words::JobStatus};
use ota_client::{ApiError, Client, ClientError};
use ota_core::ErrorCode;
use tokio::time::{Instant, sleep, timeout_at};

use crate::{
    cmd::Context,
    exit::{Failure, JobEnded, Left},
    view::{Scale, View},
};

/// How often a job is looked at, and how long a gateway may stay away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pace {
    /// Time between two looks.
    pub(crate) poll: Duration,
    /// Give up after this long without an answer.
    pub(crate) give_up: Duration,
}

impl Default for Pace {
    /// Twice a second; ten minutes for a reboot.
    fn default() -> Self {
        Self { poll: Duration::from_millis(500), give_up: Duration::from_secs(600) }
    }
}

/// How long people wait for a job at most.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Patience {
    /// With --wait: seconds to wait at most; then the job goes on alone and the exit code is 124.
    #[arg(long, value_name = "SECONDS", requires = "wait", value_parser = clap::value_parser!(u64).range(1..))]
    wait_timeout: Option<u64>,
}

impl Patience {
    /// From now on.
    pub(crate) fn start(self) -> Limit {
        Limit::start(self.wait_timeout)
    }
}

/// How long a command waits at most, from its beginning. Following and reading end with it. A request that changes something is not
/// cut off: without its answer nobody knew what the gateway does now.
#[derive(Debug, Default)]
pub(crate) struct Limit {
    seconds: u64,
    end: Option<Instant>,
}

impl Limit {
    /// So many seconds from now on; none when `None`.
    pub(crate) fn start(seconds: Option<u64>) -> Self {
        // What no clock can tell is no limit.
        let end = seconds.and_then(|seconds| Instant::now().checked_add(Duration::from_secs(seconds)));
        Self { seconds: seconds.unwrap_or_default(), end }
    }

    /// What the user answers; the time until then does not count.
    pub(crate) fn aside<T>(&mut self, question: impl FnOnce() -> T) -> T {
        let asked = Instant::now();
        let answer = question();
        self.end = self.end.and_then(|end| end.checked_add(asked.elapsed()));
        answer
    }

    /// Nothing more is begun once the limit is over.
    ///
    /// # Errors
    /// [`Failure::TimedOut`] then, with what is `left` behind.
    pub(crate) fn not_over(&self, left: Left) -> Result<(), Failure> {
        match self.end {
            Some(end) if end <= Instant::now() => Err(Failure::TimedOut { seconds: self.seconds, left }),
            _ => Ok(()),
        }
    }

    /// The outcome of `work`, unless the limit comes first: then what is `left` behind.
    ///
    /// # Errors
    /// That of `work`; [`Failure::TimedOut`].
    pub(crate) async fn bound<T, E>(
        &self,
        left: Left,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Failure>
    where
        Failure: From<E>,
    {
        let Some(end) = self.end else { return Ok(work.await?) };
        match timeout_at(end, work).await {
            Ok(outcome) => Ok(outcome?),
            Err(_) => Err(Failure::TimedOut { seconds: self.seconds, left }),
        }
    }
}

/// A job that is left alone.
fn alone(job: &str) -> Left {
    let next =
        format!("; job {job} goes on at the gateway (ota-admin progress {job}, ota-admin cancel {job})");
    Left { job: Some(job.into()), next }
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
    limit: &Limit,
    context: &mut Context,
) -> Result<ProgressResponse, Failure> {
    let scale = if goal == Goal::Downloaded { Scale::Phase } else { Scale::Whole };
    let mut view = View::new(&mut context.out, scale);
    let end = follow(client, job, goal, context.pace, limit, &mut view).await;
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
/// [`Failure::Job`] when it ends otherwise; [`Failure::Client`] when the gateway does not know it; [`Failure::Lost`] when the
/// gateway refuses otherwise or does not come back; [`Failure::Interrupted`] on Ctrl-C; [`Failure::TimedOut`] when `limit` is over;
/// [`Failure::Unread`] when nobody reads the lines any more.
pub(crate) async fn follow(
    client: &Client,
    job: &str,
    goal: Goal,
    pace: Pace,
    limit: &Limit,
    view: &mut View<'_>,
) -> Result<ProgressResponse, Failure> {
    let looks = limit.bound(alone(job), look_until(client, job, goal, pace, view));
    match unless_interrupted(job, looks).await {
        // How the job ends is not known yet: this is no success.
        Err(Failure::Closed) => Err(Failure::Unread(alone(job))),
        outcome => outcome,
    }
}

/// The outcome of `work` on `job`, unless Ctrl-C comes first: then the job goes on without us.
pub(crate) async fn unless_interrupted<T>(
    job: &str,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    tokio::select! {
        outcome = work => outcome,
        _ = tokio::signal::ctrl_c() => Err(Failure::Interrupted(alone(job))),
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
            Err(error) if error.may_pass() => {
                let why = format!("the gateway stayed away for {} s", heard.elapsed().as_secs());
                return Err(Failure::Lost { job: job.into(), why, source: Box::new(error) });
            }
            Err(error) if knows_no_job(&error) => return Err(error.into()),
            Err(error) => {
                let why = format!("job {job} cannot be followed any further");
                return Err(Failure::Lost { job: job.into(), why, source: Box::new(error) });
            }
        }
        sleep(pace.poll).await;
    }
}

fn knows_no_job(error: &ClientError) -> bool {
    error.api().and_then(ApiError::ota_code) == Some(ErrorCode::JobNotFound)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_limit_counts_from_its_start_and_stands_still_while_something_is_asked() {
        let mut limit = Limit::start(Some(1));
        let end = limit.end.unwrap();
        let asked = Duration::from_millis(10);
        limit.aside(|| {
            let begun = Instant::now();
            while begun.elapsed() < asked {
                std::hint::spin_loop();
            }
        });
        assert!(limit.end.unwrap() >= end + asked);

        let over = Limit { seconds: 7, end: Some(Instant::now()) };
        let never = std::future::pending::<Result<(), Failure>>();
        let failure = over.bound(alone("OTA-JOB-8821X"), never).await.unwrap_err();
        assert_eq!((failure.exit().number(), failure.job()), (124, Some("OTA-JOB-8821X")));
        assert!(
            failure.to_string().starts_with("not done after 7 s; job OTA-JOB-8821X goes on"),
            "{failure}"
        );
    }

    #[tokio::test]
    async fn a_limit_that_no_clock_can_tell_is_none() {
        let limit = Limit::start(Some(u64::MAX));
        let answer = limit.bound(Left::default(), std::future::ready(Ok::<_, Failure>(7))).await;
        assert_eq!((limit.end, answer.unwrap()), (None, 7));
    }
}
