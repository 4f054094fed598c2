//! A stand-in gateway that answers as it is told and can be switched off and on.

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::to_bytes,
    extract::{Request, State, WebSocketUpgrade, ws::Message},
    http::{StatusCode, Uri, header},
    response::{IntoResponse, Response},
    routing::any,
};
use serde_json::Value;
use tokio::{net::TcpListener, sync::Notify, task::JoinHandle};

/// One answer.
#[derive(Clone)]
pub(super) enum Answer {
    Ok(Value),
    Refusal(u16, Value),
    /// The power goes off with this request.
    Off,
    /// The request is taken and never answered.
    Never,
}

#[derive(Default)]
pub(super) struct World {
    /// Answers of `METHOD path`, in turn; the last one stays.
    answers: Mutex<HashMap<String, VecDeque<Answer>>>,
    requests: Mutex<Vec<String>>,
    /// `Authorization` of every request.
    tokens: Mutex<Vec<String>>,
    /// Messages of each coming event connection; it is closed after them.
    pub(super) events: Mutex<VecDeque<Vec<Value>>>,
    off: Notify,
}

pub(super) struct Fake {
    pub(super) address: SocketAddr,
    pub(super) world: Arc<World>,
    server: JoinHandle<()>,
}

impl Fake {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let world = Arc::new(World::default());
        let server = serve(listener, Arc::clone(&world));
        Self { address, world, server }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Answers of one endpoint, in turn; the last one stays.
    pub(super) fn on(&self, request: &str, answers: impl IntoIterator<Item = Answer>) -> &Self {
        self.world.answers.lock().unwrap().insert(request.into(), answers.into_iter().collect());
        self
    }

    pub(super) fn answers(&self, request: &str, value: Value) -> &Self {
        self.on(request, [Answer::Ok(value)])
    }

    /// `METHOD path?query body` of every request, without repetitions in a row.
    pub(super) fn requests(&self) -> Vec<String> {
        let mut all = self.world.requests.lock().unwrap().clone();
        all.dedup();
        all
    }

    /// What the requests proved themselves with, one each.
    pub(super) fn tokens(&self) -> Vec<String> {
        self.world.tokens.lock().unwrap().clone()
    }

    /// Waits for the power to go off, closes the port for real, and opens it again.
    pub(super) async fn reboot(&mut self) {
        self.world.off.notified().await;
        self.server.abort();
        let _ = (&mut self.server).await;
        // At least one refused connection is seen before the port opens again.
        tokio::task::yield_now().await;
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.server = serve(listener, Arc::clone(&self.world));
    }
}

fn serve(listener: TcpListener, world: Arc<World>) -> JoinHandle<()> {
    let router = Router::new().route("/api/v1/ota/ws", any(events)).fallback(answer).with_state(world);
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() })
}

async fn events(State(world): State<Arc<World>>, uri: Uri, upgrade: WebSocketUpgrade) -> Response {
    world.requests.lock().unwrap().push(format!("WS {uri}"));
    let messages = world.events.lock().unwrap().pop_front().unwrap_or_default();
    upgrade.on_upgrade(async move |mut socket| {
        for message in messages {
            // The run may have ended at its count; then nobody reads the rest.
            if socket.send(Message::Text(message.to_string().into())).await.is_err() {
                return;
            }
        }
    })
}

async fn answer(State(world): State<Arc<World>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = to_bytes(body, 1 << 20).await.unwrap();
    let target = head.uri.to_string().replace("/api/v1/ota/", "");
    let body = String::from_utf8_lossy(&body);
    world.requests.lock().unwrap().push(format!("{} {target} {body}", head.method).trim_end().into());
    let token = head.headers.get(header::AUTHORIZATION).map(|value| value.to_str().unwrap().to_owned());
    world.tokens.lock().unwrap().extend(token);
    let name = format!("{} {}", head.method, target.split('?').next().unwrap_or_default());
    let answer = {
        let mut answers = world.answers.lock().unwrap();
        let queue = answers.get_mut(&name).unwrap_or_else(|| panic!("nothing is scripted for {name}"));
        if queue.len() > 1 { queue.pop_front().unwrap() } else { queue[0].clone() }
    };
    let (status, value) = match answer {
        Answer::Ok(value) => (200, value),
        Answer::Refusal(status, value) => (status, value),
        Answer::Off => {
            world.off.notify_one();
            (502, Value::Null)
        }
        Answer::Never => return std::future::pending().await,
    };
    let status = StatusCode::from_u16(status).unwrap();
    // A connection of its own for each request, so that switching off is seen as a closed port.
    (status, [(header::CONNECTION, "close")], value.to_string()).into_response()
}
