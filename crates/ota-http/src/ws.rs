//! The WebSocket: the present state first, then every event as it happens.

use std::{sync::atomic::Ordering, time::Duration};

use axum::{
    body::Body,
    extract::Request,
    response::{IntoResponse, Response},
};
use futures_util::{SinkExt, StreamExt};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use ota_api::{
    text,
    words::Severity,
    ws::{Message, ProgressUpdate, StatusChange, SystemEvent},
};
use ota_core::event::Event;
use ota_engine::{Delivery, Subscription};
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, MissedTickBehavior},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        self,
        handshake::derive_accept_key,
        protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode},
    },
};

use crate::{
    app::App,
    auth::{Caller, Proof, protocols},
    show,
    status::{Refusal, Transport},
};

/// The sub-protocol that is echoed.
const PROTOCOL: &str = "ota.v1";
/// Bytes that wait for a slow reader inside the socket; more are not taken from the ring.
const WRITE_BUFFER: usize = 256 * 1024;
/// How long a message may wait for its reader before the connection is given up.
const STUCK: Duration = Duration::from_secs(60);

/// Answers the upgrade and serves the socket from then on.
pub(crate) fn upgrade(
    app: App,
    since: Option<u64>,
    caller: Caller,
    mut request: Request,
) -> Result<Response, Refusal> {
    let Some(key) = handshake_key(request.headers()) else {
        return Ok(upgrade_required());
    };
    let on_upgrade = request.extensions_mut().remove::<OnUpgrade>().ok_or_else(|| {
        Refusal::from(Transport::InvalidRequest {
            path: None,
            what: "this connection cannot be upgraded".into(),
        })
    })?;
    let permit = app.web_sockets.clone().try_acquire_owned().map_err(|_| Transport::Unavailable {
        reason: "too_many_websockets",
        what: "all WebSockets are taken".into(),
    })?;
    let echo = protocols(request.headers()).any(|protocol| protocol == PROTOCOL);
    // Before the answer, so that nothing that happens after it is missed.
    let events = app.engine.subscribe(since).with_queue(app.config.limits.ws_queue);
    let limit = app.config.limits.ws_message_bytes;
    tokio::spawn(async move {
        let Ok(upgraded) = on_upgrade.await else { return };
        let config = WebSocketConfig::default()
            .max_message_size(Some(limit))
            .max_frame_size(Some(limit))
            .read_buffer_size(16 * 1024)
            .write_buffer_size(0)
            .max_write_buffer_size(WRITE_BUFFER);
        let io = TokioIo::new(upgraded);
        let socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await;
        Session::new(app, caller, socket, events, since, permit).run().await;
    });
    Ok(switching(&key, echo))
}

/// The key of a well-formed handshake of version 13.
fn handshake_key(headers: &HeaderMap) -> Option<String> {
    let has = |name: header::HeaderName, word: &str| {
        let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|part| part.trim().eq_ignore_ascii_case(word))
    };
    let upgrading = has(header::CONNECTION, "upgrade") && has(header::UPGRADE, "websocket");
    let version = headers.get(header::SEC_WEBSOCKET_VERSION).is_some_and(|version| version == "13");
    let key = headers.get(header::SEC_WEBSOCKET_KEY)?.to_str().ok().filter(|key| key.len() == 24)?;
    (upgrading && version).then(|| key.to_owned())
}

fn upgrade_required() -> Response {
    let what = "this path speaks WebSocket, version 13".into();
    let mut response = Refusal::from(Transport::InvalidRequest { path: None, what }).into_response();
    response.headers_mut().insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    response
}

fn switching(key: &str, echo: bool) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accept) = HeaderValue::from_str(&derive_accept_key(key.as_bytes())) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    if echo {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(PROTOCOL));
    }
    response
}

/// Why a session ends.
enum End {
    /// The client went away or does not read.
    Gone,
    /// We say why.
    Close(CloseCode, &'static str),
}

struct Session {
    app: App,
    caller: Caller,
    socket: WebSocketStream<TokioIo<Upgraded>>,
    events: Subscription,
    since: Option<u64>,
    /// The newest progress that was held back, so that there are not too many a second.
    held: Option<Event>,
    last_progress: Option<Instant>,
    unanswered: u32,
    _permit: OwnedSemaphorePermit,
}

impl Session {
    fn new(
        app: App,
        caller: Caller,
        socket: WebSocketStream<TokioIo<Upgraded>>,
        events: Subscription,
        since: Option<u64>,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        Self {
            app,
            caller,
            socket,
            events,
            since,
            held: None,
            last_progress: None,
            unanswered: 0,
            _permit: permit,
        }
    }

    async fn run(mut self) {
        self.app.metrics.web_sockets.fetch_add(1, Ordering::Relaxed);
        let end = match self.greet().await {
            Ok(()) => self.serve().await,
            Err(end) => end,
        };
        if let End::Close(code, reason) = end {
            let frame = CloseFrame { code, reason: reason.into() };
            let _ = tokio::time::timeout(Duration::from_secs(1), self.socket.close(Some(frame))).await;
        }
        self.app.metrics.web_sockets.fetch_sub(1, Ordering::Relaxed);
    }

