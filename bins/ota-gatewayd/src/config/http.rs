//! The `[http]` section: where to listen, what clients prove themselves with, what they may take.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use ota_core::ports::Role;
use ota_http::{ClientCert, ClientCerts, ClientSubject, Limits, SessionLimits};
use serde::Deserialize;

use super::place::{Misfit, demand};

/// The HTTP interface.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(deny_unknown_fields, default)]
pub(crate) struct HttpSection {
    /// Address and port. Off loopback the gateway speaks TLS only.
    pub(crate) listen: SocketAddr,
    /// Certificate chain, PEM; without one a self-signed is made at the first start, where TLS is needed.
    pub(crate) certificate: Option<PathBuf>,
    /// Its key, PEM. Both are read again on SIGHUP.
    pub(crate) key: Option<PathBuf>,
    /// CA of client certificates, PEM.
    pub(crate) client_ca: Option<PathBuf>,
    /// Whether every client must have one; counts with `client_ca`.
    pub(crate) client_auth: ClientAuth,
    /// Who may do what with a client certificate.
    pub(crate) client: Vec<ClientSection>,
    /// Plain HTTP on addresses other than loopback.
    pub(crate) allow_plain: bool,
    /// Host names that requests may name; `*` admits all.
    pub(crate) hosts: Vec<String>,
    /// Origins of web pages that may use the API beside the gateway's own.
    pub(crate) origins: Vec<String>,
    /// Whether `/docs` and `/openapi.json` go without a token.
    pub(crate) public_docs: bool,
    /// Whether `/metrics` goes without a token.
    pub(crate) public_metrics: bool,
    /// Where to write the address that was bound, for programs that ask for port 0.
    pub(crate) address_file: Option<PathBuf>,
    /// What clients can take.
    pub(crate) limits: LimitsSection,
}

impl Default for HttpSection {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            certificate: None,
            key: None,
            client_ca: None,
            client_auth: ClientAuth::Required,
            client: Vec::new(),
            allow_plain: false,
            hosts: Vec::new(),
            origins: Vec::new(),
            public_docs: false,
            public_metrics: false,
            address_file: None,
            limits: LimitsSection::default(),
        }
    }
}

/// Whether every client must have a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(rename_all = "lowercase")]
pub(crate) enum ClientAuth {
    /// A client without one is turned away.
    Required,
    /// A client without one shows a token.
    Optional,
}

/// One holder of a client certificate: exactly one of `common_name`, `dns`, `uri`.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(deny_unknown_fields)]
pub(crate) struct ClientSection {
    /// Common name of the certificate's subject.
    #[serde(default)]
    pub(crate) common_name: Option<String>,
    /// DNS name in the certificate.
    #[serde(default)]
    pub(crate) dns: Option<String>,
    /// URI in the certificate.
    #[serde(default)]
    pub(crate) uri: Option<String>,
    /// Name in the audit; what the certificate says, without it.
    #[serde(default)]
    pub(crate) name: Option<String>,
    /// What its holder may do.
    pub(crate) role: Role,
}

impl ClientSection {
    fn subject(&self) -> Option<ClientSubject> {
        match (&self.common_name, &self.dns, &self.uri) {
            (Some(name), None, None) => Some(ClientSubject::CommonName(name.clone())),
            (None, Some(name), None) => Some(ClientSubject::Dns(name.clone())),
            (None, None, Some(uri)) => Some(ClientSubject::Uri(uri.clone())),
            _ => None,
        }
    }

    fn entry(&self) -> Option<ClientCert> {
        let subject = self.subject()?;
        let (ClientSubject::CommonName(said) | ClientSubject::Dns(said) | ClientSubject::Uri(said)) =
            &subject;
        let name = self.name.clone().unwrap_or_else(|| said.clone());
        let fits = (1..=128).contains(&name.len()) && !name.chars().any(char::is_control);
        fits.then_some(ClientCert { subject, name, role: self.role })
    }
}

/// Limits on what clients can take; times in seconds. What is left out has the default of [`Limits`].
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LimitsSection {
    /// Longest request head.
    pub(crate) head_bytes: Option<usize>,
    /// From the first byte of a request to the end of its head.
    pub(crate) head_seconds: Option<u32>,
    /// How long a connection may stay silent between requests.
    pub(crate) silent_seconds: Option<u32>,
    /// Longest JSON body.
    pub(crate) json_bytes: Option<usize>,
    /// Deepest nesting of one.
    pub(crate) json_depth: Option<usize>,
    /// Within which a JSON body must have arrived.
    pub(crate) body_seconds: Option<u32>,
    /// Uploads at a time.
    pub(crate) uploads: Option<usize>,
    /// Least speed of an upload; slower ones are ended.
    pub(crate) upload_bytes_per_second: Option<u64>,
    /// Over which that speed is judged.
    pub(crate) upload_window_seconds: Option<u32>,
    /// Connections in all.
    pub(crate) connections: Option<usize>,
    /// Connections of one address.
    pub(crate) connections_per_address: Option<usize>,
    /// WebSockets in all.
    pub(crate) websockets: Option<usize>,
    /// Events that wait for a WebSocket that does not keep up; the oldest of more are lost.
    pub(crate) websocket_queue: Option<usize>,
    /// Longest message of a WebSocket client.
    pub(crate) websocket_message_bytes: Option<usize>,
    /// Between two pings; two that stay unanswered end a connection.
    pub(crate) websocket_ping_seconds: Option<u32>,
    /// After which a browser without a touch is logged out.
    pub(crate) session_idle_seconds: Option<u32>,
    /// After which a browser is logged out in any case.
    pub(crate) session_seconds: Option<u32>,
}

