//! HTTP through reqwest, with redirects followed by our own rules: at most five, never from https to http, never from a
//! public server to a private address, and nothing secret to any origin but the configured ones.

use std::{error::Error, net::IpAddr};

use futures_util::{StreamExt as _, TryStreamExt as _};
use ota_core::ports::BoxFuture;
use reqwest::{
    Certificate, Client, ClientBuilder, Identity, StatusCode,
    header::{ACCEPT_ENCODING, HOST, HeaderMap, HeaderName, HeaderValue, IF_RANGE, LOCATION, RANGE},
    redirect::Policy,
};

use super::{Answer, Ask, TransferError, TransferFault, Transport, Url, files};
use crate::{ClientIdentity, FetchError, Proxy, StallPolicy};

const MAX_REDIRECTS: usize = 5;

/// The real transport.
pub(crate) struct Web {
    /// With the client certificate.
    own: Client,
    /// Without it.
    foreign: Client,
    origins: Vec<Url>,
    secrets: HeaderMap,
    /// Neither the configuration nor the system names an authority: no TLS server can be believed.
    trusts_nobody: bool,
}

/// What [`Web`] is made of.
pub(crate) struct WebOptions<'a> {
    pub(crate) origins: Vec<Url>,
    pub(crate) ca: Option<&'a [u8]>,
    pub(crate) client_cert: Option<&'a ClientIdentity>,
    pub(crate) headers: &'a [(String, String)],
    pub(crate) proxy: &'a Proxy,
    pub(crate) stall: StallPolicy,
}

/// Whether a server can be asked with all this; it is not asked.
///
/// # Errors
/// `Config` when certificates, headers or the proxy cannot be used.
pub fn check_access(
    ca: Option<&[u8]>,
    client_cert: Option<&ClientIdentity>,
    headers: &[(String, String)],
    proxy: &Proxy,
) -> Result<(), FetchError> {
    let stall = StallPolicy::default();
    Web::new(&WebOptions { origins: Vec::new(), ca, client_cert, headers, proxy, stall }).map(drop)
}

impl Web {
    pub(crate) fn new(options: &WebOptions<'_>) -> Result<Self, FetchError> {
        crate::install_crypto_provider();
        let mut secrets = HeaderMap::new();
        for (name, value) in options.headers {
            let name = HeaderName::try_from(name).map_err(config("a header name"))?;
            if [ACCEPT_ENCODING, RANGE, IF_RANGE, HOST].contains(&name) {
                return Err(FetchError::Config {
                    what: format!("header {name} is ours to set"),
                    source: None,
                });
            }
            let mut value = HeaderValue::try_from(value).map_err(config("the value of a header"))?;
            value.set_sensitive(true);
            secrets.append(name, value);
        }
        let own = client(options, options.client_cert)?;
        let foreign = client(options, None)?;
        if own.trusts_nobody {
            let host = options.origins.first().and_then(Url::host_str).unwrap_or_default();
            tracing::warn!(host, "{NoAuthorities}");
        }
        Ok(Self {
            trusts_nobody: own.trusts_nobody,
            own: own.client,
            foreign: foreign.client,
            origins: options.origins.clone(),
            secrets,
        })
    }

    fn is_own(&self, url: &Url) -> bool {
        self.origins.iter().any(|own| own.origin() == url.origin())
    }

    async fn follow(&self, mut ask: Ask) -> Result<Answer, TransferError> {
        for _ in 0..=MAX_REDIRECTS {
            let url = ask.url.clone();
            if url.scheme() == "file" {
                return files::get(ask).await;
            }
            let response = self.send(&ask).await?;
            let status = response.status();
            if !is_redirect(status) {
                return Ok(Answer {
                    status,
                    headers: response.headers().clone(),
                    body: response.bytes_stream().map_err(move |e| broken(&url, e)).boxed(),
                });
            }
            ask.url = redirected(&url, response.headers().get(LOCATION))?;
        }
        Err(TransferError::new(&ask.url, TransferFault::Redirect("more than five")))
    }

    async fn send(&self, ask: &Ask) -> Result<reqwest::Response, TransferError> {
        if self.trusts_nobody && ask.url.scheme() == "https" {
            return Err(TransferError::new(&ask.url, TransferFault::NoAuthorities));
        }
        let own = self.is_own(&ask.url);
        let client = if own { &self.own } else { &self.foreign };
        let mut request = client.get(ask.url.clone());
        if own {
            request = request.headers(self.secrets.clone());
        }
        request = request.header(ACCEPT_ENCODING, "identity");
        if ask.from > 0 {
            request = request.header(RANGE, format!("bytes={}-", ask.from));
            if let Some(tag) = &ask.if_range {
                request = request.header(IF_RANGE, tag);
            }
        }
        request.send().await.map_err(|error| broken(&ask.url, error))
    }
}

impl Transport for Web {
    fn get(&self, ask: Ask) -> BoxFuture<'_, Result<Answer, TransferError>> {
        Box::pin(self.follow(ask))
    }
}

/// The system names no certificate authority.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error(
    "this system has no CA certificates: install ca-certificates, or name the CA of the server; no https until then"
)]
pub struct NoAuthorities;

/// An HTTP client, which may know nobody to believe.
pub struct WebClient {
    /// The client.
    pub client: Client,
    /// The system names no certificate authority: every TLS server is refused, plain HTTP works.
    pub trusts_nobody: bool,
}

impl WebClient {
    /// Builds what `make` makes. Where that fails because the system has no CA certificates, it is built without any.
    ///
    /// # Errors
    /// Those of reqwest for everything else.
    pub fn build(make: impl Fn() -> ClientBuilder) -> reqwest::Result<Self> {
        let failed = match make().build() {
            Ok(client) => return Ok(Self { client, trusts_nobody: false }),
            Err(error) => error,
        };
        let client = make().tls_certs_only([]).build().map_err(|_| failed)?;
        Ok(Self { client, trusts_nobody: true })
    }
}

