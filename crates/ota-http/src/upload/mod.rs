//! Uploads as they come over HTTP: a form whose file goes to the store as it arrives, in constant memory.
//!
//! Owns the form, its limits of size and time, and that nothing is left of an upload that did not end well. Where the
//! bytes go is the store's, what they are worth the engine's.

mod form;
mod pace;
mod sink;
mod stream;

pub(crate) use form::{Received, receive, refuse_in_use};
