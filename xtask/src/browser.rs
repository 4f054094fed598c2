//! `cargo xtask browser`: the dashboard in Debian's Chromium on a simulated device. Owns how the suite is started; what it
//! checks stands in tests/browser.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs::{self, File},
    path::{Path, PathBuf},
    process::Child,
};

use anyhow::ensure;

use crate::{build, process, tools, workspace::Workspace};

/// What to run.
#[derive(clap::Args, Default)]
pub(crate) struct Args {
    /// Also put the pictures that the book shows there; the book's own are in docs/img.
    #[arg(long, value_name = "DIR")]
    docs: Option<PathBuf>,
}

/// Programs that the suite needs beside those of the workspace.
const TOOLS: [&str; 6] = ["chromium", "node", "npm", "fw_printenv", "openssl", "mksquashfs"];

/// Installs what is missing, builds the programs, runs the suite. Pictures are left in `target/browser`.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    tools::debian_for(&TOOLS)?;
    build::device_programs()?;
    let folder = process::root().join("tests/browser");
    tools::browser()?;
    let out = Workspace::read()?.target.join("browser");
    clear(&out)?;
    let mut node = process::command("node");
    // Only what Debian 12's Node knows, too.
    node.current_dir(&folder).args(["--test", "--test-reporter=spec", "dashboard.test.js"]);
    node.env("OTA_BIN_DIR", build::folder()?).env("OTA_BROWSER_OUT", &out);
    if let Some(docs) = &args.docs {
        node.env("OTA_BROWSER_DOCS", std::path::absolute(docs)?);
    }
    let ended = process::run(&mut node);
    println!("browser: pictures in {}", shown(&out));
    ended
}

/// The suite as a process of its own, beside something else. What it says is shown at its end.
pub(crate) struct Beside {
    suite: Child,
    log: PathBuf,
    /// The pictures for the book that it makes.
    docs: PathBuf,
}

impl Beside {
    pub(crate) fn start() -> anyhow::Result<Self> {
        let target = Workspace::read()?.target;
        let (log, docs) = (target.join("browser.log"), target.join("browser/docs"));
        if docs.exists() {
            fs::remove_dir_all(&docs)?;
        }
        let out = File::create(&log)?;
        // Not by the path of this program: cargo may have put another one there since it was started.
        let mut suite = process::cargo();
        suite.args(["xtask", "browser", "--docs"]).arg(&docs).stdout(out.try_clone()?).stderr(out);
        println!(
            "$ cargo xtask browser, beside what follows; until it has ended it talks to {}",
            shown(&log)
        );
        Ok(Self { suite: suite.spawn()?, log, docs })
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// When one of its tests has failed, or when the book has other pictures of the dashboard than it makes.
    pub(crate) fn end(mut self) -> anyhow::Result<()> {
        let ended = self.suite.wait()?;
        print!("{}", fs::read_to_string(&self.log)?);
        ensure!(ended.success(), "the suite in the browser failed, as above");
        let (made, kept) = (pictures(&self.docs)?, pictures(&process::root().join("docs/img"))?);
        ensure!(made == kept, "the suite makes {made:?} for the book; docs/img has {kept:?}");
        Ok(())
    }
}

/// The names of a folder's pictures.
fn pictures(folder: &Path) -> anyhow::Result<BTreeSet<OsString>> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|ext| ext == "png") {
            found.extend(path.file_name().map(ToOwned::to_owned));
        }
    }
    Ok(found)
}

/// No picture of an earlier run: what is there afterwards is of this one.
fn clear(out: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(out)?;
    pictures(out)?.iter().try_for_each(|name| Ok(fs::remove_file(out.join(name))?))
}

fn shown(out: &Path) -> String {
    out.strip_prefix(process::root()).unwrap_or(out).display().to_string()
}