fn client(options: &WebOptions<'_>, identity: Option<&ClientIdentity>) -> Result<WebClient, FetchError> {
    let trusted = options.ca.map(Certificate::from_pem_bundle).transpose();
    let trusted = trusted.map_err(config("the CA certificates"))?;
    if trusted.as_ref().is_some_and(Vec::is_empty) {
        return Err(FetchError::Config { what: "the CA file holds no certificate".into(), source: None });
    }
    let identity = identity.map(|identity| Identity::from_pem(&identity.pem)).transpose();
    let identity = identity.map_err(config("the client certificate"))?;
    let proxy = match options.proxy {
        Proxy::Via(url) => Some(reqwest::Proxy::all(url.clone()).map_err(config("the proxy"))?),
        Proxy::System | Proxy::Direct => None,
    };
    let make = || {
        let mut builder = Client::builder()
            .redirect(Policy::none())
            .referer(false)
            .connect_timeout(options.stall.connect)
            .pool_max_idle_per_host(1)
            .user_agent(concat!("ota-gateway/", env!("CARGO_PKG_VERSION")));
        if let Some(trusted) = &trusted {
            builder = builder.tls_certs_only(trusted.clone());
        }
        if let Some(identity) = &identity {
            builder = builder.identity(identity.clone());
        }
        match (options.proxy, &proxy) {
            (Proxy::Via(_), Some(proxy)) => builder.proxy(proxy.clone()),
            (Proxy::Direct, _) => builder.no_proxy(),
            _ => builder,
        }
    };
    WebClient::build(make).map_err(config("the HTTP client"))
}

fn config<E: Error + Send + Sync + 'static>(what: &'static str) -> impl FnOnce(E) -> FetchError {
    move |source| FetchError::Config {
        what: format!("{what} cannot be used"),
        source: Some(Box::new(source)),
    }
}

/// 300 and 304 are answers, not redirects.
fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// Where a redirect leads, if it may be followed.
fn redirected(from: &Url, location: Option<&HeaderValue>) -> Result<Url, TransferError> {
    let refuse = |why| TransferError::new(from, TransferFault::Redirect(why));
    let location = location.and_then(|value| value.to_str().ok()).ok_or_else(|| refuse("no location"))?;
    let to = from.join(location).map_err(|_| refuse("location is not a URL"))?;
    match (from.scheme(), to.scheme()) {
        ("https", "http") => Err(refuse("from https to http")),
        (_, "http" | "https") if is_private(&to) && !is_private(from) => Err(refuse("to a private address")),
        (_, "http" | "https") => Ok(to),
        _ => Err(refuse("to another scheme")),
    }
}

/// Whether the host is written as an address of this device or network. Names are not resolved here.
fn is_private(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    match host.parse() {
        Ok(IpAddr::V4(v4)) => {
            v4.is_loopback() || v4.is_private() || v4.is_link_local() || v4.is_unspecified()
        }
        Ok(IpAddr::V6(v6)) => match v6.to_ipv4_mapped() {
            Some(v4) => v4.is_loopback() || v4.is_private() || v4.is_link_local() || v4.is_unspecified(),
            None => {
                v6.is_loopback() || v6.is_unspecified() || v6.is_unique_local() || v6.is_unicast_link_local()
            }
        },
        Err(_) => host == "localhost" || host.ends_with(".localhost"),
    }
}

/// Names the fault of a failed request by what is in its chain of causes.
fn broken(url: &Url, error: reqwest::Error) -> TransferError {
    let fault = cause(&error).unwrap_or(if error.is_connect() {
        TransferFault::Connect
    } else if error.is_timeout() {
        TransferFault::TooSlow
    } else {
        TransferFault::Reset
    });
    TransferError::caused(url, fault, error.without_url())
}

fn cause(error: &reqwest::Error) -> Option<TransferFault> {
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = next {
        if is_tls(error) {
            return Some(TransferFault::Tls);
        }
        // hyper-util's connector keeps the type of this error to itself.
        if error.to_string().starts_with("dns error") {
            return Some(TransferFault::Dns);
        }
        next = error.source();
    }
    None
}

/// An IO error's `source` skips what it wraps, so that is looked at here.
fn is_tls(error: &(dyn Error + 'static)) -> bool {
    let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    error.is::<rustls::Error>() || wrapped.is_some_and(|inner| is_tls(inner))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redirect(from: &str, to: &'static str) -> Result<String, TransferFault> {
        redirected(&from.parse().unwrap(), Some(&HeaderValue::from_static(to)))
            .map(String::from)
            .map_err(|error| error.fault)
    }

    #[test]
    fn redirects_stay_secure_and_outside_of_private_networks() {
        assert_eq!(redirect("https://a.example/x", "/y").unwrap(), "https://a.example/y");
        assert_eq!(redirect("http://a.example/x", "https://b.example/y").unwrap(), "https://b.example/y");
        for to in [
            "http://a.example/y",
            "https://127.0.0.1/",
            "https://10.1.2.3/",
            "https://[::1]/",
            "https://[::ffff:169.254.169.254]/",
            "https://localhost/",
            "file:///etc/passwd",
            "ftp://a.example/",
        ] {
            let fault = redirect("https://a.example/x", to);
            assert!(matches!(fault, Err(TransferFault::Redirect(_))), "{to}: {fault:?}");
        }
        assert!(redirect("http://127.0.0.1:1/x", "http://127.0.0.1:2/y").is_ok(), "a local server may");
    }
}
