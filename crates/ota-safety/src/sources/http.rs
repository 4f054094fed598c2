//! A value behind an HTTP GET: plain text or a field of a JSON document.

use std::{path::PathBuf, sync::Arc, time::Duration};

use jiff::fmt::serde::unsigned_duration::friendly::compact::required as duration;
use ota_core::ports::BoxFuture;
use reqwest::{Certificate, Client, Url, redirect::Policy};
use serde::{Deserialize, Serialize};

use super::{
    Env, Opened, Polled, Probe, Taken, apart, check_period,
    dial::Names,
    payload::{self, JsonConfig, MAX_DOCUMENT},
};
use crate::reading::Fault;

/// An address and how often it is asked. Redirects are not followed, no proxy is used: sensors are near.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpConfig {
    /// `http://` or `https://`.
    pub url: String,
    /// Where the value stands, if the answer is JSON.
    #[serde(default)]
    pub json: Option<JsonConfig>,
    /// PEM file with the only certificates that are trusted; without it those of the system.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// File that holds a bearer token.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
    /// Pause between two requests, default 1 s.
    #[serde(with = "duration", default = "default_every")]
    pub every: Duration,
    /// Longest request, default 2 s.
    #[serde(with = "duration", default = "default_timeout")]
    pub timeout: Duration,
}

fn default_every() -> Duration {
    Duration::from_secs(1)
}

fn default_timeout() -> Duration {
    Duration::from_secs(2)
}

impl HttpConfig {
    pub(super) fn source(&self, env: &Env) -> Result<Opened, String> {
        check_period(self.every, self.timeout)?;
        let url: Url = self.url.parse().map_err(|error| format!("url: {error}"))?;
        if !["http", "https"].contains(&url.scheme()) || url.password().is_some() {
            return Err("url must be http or https, without a password".into());
        }
        let probe =
            HttpProbe { config: self.clone(), url, env: env.clone(), names: Arc::default(), client: None };
        Ok(Polled { probe, every: self.every, timeout: self.timeout, back_off: true }.into())
    }
}

struct HttpProbe {
    config: HttpConfig,
    url: Url,
    env: Env,
    names: Arc<Names>,
    /// Made at the first request, when certificates and token can be read.
    client: Option<Connected>,
}

#[derive(Clone)]
struct Connected {
    client: Client,
    token: Option<String>,
}

impl Probe for HttpProbe {
    fn read(&mut self) -> BoxFuture<'_, Result<Taken, Fault>> {
        Box::pin(async {
            let connected = match self.client.take() {
                Some(connected) => connected,
                None => {
                    let (config, names) = (self.config.clone(), Arc::clone(&self.names));
                    apart(move || connect(&config, &names)).await?
                }
            };
            // Kept only after an answer: certificates and token are read again after a failure.
            let answer = get(&connected, self.url.clone()).await?;
            self.client = Some(connected);
            payload::decode(&answer, self.config.json.as_ref(), self.env.clock.wall())
        })
    }
}

fn connect(config: &HttpConfig, names: &Arc<Names>) -> Result<Connected, Fault> {
    let mut client = Client::builder().redirect(Policy::none()).no_proxy().dns_resolver(Arc::clone(names));
    if let Some(path) = &config.ca {
        let pem =
            std::fs::read(path).map_err(|error| Fault::Unreadable(format!("{}: {error}", path.display())))?;
        client = client.tls_certs_only(Certificate::from_pem_bundle(&pem).map_err(disconnected)?);
    } else if !config.url.starts_with("https") {
        // Without TLS nobody need be believed: a system without CA certificates will do.
        client = client.tls_certs_only([]);
    }
    let token = config.token_file.as_ref().map(|path| {
        let text = std::fs::read_to_string(path);
        text.map(|token| token.trim().to_owned())
            .map_err(|error| Fault::Unreadable(format!("{}: {error}", path.display())))
    });
    Ok(Connected { client: client.build().map_err(disconnected)?, token: token.transpose()? })
}

async fn get(connected: &Connected, url: Url) -> Result<Vec<u8>, Fault> {
    let mut request = connected.client.get(url);
    if let Some(token) = &connected.token {
        request = request.bearer_auth(token);
    }
    let mut response = request.send().await.map_err(disconnected)?;
    if !response.status().is_success() {
        return Err(Fault::Unreadable(format!("status {}", response.status())));
    }
    let mut answer = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(disconnected)? {
        if answer.len() + chunk.len() > MAX_DOCUMENT {
            return Err(Fault::TooLarge);
        }
        answer.extend_from_slice(&chunk);
    }
    Ok(answer)
}

fn disconnected(error: reqwest::Error) -> Fault {
    // The address may hold a secret in its query.
    Fault::Disconnected(ota_core::error::chain(&error.without_url()))
}
