//! `ota-power-cut`: proves what a power cut leaves behind. `cargo xtask power-cut` builds and runs it.
//!
//! The real `ota-boot`, `ota-engine` and the rules of the boot script run over a disk in memory that loses what was not
//! synced. Every durable operation is followed by a cut, with all that a cut can leave; then the device is turned on.
//! The rules are R1–R7 of `docs/design/threat-model.md`. What is measured and what not: `docs/power-safety.md`.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that prints one page of evidence")]

mod board;
mod calls;
mod disk;
mod errors;
mod evidence;
mod ext4;
mod failing;
mod fault;
mod files;
mod ledger;
mod medium;
mod reset;
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
use ota_core::Slot;
use reset::Recorded;
use scenario::{Kind, Scenario};
use suite::Effort;
use trace::{LeftOut, Trace};
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
    /// One part only, for a quick look: n, cuts, store, reset, errors, failing, mistakes.
    #[arg(long, hide = true)]
    only: Option<String>,
    /// Names every complaint.
    #[arg(long, hide = true)]
    all: bool,
    /// The test of `ota-http` in which a PIN is counted after it was compared has passed: guesses are then without end.
    #[arg(long, hide = true)]
    pin_order_found: bool,
    /// Revision of the sources, for the page.
    #[arg(long, default_value = "unknown")]
    revision: String,
    /// When and on what machine, for the page.
    #[arg(long, default_value = "unknown")]
    made: String,
    /// Write the page to this file too.
    #[arg(long)]
    report: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// What the traced child does; started by the program itself, like those below.
    #[command(hide = true)]
    WriteRecords {
        /// Folder of the store.
        folder: PathBuf,
    },
    /// The same without an end.
    #[command(hide = true)]
    WriteForEver {
        /// Folder of the store.
        folder: PathBuf,
    },
    /// Asks for a factory reset.
    #[command(hide = true)]
    AskForReset {
        /// The gateway's files.
        root: PathBuf,
        /// The running slot.
        slot: Slot,
    },
    /// Boots a gateway that may have been asked for one.
    #[command(hide = true)]
    TurnOn {
        /// The gateway's files.
        root: PathBuf,
        /// The running slot.
        slot: Slot,
    },
}

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    if let Some(command) = &args.command {
        match command {
            Command::WriteRecords { folder } => trace::child(folder)?,
            Command::WriteForEver { folder } => ext4::child(folder)?,
            Command::AskForReset { root, slot } => reset::child(root, *slot, true)?,
            Command::TurnOn { root, slot } => reset::child(root, *slot, false)?,
        }
        return Ok(ExitCode::SUCCESS);
    }
    files::remove_leftovers(ext4::give_back);
    let evidence = gather(&args)?;
    let page = evidence.page(&args.revision, &args.made);
    print!("{page}");
    if args.all {
        evidence.complaints().for_each(|complaint| eprintln!("power-cut: BAD: {complaint}"));
    }
    if let Some(report) = args.report {
        std::fs::write(report, &page)?;
    }
    Ok(if evidence.failures().is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs every part, or the one that `args` names.
fn gather(args: &Args) -> anyhow::Result<Evidence> {
    let effort = if args.long { Effort::LONG } else { Effort::CI };
    let wanted = |part: &str| args.only.as_ref().is_none_or(|only| only == part);
    let mut evidence = Evidence { call_outcomes: effort.call_outcomes, ..Evidence::default() };
    let grid = Scenario::grid(&Kind::ALL);
    if wanted("cuts") {
        let some: Vec<Scenario> = grid.iter().copied().step_by(args.every.max(1)).collect();
        evidence.tally = timed(&mut evidence.seconds, "cuts", || suite::run(&some, None, effort))?;
    }
    if args.only.as_deref() == Some("n") {
        evidence.tally = suite::count(&grid)?;
    }
    let store = trace::record_store()?;
    let resets = Slot::ALL.into_iter().map(reset::record_reset).collect::<anyhow::Result<Vec<_>>>()?;
    let tracing = trace::Effort { left_out: None, outcomes: effort.call_outcomes };
    if wanted("store") {
        evidence.store = timed(&mut evidence.seconds, "store", || store.play(tracing, &trace::judge_store))?;
        evidence.real = timed(&mut evidence.seconds, "ext4", || ext4::run(effort.ext4_cuts))?;
    }
    if wanted("reset") {
        evidence.resets = timed(&mut evidence.seconds, "reset", || {
            let resets = resets.iter().zip(effort.resets).map(|(reset, (outcomes, again))| {
                Ok((reset.slot, reset.play(trace::Effort { outcomes, ..tracing }, again)?))
            });
            resets.collect()
        })?;
    }
    if wanted("errors") {
        evidence.errors = timed(&mut evidence.seconds, "errors", errors::run)?;
    }
    if wanted("failing") {
        evidence.failing = timed(&mut evidence.seconds, "failing calls", || failing::run(&store, &resets))?;
    }
    if wanted("mistakes") {
        evidence.override_kept = restart::override_after_a_cut(false)?;
        evidence.mistakes = timed(&mut evidence.seconds, "mistakes", || mistakes(&grid, &store, &resets))?;
        let found =
            args.pin_order_found.then(|| "A2: a cut after each answer gives guesses without end".into());
        evidence.mistakes.push(Mistake { name: "PIN counted after the comparison", found });
    }
    Ok(evidence)
}

/// Every mistake, and how it was found.
fn mistakes(grid: &[Scenario], store: &Trace, resets: &[Recorded]) -> anyhow::Result<Vec<Mistake>> {
    let mut mistakes = Vec::new();
    for wrong in Wrong::ALL {
        let told = suite::run(grid, Some(wrong), Effort::SPOT)?.total().told;
        let found = told.into_iter().find(|told| wrong.shown_by().is_none_or(|rule| told.contains(rule)));
        mistakes.push(Mistake { name: wrong.name(), found: found.map(short) });
    }
    for left_out in LeftOut::ALL {
        let effort = trace::Effort { left_out: Some(left_out), outcomes: Effort::SPOT.call_outcomes };
        let mut bad = store.play(effort, &trace::judge_store)?.bad;
        for reset in resets.iter().filter(|_| left_out != LeftOut::Commit) {
            if bad.is_empty() {
                bad = reset.play(effort, None)?.first.bad;
            }
        }
        mistakes.push(Mistake { name: left_out.name(), found: bad.into_iter().next() });
    }
    let name = "override kept over a restart";
    mistakes.push(Mistake { name, found: restart::override_after_a_cut(true)? });
    Ok(mistakes)
}

fn timed<R>(
    seconds: &mut Vec<(&'static str, u64)>,
    what: &'static str,
    work: impl FnOnce() -> anyhow::Result<R>,
) -> anyhow::Result<R> {
    let started = now();
    let done = work()?;
    let took = (now() - started).as_secs();
    eprintln!("power-cut: {what}: {took} s");
    seconds.push((what, took));
    Ok(done)
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
