//! Asking for files: over HTTP ([`http`]) or from a folder ([`files`]), whole and small or as a stream from an offset.
//!
//! Decides nothing about what the bytes are; says precisely how a transfer failed.

pub(crate) mod files;
pub(crate) mod http;
mod small;

use std::{fmt, time::Duration};

use bytes::Bytes;
use futures_util::stream::BoxStream;
use ota_core::ports::BoxFuture;
use reqwest::{StatusCode, header::HeaderMap};

pub use http::{NoAuthorities, WebClient, check_access};
pub use reqwest::Url;
pub(crate) use small::{Small, backoff, pause, seconds};

/// A question: a file from an offset on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ask {
    pub(crate) url: Url,
    /// First byte wanted; 0 asks for the whole file without a range.
    pub(crate) from: u64,
    /// Strong ETag of what is here already.
    pub(crate) if_range: Option<String>,
}

impl Ask {
    pub(crate) const fn whole(url: Url) -> Self {
        Self { url, from: 0, if_range: None }
    }
}

/// An answer whose body has not been read.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: BoxStream<'static, Result<Bytes, TransferError>>,
}

/// Where files come from.
pub(crate) trait Transport: Send + Sync {
    /// Asks; redirects are followed, any final status is an answer.
    fn get(&self, ask: Ask) -> BoxFuture<'_, Result<Answer, TransferError>>;
}

/// How a transfer failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransferFault {
    /// The host name does not resolve.
    Dns,
    /// No connection.
    Connect,
    /// No trusted TLS session.
    Tls,
    /// No TLS session can be trusted: neither the system nor the configuration names an authority.
    NoAuthorities,
    /// The server answered with this status.
    Status(u16),
    /// More bytes than this were announced or sent.
    TooLarge(u64),
    /// Nothing or too little arrived in time.
    TooSlow,
    /// A redirect that is not followed, and why.
    Redirect(&'static str),
    /// The connection ended within the answer.
    Reset,
    /// The answer contradicts the question, and how.
    BadAnswer(&'static str),
}

impl fmt::Display for TransferFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns => f.write_str("the host name does not resolve"),
            Self::Connect => f.write_str("no connection"),
            Self::Tls => f.write_str("no trusted TLS session"),
            Self::NoAuthorities => NoAuthorities.fmt(f),
            Self::Status(code) => write!(f, "status {code}"),
            Self::TooLarge(limit) => write!(f, "more than {limit} bytes"),
            Self::TooSlow => f.write_str("too slow"),
            Self::Redirect(why) => write!(f, "redirect not followed: {why}"),
            Self::Reset => f.write_str("the connection ended early"),
            Self::BadAnswer(how) => write!(f, "unusable answer: {how}"),
        }
    }
}

/// A failed transfer of one file.
#[derive(Debug, thiserror::Error)]
#[error("{url}: {fault}")]
pub struct TransferError {
    /// The file, without credentials and query.
    pub url: String,
    /// How it failed.
    pub fault: TransferFault,
    /// How long the server wants to be left alone.
    pub retry_after: Option<Duration>,
    /// What the HTTP client or the file system said.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl TransferError {
    pub(crate) fn new(url: &Url, fault: TransferFault) -> Self {
        Self { url: shown(url), fault, retry_after: None, source: None }
    }

    pub(crate) fn caused(
        url: &Url,
        fault: TransferFault,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> Self {
        Self { source: Some(Box::new(source)), ..Self::new(url, fault) }
    }

    /// Whether the same question may be answered better later.
    pub(crate) const fn may_pass(&self) -> bool {
        match self.fault {
            TransferFault::Dns
            | TransferFault::Connect
            | TransferFault::Tls
            | TransferFault::TooSlow
            | TransferFault::Reset
            | TransferFault::BadAnswer(_) => true,
            TransferFault::Status(code) => code >= 500 || code == 408 || code == 429,
            TransferFault::NoAuthorities | TransferFault::TooLarge(_) | TransferFault::Redirect(_) => false,
        }
    }
}

/// A URL as it may be shown: no user, password, query or fragment.
fn shown(url: &Url) -> String {
    let mut url = url.clone();
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.set_fragment(None);
    url.into()
}

/// `name` below `base`; `name` is appended as it is, so its percent-encoding stays.
pub(crate) fn below(base: &Url, name: &str) -> Option<Url> {
    let mut url = base.clone();
    url.set_query(None);
    let path = format!("{}/{name}", base.path().trim_end_matches('/'));
    url.set_path(&path);
    // A name that climbs or is normalised away would ask for another file.
    (url.path() == path).then_some(url)
}

/// A target path below `base`, each segment percent-encoded.
pub(crate) fn target_below(base: &Url, path: &str) -> Option<Url> {
    let mut url = base.clone();
    url.set_query(None);
    url.path_segments_mut().ok()?.pop_if_empty().extend(path.split('/'));
    Some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_appended_and_target_paths_are_encoded() {
        let base: Url = "https://u:p@h.example/repo/?x=1".parse().unwrap();
        let role = below(&base, "2.a%2Fb.json").unwrap();
        assert_eq!(role.as_str(), "https://u:p@h.example/repo/2.a%2Fb.json");
        assert!(below(&base, "../x").is_none());
        let target = target_below(&base, "a b/100%?.img").unwrap();
        assert_eq!(target.as_str(), "https://u:p@h.example/repo/a%20b/100%25%3F.img");
        let error = TransferError::new(&base, TransferFault::Status(503));
        assert_eq!(error.to_string(), "https://h.example/repo/: status 503");
    }
}
