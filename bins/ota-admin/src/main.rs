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
mod profile;
mod terminal;
#[cfg(test)]
mod tests;
mod view;

use std::process::ExitCode;

use anyhow::Context as _;
use ota_core::Timestamp;

use crate::{
    cli::Cli,
    connect::Environment,
    output::{Format, Output},
};

fn main() -> ExitCode {
    let cli = Cli::read(std::env::args_os()).unwrap_or_else(|error| error.exit());
    let now = Timestamp::from_millis(jiff::Timestamp::now().as_millisecond());
    let run = cmd::start(cli, Environment::of_process(), Output::to_process, now, follow::Pace::default());
    let (mut out, outcome) = match block_on(run) {
        Ok(ended) => ended,
        Err(error) => (Output::to_process(Format::default()), Err(error.into())),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        // `ota-admin jobs | head`: who reads has enough, which is no failure.
        Err(failure) if failure.is_closed_pipe() => ExitCode::SUCCESS,
        // The command has said what it had to say.
        Err(exit::Failure::Command { code }) => code.into(),
        // Whoever sent the signal knows.
        Err(failure @ exit::Failure::Killed { .. }) => failure.exit().into(),
        Err(failure) => {
            // Nothing is left to say it with when standard error is gone, too.
            let _ = out.fail(&failure);
            failure.exit().into()
        }
    }
}

fn block_on<T>(work: impl Future<Output = T>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    Ok(runtime.context("cannot start the runtime")?.block_on(work))
}
