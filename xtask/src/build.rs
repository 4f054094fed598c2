//! Building the programs of the workspace, once for the demo and the tests.

use std::path::PathBuf;

use crate::{process, workspace::Workspace};

/// Builds every program. The whole workspace at once, as `cargo test` does: for a choice of packages cargo asks for other
/// features of everything outside, and compiles it anew.
pub(crate) fn programs() -> anyhow::Result<()> {
    process::run(process::cargo().args(["build", "--workspace", "--bins"]))
}

/// Where they are.
pub(crate) fn folder() -> anyhow::Result<PathBuf> {
    Ok(Workspace::read()?.target.join("debug"))
}
