//! The HTTP and WebSocket server of the gateway, and the only crate that knows status codes.
//!
//! Owns the accept loop with its limits, TLS, authentication, roles, sessions, the PIN, the error envelope, the routes
//! and the document made from them, and the dashboard's files. Parses requests into commands of `ota-engine` and shows
//! its views with the types of `ota-api`; decides nothing about updates.

mod accept;
mod address;
mod app;
mod assets;
mod audit;
mod auth;
mod bare;
mod bundle;
mod client_cert;
mod compliance;
mod config;
mod conn;
mod csv;
mod enter;
mod extract;
mod guard;
mod handlers;
mod json;
mod metrics;
mod pin;
mod router;
mod server;
mod sessions;
mod show;
mod status;
mod tls;
mod upload;
mod watched;
mod ws;

pub use app::AppState;
pub use auth::{NewToken, new_token};
pub use bundle::{Diagnostics, NoDiagnostics, ProcessFigures};
pub use client_cert::{ClientCert, ClientCerts, ClientSubject};
pub use config::{HttpConfig, Limits, PinOperation, PinRules, SessionLimits};
pub use pin::{BadPin, check_new_pin, hash_pin, set_pin_locally, unlock_pin_locally};
pub use router::openapi;
pub use server::{Server, ServerError, TlsReloader};
pub use tls::{ClientCa, TlsError, TlsMaterial, self_signed};

pub use ota_api::auth::Secret;

/// The four prefixes of the API, canonical first. Source: `api-contract.md`, "Base paths".
pub const PREFIXES: [&str; 4] = ["/api/v1/ota", "/v1/ota", "/v1/cloud-integration", "/cloud-integration"];

#[cfg(test)]
mod tests;
