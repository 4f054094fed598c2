//! The live event stream: typed messages, and a connection that comes back after the gateway's reboot.
//!
//! Owns connecting, `since`, silence detection and back-off. What a message means is the caller's. Source:
//! `api-contract.md`, "Events on `ws`".

use std::{future::pending, time::Duration};

use futures_util::StreamExt as _;
use http::header;
use ota_api::ws::{self as wire, Message as WireMessage};
use serde_json::Value;
use tokio::{
    net::TcpStream,
    time::{Instant, sleep_until, timeout_at},
};
use tokio_tungstenite::{
    Connector, MaybeTlsStream, WebSocketStream, connect_async_tls_with_config,
    tungstenite::{self, Message, client::IntoClientRequest as _, protocol::WebSocketConfig},
};

use crate::{ApiError, Client, ClientError};

/// Largest message that is taken; real ones stay below a few KiB.
const MESSAGE_MAX: usize = 256 * 1024;

/// How long to bear a gateway that does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Wait before the first try to reconnect; doubles with each further one.
    pub first_wait: Duration,
    /// Longest wait between two tries.
    pub longest_wait: Duration,
    /// Give up after this long without a connection.
    pub give_up: Duration,
    /// A connection on which nothing comes for this long is dead. The gateway pings every 20 s.
    pub silence: Duration,
}

impl Default for Patience {
    /// Waits of 250 ms to 5 s, ten minutes for a reboot, 45 s of silence (two missed pings).
    fn default() -> Self {
        Self {
            first_wait: Duration::from_millis(250),
            longest_wait: Duration::from_secs(5),
            give_up: Duration::from_secs(600),
            silence: Duration::from_secs(45),
        }
    }
}

/// What the stream has to tell.
#[derive(Debug)]
pub enum Happening {
    /// One of the five message types, with its position in the device's stream.
    Message {
        /// Grows by one per event of the device; absent from a gateway that does not number.
        seq: Option<u64>,
        /// The message.
        message: Box<WireMessage>,
        /// The same as it was sent, with fields that this program does not know.
        raw: Value,
    },
    /// A message of a type that this program does not know.
    Unknown(Value),
    /// The connection is gone; the next calls try to bring it back.
    Lost {
        /// Why, for people.
        why: String,
    },
    /// The connection is back. Events in between follow, as far as the gateway still has them.
    Back,
}

/// A stream of events that survives the gateway's reboot.
#[derive(Debug)]
pub struct EventStream {
    client: Client,
    pub(crate) patience: Patience,
    /// Highest number seen: where a new connection goes on.
    seen: Option<u64>,
    /// Numbers up to this one were seen on an earlier connection.
    known: Option<u64>,
    state: State,
}

#[derive(Debug)]
enum State {
    Live { socket: Box<WebSocketStream<MaybeTlsStream<TcpStream>>>, heard: Instant },
    Down { tries: u32, next_try: Instant, give_up: Instant },
}

impl EventStream {
    /// Connects. `since` is the last event that was seen before; without it only what is new and the present state come.
    ///
    /// # Errors
    /// The first connection is tried once: refusals and unreachable gateways are told at once.
    pub async fn open(client: &Client, since: Option<u64>, patience: Patience) -> Result<Self, ClientError> {
        let socket = connect(client, since).await?;
        let state = State::Live { socket: Box::new(socket), heard: Instant::now() };
        Ok(Self { client: client.clone(), patience, seen: since, known: since, state })
    }

    /// The next thing to tell. Cancel safe: a call that is dropped loses nothing.
    ///
    /// # Errors
    /// Refusals (a revoked token); the last failure once [`Patience::give_up`] is over.
    pub async fn next(&mut self) -> Result<Happening, ClientError> {
        loop {
            let happening = match &mut self.state {
                State::Live { socket, heard } => {
                    let deadline = *heard + self.patience.silence;
                    match timeout_at(deadline, socket.next()).await {
                        Ok(Some(Ok(message))) => {
                            *heard = Instant::now();
                            self.take(message)
                        }
                        Ok(Some(Err(error))) => Some(self.lost(error.to_string())),
                        Ok(None) => Some(self.lost("the gateway closed the connection".into())),
                        Err(_) => Some(self.lost("the gateway is silent".into())),
                    }
                }
                State::Down { next_try, .. } => {
                    sleep_until(*next_try).await;
                    self.reconnect().await?
                }
            };
            if let Some(happening) = happening {
                return Ok(happening);
            }
        }
    }

