//! One request, one answer: headers, time-outs, and telling the server's refusals from broken connections.

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, Method, header};
use reqwest::{Body, Response, Url, redirect};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{BaseUrl, ClientError, Identity, Token, Trust, error::transport, tls};

/// Largest answer that is read into memory; the longest real one (a page of jobs, an audit page) stays far below.
const ANSWER_MAX: usize = 16 * 1024 * 1024;

/// How a gateway is reached.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it is.
    pub base: BaseUrl,
    /// Who asks; without it only the open probes answer.
    pub token: Option<Token>,
    /// Longest wait for one whole answer. Uploads have no limit as a whole, only on each silence; a verification has one of its own.
    pub timeout: Duration,
    /// Authorities instead of those of the operating system.
    pub trust: Option<Trust>,
    /// Certificate to show to a gateway that asks for one.
    pub identity: Option<Identity>,
}

impl Options {
    /// Thirty seconds for an answer, the operating system's authorities, no token, no certificate.
    #[must_use]
    pub fn new(base: BaseUrl) -> Self {
        Self { base, token: None, timeout: Duration::from_secs(30), trust: None, identity: None }
    }
}

/// A client of one gateway. Cheap to clone; clones share connections.
///
/// Follows no redirects and uses no proxy, so that the token reaches the gateway and nobody else.
#[derive(Clone, Debug)]
pub struct Client {
    pub(crate) http: reqwest::Client,
    pub(crate) options: Options,
    /// What the options say of TLS, for the event stream.
    pub(crate) tls: Option<Arc<rustls::ClientConfig>>,
}

impl Client {
    /// Makes a client; nothing is sent yet. Installs the crypto provider when nobody has.
    ///
    /// # Errors
    /// [`ClientError::Tls`] and [`ClientError::Setup`] when TLS cannot be set up, for example for https without any root certificate on the system.
    pub fn new(options: Options) -> Result<Self, ClientError> {
        crate::install_crypto_provider();
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("ota-client/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .no_proxy()
            .connect_timeout(options.timeout.min(Duration::from_secs(10)));
        let tls = tls::config(options.trust.as_ref(), options.identity.as_ref()).map_err(ClientError::Tls)?;
        if let Some(config) = &tls {
            builder = builder.tls_backend_preconfigured(rustls::ClientConfig::clone(config));
        } else if !options.base.is_encrypted() {
            // Nobody need be believed: a system without CA certificates will do.
            builder = builder.tls_certs_only([]);
        }
        let http = builder.build().map_err(ClientError::Setup)?;
        Ok(Self { http, options, tls })
    }

    /// Where the gateway is.
    #[must_use]
    pub const fn base(&self) -> &BaseUrl {
        &self.options.base
    }

    pub(crate) async fn fetch<T: DeserializeOwned>(&self, path: &[&str]) -> Result<T, ClientError> {
        self.call(Method::GET, self.options.base.endpoint(path.iter().copied()), None).await
    }

    pub(crate) async fn query<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &impl Serialize,
    ) -> Result<T, ClientError> {
        self.call(Method::GET, self.with_query(path, query)?, None).await
    }

    /// URL of an endpoint with the fields of `query` that are set.
    pub(crate) fn with_query(&self, path: &[&str], query: &impl Serialize) -> Result<Url, ClientError> {
        let mut url = self.options.base.endpoint(path.iter().copied());
        let fields = serde_json::to_value(query).map_err(ClientError::Encode)?;
        for (name, value) in fields.as_object().into_iter().flatten() {
            match value {
                Value::Null => {}
                Value::String(text) => drop(url.query_pairs_mut().append_pair(name, text)),
                other => drop(url.query_pairs_mut().append_pair(name, &other.to_string())),
            }
        }
        Ok(url)
    }

    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &[&str],
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        self.send(Method::POST, path, body).await
    }

    pub(crate) async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &[&str],
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let url = self.options.base.endpoint(path.iter().copied());
        let body = serde_json::to_vec(body).map_err(ClientError::Encode)?;
        self.call(method, url, Some(body)).await
    }

    pub(crate) async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        url: Url,
        json: Option<Vec<u8>>,
    ) -> Result<T, ClientError> {
        let mut request = self.request(method, url.clone()).timeout(self.options.timeout);
        if let Some(json) = json {
            request = request.header(header::CONTENT_TYPE, "application/json").body(Body::from(json));
        }
        let response = request.send().await.map_err(|e| transport(&url, e))?;
        answer(&url, response).await
    }

    pub(crate) fn request(&self, method: Method, url: Url) -> reqwest::RequestBuilder {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, http::HeaderValue::from_static("application/json"));
        if let Some(token) = &self.options.token {
            headers.insert(header::AUTHORIZATION, token.header());
        }
        self.http.request(method, url).headers(headers)
    }
}

/// Takes the pieces of an answer; a failure ends the transfer.
pub type Sink<'a> = &'a mut (dyn FnMut(&[u8]) -> std::io::Result<()> + Send);

impl Client {
    /// A whole answer that is not JSON.
    pub(crate) async fn text(&self, url: Url) -> Result<Vec<u8>, ClientError> {
        let request = self.request(Method::GET, url.clone()).timeout(self.options.timeout);
        let response = request.send().await.map_err(|e| transport(&url, e))?;
        if !response.status().is_success() {
            return answer::<Value>(&url, response).await.map(|_| Vec::new());
        }
        body(&url, response).await
    }

    /// The answer as it comes, for what is kept in a file: memory stays constant. There is no limit on the time as a whole,
    /// but [`Options::timeout`] on that until it begins, and then on each silence.
    pub(crate) async fn pour(&self, method: Method, url: Url, sink: Sink<'_>) -> Result<(), ClientError> {
        let mut response = self.in_time(&url, self.request(method, url.clone()).send()).await?;
        if !response.status().is_success() {
            let late = |_| ClientError::TimedOut { url: url.to_string() };
            let refused = tokio::time::timeout(self.options.timeout, answer::<Value>(&url, response)).await;
            return refused.map_err(late)?.map(drop);
        }
        while let Some(bytes) = self.in_time(&url, response.chunk()).await? {
            sink(&bytes).map_err(ClientError::Sink)?;
        }
        Ok(())
    }

    async fn in_time<T>(
        &self,
        url: &Url,
        work: impl Future<Output = Result<T, reqwest::Error>>,
    ) -> Result<T, ClientError> {
        let late = |_| ClientError::TimedOut { url: url.to_string() };
        let done = tokio::time::timeout(self.options.timeout, work).await.map_err(late)?;
        done.map_err(|error| transport(url, error))
    }
}

/// The answer as `T`, or why not.
pub(crate) async fn answer<T: DeserializeOwned>(url: &Url, response: Response) -> Result<T, ClientError> {
    let status = response.status();
    let retry_after = seconds(response.headers());
    let bytes = body(url, response).await?;
    if !status.is_success() {
        return Err(ClientError::refused(url, status, retry_after, &bytes));
    }
    // Endpoints that have nothing to say answer 204 without a body.
    let bytes: &[u8] = if bytes.is_empty() { b"null" } else { &bytes };
    serde_json::from_slice(bytes).map_err(|source| ClientError::Answer { url: url.to_string(), source })
}

async fn body(url: &Url, mut response: Response) -> Result<Vec<u8>, ClientError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|e| transport(url, e))? {
        if bytes.len() + chunk.len() > ANSWER_MAX {
            return Err(ClientError::TooLarge { url: url.to_string(), max: ANSWER_MAX });
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

fn seconds(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?;
    text.trim().parse().ok().map(Duration::from_secs)
}