/// Longest head that the parser of the server takes.
const MOST_HEAD_BYTES: usize = 48 * 1024;

impl LimitsSection {
    /// The limits, where they are set.
    pub(crate) fn limits(&self) -> Limits {
        fn set<T>(place: &mut T, given: Option<T>) {
            if let Some(value) = given {
                *place = value;
            }
        }
        let seconds = |given: Option<u32>| given.map(|seconds| Duration::from_secs(seconds.into()));
        let mut limits = Limits::default();
        set(&mut limits.head_bytes, self.head_bytes);
        set(&mut limits.head_time, seconds(self.head_seconds));
        set(&mut limits.silent_time, seconds(self.silent_seconds));
        set(&mut limits.json_bytes, self.json_bytes);
        set(&mut limits.json_depth, self.json_depth);
        set(&mut limits.body_time, seconds(self.body_seconds));
        set(&mut limits.uploads, self.uploads);
        set(&mut limits.upload_bytes_per_second, self.upload_bytes_per_second);
        set(&mut limits.upload_window, seconds(self.upload_window_seconds));
        set(&mut limits.connections, self.connections);
        set(&mut limits.connections_per_address, self.connections_per_address);
        set(&mut limits.web_sockets, self.websockets);
        set(&mut limits.ws_queue, self.websocket_queue);
        set(&mut limits.ws_message_bytes, self.websocket_message_bytes);
        set(&mut limits.ws_ping, seconds(self.websocket_ping_seconds));
        limits
    }

    /// How long browsers stay logged in.
    pub(crate) fn sessions(&self) -> SessionLimits {
        let mut sessions = SessionLimits::default();
        if let Some(seconds) = self.session_idle_seconds {
            sessions.idle = Duration::from_secs(seconds.into());
        }
        if let Some(seconds) = self.session_seconds {
            sessions.absolute = Duration::from_secs(seconds.into());
        }
        sessions
    }

    fn check(&self) -> Result<(), Misfit> {
        let sizes = [
            ("head_bytes", self.head_bytes),
            ("json_bytes", self.json_bytes),
            ("json_depth", self.json_depth),
            ("uploads", self.uploads),
            ("connections", self.connections),
            ("connections_per_address", self.connections_per_address),
            ("websockets", self.websockets),
            ("websocket_queue", self.websocket_queue),
            ("websocket_message_bytes", self.websocket_message_bytes),
        ];
        let times = [
            ("head_seconds", self.head_seconds),
            ("silent_seconds", self.silent_seconds),
            ("body_seconds", self.body_seconds),
            ("upload_window_seconds", self.upload_window_seconds),
            ("websocket_ping_seconds", self.websocket_ping_seconds),
            ("session_idle_seconds", self.session_idle_seconds),
            ("session_seconds", self.session_seconds),
        ];
        let zero = sizes.iter().filter(|(_, value)| *value == Some(0)).map(|(name, _)| *name);
        let mut zero = zero.chain(times.iter().filter(|(_, value)| *value == Some(0)).map(|(name, _)| *name));
        if let Some(name) = zero.next() {
            return Err(Misfit::new(format!("http.limits.{name}"), "must not be 0"));
        }
        let fits = self.head_bytes.is_none_or(|bytes| bytes <= MOST_HEAD_BYTES);
        demand(fits, "http.limits.head_bytes", || format!("must be at most {MOST_HEAD_BYTES}"))
    }
}

impl HttpSection {
    /// What types cannot say.
    pub(super) fn check(&self) -> Result<(), Misfit> {
        let half = if self.certificate.is_some() { "http.certificate" } else { "http.key" };
        demand(
            self.certificate.is_some() == self.key.is_some(),
            half,
            || "http.certificate and http.key go together",
        )?;
        demand(
            self.client.is_empty() || self.client_ca.is_some(),
            "http.client[0]",
            || "needs http.client_ca, by which certificates are believed",
        )?;
        let plain = self.certificate.is_none() && (self.allow_plain || self.listen.ip().is_loopback());
        demand(
            self.client_ca.is_none() || !plain,
            "http.client_ca",
            || "needs TLS: set http.certificate and http.key, and not http.allow_plain",
        )?;
        for (index, client) in self.client.iter().enumerate() {
            demand(
                client.entry().is_some(),
                format!("http.client[{index}]"),
                || "needs exactly one of common_name, dns, uri, and a name of at most 128 printable characters",
            )?;
        }
        self.limits.check()
    }

    /// Who may do what with a client certificate.
    pub(crate) fn clients(&self) -> ClientCerts {
        ClientCerts { entries: self.client.iter().filter_map(ClientSection::entry).collect() }
    }
}
