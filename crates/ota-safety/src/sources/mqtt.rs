//! A topic of an MQTT broker. What the broker does not say is not known: a lost connection, a last will and, by default, a
//! retained message (nobody can tell its age) are faults.

use std::path::PathBuf;

use ota_core::ports::BoxFuture;
use rumqttc::{
    AsyncClient, Event, EventLoop, MqttOptions, Packet, Publish, QoS, SubscribeReasonCode, TlsConfiguration,
    Transport,
};
use serde::{Deserialize, Serialize};

use super::{
    Feed, Opened, Source, apart,
    dial::Names,
    payload::{self, JsonConfig, MAX_DOCUMENT},
};
use crate::reading::Fault;

/// One topic of a broker. One connection each.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MqttConfig {
    /// Name or address of the broker.
    pub host: String,
    /// Default 1883, with TLS 8883.
    #[serde(default)]
    pub port: Option<u16>,
    /// TLS towards the broker.
    #[serde(default)]
    pub tls: Option<MqttTls>,
    /// User name, with `password_file`.
    #[serde(default)]
    pub username: Option<String>,
    /// File that holds the password.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// Topic with the value, without wildcards.
    pub topic: String,
    /// Where the value stands, if messages are JSON.
    #[serde(default)]
    pub json: Option<JsonConfig>,
    /// Topic that says whether the sensor is there; its last will.
    #[serde(default)]
    pub availability: Option<Availability>,
    /// Whether a retained message counts as if it had been sent now, default no: its age is not known.
    #[serde(default)]
    pub accept_retained: bool,
    /// Seconds without a word after which the broker is asked, default 5. It counts as lost after twice that.
    #[serde(default = "default_keep_alive")]
    pub keep_alive_seconds: u16,
}

/// TLS towards a broker.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MqttTls {
    /// PEM file with the only certificates that are trusted; without it those of the system.
    pub ca: Option<PathBuf>,
    /// PEM file of the client certificate, with `key`.
    pub certificate: Option<PathBuf>,
    /// PEM file of its key.
    pub key: Option<PathBuf>,
}

/// Whether the sensor is there.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Availability {
    /// Its topic.
    pub topic: String,
    /// The message that says "yes", default `online`; everything else, such as a last will, says "no".
    #[serde(default = "default_online")]
    pub online: String,
}

fn default_keep_alive() -> u16 {
    5
}

fn default_online() -> String {
    "online".into()
}

impl MqttConfig {
    pub(super) fn source(&self) -> Result<Opened, String> {
        let topics = [Some(&self.topic), self.availability.as_ref().map(|a| &a.topic)];
        if topics.into_iter().flatten().any(|topic| topic.is_empty() || topic.contains(['+', '#', '\0'])) {
            return Err("a topic must not be empty or hold wildcards".into());
        }
        if self.username.is_some() != self.password_file.is_some() {
            return Err("username and password_file belong together".into());
        }
        if self.tls.as_ref().is_some_and(|tls| tls.certificate.is_some() != tls.key.is_some()) {
            return Err("certificate and key belong together".into());
        }
        if self.keep_alive_seconds == 0 {
            return Err("keep_alive_seconds must not be zero".into());
        }
        Ok(Opened::Task(Box::new(MqttSource { config: self.clone(), names: Names::default() })))
    }

    fn options(&self, names: &Names) -> Result<MqttOptions, Fault> {
        let port = self.port.unwrap_or(if self.tls.is_some() { 8883 } else { 1883 });
        let mut options = MqttOptions::new(client_id(), (self.host.as_str(), port));
        options.set_keep_alive(self.keep_alive_seconds).set_clean_session(true);
        options.set_max_packet_size(MAX_DOCUMENT, MAX_DOCUMENT);
        let (names, host) = (names.clone(), self.host.clone());
        options.set_socket_connector(move |_, _| {
            let (names, host) = (names.clone(), host.clone());
            async move { names.connect(&host, port).await }
        });
        if let (Some(name), Some(path)) = (&self.username, &self.password_file) {
            let password = read(path)?;
            options.set_credentials(name, password.trim_ascii().to_vec());
        }
        if let Some(tls) = &self.tls {
            options.set_transport(tls.transport()?);
        }
        Ok(options)
    }
}

