//! `system/status`, also `gateway/status`.

use axum::extract::State;
use ota_api::system::SystemStatus;
use ota_core::ports::Role;
use utoipa_axum::routes;

use crate::{app::App, extract::Answer, router::Routes, show, status::Refusal};

pub(crate) fn routes() -> Routes {
    Routes::new().read(Role::Viewer, routes!(status)).read(Role::Viewer, routes!(gateway_status))
}

/// The gateway as a whole.
#[utoipa::path(get, path = "/system/status", tag = "system", operation_id = "system_status",
    responses((status = 200, body = SystemStatus)))]
async fn status(State(app): State<App>) -> Result<Answer<SystemStatus>, Refusal> {
    Ok(Answer::new(show::system(&app.engine.status().await?)))
}

/// The same as `system/status`.
#[utoipa::path(get, path = "/gateway/status", tag = "system", responses((status = 200, body = SystemStatus)))]
async fn gateway_status(state: State<App>) -> Result<Answer<SystemStatus>, Refusal> {
    status(state).await
}
