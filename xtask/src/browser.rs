//! `cargo xtask browser`: the dashboard in Debian's Chromium on a simulated device. Owns how the suite is started; what it
//! checks stands in tests/browser.

use std::path::Path;

use crate::{build, process, tools, workspace::Workspace};

/// What to run.
#[derive(clap::Args, Default)]
pub(crate) struct Args {
    /// Also copy the pictures that the documentation shows to docs/img.
    #[arg(long)]
    docs: bool,
}

/// Programs that the suite needs beside those of the workspace.
const TOOLS: [&str; 6] = ["chromium", "node", "npm", "fw_printenv", "openssl", "mksquashfs"];

/// Installs what is missing, builds the programs, runs the suite. Pictures are left in `target/browser`.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    tools::debian_for(&TOOLS)?;
    build::device_programs()?;
    suite(args)
}

/// The suite alone, with programs that are built.
pub(crate) fn suite(args: &Args) -> anyhow::Result<()> {
    let folder = process::root().join("tests/browser");
    tools::browser()?;
    let out = Workspace::read()?.target.join("browser");
    clear(&out)?;
    let mut node = process::command("node");
    // The limit counts for the file with all its tests, too: a busy machine takes minutes for it. Each wait in them has its own.
    node.current_dir(&folder).args([
        "--test",
        "--test-reporter=spec",
        "--test-timeout=1200000",
        "dashboard.test.js",
    ]);
    node.env("OTA_BIN_DIR", build::folder()?).env("OTA_BROWSER_OUT", &out);
    if args.docs {
        node.env("OTA_BROWSER_DOCS", "1");
    }
    let ended = process::run(&mut node);
    println!("browser: pictures in {}", shown(&out));
    ended
}

/// No picture of an earlier run: what is there afterwards is of this one.
fn clear(out: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(out)?;
    for entry in std::fs::read_dir(out)? {
        let path = entry?.path();
        if path.extension().is_some_and(|ext| ext == "png") {
            std::fs::remove_file(path)?;
        }
    }
    Ok(())
}

fn shown(out: &Path) -> String {
    out.strip_prefix(process::root()).unwrap_or(out).display().to_string()
}
