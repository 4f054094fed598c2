//! The server on loopback over a real engine and fakes of every port.

mod auth;
mod bundle;
mod clients;
mod errors;
mod framing;
mod hangups;
mod harness;
mod limits;
mod log;
mod model;
mod overrides;
mod pin_rules;
mod reports;
mod rights;
mod routes;
mod safety;
mod tls;
mod uploads;
mod user_data;
mod ws;
