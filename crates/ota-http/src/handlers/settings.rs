//! `settings/…`: what can be changed while the gateway runs.

use std::sync::Arc;

use axum::extract::State;
use ota_api::settings;
use ota_core::ports::{Bandwidth, MIN_BYTES_PER_SECOND, Role};
use utoipa_axum::routes;

use crate::{
    app::{App, blocking},
    extract::{Answer, Json},
    router::Routes,
    status::{Refusal, Transport},
};

pub(crate) fn routes() -> Routes {
    Routes::new().read(Role::Viewer, routes!(bandwidth)).change(
        Role::Operator,
        "settings.bandwidth",
        routes!(set_bandwidth),
    )
}

fn port(app: &App) -> Result<Arc<dyn Bandwidth>, Refusal> {
    let unavailable = || Transport::Unavailable {
        reason: "no_bandwidth",
        what: "this gateway has no downloads that could be slowed down".into(),
    };
    Ok(app.bandwidth.clone().ok_or_else(unavailable)?)
}

/// How fast downloads may be.
#[utoipa::path(get, path = "/settings/bandwidth", tag = "settings",
    responses((status = 200, body = settings::Bandwidth)))]
async fn bandwidth(State(app): State<App>) -> Result<Answer<settings::Bandwidth>, Refusal> {
    Ok(Answer::new(settings::Bandwidth { bytes_per_second: port(&app)?.limit() }))
}

/// Changes how fast downloads may be, also one that is under way. Stays over a restart.
#[utoipa::path(put, path = "/settings/bandwidth", tag = "settings", request_body = settings::Bandwidth,
    responses((status = 200, body = settings::Bandwidth)))]
async fn set_bandwidth(
    State(app): State<App>,
    Json(body): Json<settings::Bandwidth>,
) -> Result<Answer<settings::Bandwidth>, Refusal> {
    if body.bytes_per_second.is_some_and(|limit| limit < MIN_BYTES_PER_SECOND) {
        let what = format!("must be at least {MIN_BYTES_PER_SECOND}, or null for no limit");
        return Err(Refusal::field("$.bytes_per_second", what));
    }
    let port = port(&app)?;
    let limit = blocking(move || port.set_limit(body.bytes_per_second).map(|()| port.limit())).await??;
    let note = limit.map_or_else(|| "no limit".into(), |limit| format!("{limit} bytes a second"));
    Ok(Answer::noted(settings::Bandwidth { bytes_per_second: limit }, None, Some(note)))
}
