//! Refusals: which status, code, details and advice each condition gets. The only place that knows status codes.

use std::{sync::Arc, time::Duration};

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use ota_api::{ErrorEnvelope, advice, jobs::Blocking, text};
use ota_core::{
    ErrorCode, OtaError, Timestamp,
    error::{PortError, PortErrorKind},
    safety::Block,
};
use ota_engine::EngineError;
use serde_json::{Map, Value, json};

/// Why a request was not carried out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// One of the fifteen conditions.
    #[error(transparent)]
    Ota(#[from] OtaError),
    /// A condition that only the transport knows.
    #[error(transparent)]
    Transport(#[from] Transport),
}

/// Conditions of the transport alone.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Transport {
    #[error("{}{what}", .path.as_ref().map(|p| format!("{p}: ")).unwrap_or_default())]
    InvalidRequest { path: Option<String>, what: String },
    #[error("{0}")]
    Unauthorized(&'static str),
    #[error("{0}")]
    Forbidden(String),
    #[error("{0}")]
    NotFound(String),
    #[error("this path does not take that method")]
    MethodNotAllowed,
    #[error("the request did not arrive in time")]
    RequestTimeout,
    #[error("the body is longer than {limit} bytes")]
    PayloadTooLarge { limit: u64 },
    #[error("the body must be {expected}")]
    UnsupportedMediaType { expected: &'static str },
    #[error("{what}; try again in {} s", text::wait_seconds(*.retry_after))]
    TooManyRequests { what: &'static str, retry_after: Duration },
    #[error("something failed that only the log explains")]
    Internal { log: String },
    #[error("{what}")]
    Unavailable { reason: &'static str, what: String },
}

impl Refusal {
    /// A field of the request that does not fit.
    pub(crate) fn field(path: &str, what: impl Into<String>) -> Self {
        Transport::InvalidRequest { path: Some(path.into()), what: what.into() }.into()
    }

    /// Something only the log explains.
    pub(crate) fn internal(log: impl Into<String>) -> Self {
        Transport::Internal { log: log.into() }.into()
    }

    /// The symbolic name.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Ota(error) => error.code().name(),
            Self::Transport(error) => error.name(),
        }
    }

    /// The status code.
    pub(crate) const fn status(&self) -> StatusCode {
        match self {
            Self::Ota(error) => status_of(error.code()),
            Self::Transport(error) => error.status(),
        }
    }

    /// The envelope, as the client gets it.
    pub(crate) fn envelope(&self, request_id: &str, now: Timestamp) -> ErrorEnvelope {
        let (code, details, actions) = match self {
            Self::Ota(error) => (error.code().to_string(), ota_details(error), advice::of_code(error.code())),
            Self::Transport(error) => (error.name().into(), error.details(), error.actions()),
        };
        ErrorEnvelope {
            error: true,
            status: "error".into(),
            code,
            name: self.name().into(),
            message: self.message(),
            details,
            suggested_actions: actions.iter().map(|action| (*action).into()).collect(),
            request_id: request_id.into(),
            timestamp: text::time(now),
        }
    }

    fn message(&self) -> String {
        if matches!(self, Self::Ota(OtaError::UpdateBlocked(_))) {
            return "Update blocked by safety constraints".into();
        }
        let sentence = self.to_string();
        let mut letters = sentence.chars();
        letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
    }

    /// Headers that belong to the condition.
    pub(crate) fn headers(&self, response: &mut Response) {
        let headers = response.headers_mut();
        match self {
            Self::Transport(Transport::Unauthorized(_)) => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            Self::Transport(Transport::TooManyRequests { retry_after, .. }) => {
                headers.insert(header::RETRY_AFTER, text::wait_seconds(*retry_after).max(1).into());
            }
            Self::Transport(Transport::RequestTimeout | Transport::PayloadTooLarge { .. }) => {
                headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            _ => {}
        }
    }
}

impl IntoResponse for Refusal {
    /// The status alone; the outermost layer, which knows the request, writes the envelope.
    fn into_response(self) -> Response {
        let mut response = self.status().into_response();
        response.extensions_mut().insert(Arc::new(self));
        response
    }
}

impl From<EngineError> for Refusal {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Ota(ota) => Self::Ota(ota),
            EngineError::Unavailable { reason, what } => Transport::Unavailable { reason, what }.into(),
            EngineError::Invalid { field, what } => Self::field(field, what),
            EngineError::NotFound { what } => Transport::NotFound(format!("{what} is not known")).into(),
            EngineError::Internal { log } => Self::internal(log),
        }
    }
}

impl From<PortError> for Refusal {
    fn from(error: PortError) -> Self {
        match error.kind() {
            PortErrorKind::Ota(ota) => Self::Ota(ota.clone()),
            PortErrorKind::Unavailable { reason, what } => {
                Transport::Unavailable { reason, what: what.clone() }.into()
            }
            PortErrorKind::Io(_) => Self::internal(error.chain()),
        }
    }
}

/// Status of a domain condition. Source: `api-contract.md`, "Errors".
pub(crate) const fn status_of(code: ErrorCode) -> StatusCode {
    match code {
        ErrorCode::UpdateBlocked | ErrorCode::InvalidPartition => StatusCode::BAD_REQUEST,
        ErrorCode::InvalidPin | ErrorCode::FactoryResetNotAllowed => StatusCode::FORBIDDEN,
        ErrorCode::JobNotFound => StatusCode::NOT_FOUND,
        ErrorCode::UpdateInProgress
        | ErrorCode::RollbackNotAvailable
        | ErrorCode::SystemBusy
        | ErrorCode::MaintenanceActive => StatusCode::CONFLICT,
        ErrorCode::InvalidImage | ErrorCode::SignatureInvalid | ErrorCode::ChecksumMismatch => {
            StatusCode::UNPROCESSABLE_ENTITY
        }
        ErrorCode::NetworkError | ErrorCode::ServerUnreachable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorCode::InsufficientSpace => StatusCode::INSUFFICIENT_STORAGE,
    }
}

impl Transport {
    /// The symbolic name, which is also the code.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::InvalidRequest { .. } => "INVALID_REQUEST",
            Self::Unauthorized(_) => "UNAUTHORIZED",
            Self::Forbidden(_) => "FORBIDDEN",
            Self::NotFound(_) => "NOT_FOUND",
            Self::MethodNotAllowed => "METHOD_NOT_ALLOWED",
            Self::RequestTimeout => "REQUEST_TIMEOUT",
            Self::PayloadTooLarge { .. } => "PAYLOAD_TOO_LARGE",
            Self::UnsupportedMediaType { .. } => "UNSUPPORTED_MEDIA_TYPE",
            Self::TooManyRequests { .. } => "TOO_MANY_REQUESTS",
            Self::Internal { .. } => "INTERNAL",
            Self::Unavailable { .. } => "UNAVAILABLE",
        }
    }

    const fn status(&self) -> StatusCode {
        match self {
            Self::InvalidRequest { .. } => StatusCode::BAD_REQUEST,
            Self::Unauthorized(_) => StatusCode::UNAUTHORIZED,
            Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::PayloadTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType { .. } => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooManyRequests { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Internal { .. } => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Unavailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn details(&self) -> Map<String, Value> {
        let details = match self {
            Self::InvalidRequest { path: Some(path), what } => json!({"path": path, "reason": what}),
            Self::InvalidRequest { path: None, what } => json!({"reason": what}),
            Self::PayloadTooLarge { limit } => json!({"limit": limit}),
            Self::UnsupportedMediaType { expected } => json!({"expected": expected}),
            Self::TooManyRequests { retry_after, .. } => {
                json!({"retry_after_seconds": text::wait_seconds(*retry_after).max(1)})
            }
            Self::Unavailable { reason, .. } => json!({"reason": reason}),
            Self::Unauthorized(_)
            | Self::Forbidden(_)
            | Self::NotFound(_)
            | Self::MethodNotAllowed
            | Self::RequestTimeout
            | Self::Internal { .. } => json!({}),
        };
        object(details)
    }

    const fn actions(&self) -> &'static [&'static str] {
        match self {
            Self::InvalidRequest { .. } | Self::UnsupportedMediaType { .. } | Self::MethodNotAllowed => {
                &["Compare the request with the reference at /docs"]
            }
            Self::Unauthorized(_) => {
                &["Send a valid token in the Authorization header", "Ask an admin for a token"]
            }
            Self::Forbidden(_) => &["Use a token whose role allows this"],
            Self::NotFound(_) => &["Check the path and the names in it"],
            Self::RequestTimeout => &["Send the request again over a faster connection"],
            Self::PayloadTooLarge { .. } => &["Send less"],
            Self::TooManyRequests { .. } => &["Wait as long as Retry-After says"],
            Self::Internal { .. } => &["Look for the request id in the gateway's log"],
            Self::Unavailable { .. } => &["Look at degraded in system/status"],
        }
    }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// Facts of a domain condition. Source: `api-contract.md`, "Errors".
fn ota_details(error: &OtaError) -> Map<String, Value> {
    let details = match error {
        OtaError::UpdateInProgress { running } => json!({"job_id": running.as_str()}),
        OtaError::UpdateBlocked(blocks) => return blocked_details(blocks),
        OtaError::InsufficientSpace { place, required, available } => {
            json!({"required": required.get(), "available": available.get(), "where": place})
        }
        OtaError::Network { what } | OtaError::InvalidImage { what } => json!({"reason": what}),
        OtaError::SignatureInvalid { reason, what } => json!({"reason": reason.as_str(), "what": what}),
        OtaError::ServerUnreachable { reason, what } => json!({"reason": reason.as_str(), "what": what}),
        OtaError::ChecksumMismatch { expected, actual } => json!({"expected": expected, "actual": actual}),
        OtaError::InvalidPartition { slot, why } => json!({"partition": slot, "reason": why}),
        OtaError::InvalidPin { attempts_left } => json!({"attempts_left": attempts_left}),
        OtaError::FactoryResetNotAllowed { why } | OtaError::RollbackNotAvailable { why } => {
            json!({"reason": why})
        }
        OtaError::JobNotFound { id, ended } => {
            json!({"job_id": Some(id).filter(|id| !id.is_empty()), "ended": ended})
        }
        OtaError::SystemBusy { with } => json!({"with": with}),
        OtaError::MaintenanceActive { window, until } => {
            json!({"window": window, "until": until.map(text::rfc3339)})
        }
    };
    object(details)
}

/// The first constraint in the spec's shape, and all of them as a list.
fn blocked_details(blocks: &[Block]) -> Map<String, Value> {
    let mut details = Map::new();
    let as_value = |block: &Block| serde_json::to_value(Blocking::from(block)).unwrap_or_default();
    if let Some(first) = blocks.first() {
        details = object(as_value(first));
        details.remove("message");
        for absent in ["detected_at", "estimated_wait"] {
            details.entry(absent).or_insert(Value::Null);
        }
    }
    details.insert("constraints".into(), blocks.iter().map(as_value).collect());
    details
}

#[cfg(test)]
mod tests {
    use super::*;
    use ota_core::error::{ServerFault, SignatureFault};

    /// The table of the contract is the oracle.
    #[test]
    fn every_code_has_the_status_of_the_contract() {
        let contract = include_str!("../../../docs/design/api-contract.md");
        for code in ErrorCode::ALL {
            let row = contract.lines().find(|line| line.starts_with(&format!("| {code} |"))).unwrap();
            let cells: Vec<_> = row.split('|').map(str::trim).collect();
            assert_eq!(cells[2], code.name());
            assert_eq!(cells[3], status_of(code).as_str(), "{code}");
        }
    }

    #[test]
    fn every_transport_condition_has_the_status_of_the_contract() {
        let contract = include_str!("../../../docs/design/api-contract.md");
        let all = [
            Transport::InvalidRequest { path: None, what: "x".into() },
            Transport::Unauthorized("x"),
            Transport::Forbidden("x".into()),
            Transport::NotFound("x".into()),
            Transport::MethodNotAllowed,
            Transport::RequestTimeout,
            Transport::PayloadTooLarge { limit: 1 },
            Transport::UnsupportedMediaType { expected: "x" },
            Transport::TooManyRequests { what: "x", retry_after: Duration::ZERO },
            Transport::Internal { log: "x".into() },
            Transport::Unavailable { reason: "x", what: "x".into() },
        ];
        for condition in all {
            let listed = format!("`{}` {}", condition.name(), condition.status().as_str());
            assert!(contract.contains(&listed), "{listed}");
        }
    }

    #[test]
    fn details_carry_what_the_contract_lists() {
        let check = |error: OtaError, keys: &[&str]| {
            let details = ota_details(&error);
            for key in keys {
                assert!(details.contains_key(*key), "{error} lacks {key}");
            }
        };
        let block = Block {
            constraint: "crane_motion".into(),
            status: "moving".into(),
            message: "Crane movement detected".into(),
            detected_at: Some(Timestamp::from_secs(0)),
            resolution: "Wait".into(),
            estimated_wait: Some(Duration::from_secs(150)),
            on_violation: ota_core::safety::OnViolation::HoldReboot,
        };
        let blocked = OtaError::UpdateBlocked(vec![block]);
        assert_eq!(ota_details(&blocked)["estimated_wait"], "00:02:30");
        check(blocked, &["constraint", "status", "detected_at", "resolution", "estimated_wait"]);
        let space = OtaError::InsufficientSpace {
            place: "staging".into(),
            required: ota_core::ByteCount(2),
            available: ota_core::ByteCount(1),
        };
        check(space, &["required", "available", "where"]);
        let signature = OtaError::SignatureInvalid { reason: SignatureFault::Missing, what: "x".into() };
        check(signature, &["reason"]);
        check(
            OtaError::ChecksumMismatch { expected: "a".into(), actual: "b".into() },
            &["expected", "actual"],
        );
        check(OtaError::ServerUnreachable { reason: ServerFault::Dns, what: "x".into() }, &["reason"]);
        check(OtaError::InvalidPin { attempts_left: 2 }, &["attempts_left"]);
    }

    #[test]
    fn what_the_log_says_does_not_reach_the_client() {
        let envelope = Refusal::internal("/var/lib/secret").envelope("req_1", Timestamp::from_secs(0));
        assert!(!serde_json::to_string(&envelope).unwrap().contains("secret"));
    }
}
