//! Answers that the parser below us gives by itself, before there is a request: they get our envelope on their way out.
//!
//! Works on the bytes that leave a connection: what carries no request id did not come from our router. Too long heads of
//! HTTP/2 are answered inside that protocol and stay as they are.

use http::StatusCode;

use crate::{
    app::App,
    enter::fresh_id,
    status::{Refusal, Transport},
};

/// How much of what a client still sends is read after such an answer, so that it arrives before the connection is reset.
const LINGER: usize = 1 << 20;

/// Puts envelopes into the place of bare answers of one connection.
pub(crate) struct BareAnswers {
    app: App,
    /// What is left of the answer that goes out now.
    instead: Vec<u8>,
    linger: usize,
}

impl BareAnswers {
    pub(crate) const fn new(app: App) -> Self {
        Self { app, instead: Vec::new(), linger: 0 }
    }

    /// What is to be sent in the place of `bytes`; empty when they are to be sent themselves.
    pub(crate) fn instead_of(&mut self, bytes: &[u8]) -> &[u8] {
        if self.instead.is_empty()
            && let Some(status) = bare(bytes)
        {
            self.instead = self.envelope(status);
            self.linger = LINGER;
        }
        &self.instead
    }

    /// `count` bytes of it have been sent.
    pub(crate) fn sent(&mut self, count: usize) {
        self.instead.drain(..count.min(self.instead.len()));
    }

    /// How many bytes may still be read and thrown away before the connection is closed.
    pub(crate) const fn linger(&mut self) -> &mut usize {
        &mut self.linger
    }

    fn envelope(&self, status: StatusCode) -> Vec<u8> {
        let what = match status {
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE | StatusCode::URI_TOO_LONG => {
                format!("the request head is longer than {} bytes", self.app.config.limits.head_bytes)
            }
            _ => "the request head cannot be read".into(),
        };
        let refusal = Refusal::from(Transport::InvalidRequest { path: None, what });
        let id = fresh_id();
        let body = serde_json::to_string(&refusal.envelope(&id, self.app.clock.wall())).unwrap_or_default();
        self.app.metrics.answered(refusal.status());
        tracing::info!(request_id = id, status = refusal.status().as_u16(), "unreadable request");
        format!(
            "HTTP/1.1 {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\
             x-request-id: {id}\r\ncache-control: no-store\r\nx-content-type-options: nosniff\r\n\r\n{body}",
            refusal.status(),
            body.len(),
        )
        .into_bytes()
    }
}

/// The status of an answer without a request id.
fn bare(bytes: &[u8]) -> Option<StatusCode> {
    let rest = bytes.strip_prefix(b"HTTP/1.1 ").or_else(|| bytes.strip_prefix(b"HTTP/1.0 "))?;
    let status = StatusCode::from_bytes(rest.get(..3)?).ok().filter(StatusCode::is_client_error)?;
    let head = String::from_utf8_lossy(bytes).to_ascii_lowercase();
    let ours = head.lines().take_while(|line| !line.is_empty()).any(|line| line.starts_with("x-request-id:"));
    (!ours).then_some(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_refusals_without_a_request_id_are_bare() {
        let status = |text: &str| bare(text.as_bytes()).map(|status| status.as_u16());
        assert_eq!(
            status("HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\n\r\n"),
            Some(431)
        );
        assert_eq!(status("HTTP/1.0 400 Bad Request\r\n\r\n"), Some(400));
        assert_eq!(status("HTTP/1.1 404 Not Found\r\nX-Request-Id: req_1\r\n\r\n"), None);
        assert_eq!(status("HTTP/1.1 200 OK\r\n\r\n"), None);
        assert_eq!(status("{\"body\": \"HTTP/1.1 400\"}"), None);
        assert_eq!(status("HTTP/1.1 4"), None);
    }
}
