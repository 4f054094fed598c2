//! Command line for operators and release engineers: `ota-admin`.
//!
//! Owns what people type and see. Talks to a gateway through `ota-client` only, makes releases through `ota-release` only.

mod ask;
mod cli;
mod cmd;
mod connect;
mod exit;
mod follow;
mod keep;
mod output;
#[cfg(test)]
mod tests;
mod view;

use std::process::ExitCode;

use clap::Parser as _;
use ota_core::Timestamp;

use crate::{cli::Cli, cmd::Context, connect::Environment, output::Output};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut context = Context {
        connection: cli.connection,
        environment: Environment::of_process(),
        out: Output::to_process(cli.format),
        now: Timestamp::from_millis(jiff::Timestamp::now().as_millisecond()),
        pace: follow::Pace::default(),
    };
    match block_on(cmd::run(cli.command, &mut context)) {
        Ok(()) => ExitCode::SUCCESS,
        // `ota-admin jobs | head`: who reads has enough, which is no failure.
        Err(failure) if failure.is_closed_pipe() => ExitCode::SUCCESS,
        // The command has said what it had to say.
        Err(exit::Failure::Command { code }) => code.into(),
        Err(failure) => {
            // Nothing is left to say it with when standard error is gone, too.
            let _ = context.out.fail(&failure);
            failure.exit().into()
        }
    }
}

fn block_on(work: impl Future<Output = Result<(), exit::Failure>>) -> Result<(), exit::Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|e| anyhow::Error::new(e).context("cannot start the runtime"))?.block_on(work)
}
