//! The error envelope: the body of every answer that is not a success.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

/// Why a request was not carried out. Source: `api-contract.md`, "Errors".
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ErrorEnvelope {
    /// Always `true`.
    pub error: bool,
    /// Always `error`: what programs find that look for the `status` of a success. No answer that is a success has this word.
    #[serde(default)]
    #[schema(example = "error")]
    pub status: String,
    /// `OTA_001` to `OTA_015` for the fifteen domain conditions, otherwise equal to `name`.
    #[schema(example = "OTA_002")]
    pub code: String,
    /// Symbolic name.
    #[schema(example = "UPDATE_BLOCKED")]
    pub name: String,
    /// A sentence for people.
    pub message: String,
    /// Facts to act on; which, depends on `name`.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub details: Map<String, Value>,
    /// What the caller can do about it.
    #[serde(default)]
    pub suggested_actions: Vec<String>,
    /// The request, as in `X-Request-Id`, in the log and in the audit.
    pub request_id: String,
    /// When.
    pub timestamp: Timestamp,
}

impl ErrorEnvelope {
    /// A detail that is text.
    #[must_use]
    pub fn detail(&self, name: &str) -> Option<&str> {
        self.details.get(name).and_then(Value::as_str)
    }
}
