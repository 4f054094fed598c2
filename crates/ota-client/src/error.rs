//! What can go wrong between this program and a gateway: its refusals apart from everything else.

use std::{error::Error, fmt, io, time::Duration};

use http::StatusCode;
use ota_core::ErrorCode;
use reqwest::Url;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_tungstenite::tungstenite;

/// The gateway's error envelope, as it was sent. Source: `api-contract.md`, "Errors".
///
/// All text is the server's: escape it before it reaches a terminal or a page.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ApiError {
    /// HTTP status of the answer.
    #[serde(skip_deserializing)]
    pub status: u16,
    /// `OTA_001` to `OTA_015`, otherwise equal to `name`.
    pub code: String,
    /// Symbolic name, `UPDATE_BLOCKED`.
    pub name: String,
    /// A sentence for people.
    pub message: String,
    /// What the condition needs to say, by name.
    pub details: Value,
    /// What the operator can do.
    pub suggested_actions: Vec<String>,
    /// Name of the request in the gateway's log and audit.
    pub request_id: String,
    /// When it was refused, RFC 3339.
    pub timestamp: String,
    /// How long to wait before the next try, when the gateway says so.
    #[serde(skip_deserializing, serialize_with = "whole_seconds", rename = "retry_after_seconds")]
    pub retry_after: Option<Duration>,
}

fn whole_seconds<S: serde::Serializer>(time: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
    time.map(|t| t.as_secs()).serialize(to)
}

impl ApiError {
    /// The domain condition, when it is one.
    #[must_use]
    pub fn ota_code(&self) -> Option<ErrorCode> {
        ErrorCode::ALL.into_iter().find(|code| code.to_string() == self.code)
    }

    /// The text of `details.NAME`.
    #[must_use]
    pub fn detail(&self, name: &str) -> Option<&str> {
        self.details.get(name)?.as_str()
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.code)
    }
}

impl Error for ApiError {}

