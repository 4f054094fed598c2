//! Bodies and queries as handlers take them; what does not fit is refused with the place of the mistake.

use axum::{
    body::Body,
    extract::{FromRequest, FromRequestParts, Query, Request, rejection::QueryRejection},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{HeaderMap, header, request::Parts};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    app::App,
    audit::AuditNote,
    config::Limits,
    json,
    status::{Refusal, Transport},
};

/// A JSON body.
pub(crate) struct Json<T>(pub(crate) T);

/// A JSON body that may be absent, or `null`.
pub(crate) struct OptionalJson<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<App> for Json<T> {
    type Rejection = Refusal;
    async fn from_request(request: Request, app: &App) -> Result<Self, Refusal> {
        let (parts, body) = request.into_parts();
        if !is_json(&parts.headers) {
            return Err(Transport::UnsupportedMediaType { expected: "application/json" }.into());
        }
        let body = read(body, &parts.headers, &app.config.limits).await?;
        json::parse(&body, app.config.limits.json_depth).map(Self)
    }
}

impl<T: DeserializeOwned + Default> FromRequest<App> for OptionalJson<T> {
    type Rejection = Refusal;
    async fn from_request(request: Request, app: &App) -> Result<Self, Refusal> {
        let (parts, body) = request.into_parts();
        let body = read(body, &parts.headers, &app.config.limits).await?;
        if body.is_empty() {
            return Ok(Self(T::default()));
        }
        if !is_json(&parts.headers) {
            return Err(Transport::UnsupportedMediaType { expected: "application/json" }.into());
        }
        let body: Option<T> = json::parse(&body, app.config.limits.json_depth)?;
        Ok(Self(body.unwrap_or_default()))
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = value.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/json")
}

/// The whole body, within the limits of size and time.
async fn read(body: Body, headers: &HeaderMap, limits: &Limits) -> Result<Bytes, Refusal> {
    let limit = limits.json_bytes;
    let too_large = || Refusal::from(Transport::PayloadTooLarge { limit: limit as u64 });
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|n| n.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|n| n > limit as u64) {
        return Err(too_large());
    }
    let collected = tokio::time::timeout(limits.body_time, Limited::new(body, limit).collect()).await;
    match collected {
        Err(_) => Err(Transport::RequestTimeout.into()),
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => {
            Err(Transport::InvalidRequest { path: None, what: "the body ended early".into() }.into())
        }
    }
}

/// The query of the path.
pub(crate) struct Params<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequestParts<App> for Params<T> {
    type Rejection = Refusal;
    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Refusal> {
        let parsed = Query::<T>::from_request_parts(parts, app).await;
        parsed.map(|Query(query)| Self(query)).map_err(|error: QueryRejection| {
            let what =
                std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
            Transport::InvalidRequest { path: Some("query".into()), what }.into()
        })
    }
}

/// A number of a page, within its bounds.
pub(crate) fn page_limit(given: Option<u32>, default: u32, most: u32) -> Result<u32, Refusal> {
    match given.unwrap_or(default) {
        limit if (1..=most).contains(&limit) => Ok(limit),
        _ => Err(Refusal::field("query.limit", format!("must be 1 to {most}"))),
    }
}

/// A successful answer with what the audit should know of it.
pub(crate) struct Answer<T> {
    body: T,
    note: AuditNote,
}

impl<T> Answer<T> {
    pub(crate) fn new(body: T) -> Self {
        Self { body, note: AuditNote::default() }
    }

    pub(crate) fn noted(body: T, job: Option<ota_core::JobId>, reason: Option<String>) -> Self {
        Self { body, note: AuditNote { job, reason } }
    }
}

impl<T: Serialize> IntoResponse for Answer<T> {
    fn into_response(self) -> Response {
        let mut response = axum::Json(self.body).into_response();
        response.extensions_mut().insert(self.note);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::Transport;
    use futures_util::stream::{self, StreamExt as _};
    use std::time::Duration;
    use tokio::time::{Instant, sleep};

    /// What becomes of a body that has `sent` at once and then `drip` bytes every second, for ever; and after how long.
    async fn slow(sent: usize, drip: usize) -> (Refusal, Duration) {
        let at_once = stream::once(async move { Bytes::from(vec![b' '; sent]) });
        let dripping = stream::repeat(()).then(move |()| async move {
            // tidy: paused time
            sleep(Duration::from_secs(1)).await;
            Bytes::from(vec![b' '; drip])
        });
        let body = Body::from_stream(at_once.chain(dripping).map(Ok::<_, std::io::Error>));
        let since = Instant::now();
        let refused = read(body, &HeaderMap::new(), &Limits::default()).await.unwrap_err();
        (refused, since.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stands_still_or_drips_is_given_up_after_thirty_seconds() {
        for (sent, drip) in [(0, 0), (40_000, 0), (1, 1)] {
            let (refused, after) = slow(sent, drip).await;
            assert!(matches!(refused, Refusal::Transport(Transport::RequestTimeout)), "{refused}");
            assert_eq!(after.as_secs(), 30, "{sent} {drip}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_ends_at_64_kib_whether_its_length_is_announced_or_not() {
        let limits = Limits::default();
        let announced =
            |length: usize| HeaderMap::from_iter([(header::CONTENT_LENGTH, http::HeaderValue::from(length))]);
        for headers in [announced, |_| HeaderMap::new()] {
            let whole = read(Body::from(vec![b' '; 65_536]), &headers(65_536), &limits).await;
            assert_eq!(whole.unwrap().len(), 65_536);
            let refused = read(Body::from(vec![b' '; 65_537]), &headers(65_537), &limits).await.unwrap_err();
            assert!(
                matches!(refused, Refusal::Transport(Transport::PayloadTooLarge { limit: 65_536 })),
                "{refused}"
            );
        }
        let (refused, after) = slow(65_536, 1).await;
        assert!(matches!(refused, Refusal::Transport(Transport::PayloadTooLarge { .. })), "{refused}");
        assert_eq!(after.as_secs(), 1);
    }
}
