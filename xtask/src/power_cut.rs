//! `cargo xtask power-cut`: a cut behind every durable operation, and one page of evidence.

use std::path::PathBuf;

use crate::{build, process, proven, tools};

/// How thorough, and where the page goes.
#[derive(clap::Args, Default)]
pub(crate) struct Args {
    /// A second cut behind every state, and more of the rest.
    #[arg(long)]
    long: bool,
    /// Write the page to this file too.
    #[arg(long)]
    report: Option<PathBuf>,
}

/// Builds the harness and runs it.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    build::programs()?;
    play(args)
}

/// The same, unless this very harness has passed: what it tries is the same in every run.
pub(crate) fn once() -> anyhow::Result<()> {
    build::programs()?;
    // The order of the PIN is shown by a test there.
    let pin = process::root().join("crates/ota-http/src/pin.rs");
    proven::once("power-cut", &[harness()?, pin], |page| {
        play(&Args { report: Some(page.to_owned()), ..Args::default() })
    })
}

fn harness() -> anyhow::Result<PathBuf> {
    Ok(build::folder()?.join("ota-power-cut"))
}

fn play(args: &Args) -> anyhow::Result<()> {
    tools::debian_for(&["strace", "losetup", "mke2fs"])?;
    let mut harness = process::command(harness()?);
    harness.args(["--revision", &revision(), "--made", &made()?]);
    if pin_order_is_found()? {
        harness.arg("--pin-order-found");
    }
    if args.long {
        harness.arg("--long");
    }
    if let Some(report) = &args.report {
        harness.arg("--report").arg(report);
    }
    process::run(&mut harness)
}

/// Whether the test says so that plays the wrong order of the PIN: its gate is a matter of `ota-http` alone.
fn pin_order_is_found() -> anyhow::Result<bool> {
    let test = "pin::tests::a_power_cut_after_each_answer_gives_no_more_than_five_guesses_and_counting_too_late_would";
    let told = process::read(process::cargo().args(["test", "--workspace", "--lib", "--", "--exact", test]))?;
    Ok(String::from_utf8_lossy(&told).contains(&format!("test {test} ... ok")))
}

/// Day and machine.
fn made() -> anyhow::Result<String> {
    let read = |program: &str, args: &[&str]| -> anyhow::Result<String> {
        let told = process::read(process::command(program).args(args))?;
        Ok(String::from_utf8_lossy(&told).trim().to_owned())
    };
    Ok(format!("{} on {}", read("date", &["--utc", "+%F %H:%M UTC"])?, read("uname", &["-srm"])?))
}

/// The commit, with a mark when the sources differ from it.
fn revision() -> String {
    let describe = ["describe", "--always", "--dirty=+changed", "--abbrev=12"];
    let told = process::read(process::command("git").args(describe)).unwrap_or_default();
    String::from_utf8_lossy(&told).trim().to_owned()
}
