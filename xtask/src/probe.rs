//! `cargo xtask probe`: the proof that ota-core needs no std.
//!
//! Builds the program in xtask/probe, which has its own allocator and panic handler, and runs it. Then builds it again with
//! std brought back by a dependency: that must fail to link, or the first half proved nothing.

use std::{fs, process::Command};

use anyhow::{Context, bail, ensure};

use crate::{process, workspace::Workspace};

/// Proves it both ways.
pub(crate) fn run() -> anyhow::Result<()> {
    let root = process::root();
    let target = Workspace::read()?.target.join("probe");
    // The versions that are proved are the ones that are shipped.
    fs::copy(root.join("Cargo.lock"), root.join("xtask/probe/Cargo.lock")).context("copying Cargo.lock")?;
    let build = || {
        let mut build = process::cargo();
        build.args([
            "build",
            "--quiet",
            "--offline",
            "--manifest-path",
            "xtask/probe/Cargo.toml",
            "--target-dir",
        ]);
        build.arg(&target);
        build
    };
    process::run(&mut build())?;
    process::run(&mut process::command(target.join("debug/no-std-probe")))?;
    expect_std_is_refused(build().args(["--features", "std-comes-back"]))?;
    println!("probe: ota-core links core and alloc only");
    Ok(())
}

fn expect_std_is_refused(build: &mut Command) -> anyhow::Result<()> {
    let output = process::outcome(build)?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        bail!("the probe also builds when std comes back: it proves nothing");
    }
    ensure!(complaint.contains("panic_impl"), "the probe failed for another reason than std:\n{complaint}");
    Ok(())
}
