//! `auth/…`: tokens, browser sessions, the PIN.

use jiff::Timestamp;
use ota_core::ports::TokenRecord;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{text, words::Role};

/// A PIN or token in a message. Prints as `***`.
#[derive(Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(transparent)]
#[schema(value_type = String)]
pub struct Secret(String);

/// Says what was expected and never what was found: that may be the secret, only not as a string.
impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::String(text) => Ok(Self(text)),
            _ => Err(serde::de::Error::custom("expected a string")),
        }
    }
}

impl Secret {
    /// The text, for the one place that compares or stores it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// A token, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenInfo {
    /// Its name, unique.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends; `null`: never.
    #[serde(default)]
    pub expires_at: Option<Timestamp>,
    /// When it was last used, to the minute; `null`: never.
    #[serde(default)]
    pub last_used_at: Option<Timestamp>,
}

impl From<&TokenRecord> for TokenInfo {
    fn from(core: &TokenRecord) -> Self {
        Self {
            name: core.name.clone(),
            role: core.role.into(),
            created_at: text::time(core.created),
            expires_at: core.expires.map(text::time),
            last_used_at: core.last_used.map(text::time),
        }
    }
}

/// Answer of `GET auth/tokens`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenList {
    /// All tokens that are not revoked.
    pub tokens: Vec<TokenInfo>,
}

/// Body of `POST auth/tokens`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CreateTokenRequest {
    /// Its name, unique: 1 to 64 characters of `[A-Za-z0-9._-]`.
    #[schema(pattern = r"^[A-Za-z0-9._-]{1,64}$")]
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// Seconds until it ends; never when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in: Option<u64>,
}

/// Answer of `POST auth/tokens`: the only time the secret is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CreatedToken {
    /// The secret.
    pub token: Secret,
    /// The rest of it.
    #[serde(flatten)]
    pub info: TokenInfo,
}

/// Query of `DELETE auth/tokens`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct RevokeTokenQuery {
    /// Name of the token.
    pub name: String,
}

/// Body of `POST auth/session`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CreateSessionRequest {
    /// The token to log in with.
    pub token: Secret,
}

/// Answer of `POST auth/session` and `GET auth/session`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SessionInfo {
    /// Name of the token it was made with.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// When it ends at the latest; `null` for a bearer token without an end.
    #[serde(default)]
    pub expires_at: Option<Timestamp>,
    /// Seconds without a request after which it ends; `null` for a bearer token.
    #[serde(default)]
    pub idle_seconds: Option<u64>,
}

/// Body of `PUT auth/pin`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SetPinRequest {
    /// The new PIN: 4 to 64 characters.
    pub new_pin: Secret,
    /// The present PIN; needed when one is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin: Option<Secret>,
}

/// Answer of requests that only have to say that they were carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Done {
    /// `pin_set`, `token_revoked`, `logged_out`, …
    pub status: String,
    /// A sentence for people.
    pub message: String,
}
