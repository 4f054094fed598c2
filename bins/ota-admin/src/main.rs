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

use std::{ffi::OsString, process::ExitCode};

use anyhow::Context as _;
use ota_core::Timestamp;

use crate::{
    cli::{Cli, format_in},
    connect::Environment,
    exit::Failure,
    output::{Format, Output},
};

fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    let cli = match Cli::read(&words) {
        Ok(cli) => cli,
        Err(error) => return unreadable(&error, &words),
    };
    let now = Timestamp::from_millis(jiff::Timestamp::now().as_millisecond());
    let run = cmd::start(cli, Environment::of_process(), Output::to_process, now, follow::Pace::default());
    let (mut out, outcome) = match block_on(run) {
        Ok(ended) => ended,
        Err(error) => (Output::to_process(Format::default()), Err(error.into())),
    };
    end(&mut out, outcome).into()
}

/// Says what went wrong. The exit code.
fn end(out: &mut Output, outcome: Result<(), Failure>) -> u8 {
    match outcome {
        // `ota-admin jobs | head`: who reads has enough, which is no failure.
        Ok(()) | Err(Failure::Closed) => 0,
        // The command of `inhibit` has said what it had to say.
        Err(Failure::Command { code }) => code,
        // Whoever sent the signal knows.
        Err(failure @ Failure::Killed { .. }) => failure.exit().number(),
        Err(failure) => {
            // Nothing is left to say it with when standard error is gone, too.
            let _ = out.fail(&failure);
            failure.exit().number()
        }
    }
}

/// Says what is wrong with the command line: to a program as a document, like every other failure.
fn unreadable(error: &clap::Error, words: &[OsString]) -> ExitCode {
    #[expect(clippy::disallowed_methods, reason = "ota-admin owns its environment variables")]
    let variable = std::env::var("OTA_OUTPUT").ok();
    match format_in(words, variable.as_deref()) {
        Some(format @ (Format::Json | Format::Jsonl)) if error.use_stderr() => {
            let text = error.render().to_string();
            let failure = Failure::Usage(text.trim_start_matches("error: ").trim_end().into());
            end(&mut Output::to_process(format), Err(failure)).into()
        }
        _ => error.exit(),
    }
}

fn block_on<T>(work: impl Future<Output = T>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    Ok(runtime.context("cannot start the runtime")?.block_on(work))
}
