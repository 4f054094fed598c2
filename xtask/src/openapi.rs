//! `cargo xtask openapi`: docs/api/openapi.json is what the daemon prints.

use std::fs;

use anyhow::{Context, ensure};

use crate::process;

const FILE: &str = "docs/api/openapi.json";

/// Write or compare.
#[derive(clap::Args, Default)]
pub(crate) struct Args {
    /// Only compare; fail when the file is stale.
    #[arg(long)]
    pub(crate) check: bool,
}

/// Writes the file, or compares it.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let mut printed = process::read(process::cargo().args([
        "run",
        "--quiet",
        "--package",
        "ota-gatewayd",
        "--",
        "--print-openapi",
    ]))?;
    serde_json::from_slice::<serde_json::Value>(&printed)
        .context("ota-gatewayd --print-openapi is not JSON")?;
    if !printed.ends_with(b"\n") {
        printed.push(b'\n');
    }
    let path = process::root().join(FILE);
    if args.check {
        let kept = fs::read(&path).with_context(|| format!("reading {FILE}"))?;
        ensure!(kept == printed, "{FILE} is stale: run `cargo xtask openapi` and commit it");
    } else {
        fs::create_dir_all(path.parent().context("no folder")?)?;
        fs::write(&path, &printed).with_context(|| format!("writing {FILE}"))?;
    }
    println!("openapi: {FILE} is up to date");
    Ok(())
}
