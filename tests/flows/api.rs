//! The API as bytes on the wire: requests that no client of ours would make, answers as they are.

use std::{
    fs,
    sync::{Arc, Mutex},
};

use futures_util::StreamExt as _;
use ota_tests::Layout;
use reqwest::{Method, RequestBuilder};
use serde_json::Value;
use tokio::{sync::watch, task::JoinHandle, time::timeout};
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest as _};

use crate::world::PATIENCE;

/// The canonical prefix.
pub(crate) const PREFIX: &str = "/api/v1/ota";

/// A device's API, with the admin token.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) http: reqwest::Client,
    pub(crate) url: String,
    pub(crate) token: String,
}

/// An answer as it came.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) content_type: String,
    pub(crate) body: Value,
}

impl Answer {
    /// The body of a success.
    #[track_caller]
    pub(crate) fn ok(self) -> Value {
        assert!((200..300).contains(&self.status), "{self:#?}");
        self.body
    }
}

impl Api {
    /// Of a device that has been switched on.
    pub(crate) fn of(layout: &Layout) -> Self {
        let read = |path| fs::read_to_string(path).unwrap().trim().to_owned();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { http, url: read(layout.url()), token: read(layout.admin_token()) }
    }

    /// A request to a whole path.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.url)).bearer_auth(&self.token)
    }

    /// GET of a path below the canonical prefix.
    pub(crate) async fn get(&self, path: &str) -> Answer {
        send(self.request(Method::GET, &format!("{PREFIX}{path}"))).await
    }

    /// POST of a body to a path below the canonical prefix.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        send(self.request(Method::POST, &format!("{PREFIX}{path}")).json(body)).await
    }

    /// The WebSocket under a whole path; its messages are gathered from now on.
    pub(crate) async fn listen(&self, path: &str) -> Messages {
        let url = format!("{}{path}", self.url.replace("http://", "ws://"));
        let mut request = url.into_client_request().unwrap();
        let bearer = format!("Bearer {}", self.token).parse().unwrap();
        request.headers_mut().insert("authorization", bearer);
        let (mut socket, _) = tokio_tungstenite::connect_async(request).await.unwrap();
        let (count, seen) = watch::channel(0_usize);
        let all = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&all);
        let task = tokio::spawn(async move {
            while let Some(Ok(message)) = socket.next().await {
                let Message::Text(text) = message else { continue };
                told.lock().unwrap().push(serde_json::from_str(&text).unwrap());
                count.send_modify(|count| *count += 1);
            }
        });
        Messages { all, seen, task }
    }
}

/// Sends it and reads the answer; what is no JSON comes as text.
pub(crate) async fn send(request: RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    let kind = response.headers().get("content-type").and_then(|value| value.to_str().ok());
    let (status, content_type) = (response.status().as_u16(), kind.unwrap_or_default().to_owned());
    let text = response.text().await.unwrap();
    Answer { status, content_type, body: serde_json::from_str(&text).unwrap_or(Value::String(text)) }
}

/// What a WebSocket has brought.
pub(crate) struct Messages {
    all: Arc<Mutex<Vec<Value>>>,
    seen: watch::Receiver<usize>,
    task: JoinHandle<()>,
}

impl Drop for Messages {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Messages {
    /// The first message that pleases, also one that came before.
    pub(crate) async fn first(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        let find = |all: &Mutex<Vec<Value>>| all.lock().unwrap().iter().find(|m| wanted(m)).cloned();
        let all = Arc::clone(&self.all);
        let waits = async {
            loop {
                if let Some(found) = find(&all) {
                    return found;
                }
                self.seen.changed().await.expect("the WebSocket has closed");
            }
        };
        let found = timeout(PATIENCE, waits).await;
        found.unwrap_or_else(|_| panic!("no such message among {:#?}", self.all.lock().unwrap()))
    }
}
