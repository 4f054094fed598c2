//! A stand-in gateway: records requests, answers as it is told, sends scripted events.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::{Bytes, to_bytes},
    extract::{Request, State, WebSocketUpgrade, ws::Message, ws::WebSocket},
    http::{HeaderMap, StatusCode, Uri, header},
    response::{IntoResponse, Response},
    routing::any,
};
use tokio::{net::TcpListener, task::JoinHandle};

use crate::{Client, Options, Token};

/// What one event connection is sent before it is closed, or kept open.
#[derive(Clone, Default)]
pub(crate) struct Script {
    pub(crate) messages: Vec<String>,
    pub(crate) keep_open: bool,
}

pub(crate) struct Fake {
    pub(crate) address: SocketAddr,
    pub(crate) world: Arc<World>,
    server: JoinHandle<()>,
}

/// Status, further headers, body.
type Answer = (StatusCode, Vec<(&'static str, String)>, String);

#[derive(Default)]
pub(crate) struct World {
    /// `METHOD path?query body` of every request.
    pub(crate) requests: Mutex<Vec<String>>,
    pub(crate) headers: Mutex<Vec<HeaderMap>>,
    pub(crate) answer: Mutex<Option<Answer>>,
    /// One script for each coming connection; without one, the connection is refused with `refusal`.
    pub(crate) scripts: Mutex<Vec<Script>>,
    pub(crate) refusal: Mutex<Option<(StatusCode, String)>>,
}

impl Fake {
    pub(crate) async fn start() -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), Arc::new(World::default())).await
    }

    pub(crate) async fn start_at(address: SocketAddr, world: Arc<World>) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new()
            .route("/api/v1/ota/ws", any(events))
            .fallback(record)
            .with_state(Arc::clone(&world));
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, world, server }
    }

    /// Power off: the port is closed and every connection broken.
    pub(crate) async fn stop(self) -> (SocketAddr, Arc<World>) {
        self.server.abort();
        let _ = self.server.await;
        (self.address, self.world)
    }

    pub(crate) fn answers(&self, status: u16, body: &str) {
        let status = StatusCode::from_u16(status).unwrap();
        *self.world.answer.lock().unwrap() = Some((status, Vec::new(), body.into()));
    }

    pub(crate) fn client(&self) -> Client {
        let mut options = Options::new(format!("http://{}", self.address).parse().unwrap());
        options.token = Some(Token::parse("s3cret").unwrap());
        Client::new(options).unwrap()
    }

    pub(crate) fn requests(&self) -> Vec<String> {
        self.world.requests.lock().unwrap().clone()
    }
}

async fn record(State(world): State<Arc<World>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body: Bytes = to_bytes(body, 1 << 26).await.unwrap();
    let line = format!("{} {} {}", head.method, head.uri, String::from_utf8_lossy(&body));
    world.requests.lock().unwrap().push(line.trim_end().into());
    world.headers.lock().unwrap().push(head.headers);
    let answer = world.answer.lock().unwrap().clone();
    let Some((status, headers, body)) = answer else { return StatusCode::NO_CONTENT.into_response() };
    let mut response = (status, [(header::CONTENT_TYPE, "application/json")], body).into_response();
    for (name, value) in headers {
        response.headers_mut().insert(name, value.parse().unwrap());
    }
    response
}

async fn events(
    State(world): State<Arc<World>>,
    headers: HeaderMap,
    uri: Uri,
    upgrade: WebSocketUpgrade,
) -> Response {
    world.requests.lock().unwrap().push(format!("WS {uri}"));
    world.headers.lock().unwrap().push(headers);
    if let Some((status, body)) = world.refusal.lock().unwrap().clone() {
        return (status, body).into_response();
    }
    let script = {
        let mut scripts = world.scripts.lock().unwrap();
        if scripts.is_empty() { Script::default() } else { scripts.remove(0) }
    };
    upgrade.on_upgrade(move |socket| play(socket, script))
}

async fn play(mut socket: WebSocket, script: Script) {
    for message in script.messages {
        if socket.send(Message::Text(message.into())).await.is_err() {
            return;
        }
    }
    // Reading keeps the connection until the other side ends it.
    while script.keep_open && socket.recv().await.is_some() {}
}
