//! The server on loopback over a real engine and fakes of every port.

mod auth;
mod errors;
mod framing;
mod harness;
mod overrides;
mod rights;
mod routes;
mod tls;
mod uploads;
mod ws;
