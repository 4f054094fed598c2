//! The server on loopback over a real engine and fakes of every port.

mod auth;
mod errors;
mod framing;
mod harness;
mod model;
mod overrides;
mod rights;
mod routes;
mod tls;
mod uploads;
mod user_data;
mod ws;