    /// The present state, then the active job's last progress. Both carry the position the client asked from, so that
    /// it can go on from there when the connection breaks before the replay is through.
    async fn greet(&mut self) -> Result<(), End> {
        let seq = self.since.unwrap_or_else(|| self.app.engine.bus().newest());
        let Ok(view) = self.app.engine.status().await else {
            return Err(End::Close(CloseCode::Error, "the state cannot be read"));
        };
        let now = text::time(view.now);
        let severity = if view.degraded.is_empty() { Severity::Info } else { Severity::Warning };
        let state = StatusChange {
            system_status: view.state.into(),
            message: format!("System status is {}", view.state.as_str()),
            severity,
            timestamp: now,
            seq,
        };
        self.send(&Message::StatusChange(state)).await?;
        if let Ok(job) = self.app.engine.progress(None).await
            && let Some(live) = &job.live
        {
            let last = show::last_progress(&job.job, live);
            self.send(&Message::ProgressUpdate(ProgressUpdate::new(&last, seq, now))).await?;
        }
        Ok(())
    }

    async fn serve(&mut self) -> End {
        let stopping = self.app.stopping.clone();
        let period = self.app.config.limits.ws_ping;
        let mut pings = tokio::time::interval_at(Instant::now() + period, period);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let release = self.release_at();
            let step = tokio::select! {
                delivery = self.events.next() => self.deliver(delivery).await,
                () = tokio::time::sleep_until(release.unwrap_or_else(Instant::now)), if release.is_some() => {
                    self.release().await
                }
                heard = self.socket.next() => self.hear(heard),
                _ = pings.tick() => self.ping().await,
                () = stopping.cancelled() => Err(End::Close(CloseCode::Away, "the gateway is stopping")),
            };
            if let Err(end) = step {
                return end;
            }
        }
    }

    /// When a progress that is held back may go.
    fn release_at(&self) -> Option<Instant> {
        self.held.as_ref()?;
        Some(self.last_progress? + self.app.config.limits.ws_progress)
    }

    async fn release(&mut self) -> Result<(), End> {
        let Some(event) = self.held.take() else { return Ok(()) };
        self.last_progress = Some(Instant::now());
        self.send(&Message::from(&event)).await
    }

    async fn deliver(&mut self, delivery: Delivery) -> Result<(), End> {
        match delivery {
            Delivery::Dropped(count) => self.tell_dropped(count).await,
            Delivery::Event(event) if event.kind.may_be_thinned() && self.too_soon() => {
                self.held = Some(event);
                Ok(())
            }
            Delivery::Event(event) if matches!(event.kind, ota_core::event::EventKind::Progress(_)) => {
                // Newer than what was held back.
                self.held = Some(event);
                self.release().await
            }
            Delivery::Event(event) => {
                self.release().await?;
                self.send(&Message::from(&event)).await
            }
        }
    }

    fn too_soon(&self) -> bool {
        self.last_progress.is_some_and(|at| at.elapsed() < self.app.config.limits.ws_progress)
    }

    async fn tell_dropped(&mut self, count: u64) -> Result<(), End> {
        self.app.metrics.events_dropped.fetch_add(count, Ordering::Relaxed);
        self.held = None;
        self.send(&Message::SystemEvent(SystemEvent {
            event: "events_dropped".into(),
            message: format!("{count} events were lost because they were not read in time"),
            timestamp: text::time(self.app.clock.wall()),
            countdown: None,
            // Where it goes on: what still waits for it comes after that.
            seq: self.events.position(),
            dropped: Some(count),
        }))
        .await
    }

    fn hear(&mut self, heard: Option<Result<tungstenite::Message, tungstenite::Error>>) -> Result<(), End> {
        match heard {
            Some(Ok(tungstenite::Message::Close(_))) | None => Err(End::Gone),
            // Nothing is asked over the socket; whatever comes shows that the client lives.
            Some(Ok(_)) => {
                self.unanswered = 0;
                Ok(())
            }
            Some(Err(tungstenite::Error::Capacity(_))) => {
                Err(End::Close(CloseCode::Size, "the message is too long"))
            }
            Some(Err(error)) => {
                tracing::debug!(caller = self.caller.name, %error, "WebSocket ended");
                Err(End::Gone)
            }
        }
    }

    async fn ping(&mut self) -> Result<(), End> {
        if self.unanswered >= 2 {
            return Err(End::Gone);
        }
        self.unanswered += 1;
        self.still_allowed().await?;
        self.put(tungstenite::Message::Ping(Vec::new().into())).await
    }

    /// A token that was revoked or has run out ends what it opened, and so does a session: its socket is no use of it.
    async fn still_allowed(&mut self) -> Result<(), End> {
        if let Proof::Session { cookie, .. } = &self.caller.proof
            && !self.app.sessions.lives(cookie)
        {
            return Err(End::Close(CloseCode::Policy, "the session has ended"));
        }
        let Some(digest) = self.caller.proof.token() else { return Ok(()) };
        match self.app.auth.find(digest).await {
            Ok(None) => Err(End::Close(CloseCode::Policy, "the token has ended")),
            Ok(Some(_)) | Err(_) => Ok(()),
        }
    }

    async fn send(&mut self, message: &Message) -> Result<(), End> {
        let Ok(json) = serde_json::to_string(message) else { return Ok(()) };
        self.put(tungstenite::Message::Text(json.into())).await
    }

    async fn put(&mut self, message: tungstenite::Message) -> Result<(), End> {
        match tokio::time::timeout(STUCK, self.socket.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(End::Gone),
        }
    }
}
