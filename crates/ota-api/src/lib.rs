//! Wire types of the HTTP and WebSocket API, nothing else: what is sent, with the names and formats of the user's API.
//!
//! Owns field names, words and text formats, the numeric twins of human strings, and the conversions from the types of
//! `ota-core`. Leaves status codes, routes and every decision to `ota-http`; clients read these types with `ota-client`.
//! Source: `shared/spec/ota-api.rst`, `docs/design/api-contract.md`.

pub mod advice;
pub mod audit;
pub mod auth;
pub mod envelope;
pub mod explain;
pub mod inhibitors;
pub mod jobs;
pub mod reports;
pub mod safety;
pub mod settings;
pub mod snapshots;
pub mod system;
pub mod text;
pub mod updates;
pub mod upload;
pub mod windows;
pub mod words;
pub mod ws;

pub use envelope::ErrorEnvelope;

#[cfg(test)]
mod spec_examples;
