//! `cargo xtask tidy`: the house rules that no compiler knows. Each rule is a function from text to complaints.

mod manifests;
mod sources;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::ensure;

use crate::{
    process,
    workspace::{Workspace, files_below},
};

/// A file and what it says.
pub(crate) struct Source {
    /// Path below the workspace root.
    path: PathBuf,
    /// All of it.
    text: String,
}

/// Checks everything and names all that is wrong, not only the first.
pub(crate) fn run() -> anyhow::Result<()> {
    let root = process::root();
    let workspace = Workspace::read()?;
    let mut complaints = manifests::check(&root, &workspace)?;
    let mut files = 0;
    for dir in workspace.members.values().map(|member| &member.dir) {
        for source in rust_files(dir)? {
            complaints.extend(sources::check(&source));
            files += 1;
        }
    }
    if !root.join("CHANGELOG.md").is_file() {
        complaints.push("CHANGELOG.md is missing".into());
    }
    for complaint in &complaints {
        eprintln!("tidy: {complaint}");
    }
    ensure!(complaints.is_empty(), "{} complaints", complaints.len());
    println!("tidy: {files} files in {} packages, nothing to complain about", workspace.members.len());
    Ok(())
}

/// Every `.rs` file below a package.
fn rust_files(dir: &Path) -> anyhow::Result<Vec<Source>> {
    let files = files_below(dir)?.into_iter().filter(|path| path.extension().is_some_and(|e| e == "rs"));
    files.map(|path| Ok(Source { text: fs::read_to_string(&path)?, path: below_root(&path) })).collect()
}

fn below_root(path: &Path) -> PathBuf {
    path.strip_prefix(process::root()).unwrap_or(path).to_path_buf()
}
