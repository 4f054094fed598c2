//! `cargo xtask package`: the Debian package installed, started, upgraded, removed and purged, under the real systemd.
//!
//! Owns the sandbox: name spaces of its own with this machine's file system below an overlay, so that nothing of it changes, and
//! systemd as its first process, so that the units run with the hardening that they ship with. The story itself is `package.sh`.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context, ensure};

use crate::{build, dist, process, tools, workspace::Workspace};

/// What happens inside. `$1` is a folder with the two packages, `$2` and `$3`, and `$4`, a simulated device.
const STORY: &str = include_str!("package.sh");

/// Programs of Debian that the story needs.
const TOOLS: [&str; 9] =
    ["mksquashfs", "objdump", "fw_printenv", "openssl", "mke2fs", "losetup", "systemctl", "pgrep", "age"];

/// Runs the life of a package.
pub(crate) fn run() -> anyhow::Result<()> {
    tools::debian_for(&TOOLS)?;
    build::device_programs()?;
    suite()
}

/// The story alone, with programs that are built.
pub(crate) fn suite() -> anyhow::Result<()> {
    let target = Workspace::read()?.target;
    let work = target.join("package");
    if work.exists() {
        fs::remove_dir_all(&work)?;
    }
    fs::create_dir_all(&work)?;
    let built = |name: &str, suffix: &str| {
        let out = work.join(name);
        dist::package(&dist::Args { development: true, out: Some(out), suffix: suffix.to_owned() })
    };
    let (old, again) = (built("old", "")?, built("again", "")?);
    ensure!(fs::read(&old)? == fs::read(&again)?, "the same sources gave another package");
    let new = built("new", "+upgrade1")?;
    for rest in ["old/root", "again", "new/root"] {
        fs::remove_dir_all(work.join(rest))?;
    }
    device(&target, &work.join("device"))?;
    book(&work.join("book"))?;
    let mut story = process::command("unshare");
    story.args(["--mount", "--propagation", "private", "sh", "-eu", "-c", STORY, "package"]);
    process::run(story.arg(&work).arg(&old).arg(&new).arg(work.join("device")))
        .context("the life of the package (it needs root, loop devices and a cgroup2 file system)")?;
    println!("package: installed, started, upgraded, removed and purged; built twice with the same bytes");
    Ok(())
}

/// Writes what the book shows for a board, a script for each block.
fn book(dir: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(dir)?;
    for (name, commands) in shown()? {
        // The slots here are as small as they can be.
        fs::write(dir.join(format!("{name}.sh")), commands.replace("--size 452000000", "--size 1048576"))?;
    }
    Ok(())
}

/// The commands of every `console board` block, by page and number: `install-1`.
fn shown() -> anyhow::Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(process::root().join("docs"))? {
        let path = entry?.path();
        if path.extension().is_none_or(|ext| ext != "md") {
            continue;
        }
        let page = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let text = fs::read_to_string(&path)?;
        for (number, block) in text.split("\n```console board\n").skip(1).enumerate() {
            let lines = block.lines().take_while(|line| !line.starts_with("```"));
            let commands = lines.filter_map(|line| line.strip_prefix("$ ")).map(|line| format!("{line}\n"));
            found.insert(format!("{page}-{}", number + 1), commands.collect());
        }
    }
    Ok(found)
}

/// Slots, keys and environment for the daemon to start with.
fn device(target: &Path, dir: &Path) -> anyhow::Result<()> {
    let simdevice = target.join("debug/ota-simdevice");
    process::read(process::command(simdevice).args(["make", "--size", "1", "--dir"]).arg(dir))
        .context("making a simulated device")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_block_of_the_book_for_a_board_is_run_by_the_story() {
        let blocks = shown().unwrap();
        assert!(blocks.len() >= 11, "{:?}", blocks.keys());
        for (name, commands) in &blocks {
            let run = STORY.lines().any(|line| line == format!("book {name}"));
            assert!(run, "{name} is not run:\n{commands}");
        }
    }
}
