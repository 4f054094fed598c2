//! Building the programs of the workspace, once for the demo and the tests.

use std::path::{Path, PathBuf};

use crate::{process, workspace::Workspace};

/// What a device and its operator have, and what stands for the device.
const DEVICE: [&str; 3] = ["ota-gatewayd", "ota-admin", "ota-simdevice"];

/// Builds [`DEVICE`], no more: a newcomer waits for it. `--workspace` all the same: for a choice of packages cargo asks for
/// other features of everything outside, and compiles it anew for the tests.
pub(crate) fn device_programs() -> anyhow::Result<()> {
    process::run(
        process::cargo().args(["build", "--workspace"]).args(DEVICE.iter().flat_map(|name| ["--bin", name])),
    )
}

/// Builds every program.
pub(crate) fn programs() -> anyhow::Result<()> {
    process::run(process::cargo().args(["build", "--workspace", "--bins"]))
}

/// Builds the daemon with a static glibc, for a guest without libraries. `wrapper` adds that to the one call of the compiler
/// that links it; another number of code generation units makes it another build of that package, and of that one only.
pub(crate) fn static_daemon(wrapper: &Path) -> anyhow::Result<()> {
    let of = "profile.dev.package.ota-gatewayd";
    let mut cargo = process::cargo();
    cargo.args(["build", "--workspace", "--bin", "ota-gatewayd"]);
    cargo.args(["--config", &format!("{of}.codegen-units=15"), "--config", &format!("{of}.debug=false")]);
    process::run(cargo.env("RUSTC_WRAPPER", wrapper))
}

/// Where they are.
pub(crate) fn folder() -> anyhow::Result<PathBuf> {
    Ok(Workspace::read()?.target.join("debug"))
}

/// How what is measured is built.
#[derive(Clone, Copy)]
pub(crate) enum Profile {
    /// As it is shipped.
    Release,
    /// As it is developed: not optimised, but there already.
    Dev,
}

impl Profile {
    pub(crate) const fn of(dev: bool) -> Self {
        if dev { Self::Dev } else { Self::Release }
    }

    /// Builds these targets of the workspace.
    pub(crate) fn build(self, targets: &[&str]) -> anyhow::Result<()> {
        let name = match self {
            Self::Release => "release",
            Self::Dev => "dev",
        };
        let mut cargo = process::cargo();
        process::run(cargo.args(["build", "--quiet", "--workspace", "--profile", name]).args(targets))
    }

    /// Where they are below the target directory.
    pub(crate) fn folder(self, target: &Path) -> PathBuf {
        target.join(match self {
            Self::Release => "release",
            Self::Dev => "debug",
        })
    }

    /// What stands above the figures.
    pub(crate) const fn sentence(self) -> &'static str {
        match self {
            Self::Release => "release build",
            Self::Dev => "development build (not optimised)",
        }
    }
}
