//! What `ota-admin` and the test suites talk with: a typed client of the gateway's HTTP and WebSocket API.
//!
//! Owns transport: base URL and prefix, token, TLS, time-outs, the error envelope, reconnecting to `ws`. The wire types are
//! `ota-api`'s; what people see is `ota-admin`'s. Holds no state of an update: every method is one request.

mod base_url;
mod error;
mod http;
mod provider;
mod requests;
#[cfg(test)]
mod tests;
mod tls;
mod token;
pub mod ws;

pub use base_url::{BadBaseUrl, BaseUrl};
pub use error::{ApiError, ClientError, TlsRefusal};
pub use http::{Client, Options, Sink};
pub use provider::install_crypto_provider;
pub use requests::{UploadFile, Watch};
pub use tls::{BadIdentity, BadTrust, Identity, Trust};
pub use token::{BadToken, Token};
