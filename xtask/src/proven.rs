//! What passed before with the very same bytes: CI does not spend minutes on what cannot end otherwise.
//!
//! A run is known by the digest of all that takes part in it: programs, scripts, data. The page of one that passed is kept
//! in the target directory and shown in place of another run. The commands themselves always run.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;

use crate::{process, workspace::Workspace};

/// Runs `name` unless it passed with these `parts` (files) already; `run` writes its page to the path that it gets.
pub(crate) fn once(
    name: &str,
    parts: &[PathBuf],
    run: impl FnOnce(&Path) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let folder = Workspace::read()?.target.join("proven");
    fs::create_dir_all(&folder)?;
    let digest = digest(parts)?;
    let page = folder.join(format!("{name}-{digest}"));
    if let Ok(text) = fs::read_to_string(&page) {
        println!(
            "{text}\n{name}: passed as above with these very programs and scripts (digest {digest}), so it is not run \
             again; `cargo xtask {name}` does it all the same"
        );
        return Ok(());
    }
    let fresh = folder.join(format!("{name}.new"));
    run(&fresh)?;
    fs::rename(&fresh, &page).with_context(|| format!("keeping {}", page.display()))
}

/// One digest of all files and their names.
fn digest(parts: &[PathBuf]) -> anyhow::Result<String> {
    let both = "sha256sum -- \"$@\" | sha256sum";
    let told = process::read(process::command("sh").args(["-ec", both, "sh"]).args(parts))?;
    Ok(String::from_utf8_lossy(&told).chars().take(16).collect())
}
