//! `updates/…`: check, download, progress, install, cancel, pause, resume, confirm, reject.

use axum::extract::State;
use ota_api::{
    text,
    updates::{
        CancelRequest, CheckResponse, DownloadRequest, DownloadResponse, InstallRequest, InstallResponse,
        JobRequest, JobResponse, JudgeRequest, ProgressQuery, ProgressResponse,
    },
};
use ota_core::{
    ByteCount, OtaError, Slot,
    job::{InstallOptions, Job, JobStatus, Strategy},
    ports::Role,
};
use ota_engine::{JobRef, JobView};
use utoipa_axum::routes;

use crate::{
    app::App,
    auth::Caller,
    config::PinOperation,
    extract::{Answer, Json, OptionalJson, Params},
    router::Routes,
    show,
    status::Refusal,
};

/// Longest reason that is kept.
const REASON_LENGTH: usize = 500;

pub(crate) fn routes() -> Routes {
    Routes::new()
        .read(Role::Viewer, routes!(check))
        .change(Role::Operator, "updates.download", routes!(download))
        .read(Role::Viewer, routes!(progress))
        .change(Role::Operator, "updates.install", routes!(install))
        .change(Role::Operator, "updates.cancel", routes!(cancel))
        .change(Role::Operator, "updates.pause", routes!(pause))
        .change(Role::Operator, "updates.resume", routes!(resume))
        .change(Role::Operator, "updates.confirm", routes!(confirm))
        .change(Role::Operator, "updates.reject", routes!(reject))
}

/// Asks the update servers for releases newer than the running version. Never changes a job.
#[utoipa::path(get, path = "/updates/check", tag = "updates", responses(
    (status = 200, body = CheckResponse),
    (status = 422, description = "The server's metadata was refused: OTA_005, OTA_006"),
    (status = 503, description = "No server answered usefully: OTA_004, OTA_009"),
))]
async fn check(State(app): State<App>) -> Result<Answer<CheckResponse>, Refusal> {
    let releases = app.engine.check().await?;
    Ok(Answer::new(CheckResponse::new(&releases, app.engine.sources())))
}

/// Starts to download a release that is on offer.
#[utoipa::path(post, path = "/updates/download", tag = "updates", request_body = DownloadRequest, responses(
    (status = 200, body = DownloadResponse),
    (status = 400, description = "INVALID_REQUEST, OTA_002, OTA_008"),
    (status = 404, description = "The update is not on offer"),
    (status = 409, description = "OTA_001, OTA_014, OTA_015"),
    (status = 422, description = "OTA_005, OTA_006, OTA_007"),
    (status = 503, description = "OTA_004, OTA_009, UNAVAILABLE"),
    (status = 507, description = "OTA_003"),
))]
async fn download(
    State(app): State<App>,
    caller: Caller,
    Json(body): Json<DownloadRequest>,
) -> Result<Answer<DownloadResponse>, Refusal> {
    let request = ota_engine::DownloadRequest {
        update_id: body.update_id.parse().map_err(|error| field("$.update_id", &error))?,
        version: body.version.map(|v| v.parse().map_err(|error| field("$.version", &error))).transpose()?,
        target: body.target_partition.as_deref().map(partition).transpose()?,
        priority: body.priority.map(Into::into).unwrap_or_default(),
        verify_signature: body.verify_signature,
    };
    let job = app.engine.download(&caller.actor(), request).await?;
    let seconds = text::seconds_for(job.release.size, None);
    let response = DownloadResponse {
        status: "started".into(),
        job_id: job.id.to_string(),
        estimated_duration: text::hms(seconds),
        estimated_duration_seconds: seconds,
        message: "Download started successfully".into(),
    };
    let reason = format!("{} {}", job.release.id, job.release.version);
    Ok(Answer::noted(response, Some(job.id), Some(reason)))
}

fn field(path: &str, error: &dyn std::error::Error) -> Refusal {
    Refusal::field(path, error.to_string())
}

/// A partition by name; an unknown one is OTA_008.
pub(crate) fn partition(name: &str) -> Result<Slot, Refusal> {
    name.parse().map_err(|_| {
        let slot = name.chars().take(32).collect();
        OtaError::InvalidPartition { slot, why: "there are A and B".into() }.into()
    })
}

/// A reason as it is kept: one line, not too long.
pub(crate) fn reason(given: Option<String>) -> Option<String> {
    let line = |text: String| {
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(REASON_LENGTH).collect()
    };
    given.map(line).filter(|text: &String| !text.trim().is_empty())
}

/// How far a job is; the active one without `job_id`.
#[utoipa::path(get, path = "/updates/progress", tag = "updates", params(ProgressQuery), responses(
    (status = 200, body = ProgressResponse),
    (status = 404, description = "OTA_013"),
))]
async fn progress(
    State(app): State<App>,
    Params(query): Params<ProgressQuery>,
) -> Result<Answer<ProgressResponse>, Refusal> {
    let view: JobView = app.engine.progress(query.job_id.as_deref().map(JobRef::parse).transpose()?).await?;
    Ok(Answer::new(show::progress(&view)))
}

