//! The client against a small stand-in of a gateway.

mod fake;
mod requests;
mod tls;
mod ws;
