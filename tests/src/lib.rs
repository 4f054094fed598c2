//! The simulated device: slots, boot environment, boot loader stand-in, update server. For the demo and the flow tests.
//!
//! Owns what a board, its boot loader and its update server do around the real daemon, and nothing of what the daemon
//! does. Its interface to other programs (the files below its folder) is described in docs/simulated-device.md.

pub mod config;
pub mod device;
pub mod environment;
pub mod images;
pub mod layout;
pub mod machine;
pub mod make;
pub mod process;
pub mod release;
pub mod server;

pub use layout::Layout;
