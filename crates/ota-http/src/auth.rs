//! Who asks: bearer tokens, found by their digest.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::extract::FromRequestParts;
use http::{HeaderMap, header, request::Parts};
use ota_api::auth::Secret;
use ota_core::{
    Sha256Digest,
    ports::{Clock, Role, TokenRecord, Tokens},
};
use ota_engine::Actor;
use ring::rand::{SecureRandom, SystemRandom};

use crate::{
    app::blocking,
    status::{Refusal, Transport},
};

/// How long a token that was found is believed without asking the store again.
const CACHE_TIME: Duration = Duration::from_secs(5);
/// How many tokens are remembered; more are asked for each time.
const CACHE_SIZE: usize = 256;
/// Longest token that is looked at.
const TOKEN_LENGTH: usize = 512;

/// A token that was just made.
#[derive(Debug)]
pub struct NewToken {
    /// The secret, to be shown once.
    pub secret: Secret,
    /// What the store keeps of it.
    pub digest: Sha256Digest,
}

/// Makes a token: 256 random bits as 64 hexadecimal digits after `ota_`. `None` when the system gives no randomness.
#[must_use]
pub fn new_token() -> Option<NewToken> {
    let secret = format!("ota_{}", random_hex()?);
    Some(NewToken { digest: Sha256Digest::of(secret.as_bytes()), secret: secret.into() })
}

/// 256 random bits as text.
pub(crate) fn random_hex() -> Option<String> {
    let mut bytes = [0; 32];
    SystemRandom::new().fill(&mut bytes).ok()?;
    Some(hex::encode(bytes))
}

/// How a caller proved itself, for those who have to know when that ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Proof {
    /// Not at all.
    None,
    /// A token with this digest.
    Token(Sha256Digest),
    /// A browser's session.
    Session {
        /// Digest of the token that it was opened with.
        token: Sha256Digest,
        /// Digest of its cookie.
        cookie: Sha256Digest,
    },
    /// A client certificate.
    Certificate,
}

impl Proof {
    /// The token that it rests on.
    pub(crate) const fn token(&self) -> Option<Sha256Digest> {
        match self {
            Self::Token(token) | Self::Session { token, .. } => Some(*token),
            Self::None | Self::Certificate => None,
        }
    }
}

/// Who a request comes from, after the guard let it in.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) name: String,
    pub(crate) role: Option<Role>,
    pub(crate) address: String,
    pub(crate) request_id: String,
    pub(crate) proof: Proof,
}

impl Caller {
    /// The token's name, whether it asks by itself or by a browser's session.
    pub(crate) fn person(&self) -> &str {
        self.name.strip_prefix("session:").unwrap_or(&self.name)
    }

    pub(crate) fn actor(&self) -> Actor {
        Actor {
            name: self.name.clone(),
            role: self.role,
            address: Some(self.address.clone()),
            request_id: Some(self.request_id.clone()),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Refusal;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        parts.extensions.get::<Self>().cloned().ok_or_else(|| Refusal::internal("a route without a guard"))
    }
}

/// What a request offers to prove itself.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Credential<'a> {
    None,
    Bearer(&'a str),
    Cookie(&'a str),
}

/// Name of the session cookie.
pub(crate) const COOKIE: &str = "ota_session";

/// The first of bearer header, WebSocket sub-protocol and cookie.
///
/// # Errors
/// `UNAUTHORIZED` when there is an `Authorization` header of another kind.
pub(crate) fn credential(headers: &HeaderMap) -> Result<Credential<'_>, Refusal> {
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let bearer = value
            .to_str()
            .ok()
            .and_then(|text| text.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        return match bearer {
            Some((_, token)) => Ok(Credential::Bearer(token.trim())),
            None => Err(Transport::Unauthorized("the Authorization header is not a bearer token").into()),
        };
    }
    if let Some(token) = protocols(headers).find_map(|protocol| protocol.strip_prefix("bearer.")) {
        return Ok(Credential::Bearer(token));
    }
    let cookie = headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .find_map(|pair| pair.trim().strip_prefix(COOKIE)?.strip_prefix('='));
    Ok(cookie.map_or(Credential::None, Credential::Cookie))
}

/// Sub-protocols that a WebSocket client offers.
pub(crate) fn protocols(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}

/// Finds tokens by their digest, off the async threads, and remembers them for a moment.
pub(crate) struct Authenticator {
    tokens: Arc<dyn Tokens>,
    clock: Arc<dyn Clock>,
    cache: Mutex<HashMap<Sha256Digest, (TokenRecord, Duration)>>,
}

impl Authenticator {
    pub(crate) fn new(tokens: Arc<dyn Tokens>, clock: Arc<dyn Clock>) -> Self {
        Self { tokens, clock, cache: Mutex::default() }
    }

    /// The token with this text, if it is one that holds now.
    pub(crate) async fn token(&self, text: &str) -> Result<Option<(Sha256Digest, TokenRecord)>, Refusal> {
        if text.is_empty() || text.len() > TOKEN_LENGTH {
            return Ok(None);
        }
        let digest = Sha256Digest::of(text.as_bytes());
        Ok(self.find(digest).await?.map(|record| (digest, record)))
    }

    /// The token with this digest, if it holds now.
    pub(crate) async fn find(&self, digest: Sha256Digest) -> Result<Option<TokenRecord>, Refusal> {
        let (wall, now) = (self.clock.wall(), self.clock.monotonic());
        if let Some((record, until)) = self.cached(&digest)
            && now < until
            && record.expires.is_none_or(|end| wall < end)
        {
            return Ok(Some(record));
        }
        let tokens = Arc::clone(&self.tokens);
        let found = blocking(move || tokens.find(&digest, wall)).await??;
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if cache.len() >= CACHE_SIZE {
            cache.clear();
        }
        match &found {
            Some(record) => cache.insert(digest, (record.clone(), now + CACHE_TIME)),
            None => cache.remove(&digest),
        };
        drop(cache);
        Ok(found)
    }

    fn cached(&self, digest: &Sha256Digest) -> Option<(TokenRecord, Duration)> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner).get(digest).cloned()
    }

    /// Forgets what was found: a token was revoked.
    pub(crate) fn forget(&self) {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn offered(name: http::HeaderName, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_static(value))])
    }

    #[test]
    fn credentials_are_found_in_header_sub_protocol_and_cookie() {
        let header = offered(header::AUTHORIZATION, "bearer  abc");
        assert_eq!(credential(&header).unwrap(), Credential::Bearer("abc"));
        let protocol = offered(header::SEC_WEBSOCKET_PROTOCOL, "ota.v1, bearer.abc");
        assert_eq!(credential(&protocol).unwrap(), Credential::Bearer("abc"));
        let cookie = offered(header::COOKIE, "a=b; ota_session=xyz; ota_session2=no");
        assert_eq!(credential(&cookie).unwrap(), Credential::Cookie("xyz"));
        assert_eq!(credential(&HeaderMap::new()).unwrap(), Credential::None);
        assert!(credential(&offered(header::AUTHORIZATION, "Basic YTpi")).is_err());
    }

    #[test]
    fn a_new_token_is_long_random_and_does_not_print() {
        let (a, b) = (new_token().unwrap(), new_token().unwrap());
        assert_ne!(a.digest, b.digest);
        assert_eq!(a.secret.expose().len(), 68);
        assert!(!format!("{a:?}").contains(a.secret.expose()));
    }
}
