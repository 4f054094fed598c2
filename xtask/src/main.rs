//! Project commands, `cargo xtask COMMAND`: what CI runs and what a developer runs before a commit.
//!
//! Imports none of our crates, so that it builds in seconds and still runs when they do not compile.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line tool talks on its standard output"
)]

mod bench;
mod browser;
mod build;
mod ci;
mod demo;
mod deny;
mod dist;
mod layers;
mod openapi;
mod package;
mod pages;
mod power_cut;
mod probe;
mod process;
mod proven;
mod test;
mod tidy;
mod tools;
mod vm;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Project commands.
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a whole update on a simulated device.
    Demo(demo::Args),
    /// Install what the tests need, then run all of them.
    Test(test::Args),
    /// Run the dashboard in Chromium on a simulated device.
    Browser(browser::Args),
    /// All that CI runs.
    Ci,
    /// Compare the edges between our crates with docs/layers.txt.
    Layers,
    /// Write docs/api/openapi.json.
    Openapi(openapi::Args),
    /// Write the pages and files that are made from the code.
    Pages,
    /// Measure, each figure beside its floor.
    Bench(bench::Args),
    /// Drive the real U-Boot, with our boot script and our daemon, through updates and power cuts.
    Vm(vm::Args),
    /// Check the house rules that no compiler knows.
    Tidy,
    /// Build what is installed on a gateway, as a Debian package.
    Dist(dist::Args),
    /// Install, start, upgrade and remove the package in a sandbox.
    Package,
    /// Cut the power behind every durable operation, and print one page of evidence.
    PowerCut(power_cut::Args),
    /// Prove that ota-core needs no std.
    Probe,
    /// Check licences, bans and sources of everything from outside.
    Deny,
}

fn main() -> ExitCode {
    match perform(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn perform(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Demo(args) => demo::run(&args),
        Command::Test(args) => test::run(&args),
        Command::Browser(args) => browser::run(&args),
        Command::Ci => ci::run(),
        Command::Layers => layers::run(),
        Command::Openapi(args) => openapi::run(&args),
        Command::Pages => pages::run(),
        Command::Bench(args) => bench::run(&args),
        Command::Vm(args) => vm::run(&args),
        Command::Tidy => tidy::run(),
        Command::Dist(args) => dist::run(&args),
        Command::Package => package::run(),
        Command::PowerCut(args) => power_cut::run(&args),
        Command::Probe => probe::run(),
        Command::Deny => deny::run(),
    }
}
