//! The over-the-air update daemon of the gateway: reads the configuration, wires the adapters to the engine, serves.

mod access;
mod bandwidth;
mod cli;
mod clock;
mod config;
mod diagnostics;
mod floor;
mod health;
mod init;
mod keys;
mod logs;
mod notify;
mod pin;
mod probe;
mod provision;
mod reboot;
mod record;
mod retention;
mod sandbox;
mod serve;
mod tls;
mod tokens;
mod user_data;
mod wire;

use clap::Parser as _;

fn main() -> std::process::ExitCode {
    let args = cli::Args::parse();
    match cli::run(args) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            // Before the log is up there is only standard error; systemd keeps it.
            cli::complain(&error);
            std::process::ExitCode::FAILURE
        }
    }
}
