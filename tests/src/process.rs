//! Starting other programs: Debian's tools, and the daemon so that it cannot outlive us.

use std::{
    ffi::OsStr,
    fs::File,
    io::ErrorKind,
    path::Path,
    process::{Command, Output, Stdio},
};

use anyhow::{Context as _, bail, ensure};
use tokio::process::Child;

/// Which Debian package brings a tool that is missing.
const PACKAGES: [(&str, &str); 11] = [
    ("mksquashfs", "squashfs-tools"),
    ("unsquashfs", "squashfs-tools"),
    ("fw_printenv", "libubootenv-tool"),
    ("openssl", "openssl"),
    ("setpriv", "util-linux"),
    ("losetup", "mount"),
    ("mount", "mount"),
    ("mkfs.ext4", "e2fsprogs"),
    ("fsck.ext4", "e2fsprogs"),
    ("cp", "coreutils"),
    ("grep", "grep"),
];

/// Runs a tool to its end, whichever way it ends.
///
/// # Errors
/// When it cannot be started; names the package of a tool that is not installed.
#[expect(
    clippy::disallowed_methods,
    reason = "the owner of the tools that the simulated device is made with"
)]
pub fn outcome<S: AsRef<OsStr>>(program: &str, args: impl IntoIterator<Item = S>) -> anyhow::Result<Output> {
    match Command::new(program).args(args).stdin(Stdio::null()).output() {
        Ok(output) => Ok(output),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let package = PACKAGES.iter().find(|(name, _)| *name == program).map_or(program, |(_, p)| p);
            bail!("{program} is missing: apt-get install {package}")
        }
        Err(error) => Err(error).with_context(|| format!("starting {program}")),
    }
}

/// Runs a tool and gives back its standard output.
///
/// # Errors
/// As [`outcome`], and with what it said when it fails.
pub fn read<S: AsRef<OsStr>>(program: &str, args: impl IntoIterator<Item = S>) -> anyhow::Result<Vec<u8>> {
    let output = outcome(program, args)?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} ended with {}: {}", output.status, said.trim());
    Ok(output.stdout)
}

/// Starts a program that writes to `log` and that the kernel kills when the thread that started it ends, whatever ends it.
///
/// # Errors
/// When it cannot be started.
#[expect(clippy::disallowed_methods, reason = "the owner of the daemon's process")]
pub fn start(program: &Path, args: &[&OsStr], log: &File) -> anyhow::Result<Child> {
    let mut command = tokio::process::Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program).args(args);
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log.try_clone()?).kill_on_drop(true);
    command.spawn().with_context(|| format!("starting {} (with setpriv of util-linux)", program.display()))
}
