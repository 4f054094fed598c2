//! `snapshots`: listing, making and putting back saved settings.

use axum::{
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use http::StatusCode;
use ota_api::{
    auth::Secret,
    snapshots::{
        CreateSnapshotRequest, RestoreSnapshotRequest, RestoreSnapshotResponse, SnapshotInfo, SnapshotList,
    },
};
use ota_core::{SnapshotId, ports::Role};
use utoipa_axum::routes;

use crate::{
    app::App,
    auth::Caller,
    config::PinOperation,
    extract::{Answer, OptionalJson},
    handlers::updates::reason,
    router::Routes,
    status::{Refusal, Transport},
};

pub(crate) fn routes() -> Routes {
    Routes::new()
        .read(Role::Viewer, routes!(snapshots))
        .change(Role::Admin, "snapshots.create", routes!(create_snapshot))
        .change(Role::Admin, "snapshots.restore", routes!(restore_snapshot))
}

/// All snapshots of the settings, newest first.
#[utoipa::path(get, path = "/snapshots", tag = "snapshots", responses(
    (status = 200, body = SnapshotList), (status = 503, description = "UNAVAILABLE: nothing is configured to be saved")))]
async fn snapshots(State(app): State<App>) -> Result<Answer<SnapshotList>, Refusal> {
    let snapshots = app.engine.snapshots().await?;
    Ok(Answer::new(SnapshotList { snapshots: snapshots.iter().map(SnapshotInfo::from).collect() }))
}

/// Saves the configured settings. Durable when the answer comes.
#[utoipa::path(post, path = "/snapshots", tag = "snapshots", request_body(content = Option<CreateSnapshotRequest>), responses(
    (status = 201, body = SnapshotInfo),
    (status = 409, description = "OTA_014: a slot is written, or another snapshot is at work"),
    (status = 503, description = "UNAVAILABLE: nothing is configured to be saved"),
    (status = 507, description = "OTA_003"),
))]
async fn create_snapshot(
    State(app): State<App>,
    caller: Caller,
    OptionalJson(body): OptionalJson<CreateSnapshotRequest>,
) -> Result<Response, Refusal> {
    let description = reason(body.description);
    app.auditor.intent(&caller, "snapshots.create", description.clone()).await?;
    let made = app.engine.create_snapshot(&caller.actor(), description).await?;
    let answer = Answer::noted(SnapshotInfo::from(&made), None, Some(made.id.to_string()));
    Ok((StatusCode::CREATED, answer).into_response())
}

/// Puts the files of a snapshot back; every digest is checked before the first one is replaced. What is not in it stays.
#[utoipa::path(post, path = "/snapshots/{id}/restore", tag = "snapshots",
    params(("id" = String, Path, description = "The snapshot")),
    request_body(content = Option<RestoreSnapshotRequest>), responses(
    (status = 200, body = RestoreSnapshotResponse),
    (status = 400, description = "INVALID_REQUEST: it is encrypted and no identity was given"),
    (status = 403, description = "FORBIDDEN, OTA_010: where `pin.require_for` names a restore"),
    (status = 404, description = "No snapshot has this name"),
    (status = 409, description = "OTA_014: a slot is written, or another snapshot is at work"),
    (status = 422, description = "OTA_005, OTA_007: the archive is refused, and nothing was replaced"),
    (status = 429, description = "Too many wrong PINs"),
    (status = 507, description = "OTA_003"),
))]
async fn restore_snapshot(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    OptionalJson(body): OptionalJson<RestoreSnapshotRequest>,
) -> Result<Answer<RestoreSnapshotResponse>, Refusal> {
    app.pin.demand(&[PinOperation::Restore], body.pin.as_ref()).await?;
    let id: SnapshotId = id.parse().map_err(|_| Transport::NotFound("no snapshot has this name".into()))?;
    app.auditor.intent(&caller, "snapshots.restore", Some(id.to_string())).await?;
    let identity = body.identity.as_ref().map(|secret: &Secret| secret.expose().to_owned());
    let (snapshot, restored) = app.engine.restore_snapshot(id, identity).await?;
    let note = format!("{}: {} file(s)", snapshot.id, restored.files);
    Ok(Answer::noted(RestoreSnapshotResponse::new(&snapshot, &restored), None, Some(note)))
}
