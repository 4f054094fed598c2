//! `cargo xtask package`: the Debian package installed, started, upgraded, removed and purged, under the real systemd.
//!
//! Owns the sandbox: name spaces of its own with this machine's file system below an overlay, so that nothing of it changes, and
//! systemd as its first process, so that the units run with the hardening that they ship with. The story itself is `package.sh`.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};

use crate::{
    build, dist, process, tools,
    workspace::{Workspace, files_below},
};

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
        let suffix = suffix.to_owned();
        dist::package(&dist::Args { development: true, out: Some(out), suffix, ..dist::Args::default() })
    };
    let (old, again) = (built("old", "")?, built("again", "")?);
    ensure!(fs::read(&old)? == fs::read(&again)?, "the same sources gave another package");
    let new = built("new", "+upgrade1")?;
    another_default(&work.join("new/root"), &new)?;
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

/// Packs a package again with another default configuration, as a next release has it: nobody is asked about the site's own.
fn another_default(root: &Path, package: &Path) -> anyhow::Result<()> {
    let shipped = root.join("usr/share/ota-gateway/gateway.toml");
    let text = fs::read_to_string(&shipped).with_context(|| shipped.display().to_string())?;
    fs::write(&shipped, text + "# Another remark.\n")?;
    dist::pack(root, package, "-Znone")
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

/// The commands of every `console board` block, by page and number: `install-1`, `decisions-0001-release-crate-1`.
fn shown() -> anyhow::Result<BTreeMap<String, String>> {
    let root = process::root();
    let mut pages = vec![root.join("README.md"), root.join("CONTRIBUTING.md")];
    for folder in ["docs", "dist"] {
        pages.extend(pages_below(&root.join(folder))?);
    }
    let mut found = BTreeMap::new();
    for path in pages {
        let page = path.strip_prefix(root.join("docs")).or(path.strip_prefix(&root))?;
        let page = page.with_extension("").display().to_string().replace('/', "-");
        for (number, commands) in blocks_for_a_board(&fs::read_to_string(&path)?).into_iter().enumerate() {
            found.insert(format!("{page}-{}", number + 1), commands);
        }
    }
    Ok(found)
}

/// Every Markdown file below a folder.
fn pages_below(folder: &Path) -> anyhow::Result<impl Iterator<Item = PathBuf>> {
    Ok(files_below(folder)?.into_iter().filter(|path| path.extension().is_some_and(|ext| ext == "md")))
}

/// The commands of each block of a page that is for a board.
fn blocks_for_a_board(text: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut lines = text.lines();
    while lines.any(|line| line.trim_end() == "```console board") {
        let block = lines.by_ref().take_while(|line| !line.starts_with("```"));
        let commands = block.filter_map(|line| line.strip_prefix("$ ")).map(|line| format!("{line}\n"));
        blocks.push(commands.collect());
    }
    blocks
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
        assert!(blocks.len() >= 15, "{:?}", blocks.keys());
        for (name, commands) in &blocks {
            let run = STORY.lines().any(|line| line == format!("book {name}"));
            assert!(run, "{name} is not run:\n{commands}");
        }
    }

    #[test]
    fn blocks_for_a_board_are_found_in_every_folder_and_anywhere_on_a_page() {
        let page = "```console board\n$ one\nshown\n$ two\n```\n\n```console\n$ not here\n```\n```console board \n$ three\n```\n";
        assert_eq!(blocks_for_a_board(page), ["one\ntwo\n", "three\n"]);
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("a/b")).unwrap();
        for name in ["top.md", "a/b/deep.md", "a/no.txt"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let found: Vec<_> = pages_below(folder.path()).unwrap().collect();
        assert_eq!(found.len(), 2, "{found:?}");
    }
}
