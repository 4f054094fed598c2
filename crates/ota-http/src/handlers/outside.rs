//! What lies outside the prefixes: dashboard, probes, metrics, the document and its rendering.

use std::sync::OnceLock;

use axum::{
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{HeaderMap, header};
use ota_api::system::Probe;
use tower_http::compression::CompressionLayer;
use utoipa_axum::{router::UtoipaMethodRouterExt, routes};

use crate::{
    app::{App, blocking},
    assets::Asset,
    extract::Answer,
    guard::{Access, Rule},
    metrics::Format,
    router::{Routes, openapi},
    status::{Refusal, Transport},
};

pub(crate) fn routes() -> Routes {
    let with = |access| Rule { access, action: None };
    Routes::new()
        .add(with(Access::Open), routes!(dashboard).layer(CompressionLayer::new()))
        .add(with(Access::Open), routes!(asset).layer(CompressionLayer::new()))
        .add(with(Access::Probe), routes!(healthz))
        .add(with(Access::Probe), routes!(readyz))
        .add(with(Access::Metrics), routes!(metrics))
        .add(with(Access::Docs), routes!(document))
        .add(with(Access::Docs), routes!(docs))
}

fn page(name: &str, headers: &HeaderMap) -> Result<Response, Refusal> {
    let asset = Asset::named(name).ok_or_else(|| Transport::NotFound("there is no such file".into()))?;
    Ok(asset.respond(headers))
}

/// The dashboard.
#[utoipa::path(get, path = "/", tag = "outside", responses((status = 200, content_type = "text/html", body = String)))]
async fn dashboard(headers: HeaderMap) -> Result<Response, Refusal> {
    page("index.html", &headers)
}

/// A script, style or picture of the pages.
#[utoipa::path(get, path = "/ui/{file}", tag = "outside", params(("file" = String, Path, description = "`app.js`")), responses(
    (status = 200, content_type = "text/javascript", body = String),
    (status = 304, description = "The copy of that entity tag is still good"),
    (status = 404, description = "There is no such file"),
))]
async fn asset(Path(file): Path<String>, headers: HeaderMap) -> Result<Response, Refusal> {
    page(&file, &headers)
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

/// Numbers for Prometheus; as OpenMetrics for who accepts that by name.
#[utoipa::path(get, path = "/metrics", tag = "outside", responses((status = 200, content(
    (String = "text/plain"), (String = "application/openmetrics-text")))))]
async fn metrics(State(app): State<App>, headers: HeaderMap) -> Response {
    let format = Format::accepted(&headers);
    let body = crate::metrics::render(&app, format).await;
    ([(header::CONTENT_TYPE, format.media_type())], body).into_response()
}

/// This document.
#[utoipa::path(get, path = "/openapi.json", tag = "outside", responses((status = 200, content_type = "application/json", body = Object)))]
async fn document() -> Result<Response, Refusal> {
    /// It is the same as long as the process lives, and making it costs every route and every schema.
    static DOCUMENT: OnceLock<Bytes> = OnceLock::new();
    let body = match DOCUMENT.get() {
        Some(body) => body.clone(),
        None => {
            let made = blocking(|| serde_json::to_vec(&openapi())).await?;
            let made = made.map_err(|error| Refusal::internal(error.to_string()))?;
            DOCUMENT.get_or_init(|| made.into()).clone()
        }
    };
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

/// The document, rendered.
#[utoipa::path(get, path = "/docs", tag = "outside", responses((status = 200, content_type = "text/html", body = String)))]
async fn docs(headers: HeaderMap) -> Result<Response, Refusal> {
    page("docs.html", &headers)
}
