//! Starting other programs: echoed, in the workspace root, checked. The only module here that starts one or reads the environment.

use std::{
    ffi::OsStr,
    path::PathBuf,
    process::{Command, Output},
};

use anyhow::{Context, ensure};

/// A command that will run in the workspace root.
#[expect(clippy::disallowed_methods, reason = "xtask exists to start other programs; this is where it does")]
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root());
    command
}

/// The cargo that runs us. In CI nothing is compiled incrementally: nobody comes back to it.
pub(crate) fn cargo() -> Command {
    for_cargo(command(own_cargo()))
}

/// The same, where everybody else goes first.
pub(crate) fn yielding_cargo() -> Command {
    let mut nice = command("nice");
    nice.args(["-n", "19"]).arg(own_cargo());
    for_cargo(nice)
}

fn own_cargo() -> String {
    variable("CARGO").unwrap_or_else(|| "cargo".into())
}

fn for_cargo(mut cargo: Command) -> Command {
    // What it told us about ourselves is not for the next one: ring's build script asks to be run again when
    // CARGO_MANIFEST_DIR changes, and with it all that depends on ring would be compiled again.
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|n| n.starts_with("CARGO_MANIFEST_") || n.starts_with("CARGO_PKG_")) {
            cargo.env_remove(name);
        }
    }
    if variable("CI").is_some() {
        cargo.env("CARGO_INCREMENTAL", "0");
    }
    cargo
}

/// Shows the command, runs it, fails when it fails.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    println!("$ {}", shown(command));
    let status = command.status().with_context(|| format!("starting {}", shown(command)))?;
    ensure!(status.success(), "{} ended with {status}", shown(command));
    Ok(())
}

/// Runs the command quietly and gives back its standard output.
pub(crate) fn read(command: &mut Command) -> anyhow::Result<Vec<u8>> {
    let output = outcome(command)?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{} ended with {}:\n{complaint}", shown(command), output.status);
    Ok(output.stdout)
}

/// Runs the command quietly and gives back how it ended, whichever way.
pub(crate) fn outcome(command: &mut Command) -> anyhow::Result<Output> {
    command.output().with_context(|| format!("starting {}", shown(command)))
}

/// An environment variable that is set and not empty.
#[expect(clippy::disallowed_methods, reason = "CI says by the environment that it is CI")]
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Whether a program of that name is on the search path.
pub(crate) fn installed(program: &str) -> bool {
    variable("PATH").is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()))
}

/// The folder of the root Cargo.toml: of the checkout that we are called in. The one that this program was compiled in may be
/// another, where checkouts share a target directory.
pub(crate) fn root() -> PathBuf {
    let here = std::env::current_dir().unwrap_or_default();
    let checkout = here.ancestors().find(|folder| folder.join("xtask/Cargo.toml").is_file());
    checkout.unwrap_or(&here).to_path_buf()
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}
