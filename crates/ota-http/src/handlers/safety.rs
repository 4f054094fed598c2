//! `safety/…`.

use axum::extract::State;
use ota_api::safety::SafetyStatus;
use ota_core::ports::Role;
use utoipa_axum::routes;

use crate::{app::App, extract::Answer, router::Routes};

pub(crate) fn routes() -> Routes {
    Routes::new().read(Role::Viewer, routes!(status))
}

/// Every safety constraint as it stands.
#[utoipa::path(get, path = "/safety/status", tag = "safety", operation_id = "safety_status",
    responses((status = 200, body = SafetyStatus)))]
async fn status(State(app): State<App>) -> Answer<SafetyStatus> {
    Answer::new(SafetyStatus::from(&app.engine.safety()))
}
