//! How the server behaves, as parsed types. Reading files and environment is left to the daemon.

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{client_cert::ClientCerts, tls::TlsMaterial};

/// Where to listen, what to admit.
#[derive(Clone, Debug)]
pub struct HttpConfig {
    /// Address and port; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Certificate and key; without them plain HTTP, which is refused off loopback unless `allow_plain`.
    pub tls: Option<TlsMaterial>,
    /// Whether plain HTTP may be spoken on addresses other than loopback.
    pub allow_plain: bool,
    /// Host names that requests may name, without port, beside `localhost` and plain addresses. `*` admits all.
    pub hosts: Vec<String>,
    /// Origins of browsers that are admitted beside the gateway's own, `https://ops.example.com`.
    pub origins: Vec<String>,
    /// Whether `/docs` and `/openapi.json` are open.
    pub public_docs: bool,
    /// Whether `/metrics` is open.
    pub public_metrics: bool,
    /// Limits on connections, sizes and times.
    pub limits: Limits,
    /// How long a browser stays logged in.
    pub sessions: SessionLimits,
    /// Who may do what with a client certificate; asked for only where `tls` has a CA for them.
    pub clients: ClientCerts,
    /// What needs the PIN.
    pub pin: PinRules,
}

impl HttpConfig {
    /// Plain HTTP on `listen`, everything else as by default.
    #[must_use]
    pub fn new(listen: SocketAddr) -> Self {
        Self {
            listen,
            tls: None,
            allow_plain: false,
            hosts: Vec::new(),
            origins: Vec::new(),
            public_docs: false,
            public_metrics: false,
            limits: Limits::default(),
            sessions: SessionLimits::default(),
            clients: ClientCerts::default(),
            pin: PinRules::default(),
        }
    }
}

/// What the PIN can be asked for. Turning an override off, cancelling, pausing and reading are not among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PinOperation {
    /// `updates/rollback`.
    Rollback,
    /// `factory-reset`.
    FactoryReset,
    /// Enabling an override.
    Override,
    /// `upload/deploy` of an image that no trusted key signed.
    DeployUnverified,
    /// `upload/deploy` of any image.
    Deploy,
    /// `updates/install`.
    Install,
    /// Restoring a snapshot.
    Restore,
}

impl PinOperation {
    /// What needs the PIN unless the configuration says otherwise. Source: `api-contract.md`, "Who may do what".
    pub const DEFAULT: [Self; 4] =
        [Self::Rollback, Self::FactoryReset, Self::Override, Self::DeployUnverified];
}

/// What needs the PIN. One that is given is always checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PinRules {
    /// The operations that are refused without it.
    pub require_for: BTreeSet<PinOperation>,
}

impl Default for PinRules {
    fn default() -> Self {
        Self { require_for: PinOperation::DEFAULT.into() }
    }
}

/// Limits on what clients can take. Defaults: issue 3, item 8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest request head in bytes.
    pub head_bytes: usize,
    /// Time from the first byte of a request to the end of its head; also for the TLS handshake.
    pub head_time: Duration,
    /// Time a connection may stay silent between requests.
    pub silent_time: Duration,
    /// Longest JSON body in bytes.
    pub json_bytes: usize,
    /// Deepest nesting of a JSON body.
    pub json_depth: usize,
    /// Time within which a JSON body must have arrived, and an answer must find a reader.
    pub body_time: Duration,
    /// Longest uploaded file in bytes, where there is a limit beside the slot's size.
    pub upload_bytes: Option<u64>,
    /// Uploads that may arrive at a time.
    pub uploads: usize,
    /// Least speed of an upload in bytes a second, over each `upload_window` of waiting for the client.
    pub upload_bytes_per_second: u64,
    /// Time over which the speed of an upload is judged.
    pub upload_window: Duration,
    /// Connections in all.
    pub connections: usize,
    /// Connections of one address.
    pub connections_per_address: usize,
    /// WebSockets in all.
    pub web_sockets: usize,
    /// Events that may wait for each WebSocket; the oldest of more are lost, and the client is told how many.
    pub ws_queue: usize,
    /// Longest WebSocket message from a client, in bytes.
    pub ws_message_bytes: usize,
    /// Time between pings; two that stay unanswered end the connection.
    pub ws_ping: Duration,
    /// Shortest time between two progress messages to one client.
    pub ws_progress: Duration,
    /// Time that running requests get at a shutdown.
    pub drain_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_bytes: 16 * 1024,
            head_time: Duration::from_secs(10),
            silent_time: Duration::from_secs(20),
            json_bytes: 64 * 1024,
            json_depth: 32,
            body_time: Duration::from_secs(30),
            upload_bytes: None,
            uploads: 4,
            upload_bytes_per_second: 64 * 1024,
            upload_window: Duration::from_secs(30),
            connections: 512,
            connections_per_address: 64,
            web_sockets: 64,
            ws_queue: 256,
            ws_message_bytes: 64 * 1024,
            ws_ping: Duration::from_secs(20),
            ws_progress: Duration::from_millis(250),
            drain_time: Duration::from_secs(10),
        }
    }
}

/// How long a browser stays logged in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionLimits {
    /// Without a request.
    pub idle: Duration,
    /// In all.
    pub absolute: Duration,
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self { idle: Duration::from_secs(30 * 60), absolute: Duration::from_secs(12 * 3600) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_limits_are_those_of_issue_3() {
        let secs = Duration::from_secs;
        let limits = Limits::default();
        assert_eq!((limits.head_bytes, limits.head_time), (16 << 10, secs(10)));
        assert_eq!(limits.silent_time, secs(20));
        assert_eq!((limits.json_bytes, limits.json_depth), (64 << 10, 32));
        assert_eq!(limits.body_time, secs(30));
        assert_eq!((limits.upload_bytes_per_second, limits.upload_window), (64 << 10, secs(30)));
        assert_eq!((limits.connections, limits.connections_per_address), (512, 64));
        assert_eq!((limits.web_sockets, limits.ws_queue, limits.ws_message_bytes), (64, 256, 64 << 10));
    }
}
