//! `cargo xtask openapi`: docs/api/openapi.json is what the daemon prints.

use std::fs;

use anyhow::{Context, ensure};

use crate::{build, process};

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
    build::device_programs()?;
    let daemon = build::folder()?.join("ota-gatewayd");
    let mut printed = process::read(process::command(daemon).arg("--print-openapi"))?;
    let document: serde_json::Value =
        serde_json::from_slice(&printed).context("ota-gatewayd --print-openapi is not JSON")?;
    if !printed.ends_with(b"\n") {
        printed.push(b'\n');
    }
    let path = process::root().join(FILE);
    // The order of members means nothing in JSON, and that of extensions differs from run to run.
    let kept = fs::read(&path).ok().and_then(|kept| serde_json::from_slice::<serde_json::Value>(&kept).ok());
    let fresh = kept.as_ref() == Some(&document);
    if args.check {
        ensure!(fresh, "{FILE} is stale: `cargo xtask pages` writes it");
    } else if !fresh {
        fs::create_dir_all(path.parent().context("no folder")?)?;
        fs::write(&path, &printed).with_context(|| format!("writing {FILE}"))?;
    }
    println!("openapi: {FILE} is up to date");
    Ok(())
}
