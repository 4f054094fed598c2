//! `cargo xtask power-cut`: a cut behind every durable operation, and one page of evidence.

use std::path::PathBuf;

use crate::{build, process, tools};

/// How thorough, and where the page goes.
#[derive(clap::Args, Default)]
pub(crate) struct Args {
    /// Three times as many second cuts.
    #[arg(long)]
    long: bool,
    /// Write the page to this file too.
    #[arg(long)]
    report: Option<PathBuf>,
}

/// Builds and runs the harness.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    tools::debian_for(&["strace"])?;
    build::programs()?;
    let mut harness = process::command(build::folder()?.join("ota-power-cut"));
    harness.arg("--revision").arg(revision());
    if args.long {
        harness.arg("--long");
    }
    if let Some(report) = &args.report {
        harness.arg("--report").arg(report);
    }
    process::run(&mut harness)
}

/// The commit, with a mark when the sources differ from it.
fn revision() -> String {
    let describe = ["describe", "--always", "--dirty=+changed", "--abbrev=12"];
    let told = process::read(process::command("git").args(describe)).unwrap_or_default();
    String::from_utf8_lossy(&told).trim().to_owned()
}
