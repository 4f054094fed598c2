//! The handlers, each file with the routes it declares: parse into a command, ask, map, answer.

pub(crate) mod audit;
pub(crate) mod auth;
pub(crate) mod events;
pub(crate) mod explain;
pub(crate) mod factory_reset;
pub(crate) mod inhibitors;
pub(crate) mod jobs;
pub(crate) mod outside;
pub(crate) mod rollback;
pub(crate) mod safety;
pub(crate) mod settings;
pub(crate) mod snapshots;
pub(crate) mod system;
pub(crate) mod updates;
pub(crate) mod upload;
