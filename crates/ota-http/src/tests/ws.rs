//! The WebSocket, with tokio-tungstenite as the client.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use http::{HeaderValue, header};
use ota_core::{
    ByteCount, JobId,
    event::{EventKind, Operation, Progress},
    safety::Severity,
};
use ota_testkit::source::FetchScript;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{self, Message, client::IntoClientRequest},
};

use super::harness::{ADMIN, API, Gateway, VIEWER};
use crate::config::SessionLimits;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

async fn connect(
    gateway: &Gateway,
    path: &str,
    headers: &[(header::HeaderName, &str)],
) -> Result<(Socket, http::Response<Option<Vec<u8>>>), tungstenite::Error> {
    let mut request = format!("ws://{}{path}", gateway.address).into_client_request().unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(name, HeaderValue::from_str(value).unwrap());
    }
    connect_async(request).await
}

async fn open(gateway: &Gateway, query: &str) -> Socket {
    let bearer = format!("Bearer {VIEWER}");
    connect(gateway, &format!("{API}/ws{query}"), &[(header::AUTHORIZATION, &bearer)]).await.unwrap().0
}

/// The next message that is text.
async fn next(socket: &mut Socket) -> Value {
    loop {
        match socket.next().await.unwrap().unwrap() {
            Message::Text(text) => return serde_json::from_str(&text).unwrap(),
            Message::Ping(_) | Message::Pong(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

async fn until(socket: &mut Socket, wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
    let mut seen = Vec::new();
    loop {
        let message = next(socket).await;
        let found = wanted(&message);
        seen.push(message);
        if found {
            return seen;
        }
    }
}

fn progress(current: u64, last: bool) -> EventKind {
    EventKind::Progress(Progress {
        job: JobId::from_number(1),
        operation: Operation::Downloading,
        current: ByteCount(current),
        total: ByteCount(1000),
        bytes_per_second: Some(1),
        last,
    })
}

fn notice(n: u64) -> EventKind {
    EventKind::System { event: format!("notice_{n}"), message: "x".into(), countdown: None }
}

#[tokio::test]
async fn the_present_state_comes_first_and_then_a_whole_download() {
    let gateway = Gateway::start().await;
    let mut socket = open(&gateway, "").await;
    let first = next(&mut socket).await;
    assert_eq!(
        (&first["type"], &first["system_status"], &first["severity"]),
        (&json!("status_change"), &json!("idle"), &json!("info"))
    );
    gateway.download().await;
    let seen = until(&mut socket, |message| message["type"] == "job_complete").await;
    let done = seen.last().unwrap();
    assert_eq!(
        (&done["status"], &done["message"]),
        (&json!("success"), &json!("Update downloaded successfully"))
    );
    assert_eq!(done["details"]["phase"], "download");
    assert_eq!(done["details"]["version"], "v5.0.5");
    let shown: Vec<_> = seen.iter().filter(|message| message["type"] == "progress_update").collect();
    assert!(shown.iter().any(|message| message["progress"] == 100.0), "{shown:?}");
    let seqs: Vec<_> = seen.iter().map(|message| message["seq"].as_u64().unwrap()).collect();
    assert!(seqs.is_sorted(), "{seqs:?}");
}

#[tokio::test]
async fn a_client_that_comes_later_gets_the_last_progress_and_what_it_missed() {
    let gateway = Gateway::start().await;
    gateway.source.script([FetchScript::HoldAt(100_000)]);
    gateway.download().await;
    gateway.source.until_held().await;
    let mut socket = open(&gateway, "?since=0").await;
    let first = next(&mut socket).await;
    assert_eq!(
        (&first["type"], &first["system_status"], &first["seq"]),
        (&json!("status_change"), &json!("downloading"), &json!(0))
    );
    let second = next(&mut socket).await;
    assert_eq!(
        (&second["type"], &second["current_operation"]),
        (&json!("progress_update"), &json!("downloading"))
    );
    gateway.source.go_on();
    until(&mut socket, |message| message["type"] == "job_complete").await;
    let (_, page) = gateway.get("/events").await;
    let seq = page["next"].as_u64().unwrap();
    let mut late = open(&gateway, &format!("?since={}", seq - 1)).await;
    next(&mut late).await;
    assert_eq!(until(&mut late, |message| message["seq"] == seq).await.len(), 1);
}

#[tokio::test]
async fn both_names_under_every_prefix_and_all_three_credentials_work() {
    let gateway = Gateway::start().await;
    let bearer = format!("Bearer {VIEWER}");
    for prefix in crate::PREFIXES {
        for name in ["ws", "ws/updates"] {
            let path = format!("{prefix}/{name}");
            let (mut socket, _) =
                connect(&gateway, &path, &[(header::AUTHORIZATION, &bearer)]).await.unwrap();
            assert_eq!(next(&mut socket).await["type"], "status_change", "{path}");
        }
    }
    let offered = format!("ota.v1, bearer.{VIEWER}");
    let (_socket, response) =
        connect(&gateway, &format!("{API}/ws"), &[(header::SEC_WEBSOCKET_PROTOCOL, &offered)]).await.unwrap();
    assert_eq!(response.headers()[header::SEC_WEBSOCKET_PROTOCOL], "ota.v1");
    let cookie = super::auth::log_in(&gateway, VIEWER).await;
    let origin = format!("http://{}", gateway.address);
    let headers = [(header::COOKIE, cookie.as_str()), (header::ORIGIN, origin.as_str())];
    assert!(connect(&gateway, &format!("{API}/ws"), &headers).await.is_ok());
}

#[tokio::test]
async fn strangers_and_foreign_pages_are_refused_with_an_envelope() {
    let gateway = Gateway::start().await;
    let refused = |headers: Vec<(header::HeaderName, String)>| {
        let gateway = &gateway;
        async move {
            let headers: Vec<_> =
                headers.iter().map(|(name, value)| (name.clone(), value.as_str())).collect();
            match connect(gateway, &format!("{API}/ws"), &headers).await {
                Err(tungstenite::Error::Http(response)) => response.status().as_u16(),
                other => panic!("{other:?}"),
            }
        }
    };
    assert_eq!(refused(vec![]).await, 401);
    assert_eq!(refused(vec![(header::AUTHORIZATION, "Bearer nope".into())]).await, 401);
    let foreign = (header::ORIGIN, "http://evil.example".to_owned());
    assert_eq!(refused(vec![(header::AUTHORIZATION, format!("Bearer {VIEWER}")), foreign]).await, 403);
    let (status, body) = gateway.get("/ws").await;
    assert_eq!((status.as_u16(), &body["name"]), (400, &json!("INVALID_REQUEST")));
}

#[tokio::test]
async fn progress_is_thinned_and_its_last_and_other_events_are_not() {
    let gateway = Gateway::with(|config| config.limits.ws_progress = Duration::from_secs(3600)).await;
    let mut socket = open(&gateway, "").await;
    next(&mut socket).await;
    let bus = gateway.engine.bus();
    bus.publish(progress(1, false));
    assert_eq!(next(&mut socket).await["details"]["written"], 1);
    for n in 2..500 {
        bus.publish(progress(n, false));
    }
    bus.publish(notice(1));
    bus.publish(progress(600, false));
    bus.publish(progress(1000, true));
    let seen = until(&mut socket, |message| message["progress"] == 100.0).await;
    assert!(seen.len() <= 4, "{seen:?}");
    assert!(seen.iter().any(|message| message["event"] == "notice_1"));
}

#[tokio::test]
async fn a_client_that_does_not_keep_up_is_told_and_goes_on() {
    let gateway = Gateway::start().await;
    let mut socket = open(&gateway, "").await;
    next(&mut socket).await;
    let bus = gateway.engine.bus();
    // More than fits into the ring, with nobody given the chance to read in between.
    for n in 0..5000 {
        bus.publish(notice(n));
    }
    let seen = until(&mut socket, |message| message["event"] == "notice_4999").await;
    let told = seen.iter().find(|message| message["event"] == "events_dropped").unwrap();
    let dropped = told["dropped"].as_u64().unwrap();
    assert_eq!(usize::try_from(dropped).unwrap() + seen.len() - 1, 5000);
}

#[tokio::test]
async fn a_client_that_answers_no_ping_is_closed() {
    let gateway = Gateway::with(|config| config.limits.ws_ping = Duration::from_millis(20)).await;
    let socket = open(&gateway, "").await;
    // Reads the bytes but never answers, unlike a client library.
    let MaybeTlsStream::Plain(mut raw) = socket.into_inner() else { panic!("TLS") };
    let mut all = Vec::new();
    tokio::io::AsyncReadExt::read_to_end(&mut raw, &mut all).await.unwrap();
    assert_eq!(all.windows(2).filter(|bytes| *bytes == [0x89, 0x00]).count(), 2);
}

#[tokio::test]
async fn a_revoked_token_ends_its_socket() {
    let gateway = Gateway::with(|config| config.limits.ws_ping = Duration::from_millis(200)).await;
    let mut socket = open(&gateway, "").await;
    next(&mut socket).await;
    let revoke = gateway.ask(http::Method::DELETE, "/auth/tokens?name=viewer", ADMIN);
    // Both at once: pings are answered while the answer is waited for.
    let (revoked, ()) = tokio::join!(revoke.send(), closed_by_policy(&mut socket));
    assert!(revoked.unwrap().status().is_success());
}

async fn closed_by_policy(socket: &mut Socket) {
    let closed = async {
        loop {
            match socket.next().await.unwrap().unwrap() {
                Message::Close(Some(frame)) => return assert_eq!(u16::from(frame.code), 1008),
                Message::Ping(_) | Message::Text(_) => {}
                other => panic!("{other:?}"),
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), closed).await.expect("it stays open");
}

#[tokio::test]
async fn a_session_that_ends_by_log_out_idleness_or_age_ends_its_socket() {
    for end in ["log-out", "idle", "age"] {
        let gateway = Gateway::with(|config| {
            config.limits.ws_ping = Duration::from_millis(200);
            if end == "age" {
                config.sessions.idle = Duration::from_secs(100 * 3600);
            }
        })
        .await;
        let cookie = super::auth::log_in(&gateway, VIEWER).await;
        let origin = format!("http://{}", gateway.address);
        let headers = [(header::COOKIE, cookie.as_str()), (header::ORIGIN, origin.as_str())];
        let (mut socket, _) = connect(&gateway, &format!("{API}/ws"), &headers).await.unwrap();
        next(&mut socket).await;
        if end == "log-out" {
            let out = gateway.http.delete(gateway.url(&format!("{API}/auth/session")));
            let out = out.header(header::COOKIE, &cookie).header(header::ORIGIN, &origin);
            let (out, ()) = tokio::join!(out.send(), closed_by_policy(&mut socket));
            assert!(out.unwrap().status().is_success());
            continue;
        }
        let limits = SessionLimits::default();
        gateway.clock.advance(if end == "idle" { limits.idle } else { limits.absolute });
        closed_by_policy(&mut socket).await;
    }
}

#[tokio::test]
async fn a_message_over_the_limit_ends_the_connection() {
    let gateway = Gateway::start().await;
    let mut socket = open(&gateway, "").await;
    next(&mut socket).await;
    socket.send(Message::text("hello")).await.unwrap();
    let _ = socket.send(Message::text("x".repeat(70_000))).await;
    while let Some(Ok(message)) = socket.next().await {
        assert!(!matches!(message, Message::Text(_)), "{message:?}");
    }
    assert_eq!(gateway.get("/system/status").await.0.as_u16(), 200);
}

#[tokio::test]
async fn all_places_taken_is_said_and_a_place_comes_back() {
    let gateway = Gateway::with(|config| config.limits.web_sockets = 1).await;
    let mut socket = open(&gateway, "").await;
    next(&mut socket).await;
    let bearer = format!("Bearer {VIEWER}");
    let full = connect(&gateway, &format!("{API}/ws"), &[(header::AUTHORIZATION, &bearer)]).await;
    assert!(matches!(full, Err(tungstenite::Error::Http(response)) if response.status() == 503));
    socket.close(None).await.unwrap();
    while socket.next().await.is_some() {}
    while connect(&gateway, &format!("{API}/ws"), &[(header::AUTHORIZATION, &bearer)]).await.is_err() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_shutdown_says_goodbye() {
    let gateway = Gateway::start().await;
    let mut socket = open(&gateway, "").await;
    next(&mut socket).await;
    gateway.stop().await;
    match socket.next().await.unwrap().unwrap() {
        Message::Close(Some(frame)) => assert_eq!(u16::from(frame.code), 1001),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_safety_alert_reaches_the_watchers() {
    let gateway = Gateway::start().await;
    let mut socket = open(&gateway, "").await;
    next(&mut socket).await;
    gateway.engine.bus().publish(EventKind::SafetyAlert {
        constraint: "crane_motion".into(),
        state: ota_core::safety::ConstraintState::Violated,
        message: "Crane movement detected during update".into(),
        severity: Severity::Warning,
        action_required: true,
        suggested_action: "Pause update or override safety".into(),
    });
    let alert = next(&mut socket).await;
    for (key, value) in [
        ("type", json!("safety_alert")),
        ("constraint", json!("crane_motion")),
        ("status", json!("violated")),
        ("severity", json!("warning")),
        ("action_required", json!(true)),
    ] {
        assert_eq!(alert[key], value);
    }
}