    /// Number of the last event that was seen.
    #[must_use]
    pub const fn seen(&self) -> Option<u64> {
        self.seen
    }

    fn take(&mut self, message: Message) -> Option<Happening> {
        let text = match message {
            Message::Text(text) => text,
            Message::Close(_) => return Some(self.lost("the gateway closed the connection".into())),
            // Pings are answered by the library.
            _ => return None,
        };
        let raw: Value = serde_json::from_str(&text).ok()?;
        let seq = raw.get("seq").and_then(Value::as_u64).filter(|seq| *seq > 0);
        if seq.is_some() && seq <= self.known {
            return None;
        }
        self.seen = self.seen.max(seq);
        Some(match wire::parse(&text) {
            Ok(Some(message)) => Happening::Message { seq, message: Box::new(message), raw },
            // A newer gateway's type, or a known one in a newer shape: the reader may show it as it is.
            Ok(None) | Err(_) => Happening::Unknown(raw),
        })
    }

    fn lost(&mut self, why: String) -> Happening {
        let now = Instant::now();
        self.state = State::Down {
            tries: 0,
            next_try: now + self.patience.first_wait,
            give_up: now + self.patience.give_up,
        };
        Happening::Lost { why }
    }

    async fn reconnect(&mut self) -> Result<Option<Happening>, ClientError> {
        let State::Down { tries, next_try, give_up } = &mut self.state else { return pending().await };
        // Counted before the try: a call that is dropped in the middle does not hammer the gateway.
        let wait = self.patience.first_wait.saturating_mul(1 << (*tries).min(16));
        *tries += 1;
        *next_try = Instant::now() + wait.min(self.patience.longest_wait);
        let give_up = *give_up;
        match connect(&self.client, self.seen).await {
            Ok(socket) => {
                self.known = self.seen;
                self.state = State::Live { socket: Box::new(socket), heard: Instant::now() };
                Ok(Some(Happening::Back))
            }
            Err(error) if error.may_pass() && Instant::now() < give_up => Ok(None),
            Err(error) => Err(error),
        }
    }
}

async fn connect(
    client: &Client,
    since: Option<u64>,
) -> Result<WebSocketStream<MaybeTlsStream<TcpStream>>, ClientError> {
    let url = client.base().events(since);
    let name = || url.to_string();
    let stream = |source| sort(name(), source);
    let mut request = url.as_str().into_client_request().map_err(stream)?;
    let headers = request.headers_mut();
    if let Some(token) = &client.options.token {
        headers.insert(header::AUTHORIZATION, token.header());
    }
    let connector = client.tls.clone().map(Connector::Rustls);
    let config = WebSocketConfig::default().max_message_size(Some(MESSAGE_MAX));
    let connecting = connect_async_tls_with_config(request, Some(config), true, connector);
    let deadline = Instant::now() + client.options.timeout;
    match timeout_at(deadline, connecting).await {
        Ok(Ok((socket, _answer))) => Ok(socket),
        Ok(Err(error)) => Err(stream(error)),
        Err(_) => Err(ClientError::TimedOut { url: name() }),
    }
}

/// A refusal of the handshake in the gateway's words, anything else as a broken stream.
fn sort(url: String, source: tungstenite::Error) -> ClientError {
    let tungstenite::Error::Http(answer) = source else {
        return ClientError::Stream { url, source: Box::new(source) };
    };
    let status = answer.status().as_u16();
    let body = answer.body().as_deref().unwrap_or_default();
    let refused = ClientError::refused(&url, answer.status(), None, body);
    if refused.api().is_some() {
        return refused;
    }
    // The library keeps only as much of the body as came along with the head.
    let name = match status {
        401 => "UNAUTHORIZED",
        403 => "FORBIDDEN",
        _ => return refused,
    };
    let message = "the gateway refused the event stream".into();
    ClientError::Api(Box::new(ApiError {
        status,
        code: name.into(),
        name: name.into(),
        message,
        ..ApiError::default()
    }))
}