/// Why a call did not bring its answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The gateway refused, and said why.
    #[error(transparent)]
    Api(Box<ApiError>),
    /// No connection: nothing listens, no route, TLS refused.
    #[error("cannot reach {url}")]
    Unreachable {
        /// What was asked for.
        url: String,
        /// Why.
        source: reqwest::Error,
    },
    /// The answer did not come in time.
    #[error("no answer in time from {url}")]
    TimedOut {
        /// What was asked for.
        url: String,
    },
    /// The connection broke in the middle.
    #[error("the connection to {url} broke")]
    Broken {
        /// What was asked for.
        url: String,
        /// Why.
        source: reqwest::Error,
    },
    /// Something else than a gateway answered (a proxy, another service, another prefix).
    #[error("{url} answered {status} and not as a gateway does")]
    NotAGateway {
        /// What was asked for.
        url: String,
        /// HTTP status.
        status: u16,
    },
    /// The answer does not have its documented shape.
    #[error("the answer of {url} is not understood")]
    Answer {
        /// What was asked for.
        url: String,
        /// Where it departs.
        source: serde_json::Error,
    },
    /// The answer is longer than any real one.
    #[error("the answer of {url} is longer than {max} bytes")]
    TooLarge {
        /// What was asked for.
        url: String,
        /// Limit in bytes.
        max: usize,
    },
    /// The event stream failed, or did not come back before the deadline.
    #[error("the event stream {url} is gone")]
    Stream {
        /// Where it was.
        url: String,
        /// The last failure.
        source: Box<tungstenite::Error>,
    },
    /// The event stream stayed silent or closed, and did not come back before the deadline.
    #[error("the event stream {url} ended")]
    StreamEnded {
        /// Where it was.
        url: String,
    },
    /// A file to be sent cannot be read.
    #[error("cannot read {path}")]
    File {
        /// The file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// What takes the answer could not: mostly a full disk.
    #[error("cannot write what the gateway sends")]
    Sink(#[source] io::Error),
    /// The request cannot be written as JSON.
    #[error("the request cannot be encoded")]
    Encode(#[source] serde_json::Error),
    /// TLS lacks what the crypto provider should have.
    #[error("TLS cannot be set up")]
    Tls(#[source] rustls::Error),
    /// The HTTP client cannot be made, mostly for want of any root certificate on the system.
    #[error("the HTTP client cannot be set up")]
    Setup(#[source] reqwest::Error),
}

impl ClientError {
    /// From an answer with an error status.
    pub(crate) fn refused(
        url: &impl fmt::Display,
        status: StatusCode,
        retry_after: Option<Duration>,
        body: &[u8],
    ) -> Self {
        let envelope = serde_json::from_slice::<ApiError>(body).ok().filter(|e| !e.code.is_empty());
        match envelope {
            Some(envelope) => {
                Self::Api(Box::new(ApiError { status: status.as_u16(), retry_after, ..envelope }))
            }
            None => Self::NotAGateway { url: url.to_string(), status: status.as_u16() },
        }
    }

    /// The gateway's own words, when it answered.
    #[must_use]
    pub fn api(&self) -> Option<&ApiError> {
        match self {
            Self::Api(error) => Some(error),
            _ => None,
        }
    }

    /// Whether the same call may succeed a little later without anybody acting: while a gateway reboots its port is
    /// closed, its connections break, and a front end before it may answer in its place. A certificate that is not accepted stays so.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Api(error) => matches!(error.status, 408 | 429 | 502 | 503 | 504),
            Self::NotAGateway { status, .. } => matches!(status, 502..=504),
            Self::Unreachable { .. }
            | Self::TimedOut { .. }
            | Self::Broken { .. }
            | Self::Stream { .. }
            | Self::StreamEnded { .. } => self.tls().is_none(),
            Self::Answer { .. }
            | Self::TooLarge { .. }
            | Self::File { .. }
            | Self::Sink(_)
            | Self::Encode(_)
            | Self::Tls(_)
            | Self::Setup(_) => false,
        }
    }

    /// What was wrong with the encryption, where that is why nobody answered.
    #[must_use]
    pub fn tls(&self) -> Option<TlsRefusal> {
        let source: &(dyn Error + 'static) = match self {
            Self::Unreachable { source, .. } | Self::Broken { source, .. } => source,
            Self::Stream { source, .. } => &**source,
            _ => return None,
        };
        TlsRefusal::of(tls_error(source)?)
    }

    /// This error and its sources in one line.
    #[must_use]
    pub fn chain(&self) -> String {
        ota_core::error::chain(self)
    }
}

/// Why an encrypted connection did not come about, told apart by what there is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsRefusal {
    /// No authority that is believed vouches for the gateway's certificate.
    Untrusted,
    /// The gateway's certificate is for other names.
    OtherName,
    /// The gateway's certificate has run out or does not hold yet, by the clock here.
    OutOfTime,
    /// The gateway wants a certificate of the client's, or another one than was shown.
    ClientCertificate,
    /// What answers does not speak TLS.
    Plain,
}

impl TlsRefusal {
    fn of(error: &rustls::Error) -> Option<Self> {
        use rustls::{AlertDescription as Alert, CertificateError as Bad, InvalidMessage};

        match error {
            rustls::Error::InvalidCertificate(Bad::NotValidForName | Bad::NotValidForNameContext { .. }) => {
                Some(Self::OtherName)
            }
            rustls::Error::InvalidCertificate(
                Bad::Expired | Bad::ExpiredContext { .. } | Bad::NotValidYet | Bad::NotValidYetContext { .. },
            ) => Some(Self::OutOfTime),
            rustls::Error::InvalidCertificate(_) => Some(Self::Untrusted),
            // What the other side says of a certificate is about ours.
            rustls::Error::AlertReceived(
                Alert::CertificateRequired
                | Alert::BadCertificate
                | Alert::UnsupportedCertificate
                | Alert::CertificateRevoked
                | Alert::CertificateExpired
                | Alert::CertificateUnknown
                | Alert::UnknownCA,
            ) => Some(Self::ClientCertificate),
            rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => Some(Self::Plain),
            _ => None,
        }
    }
}

/// What the TLS library said, somewhere below `error`. The source of an `io::Error` is that of what it wraps, which itself would be missed.
fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<rustls::Error>() {
            return Some(found);
        }
        next = match error.downcast_ref::<io::Error>() {
            Some(wrapping) => wrapping.get_ref().map(|inner| inner as &(dyn Error + 'static)),
            None => error.source(),
        };
    }
    None
}

/// Sorts a failure of the HTTP library.
pub(crate) fn transport(url: &Url, source: reqwest::Error) -> ClientError {
    let (url, source) = (url.to_string(), source.without_url());
    if source.is_timeout() {
        ClientError::TimedOut { url }
    } else if source.is_connect() {
        ClientError::Unreachable { url, source }
    } else {
        ClientError::Broken { url, source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, body: &str) -> ClientError {
        let url = Url::parse("http://gw/api/v1/ota/updates/check").unwrap();
        ClientError::refused(&url, StatusCode::from_u16(status).unwrap(), None, body.as_bytes())
    }

    #[test]
    fn the_envelope_is_kept_as_it_was_sent() {
        let error = refused(
            400,
            r#"{"error":true,"code":"OTA_002","name":"UPDATE_BLOCKED","message":"Update blocked by safety constraints",
                "details":{"constraint":"crane_motion","estimated_wait":"00:02:30"},
                "suggested_actions":["Wait"],"request_id":"req_abc","timestamp":"2025-03-15T10:30:45Z"}"#,
        );
        let api = error.api().unwrap();
        assert_eq!(api.ota_code(), Some(ErrorCode::UpdateBlocked));
        assert_eq!((api.status, api.detail("constraint")), (400, Some("crane_motion")));
        assert_eq!(api.suggested_actions, ["Wait"]);
        assert_eq!(error.to_string(), "Update blocked by safety constraints (OTA_002)");
    }

    #[test]
    fn a_transport_condition_has_no_ota_number() {
        let error =
            refused(401, r#"{"error":true,"code":"UNAUTHORIZED","name":"UNAUTHORIZED","message":"no"}"#);
        assert_eq!(error.api().unwrap().ota_code(), None);
        assert!(!error.may_pass());
    }

    #[test]
    fn a_page_of_a_proxy_is_not_taken_for_a_gateway() {
        let error = refused(502, "<html>Bad Gateway</html>");
        assert!(matches!(error, ClientError::NotAGateway { status: 502, .. }), "{error:?}");
        assert!(error.may_pass());
        assert!(!refused(404, "{}").may_pass());
    }

    #[test]
    fn a_certificate_that_the_gateway_wants_is_found_below_what_io_wraps() {
        let said = |alert| io::Error::other(io::Error::other(rustls::Error::AlertReceived(alert)));
        let found = |error: &io::Error| tls_error(error).and_then(TlsRefusal::of);
        let wanted = said(rustls::AlertDescription::CertificateRequired);
        assert_eq!(found(&wanted), Some(TlsRefusal::ClientCertificate));
        // A gateway that ends for its reboot says so, and comes back.
        assert_eq!(found(&said(rustls::AlertDescription::CloseNotify)), None);
        assert_eq!(found(&io::ErrorKind::ConnectionReset.into()), None);
    }
}
