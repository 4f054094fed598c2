//! The outermost layer: gives every request an id, every refusal its envelope, every answer its headers.

use std::{any::Any, sync::Arc};

use axum::{
    Json,
    body::Body,
    extract::Request,
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderName, HeaderValue, StatusCode, header};
use tracing::Instrument as _;

use crate::{
    accept::Contradictory,
    app::App,
    status::{Refusal, Transport},
};

/// The id of a request, `[A-Za-z0-9_-]{1,64}`.
#[derive(Clone, Debug)]
pub(crate) struct RequestId(pub(crate) String);

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

impl RequestId {
    /// The client's own, if it is well-formed, else a new one.
    fn of(request: &Request) -> Self {
        let given = request.headers().get(X_REQUEST_ID).and_then(|value| value.to_str().ok());
        let well_formed = |id: &&str| {
            (1..=64).contains(&id.len())
                && id.bytes().all(|c| c.is_ascii_alphanumeric() || b"_-".contains(&c))
        };
        Self(given.filter(well_formed).map_or_else(fresh_id, str::to_owned))
    }
}

/// An id for a request that brought none.
pub(crate) fn fresh_id() -> String {
    format!("req_{}", uuid::Uuid::new_v4().simple())
}

/// Wraps every request, also those to unknown paths.
pub(crate) async fn enter(app: App, mut request: Request, next: Next) -> Response {
    let id = RequestId::of(&request);
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    request.extensions_mut().insert(id.clone());
    request.extensions_mut().insert(app.clone());
    let response = match check_framing(&app, &request) {
        // Whatever is logged on the way carries the id, at any level.
        Ok(()) => next.run(request).instrument(tracing::error_span!("request", request_id = id.0)).await,
        Err(refusal) => closing(refusal.into_response()),
    };
    let mut response = finish(&app, &id, response);
    app.metrics.answered(response.status());
    tracing::info!(request_id = id.0, %method, path, status = response.status().as_u16(), "request");
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(&id.0) {
        headers.insert(X_REQUEST_ID, value);
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn check_framing(app: &App, request: &Request) -> Result<(), Refusal> {
    let invalid = |what: String| Err(Transport::InvalidRequest { path: None, what }.into());
    if request.extensions().get::<Contradictory>().is_some() {
        return invalid("Content-Length and Transfer-Encoding contradict each other".into());
    }
    let limit = app.config.limits.head_bytes;
    let headers: usize =
        request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if headers + request.uri().path_and_query().map_or(0, |p| p.as_str().len()) > limit {
        return invalid(format!("the request head is longer than {limit} bytes"));
    }
    Ok(())
}

fn closing(mut response: Response) -> Response {
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// Turns refusals, and whatever the router or a layer said in bare text, into envelopes.
fn finish(app: &App, id: &RequestId, mut response: Response) -> Response {
    let refusal = match response.extensions_mut().remove::<Arc<Refusal>>() {
        Some(refusal) => refusal,
        None => match unexplained(&response) {
            Some(refusal) => Arc::new(refusal),
            None => return response,
        },
    };
    if let Refusal::Transport(Transport::Internal { log }) = &*refusal {
        tracing::error!(request_id = id.0, log, "internal failure");
    }
    let envelope = refusal.envelope(&id.0, app.clock.wall());
    let mut rendered = (refusal.status(), Json(envelope)).into_response();
    for kept in [header::ALLOW, header::CONNECTION, header::SEC_WEBSOCKET_VERSION] {
        if let Some(value) = response.headers_mut().remove(&kept) {
            rendered.headers_mut().insert(kept, value);
        }
    }
    refusal.headers(&mut rendered);
    rendered
}

fn unexplained(response: &Response) -> Option<Refusal> {
    let status = response.status();
    if !status.is_client_error() && !status.is_server_error() {
        return None;
    }
    let condition = match status {
        StatusCode::NOT_FOUND => Transport::NotFound("there is nothing under this path".into()),
        StatusCode::METHOD_NOT_ALLOWED => Transport::MethodNotAllowed,
        StatusCode::REQUEST_TIMEOUT => Transport::RequestTimeout,
        status if status.is_client_error() => {
            Transport::InvalidRequest { path: None, what: "the request could not be read".into() }
        }
        status => Transport::Internal { log: format!("a bare {status}") },
    };
    Some(condition.into())
}

/// What becomes of a panic: the process lives, the client gets an envelope.
pub(crate) fn panicked(panic: Box<dyn Any + Send + 'static>) -> http::Response<Body> {
    let text =
        panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    Refusal::internal(format!("panic: {}", text.unwrap_or("without a message"))).into_response()
}
