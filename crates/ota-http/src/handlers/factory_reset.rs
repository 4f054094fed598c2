//! `factory-reset`: scheduled for the next boot, by PIN and an exact sentence.

use axum::extract::State;
use ota_api::updates::{FactoryResetRequest, FactoryResetResponse, RESET_CONFIRMATION};
use ota_core::{OtaError, ports::Role};
use utoipa_axum::routes;

use crate::{
    app::App,
    auth::Caller,
    config::PinOperation,
    extract::{Answer, Json},
    router::Routes,
    status::Refusal,
};

pub(crate) fn routes() -> Routes {
    Routes::new().change(Role::Admin, "factory-reset", routes!(factory_reset))
}

/// Schedules the erasure of all user data and settings for the next boot.
#[utoipa::path(post, path = "/factory-reset", tag = "system", request_body = FactoryResetRequest, responses(
    (status = 200, body = FactoryResetResponse),
    (status = 400, description = "INVALID_REQUEST, OTA_002"),
    (status = 403, description = "FORBIDDEN, OTA_010, OTA_011: the sentence is not exact, or the policy forbids it"),
    (status = 409, description = "OTA_014, OTA_015"),
    (status = 429, description = "Too many wrong PINs"),
    (status = 503, description = "UNAVAILABLE: this device could not carry it out"),
    (status = 507, description = "OTA_003: no space for the settings' backup"),
))]
async fn factory_reset(
    State(app): State<App>,
    caller: Caller,
    Json(body): Json<FactoryResetRequest>,
) -> Result<Answer<FactoryResetResponse>, Refusal> {
    if body.confirmation != RESET_CONFIRMATION {
        let why = format!("the confirmation must be exactly \"{RESET_CONFIRMATION}\"");
        return Err(OtaError::FactoryResetNotAllowed { why }.into());
    }
    app.pin.demand(&[PinOperation::FactoryReset], body.pin.as_ref()).await?;
    let wish = if body.backup_settings { "with a backup of the settings" } else { "without a backup" };
    app.auditor.intent(&caller, "factory-reset", Some(wish.into())).await?;
    let backup = app.engine.factory_reset(&caller.actor(), body.backup_settings).await?;
    let backup = backup.map(|snapshot| snapshot.id.to_string());
    let note = backup.as_ref().map_or_else(|| wish.into(), |id| format!("with backup {id}"));
    let response = FactoryResetResponse {
        status: "reset_scheduled".into(),
        message: "Factory reset scheduled for next boot".into(),
        reboot_required: true,
        backup,
    };
    Ok(Answer::noted(response, None, Some(note)))
}
