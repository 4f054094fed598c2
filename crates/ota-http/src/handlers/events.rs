//! `events` and the WebSocket.

use axum::extract::{Request, State};
use axum::response::Response;
use ota_api::ws::{EventPage, EventsQuery, Message};
use ota_core::ports::Role;
use tower_http::compression::CompressionLayer;
use utoipa_axum::{router::UtoipaMethodRouterExt as _, routes};

use crate::{
    app::App,
    auth::Caller,
    extract::{Answer, Params, page_limit},
    router::Routes,
    status::Refusal,
    ws,
};

pub(crate) fn routes() -> Routes {
    Routes::new()
        // A page of a long update is hundreds of messages that differ in a number.
        .read(Role::Viewer, routes!(events).layer(CompressionLayer::new()))
        .read(Role::Viewer, routes!(socket))
        .read(Role::Viewer, routes!(updates_socket))
}

/// The messages of the WebSocket, those that are still remembered.
#[utoipa::path(get, path = "/events", tag = "events", params(EventsQuery), responses((status = 200, body = EventPage)))]
async fn events(
    State(app): State<App>,
    Params(query): Params<EventsQuery>,
) -> Result<Answer<EventPage>, Refusal> {
    let limit = page_limit(query.limit, 256, 1000)?;
    let since = query.since.unwrap_or(0);
    let (missed, events) = app.engine.bus().since(since, usize::try_from(limit).unwrap_or(1000));
    Ok(Answer::new(EventPage {
        next: events.last().map_or(since, |event| event.seq),
        events: events.iter().map(Message::from).collect(),
        missed: if query.since.is_some() { missed } else { 0 },
    }))
}

/// Becomes a WebSocket that sends a `Message` for each event, first the present state. Authenticate with the
/// `Authorization` header, the session cookie, or the sub-protocols `ota.v1, bearer.<token>`.
#[utoipa::path(get, path = "/ws", tag = "events", params(("since" = Option<u64>, Query, description = "Replay events after this position")),
    responses((status = 101, description = "Messages follow"), (status = 503, description = "Too many WebSockets")))]
async fn socket(
    State(app): State<App>,
    Params(query): Params<EventsQuery>,
    caller: Caller,
    request: Request,
) -> Result<Response, Refusal> {
    ws::upgrade(app, query.since, caller, request)
}

/// The same as `ws`.
#[utoipa::path(get, path = "/ws/updates", tag = "events", params(("since" = Option<u64>, Query, description = "Replay events after this position")),
    responses((status = 101, description = "Messages follow"), (status = 503, description = "Too many WebSockets")))]
async fn updates_socket(
    state: State<App>,
    query: Params<EventsQuery>,
    caller: Caller,
    request: Request,
) -> Result<Response, Refusal> {
    socket(state, query, caller, request).await
}
