//! `ota-admin jobs`.

use ota_api::jobs::{JobError, JobInfo, JobsQuery};

use super::Context;
use crate::{
    exit::Failure,
    output::{facts, table},
};

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Job or deployment to show in detail.
    pub(crate) id: Option<String>,
    /// How many to list, newest first.
    #[arg(long, default_value = "20", value_parser = clap::value_parser!(u32).range(1..=200))]
    pub(crate) limit: u32,
    /// How many to skip.
    #[arg(long, default_value = "0")]
    pub(crate) offset: u64,
}

pub(crate) async fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let client = context.client()?;
    if let Some(id) = &args.id {
        let job = client.job(id).await?;
        return context.out.show(&job, detail);
    }
    let page = client.jobs(&JobsQuery { offset: Some(args.offset), limit: Some(args.limit) }).await?;
    context.out.show(&page, |page| {
        if page.jobs.is_empty() {
            return "no jobs".into();
        }
        let shown = page.offset + page.jobs.len() as u64;
        let more =
            if shown < page.total { format!("\n\n{shown} of {} jobs", page.total) } else { String::new() };
        format!("{}{more}", list(&page.jobs))
    })
}

fn list(jobs: &[JobInfo]) -> String {
    let rows = jobs.iter().map(|job| {
        [
            job.job_id.clone(),
            job.kind.to_string(),
            job.version.clone(),
            format!("{} -> {}", job.source_partition, job.target_partition),
            job.status.to_string(),
            job.created_at.to_string(),
            why(job),
        ]
    });
    table(["JOB", "KIND", "VERSION", "PARTITION", "STATUS", "CREATED", "REASON"], rows)
}

fn why(job: &JobInfo) -> String {
    match (&job.failure, &job.cancel_reason) {
        (Some(failure), _) => failure.code.clone().unwrap_or_else(|| failure.message.clone()),
        (None, Some(reason)) => reason.clone(),
        (None, None) => String::new(),
    }
}

/// Why a job failed, and what to do.
pub(super) fn failure_rows(failure: &JobError) -> Vec<(&'static str, String)> {
    let code = failure.code.as_ref().map(|code| format!(" ({code})")).unwrap_or_default();
    let actions = failure.suggested_actions.iter().map(|action| ("What to do", action.clone()));
    let request = failure.request_id.as_ref().map(|id| ("Request", id.clone()));
    [("Failure", format!("{}{code}", failure.message))].into_iter().chain(actions).chain(request).collect()
}

fn detail(job: &JobInfo) -> String {
    let mut rows = vec![("Job", job.job_id.clone())];
    rows.extend(job.deployment_id.iter().map(|id| ("Deployment", id.clone())));
    rows.extend([
        ("Kind", job.kind.to_string()),
        ("Status", job.status.to_string()),
        ("Operation", job.current_operation.clone()),
        ("Update", format!("{} ({})", job.update_id, job.version)),
        ("Image", format!("{} bytes, {}", job.size, job.checksum)),
        ("Partitions", format!("{} -> {}", job.source_partition, job.target_partition)),
        ("Priority", job.priority.to_string()),
    ]);
    rows.extend(job.install.iter().map(|install| {
        let reboot = if install.reboot_after { "reboots by itself" } else { "waits for a reboot" };
        ("Install", format!("{}, {reboot}", install.strategy))
    }));
    rows.extend(job.signers.iter().map(|signer| ("Signed by", signer.clone())));
    rows.extend(job.waiting_for.iter().map(|waiting| ("Waits for", waiting.reason.clone())));
    rows.extend(job.failure.iter().flat_map(failure_rows));
    rows.extend(job.cancel_reason.iter().map(|reason| ("Cancelled", reason.clone())));
    rows.extend([("Created", job.created_at.to_string()), ("Updated", job.updated_at.to_string())]);
    facts(rows)
}