impl MqttTls {
    fn transport(&self) -> Result<Transport, Fault> {
        let Some(ca) = &self.ca else {
            return Transport::try_tls_with_default_config().map_err(|e| Fault::Disconnected(e.to_string()));
        };
        let client_auth = match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => Some((read(certificate)?, read(key)?)),
            _ => None,
        };
        Ok(Transport::Tls(TlsConfiguration::Simple { ca: read(ca)?, alpn: None, client_auth }))
    }
}

fn read(path: &PathBuf) -> Result<Vec<u8>, Fault> {
    std::fs::read(path).map_err(|error| Fault::Unreadable(format!("{}: {error}", path.display())))
}

/// Unlike any other's: a broker ends the older of two connections of one name.
fn client_id() -> String {
    format!("ota-gateway-{}", uuid::Uuid::new_v4().simple())
}

struct MqttSource {
    config: MqttConfig,
    names: Names,
}

impl Source for MqttSource {
    fn follow<'a>(&'a mut self, feed: &'a Feed) -> BoxFuture<'a, Fault> {
        Box::pin(async {
            let (config, names) = (self.config.clone(), self.names.clone());
            let options = match apart(move || config.options(&names)).await {
                Ok(options) => options,
                Err(fault) => return fault,
            };
            let (client, events) = AsyncClient::builder(options).capacity(4).build();
            let mut session =
                Session { config: &self.config, feed, online: self.config.availability.is_none() };
            session.run(&client, events).await.unwrap_or_else(|fault| fault)
        })
    }
}

/// One connection, from its acceptance to its end.
struct Session<'a> {
    config: &'a MqttConfig,
    feed: &'a Feed,
    online: bool,
}

impl Session<'_> {
    /// Ends with why; never with a success.
    async fn run(&mut self, client: &AsyncClient, mut events: EventLoop) -> Result<Fault, Fault> {
        loop {
            match events.poll().await {
                Ok(Event::Incoming(Packet::ConnAck(_))) => self.subscribe(client)?,
                Ok(Event::Incoming(Packet::SubAck(answer))) => {
                    if answer.return_codes.contains(&SubscribeReasonCode::Failure) {
                        return Ok(Fault::Unreadable("the broker refused the subscription".into()));
                    }
                }
                Ok(Event::Incoming(Packet::Publish(message))) => self.take(&message),
                Ok(_) => {}
                Err(error) => return Ok(Fault::Disconnected(error.to_string())),
            }
        }
    }

    fn subscribe(&self, client: &AsyncClient) -> Result<(), Fault> {
        let availability = self.config.availability.as_ref().map(|availability| availability.topic.as_str());
        for topic in availability.into_iter().chain([self.config.topic.as_str()]) {
            client
                .try_subscribe(topic, QoS::AtLeastOnce)
                .map_err(|error| Fault::Disconnected(error.to_string()))?;
        }
        Ok(())
    }

    fn take(&mut self, message: &Publish) {
        let now = self.feed.now();
        let availability = self.config.availability.as_ref();
        if let Some(availability) = availability.filter(|a| message.topic == a.topic.as_bytes()) {
            self.online = message.payload == availability.online.as_bytes();
            if !self.online {
                self.feed.deliver(Err(Fault::Disconnected("the sensor is off line (last will)".into())), now);
            }
            return;
        }
        if message.topic != self.config.topic.as_bytes() || !self.online {
            return;
        }
        if message.retain && !self.config.accept_retained {
            tracing::debug!(topic = self.config.topic, "retained message passed over: its age is not known");
            return;
        }
        match payload::decode(&message.payload, self.config.json.as_ref(), self.feed.wall()) {
            Ok(taken) => self.feed.deliver_aged(taken, now),
            Err(fault) => self.feed.deliver(Err(fault), now),
        }
    }
}
