//! Flow tests: the real daemon on a simulated device, driven through its API as `ota-admin` drives it.
//!
//! They need the daemon's program: `cargo xtask test` builds it first and says where it is in `OTA_BIN_DIR`.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

mod api;
mod book;
mod canaries;
mod codes;
mod configuration;
mod cuts;
mod daemon;
mod document;
mod examples;
mod exchange;
mod forms;
mod matrix;
mod memory;
mod packed;
mod partition;
mod programs;
mod racing;
mod reference;
mod refusals;
mod reset;
mod safety;
mod safety_people;
mod safety_plant;
mod safety_reaction;
mod safety_timings;
mod scripts;
mod signers;
mod snapshots;
mod space;
mod spec;
mod stack;
mod stalls;
mod terminal;
mod trials;
mod unwritable;
mod update;
mod uploads;
mod watching;
mod world;
