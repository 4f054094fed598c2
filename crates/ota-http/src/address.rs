//! Which host a request names and which page sent it: the defence of browsers.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use http::{HeaderMap, Method, Uri, header};

use crate::{
    client_cert::Certified,
    config::HttpConfig,
    status::{Refusal, Transport},
};

/// The other end of the connection.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    /// Whether the connection is encrypted.
    pub(crate) secure: bool,
    /// Who it is by its client certificate.
    pub(crate) certified: Option<Arc<Certified>>,
}

/// Host and port as the request names them.
fn authority<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Option<&'a str> {
    headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
        .or_else(|| uri.authority().map(|a| a.as_str()))
}

/// A page of another site cannot make the gateway answer: not by its own name, not by a name that it points at us.
///
/// # Errors
/// `FORBIDDEN`.
pub(crate) fn check(config: &HttpConfig, uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
    let named = authority(uri, headers).ok_or_else(|| refuse("the request names no host"))?;
    if !host_is_ours(config, named) {
        return Err(refuse("this host name is not one of the gateway's; add it to http.hosts"));
    }
    match headers.get(header::ORIGIN) {
        None => Ok(()),
        Some(origin) if origin.to_str().is_ok_and(|origin| origin_is_ours(config, origin, named)) => Ok(()),
        Some(_) => Err(refuse("requests from pages of other sites are refused")),
    }
}

/// A browser shows its client certificate whoever asked it to: what it says about the sender must not be another site.
/// A program says nothing and is let through.
///
/// # Errors
/// `FORBIDDEN`.
pub(crate) fn check_certified_request(method: &Method, headers: &HeaderMap) -> Result<(), Refusal> {
    let foreign = headers.get("sec-fetch-site").is_some_and(|site| site != "same-origin" && site != "none");
    let reads = method.is_safe() && !headers.contains_key(header::UPGRADE);
    if foreign && !reads {
        return Err(refuse("requests from pages of other sites are refused"));
    }
    Ok(())
}

/// What a browser sends with its cookie must say that our own page sent it.
///
/// # Errors
/// `FORBIDDEN`.
pub(crate) fn check_cookie_request(method: &Method, headers: &HeaderMap) -> Result<(), Refusal> {
    let same_site = headers.get("sec-fetch-site").is_some_and(|site| site == "same-origin");
    if method.is_safe() || headers.contains_key(header::ORIGIN) || same_site {
        Ok(())
    } else {
        Err(refuse("a request with a session cookie must carry an Origin"))
    }
}

fn refuse(what: &str) -> Refusal {
    Transport::Forbidden(what.into()).into()
}

fn host_is_ours(config: &HttpConfig, authority: &str) -> bool {
    let host = host_of(authority);
    host.eq_ignore_ascii_case("localhost")
        || host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok()
        || config.hosts.iter().any(|ours| ours == "*" || ours.eq_ignore_ascii_case(host))
}

/// `name:port` or `[::1]:port` without the port.
fn host_of(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|c| c.is_ascii_digit()) && !host.ends_with(':') => host,
        _ => authority,
    }
}

fn origin_is_ours(config: &HttpConfig, origin: &str, authority: &str) -> bool {
    let same = origin.split_once("://").is_some_and(|(scheme, rest)| {
        matches!(scheme, "http" | "https") && rest.eq_ignore_ascii_case(authority)
    });
    same || config.origins.iter().any(|ours| ours.eq_ignore_ascii_case(origin))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn check_with(host: &'static str, origin: Option<&'static str>) -> bool {
        let mut config = HttpConfig::new(([127, 0, 0, 1], 0).into());
        config.hosts.push("gw.example".into());
        config.origins.push("https://ops.example".into());
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_static(host));
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, HeaderValue::from_static(origin));
        }
        check(&config, &Uri::from_static("/"), &headers).is_ok()
    }

    #[test]
    fn only_our_own_names_and_plain_addresses_are_hosts() {
        for host in
            ["localhost:8080", "127.0.0.1", "[::1]:80", "::1", "192.0.2.1:99", "gw.example", "GW.example:443"]
        {
            assert!(check_with(host, None), "{host}");
        }
        for host in ["evil.example", "gw.example.evil", "localhost.evil:80", ""] {
            assert!(!check_with(host, None), "{host}");
        }
    }

    #[test]
    fn only_our_own_page_and_listed_ones_may_send() {
        assert!(check_with("gw.example:80", Some("http://gw.example:80")));
        assert!(check_with("gw.example", Some("https://ops.example")));
        for origin in [
            "http://evil.example",
            "null",
            "http://gw.example.evil",
            "file://gw.example",
            "https://gw.example:8443",
        ] {
            assert!(!check_with("gw.example", Some(origin)), "{origin}");
        }
    }

    #[test]
    fn a_change_by_cookie_must_say_where_it_comes_from() {
        assert!(check_cookie_request(&Method::GET, &HeaderMap::new()).is_ok());
        assert!(check_cookie_request(&Method::POST, &HeaderMap::new()).is_err());
    }
}