/// Installs a downloaded job.
#[utoipa::path(post, path = "/updates/install", tag = "updates", request_body = InstallRequest, responses(
    (status = 200, body = InstallResponse),
    (status = 400, description = "INVALID_REQUEST, OTA_002"),
    (status = 403, description = "FORBIDDEN, OTA_010"),
    (status = 404, description = "OTA_013"),
    (status = 409, description = "OTA_014, OTA_015"),
    (status = 422, description = "OTA_005, OTA_006, OTA_007"),
    (status = 507, description = "OTA_003"),
))]
async fn install(
    State(app): State<App>,
    caller: Caller,
    Json(body): Json<InstallRequest>,
) -> Result<Answer<InstallResponse>, Refusal> {
    let strategy: Strategy = body.strategy.map(Into::into).unwrap_or_default();
    let options = InstallOptions {
        strategy,
        reboot_after: body.reboot_after,
        rollback_on_failure: body.rollback_on_failure,
    };
    let request = ota_engine::InstallRequest { job: JobRef::parse(&body.job_id)?, options };
    app.pin.demand(&[PinOperation::Install], body.pin.as_ref()).await?;
    let job = app.engine.install(&caller.actor(), request).await?;
    Ok(Answer::noted(installing(&job), Some(job.id), None))
}

fn installing(job: &Job) -> InstallResponse {
    let scheduled = job.state.status() == JobStatus::Scheduled;
    // Written, then read back.
    let seconds = text::seconds_for(ByteCount(job.release.size.get().saturating_mul(2)), None);
    InstallResponse {
        status: if scheduled { "scheduled" } else { "installing" }.into(),
        message: if scheduled {
            "Update installation scheduled for the next update window"
        } else {
            "Update installation in progress"
        }
        .into(),
        requires_reboot: job.release.requires_reboot,
        estimated_duration: text::hms(seconds),
        estimated_duration_seconds: seconds,
        job_id: job.id.to_string(),
    }
}

/// Cancels a job, also after the switch of partitions, which is then undone.
#[utoipa::path(post, path = "/updates/cancel", tag = "updates", request_body = CancelRequest, responses(
    (status = 200, body = JobResponse),
    (status = 404, description = "OTA_013"),
    (status = 409, description = "OTA_014: the reboot has begun"),
))]
async fn cancel(
    State(app): State<App>,
    caller: Caller,
    Json(body): Json<CancelRequest>,
) -> Result<Answer<JobResponse>, Refusal> {
    let reason = reason(body.reason);
    let request = ota_engine::CancelRequest {
        job: JobRef::parse(&body.job_id)?,
        reason: reason.clone().unwrap_or_else(|| format!("cancelled by {}", caller.name)),
    };
    let job = app.engine.cancel(&caller.actor(), request).await?;
    Ok(changed(job, "cancelled", "Update operation cancelled successfully", reason))
}

fn changed(job: Job, status: &str, message: &str, reason: Option<String>) -> Answer<JobResponse> {
    let response = JobResponse { status: status.into(), message: message.into(), job_id: job.id.to_string() };
    Answer::noted(response, Some(job.id), reason)
}

/// Pauses a download; the active one without `job_id`.
#[utoipa::path(post, path = "/updates/pause", tag = "updates", request_body(content = Option<JobRequest>), responses(
    (status = 200, body = JobResponse),
    (status = 404, description = "OTA_013"),
    (status = 409, description = "OTA_014: it is not downloading"),
))]
async fn pause(
    State(app): State<App>,
    caller: Caller,
    OptionalJson(body): OptionalJson<JobRequest>,
) -> Result<Answer<JobResponse>, Refusal> {
    let job = body.job_id.as_deref().map(JobRef::parse).transpose()?;
    let job = app.engine.pause(&caller.actor(), job).await?;
    Ok(changed(job, "paused", "Download paused", None))
}

/// Goes on with a paused download; the active one without `job_id`.
#[utoipa::path(post, path = "/updates/resume", tag = "updates", request_body(content = Option<JobRequest>), responses(
    (status = 200, body = JobResponse),
    (status = 404, description = "OTA_013"),
    (status = 409, description = "OTA_014: it is not paused"),
))]
async fn resume(
    State(app): State<App>,
    caller: Caller,
    OptionalJson(body): OptionalJson<JobRequest>,
) -> Result<Answer<JobResponse>, Refusal> {
    let job = body.job_id.as_deref().map(JobRef::parse).transpose()?;
    let job = app.engine.resume(&caller.actor(), job).await?;
    Ok(changed(job, "downloading", "Download goes on", None))
}

/// Judges the trial of the new version good, by hand.
#[utoipa::path(post, path = "/updates/confirm", tag = "updates", request_body(content = Option<JudgeRequest>), responses(
    (status = 200, body = JobResponse),
    (status = 404, description = "OTA_013: no job is active"),
    (status = 409, description = "OTA_014: there is no trial to judge"),
))]
async fn confirm(
    State(app): State<App>,
    caller: Caller,
    OptionalJson(body): OptionalJson<JudgeRequest>,
) -> Result<Answer<JobResponse>, Refusal> {
    let reason = reason(body.reason);
    let job = app.engine.judge_trial(&caller.actor(), true, reason.clone().unwrap_or_default()).await?;
    Ok(changed(job, "confirmed", "The new version is being confirmed", reason))
}

/// Judges the trial of the new version bad, by hand: the old one comes back.
#[utoipa::path(post, path = "/updates/reject", tag = "updates", request_body(content = Option<JudgeRequest>), responses(
    (status = 200, body = JobResponse),
    (status = 404, description = "OTA_013: no job is active"),
    (status = 409, description = "OTA_014: there is no trial to judge"),
))]
async fn reject(
    State(app): State<App>,
    caller: Caller,
    OptionalJson(body): OptionalJson<JudgeRequest>,
) -> Result<Answer<JobResponse>, Refusal> {
    let reason = reason(body.reason);
    let told = reason.clone().unwrap_or_else(|| format!("rejected by {}", caller.name));
    let job = app.engine.judge_trial(&caller.actor(), false, told).await?;
    Ok(changed(job, "rejected", "The gateway goes back to the old version", reason))
}
