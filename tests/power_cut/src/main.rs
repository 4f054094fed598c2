//! `ota-power-cut`: proves what a power cut leaves behind. `cargo xtask power-cut` builds and runs it.
//!
//! The real `ota-boot`, `ota-engine` and the rules of the boot script run over a disk in memory that loses what was not
//! synced. Every durable operation is followed by a cut, with all that a cut can leave; then the device is turned on.
//! The rules are R1–R7 of `docs/design/threat-model.md`. What is measured and what not: `docs/power-safety.md`.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that prints one page of evidence")]

mod board;
mod disk;
mod errors;
mod evidence;
mod fault;
mod files;
mod ledger;
mod medium;
mod random;
mod restart;
mod rig;
mod saved_env;
mod scenario;
mod seed;
mod suite;
mod tally;
mod trace;
mod verdict;
mod world;
mod wrong;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::{Parser, Subcommand};
use evidence::{Evidence, Mistake};
use scenario::{Kind, Scenario};
use suite::Effort;
use trace::LeftOut;
use wrong::Wrong;

/// Proves what a power cut leaves behind, and prints one page of evidence.
#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// More second cuts.
    #[arg(long)]
    long: bool,
    /// Every so many situations only, for a quick look; promised counts are then not reached.
    #[arg(long, default_value_t = 1, hide = true)]
    every: usize,
    /// Revision of the sources, for the page.
    #[arg(long, default_value = "unknown")]
    revision: String,
    /// Write the page to this file too.
    #[arg(long)]
    report: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// What the traced child does; started by the program itself.
    #[command(hide = true)]
    WriteRecords {
        /// Folder of the store.
        folder: PathBuf,
    },
}

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    if let Some(Command::WriteRecords { folder }) = &args.command {
        trace::child(folder)?;
        return Ok(ExitCode::SUCCESS);
    }
    let evidence = gather(if args.long { Effort::LONG } else { Effort::CI }, args.every)?;
    let page = evidence.page(&args.revision);
    print!("{page}");
    if let Some(report) = args.report {
        std::fs::write(report, &page)?;
    }
    Ok(if evidence.failures().is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn gather(effort: Effort, every: usize) -> anyhow::Result<Evidence> {
    let grid = Scenario::grid(&[Kind::Update, Kind::Rollback, Kind::Cancel]);
    let started = now();
    let some: Vec<Scenario> = grid.iter().copied().step_by(every.max(1)).collect();
    let tally = suite::run(&some, None, effort)?;
    let cuts = now();
    eprintln!(
        "power-cut: {} states, {} more cuts, {} bad",
        tally.total().states,
        tally.total().more_cuts,
        tally.total().bad
    );
    tally.total().told.iter().for_each(|told| eprintln!("power-cut: BAD: {told}"));
    let (calls, state) = trace::record()?;
    let traced = trace::play(&calls, &state, None)?;
    let trace = now();
    eprintln!("power-cut: store: {} states, {} bad", traced.states, traced.bad.len());
    traced.bad.iter().for_each(|told| eprintln!("power-cut: BAD: {told}"));
    let errors = errors::run()?;
    errors.bad.iter().take(12).for_each(|told| eprintln!("power-cut: BAD: {told}"));
    let failing = now();
    eprintln!("power-cut: errors: {} runs, {} bad", errors.runs, errors.bad.len());
    let mut mistakes = Vec::new();
    for wrong in Wrong::ALL {
        let found = suite::run(&grid, Some(wrong), Effort::SPOT)?.total().told.into_iter().next();
        mistakes.push(Mistake { name: wrong.name(), found: found.map(short) });
    }
    for left_out in LeftOut::ALL {
        let found = trace::play(&calls, &state, Some(left_out))?.bad.into_iter().next();
        mistakes.push(Mistake { name: left_out.name(), found });
    }
    let name = "override kept over a restart";
    mistakes.push(Mistake { name, found: restart::override_after_a_cut(true)? });
    let end = now();
    let seconds = [
        ("cuts", (cuts - started).as_secs()),
        ("store", (trace - cuts).as_secs()),
        ("errors", (failing - trace).as_secs()),
        ("mistakes", (end - failing).as_secs()),
    ];
    let override_kept = restart::override_after_a_cut(false)?;
    Ok(Evidence { tally, traced, errors, override_kept, mistakes, seconds })
}

/// The complaint without the situation that it was found in.
fn short(told: String) -> String {
    match told.split_once("} ") {
        Some((_, what)) => what.to_owned(),
        None => told,
    }
}

/// A stopwatch for people.
#[expect(clippy::disallowed_methods, reason = "a stopwatch for people; nothing is decided by it")]
fn now() -> Duration {
    thread_local!(static START: std::time::Instant = std::time::Instant::now());
    START.with(std::time::Instant::elapsed)
}
