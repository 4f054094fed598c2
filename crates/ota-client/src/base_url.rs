//! Where a gateway is reached: scheme, host, port and the prefix of its API.

use std::{fmt, str::FromStr};

use reqwest::Url;

/// Prefix that is used when the URL names none. Source: `api-contract.md`, "Base paths".
const CANONICAL_PREFIX: &str = "/api/v1/ota";

/// Base URL of a gateway: `http://127.0.0.1:8080`, or with a prefix `https://gw.example/v1/cloud-integration`.
///
/// Without a path the canonical prefix `/api/v1/ota` is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseUrl {
    /// With the prefix as path, without a slash at its end.
    base: Url,
}

/// The text is not the base URL of a gateway.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the URL of a gateway: {0}; it looks like http://127.0.0.1:8080")]
pub struct BadBaseUrl(String);

impl BaseUrl {
    /// URL of an endpoint under the prefix; `path` like `updates/check`.
    pub(crate) fn endpoint<'a>(&self, path: impl IntoIterator<Item = &'a str>) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        url
    }

    /// URL of something beside the prefixes, `/healthz`.
    pub(crate) fn outside(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(path);
        url
    }

    /// URL of the event stream; `since` is the last event that was seen.
    pub(crate) fn events(&self, since: Option<u64>) -> Url {
        let mut url = self.endpoint(["ws"]);
        let scheme = if self.is_encrypted() { "wss" } else { "ws" };
        // Cannot fail: http and https may become any other special scheme.
        let _ = url.set_scheme(scheme);
        if let Some(seq) = since {
            url.query_pairs_mut().append_pair("since", &seq.to_string());
        }
        url
    }

    /// Whether the connection is encrypted.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.base.scheme() == "https"
    }

    /// Whether the gateway is this machine, as far as the name tells.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        let host = self.base.host_str().unwrap_or_default().trim_matches(['[', ']']);
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }
}

impl FromStr for BaseUrl {
    type Err = BadBaseUrl;

    fn from_str(text: &str) -> Result<Self, BadBaseUrl> {
        let mut base = Url::parse(text.trim()).map_err(|e| BadBaseUrl(e.to_string()))?;
        let bad = |why: &str| Err(BadBaseUrl(why.into()));
        if !matches!(base.scheme(), "http" | "https") {
            return bad("the scheme must be http or https");
        }
        if !base.username().is_empty() || base.password().is_some() {
            return bad("it must not hold a user name or password");
        }
        if base.query().is_some() || base.fragment().is_some() {
            return bad("it must not hold a query or fragment");
        }
        let path = base.path().trim_end_matches('/');
        let path = if path.is_empty() { CANONICAL_PREFIX } else { path }.to_owned();
        base.set_path(&path);
        Ok(Self { base })
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.base.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(text: &str) -> BaseUrl {
        text.parse().unwrap()
    }

    #[test]
    fn a_url_without_a_path_means_the_canonical_prefix() {
        for text in ["http://127.0.0.1:8080", "http://127.0.0.1:8080/"] {
            let url = base(text).endpoint(["updates", "check"]);
            assert_eq!(url.as_str(), "http://127.0.0.1:8080/api/v1/ota/updates/check");
        }
    }

    #[test]
    fn a_prefix_is_kept_with_or_without_a_slash_at_its_end() {
        for text in ["https://gw/v1/ota", "https://gw/v1/ota/"] {
            assert_eq!(base(text).endpoint(["ws"]).as_str(), "https://gw/v1/ota/ws");
            assert_eq!(base(text).events(Some(7)).as_str(), "wss://gw/v1/ota/ws?since=7");
            assert_eq!(base(text).outside("/healthz").as_str(), "https://gw/healthz");
        }
    }

    #[test]
    fn a_segment_cannot_leave_its_place() {
        let url = base("http://gw").endpoint(["updates", "jobs", "../../x?y#z"]);
        assert_eq!(url.as_str(), "http://gw/api/v1/ota/updates/jobs/..%2F..%2Fx%3Fy%23z");
    }

    #[test]
    fn urls_with_credentials_queries_or_foreign_schemes_are_refused() {
        for bad in ["http://u:p@gw", "ftp://gw", "http://gw/?a=b", "http://gw/#x", "gw:8080", ""] {
            assert!(bad.parse::<BaseUrl>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn loopback_is_told_from_other_hosts() {
        for here in ["http://127.0.0.1:1", "http://[::1]:1", "http://localhost:1"] {
            assert!(base(here).is_loopback(), "{here}");
        }
        assert!(!base("http://10.0.0.1").is_loopback());
    }
}
