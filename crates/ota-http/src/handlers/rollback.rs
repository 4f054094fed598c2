//! `updates/rollback`: back to the version in the other partition.

use axum::extract::State;
use ota_api::{
    text,
    updates::{RollbackRequest, RollbackResponse},
};
use ota_core::{job::Job, ports::Role};
use utoipa_axum::routes;

use crate::{
    app::App,
    auth::Caller,
    config::PinOperation,
    extract::{Answer, Json},
    handlers::updates::reason,
    router::Routes,
    status::Refusal,
};

/// Two restarts of a gateway, roughly: into the trial, and the health checks on it.
const RESTART_SECONDS: u64 = 120;

pub(crate) fn routes() -> Routes {
    Routes::new().change(Role::Admin, "updates.rollback", routes!(rollback))
}

/// Goes back to the version in the other partition, after its digest was compared with the record. To compare takes as long as
/// to read the partition, so that it is part of the job: bytes that are not the recorded ones end it as failed, with OTA_012.
#[utoipa::path(post, path = "/updates/rollback", tag = "updates", request_body = RollbackRequest, responses(
    (status = 200, body = RollbackResponse),
    (status = 400, description = "INVALID_REQUEST, OTA_002"),
    (status = 403, description = "FORBIDDEN, OTA_010"),
    (status = 409, description = "OTA_001, OTA_012 (empty, not bootable, below the security floor, without a recorded digest, \
                                  or not at target_version), OTA_014, OTA_015"),
    (status = 503, description = "UNAVAILABLE"),
))]
async fn rollback(
    State(app): State<App>,
    caller: Caller,
    Json(body): Json<RollbackRequest>,
) -> Result<Answer<RollbackResponse>, Refusal> {
    let target_version = body
        .target_version
        .map(|version| version.parse())
        .transpose()
        .map_err(|error| Refusal::field("$.target_version", format!("{error}")))?;
    let reason = reason(body.reason);
    app.pin.demand(&[PinOperation::Rollback], body.pin.as_ref()).await?;
    app.auditor.intent(&caller, "updates.rollback", reason.clone()).await?;
    let request = ota_engine::RollbackRequest { target_version };
    let job = app.engine.rollback(&caller.actor(), request).await?;
    let told = reason.unwrap_or_else(|| format!("to {}", job.release.version));
    Ok(Answer::noted(started(&job), Some(job.id), Some(told)))
}

fn started(job: &Job) -> RollbackResponse {
    let seconds = text::seconds_for(job.release.size, None).saturating_add(RESTART_SECONDS);
    RollbackResponse {
        status: "rollback_started".into(),
        message: format!("Rolling back to version {}", job.release.version),
        estimated_duration: text::hms(seconds),
        estimated_duration_seconds: seconds,
        job_id: job.id.to_string(),
    }
}
