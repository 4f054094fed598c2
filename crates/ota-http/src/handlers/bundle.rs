//! `debug-bundle`: logs, status, configuration and records in one archive, without secrets.

use axum::{extract::State, response::Response};
use ota_core::ports::Role;
use utoipa_axum::routes;

use crate::{app::App, bundle, router::Routes, status::Refusal};

pub(crate) fn routes() -> Routes {
    Routes::new().change(Role::Admin, "debug_bundle.create", routes!(create))
}

/// Makes a debug bundle: a gzipped tar archive with logs, status, boot environment, configuration, versions, the last jobs
/// and the end of the audit. Secrets are left out.
#[utoipa::path(post, path = "/debug-bundle", tag = "system", operation_id = "debug_bundle", responses(
    (status = 200, content_type = "application/gzip", body = String, description = "The archive"),
    (status = 409, description = "OTA_014: another bundle is being made"),
))]
async fn create(State(app): State<App>) -> Result<Response, Refusal> {
    bundle::stream(&app).await
}
