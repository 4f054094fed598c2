//! The proof that the package is reproducible: the same commit, built again where as much as possible is different.
//!
//! Different are the folders of the sources, of cargo, of what it builds and of the user, the user's name, the umask, the time zone and
//! the language; of the environment only [`HANDED_ON`] stays. The machine and the tool chain are the same.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};

use super::{cargo_home, text};
use crate::{process, workspace::Workspace};

/// Variables that say where programs are, and the time of an archive of the sources.
const HANDED_ON: [&str; 4] = ["PATH", "RUSTUP_TOOLCHAIN", "RUSTUP_AUTO_INSTALL", "SOURCE_DATE_EPOCH"];

/// What of cargo's folder is data, not a place: sources of others, and where they come from.
const OF_CARGO: [&str; 4] = ["registry", "git", "config.toml", "config"];

/// Builds the last commit a second time and compares.
pub(super) fn prove(first: &Path, suffix: &str) -> anyhow::Result<()> {
    let place = Workspace::read()?.target.join("dist-twin");
    if place.exists() {
        fs::remove_dir_all(&place)?;
    }
    let folders = ["cargo", "home"].map(|name| place.join(name));
    for folder in &folders {
        fs::create_dir_all(folder)?;
    }
    let [cargo, home] = folders;
    let sources = copy_of_the_sources(&place)?;
    let own = cargo_home().context("where cargo's folder is (CARGO_HOME, HOME)")?;
    for name in OF_CARGO.into_iter().filter(|name| own.join(name).exists()) {
        symlink(own.join(name), cargo.join(name))?;
    }
    let out = place.join("out");
    let mut build = process::command("sh");
    build.args(["-c", "umask 077 && exec cargo xtask dist --out \"$1\" --suffix=\"$2\"", "twin"]);
    build.arg(&out).arg(suffix).current_dir(&sources).env_clear();
    for name in HANDED_ON {
        build.envs(process::variable(name).map(|value| (name, value)));
    }
    build.envs(rustup_home().map(|folder| ("RUSTUP_HOME", folder)));
    build.env("CARGO_HOME", &cargo).env("CARGO_TARGET_DIR", place.join("target")).env("HOME", &home);
    // Everything from outside is here: the first build had it.
    build.env("CARGO_NET_OFFLINE", "true").env("CARGO_CACHE_AUTO_CLEAN_FREQUENCY", "never");
    build.env("USER", "twin").env("LOGNAME", "twin");
    build.env("TZ", "Pacific/Kiritimati").env("LANG", "tr_TR.UTF-8").env("LC_ALL", "tr_TR.UTF-8");
    process::run(&mut build).context("the second build")?;
    let second = out.join(first.file_name().context("a package without a name")?);
    println!("{}", text(process::command("sha256sum").arg("--").arg(first).arg(&second))?);
    let same = fs::read(first)? == fs::read(&second).with_context(|| second.display().to_string())?;
    ensure!(same, "two builds of the same sources differ; both are kept, for diffoscope to compare");
    fs::remove_dir_all(&place)?;
    println!("dist: built twice, in different folders and environments, with the same bytes");
    Ok(())
}

/// The last commit; of an archive of the sources, without git, the files.
fn copy_of_the_sources(place: &Path) -> anyhow::Result<PathBuf> {
    let (from, to) = (process::root(), place.join("sources"));
    let git = |words: &[&str]| text(process::command("git").args(words));
    if git(&["rev-parse", "HEAD"]).is_ok() {
        let changed = git(&["status", "--porcelain"])?;
        ensure!(
            changed.is_empty(),
            "the second build is of the last commit, and this is not in it:\n{changed}"
        );
        process::read(process::command("git").args(["clone", "--quiet"]).arg(&from).arg(&to))?;
        return Ok(to);
    }
    fs::create_dir_all(&to)?;
    // What was built, and with it this very copy, is no source.
    let copy = "tar --exclude=./target --exclude=\"$3\" -C \"$1\" -cf - . | tar -C \"$2\" -xf -";
    let built = place.parent().context("a folder without one above")?;
    let below =
        built.strip_prefix(&from).map_or_else(|_| built.to_path_buf(), |path| Path::new(".").join(path));
    process::read(process::command("sh").args(["-ec", copy, "copy"]).arg(&from).arg(&to).arg(below))?;
    Ok(to)
}

/// Where rustup, if it is that, has the tool chains: by default in the home folder, which is another one for the second build.
fn rustup_home() -> Option<PathBuf> {
    let usual = || process::variable("HOME").map(|home| Path::new(&home).join(".rustup"));
    let folder = process::variable("RUSTUP_HOME").map(PathBuf::from).or_else(usual);
    folder.filter(|folder| folder.is_dir())
}
