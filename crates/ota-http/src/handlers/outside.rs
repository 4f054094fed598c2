//! What lies outside the prefixes: dashboard, probes, metrics, the document and its rendering.

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, header};
use ota_api::system::Probe;
use utoipa_axum::routes;

use crate::{
    app::App,
    extract::Answer,
    guard::{Access, Rule},
    router::{Routes, openapi},
    status::{Refusal, Transport},
};

/// Nothing but our own files, no inline script, no framing.
const CSP: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                   base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub(crate) fn routes() -> Routes {
    let with = |access| Rule { access, action: None };
    Routes::new()
        .add(with(Access::Open), routes!(dashboard))
        .add(with(Access::Open), routes!(dashboard_script))
        .add(with(Access::Open), routes!(style))
        .add(with(Access::Open), routes!(docs_script))
        .add(with(Access::Probe), routes!(healthz))
        .add(with(Access::Probe), routes!(readyz))
        .add(with(Access::Metrics), routes!(metrics))
        .add(with(Access::Docs), routes!(document))
        .add(with(Access::Docs), routes!(docs))
}

fn file(kind: &'static str, body: &'static str) -> Response {
    let mut response =
        ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-cache")], body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(CSP));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    response
}

/// The dashboard.
#[utoipa::path(get, path = "/", tag = "outside", responses((status = 200, content_type = "text/html", body = String)))]
async fn dashboard() -> Response {
    file("text/html; charset=utf-8", include_str!("../../ui/index.html"))
}

/// The dashboard's script.
#[utoipa::path(get, path = "/ui/dashboard.js", tag = "outside", responses((status = 200, content_type = "text/javascript", body = String)))]
async fn dashboard_script() -> Response {
    file("text/javascript; charset=utf-8", include_str!("../../ui/dashboard.js"))
}

/// The look of the pages.
#[utoipa::path(get, path = "/ui/style.css", tag = "outside", responses((status = 200, content_type = "text/css", body = String)))]
async fn style() -> Response {
    file("text/css; charset=utf-8", include_str!("../../ui/style.css"))
}

/// The script that renders the reference.
#[utoipa::path(get, path = "/ui/docs.js", tag = "outside", responses((status = 200, content_type = "text/javascript", body = String)))]
async fn docs_script() -> Response {
    file("text/javascript; charset=utf-8", include_str!("../../ui/docs.js"))
}

/// Whether the daemon answers.
#[utoipa::path(get, path = "/healthz", tag = "outside", responses((status = 200, body = Probe)))]
async fn healthz() -> Answer<Probe> {
    Answer::new(Probe { status: "ok".into() })
}

/// Whether the gateway can install updates.
#[utoipa::path(get, path = "/readyz", tag = "outside", responses((status = 200, body = Probe), (status = 503, description = "Not ready")))]
async fn readyz(State(app): State<App>) -> Result<Answer<Probe>, Refusal> {
    let ready =
        !app.stopping.is_cancelled() && app.engine.status().await.is_ok_and(|view| view.degraded.is_empty());
    if ready {
        return Ok(Answer::new(Probe { status: "ok".into() }));
    }
    Err(Transport::Unavailable { reason: "not_ready", what: "the gateway is not ready".into() }.into())
}

/// Numbers for Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "outside", responses((status = 200, content_type = "text/plain", body = String)))]
async fn metrics(State(app): State<App>) -> Response {
    let status = app.engine.status().await.ok();
    let body = app.metrics.render(status.as_ref(), &app.engine.safety(), app.engine.bus().newest());
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], body).into_response()
}

/// This document.
#[utoipa::path(get, path = "/openapi.json", tag = "outside", responses((status = 200, content_type = "application/json", body = Object)))]
async fn document() -> Response {
    axum::Json(openapi()).into_response()
}

/// The document, rendered.
#[utoipa::path(get, path = "/docs", tag = "outside", responses((status = 200, content_type = "text/html", body = String)))]
async fn docs() -> Response {
    file("text/html; charset=utf-8", include_str!("../../ui/docs.html"))
}
