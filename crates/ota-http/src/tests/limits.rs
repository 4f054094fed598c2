//! Limits on what clients can take, each at its default figure over real sockets. Where a default would mean waiting, paused
//! time does it beside the code: connections in `conn`, bodies in `extract`, uploads in `upload::pace`.

use futures_util::{SinkExt as _, StreamExt as _};
use http::{HeaderValue, StatusCode, header};
use ota_core::event::EventKind;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{self, Message, client::IntoClientRequest as _},
};

use super::harness::{API, Gateway, OPERATOR, VIEWER};

/// A connection from one of the loopback's addresses.
async fn connect(gateway: &Gateway, from: u8) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, from], 0).into()).unwrap();
    socket.connect(gateway.address).await.unwrap()
}

/// Protocol and status of what is answered to these bytes.
async fn say(stream: &mut TcpStream, bytes: &[u8]) -> String {
    stream.write_all(bytes).await.unwrap();
    let mut answer = vec![0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    String::from_utf8(answer).unwrap()
}

async fn status(gateway: &Gateway, bytes: &[u8]) -> String {
    say(&mut connect(gateway, 1).await, bytes).await
}

/// What is not counted of a head: `GET  HTTP/1.1`, its line end, and the empty line.
const UNCOUNTED: usize = 17;

/// A request whose head has so many bytes.
fn head_of(bytes: usize) -> String {
    let head = |filling: usize| {
        format!(
            "GET {API}/system/status HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {VIEWER}\r\nx-filling: {}\r\n\r\n",
            "a".repeat(filling)
        )
    };
    head(bytes - head(0).len())
}

#[tokio::test]
async fn a_head_may_have_16_kib_and_no_more() {
    let gateway = Gateway::start().await;
    let edge = (16 << 10) + UNCOUNTED;
    assert_eq!(status(&gateway, head_of(edge).as_bytes()).await, "HTTP/1.1 200");
    assert_eq!(status(&gateway, head_of(edge + 1).as_bytes()).await, "HTTP/1.1 400");
}

#[tokio::test]
async fn json_may_have_64_kib_and_32_levels_and_no_more() {
    let gateway = Gateway::start().await;
    let ask = async |body: String| {
        let request = gateway.ask(http::Method::POST, "/updates/pause", OPERATOR);
        let response = request.header(header::CONTENT_TYPE, "application/json").body(body).send().await;
        response.unwrap().status().as_u16()
    };
    let long = |bytes: usize| format!("{{\"x\": \"{}\"}}", "a".repeat(bytes - 9));
    // There is no job to pause: it was read.
    assert_eq!(ask(long(65_536)).await, 404);
    assert_eq!(ask(long(65_537)).await, 413);
    let deep = |levels: usize| format!("{{\"x\": {}{}}}", "[".repeat(levels - 1), "]".repeat(levels - 1));
    assert_eq!(ask(deep(32)).await, 404);
    assert_eq!(ask(deep(33)).await, 400);
}

type Socket = WebSocketStream<TcpStream>;

/// A WebSocket from one of the loopback's addresses.
async fn open(gateway: &Gateway, from: u8) -> Result<Socket, tungstenite::Error> {
    let stream = connect(gateway, from).await;
    let mut request = format!("ws://{}{API}/ws", gateway.address).into_client_request().unwrap();
    let bearer = HeaderValue::from_str(&format!("Bearer {VIEWER}")).unwrap();
    request.headers_mut().insert(header::AUTHORIZATION, bearer);
    client_async(request, stream).await.map(|(socket, _)| socket)
}

async fn next(socket: &mut Socket) -> Value {
    loop {
        match socket.next().await.unwrap().unwrap() {
            Message::Text(text) => return serde_json::from_str(&text).unwrap(),
            Message::Ping(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn there_are_64_websockets() {
    let gateway = Gateway::start().await;
    let mut sockets = Vec::new();
    for number in 0..64_u8 {
        sockets.push(open(&gateway, 2 + number % 2).await.unwrap());
    }
    let full = open(&gateway, 4).await;
    assert!(
        matches!(full, Err(tungstenite::Error::Http(answer)) if answer.status() == StatusCode::SERVICE_UNAVAILABLE)
    );
    // Each of them is served.
    gateway.engine.bus().publish(EventKind::System {
        event: "now".into(),
        message: "x".into(),
        countdown: None,
    });
    for socket in &mut sockets {
        while next(socket).await["event"] != "now" {}
    }
}

#[tokio::test]
async fn an_address_has_64_connections() {
    let gateway = Gateway::start().await;
    // The body never comes: such a connection is not closed to make room.
    let busy = format!(
        "POST {API}/updates/pause HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {OPERATOR}\r\n\
         content-type: application/json\r\ncontent-length: 10\r\nexpect: 100-continue\r\n\r\n"
    );
    let mut held = Vec::new();
    for _ in 0..64 {
        let mut stream = connect(&gateway, 2).await;
        assert_eq!(say(&mut stream, busy.as_bytes()).await, "HTTP/1.1 100");
        held.push(stream);
    }
    assert_eq!(say(&mut connect(&gateway, 2).await, b"").await, "HTTP/1.1 503");
    assert_eq!(gateway.get("/system/status").await.0, StatusCode::OK, "others are served");
}

#[tokio::test]
async fn a_socket_that_is_not_read_has_256_events_waiting_and_is_told_where_it_goes_on() {
    let gateway = Gateway::start().await;
    let mut socket = open(&gateway, 1).await.unwrap();
    next(&mut socket).await;
    let bus = gateway.engine.bus();
    // Nobody is given the chance to read in between.
    for n in 0..600 {
        bus.publish(EventKind::System { event: format!("notice_{n}"), message: "x".into(), countdown: None });
    }
    let mut seen = Vec::new();
    while seen.last().is_none_or(|last: &Value| last["event"] != "notice_599") {
        seen.push(next(&mut socket).await);
    }
    assert_eq!((&seen[0]["event"], &seen[0]["dropped"]), (&json!("events_dropped"), &json!(600 - 256)));
    assert_eq!(seen.len(), 1 + 256);
    assert_eq!(seen[1]["event"], format!("notice_{}", 600 - 256));
    let seqs: Vec<_> = seen.iter().map(|message| message["seq"].as_u64().unwrap()).collect();
    assert!(seqs.is_sorted(), "who goes on at a position misses nothing: {seqs:?}");
}

#[tokio::test]
async fn a_message_may_have_64_kib_and_no_more() {
    let gateway = Gateway::start().await;
    let mut socket = open(&gateway, 1).await.unwrap();
    next(&mut socket).await;
    socket.send(Message::text("x".repeat(64 << 10))).await.unwrap();
    gateway.engine.bus().publish(EventKind::System {
        event: "now".into(),
        message: "x".into(),
        countdown: None,
    });
    assert_eq!(next(&mut socket).await["event"], "now", "it was taken");
    let _ = socket.send(Message::text("x".repeat((64 << 10) + 1))).await;
    let closed = loop {
        match socket.next().await {
            Some(Ok(Message::Close(frame))) => break frame.map(|frame| u16::from(frame.code)),
            // The rest of the message was not read, and the connection was cut.
            Some(Err(_)) | None => break None,
            Some(Ok(_)) => {}
        }
    };
    assert!(matches!(closed, Some(1009) | None), "{closed:?}");
    assert_eq!(gateway.get("/system/status").await.0, StatusCode::OK);
}
