//! Building the programs of the workspace, once for the demo and the tests.

use std::path::PathBuf;

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

/// Where they are.
pub(crate) fn folder() -> anyhow::Result<PathBuf> {
    Ok(Workspace::read()?.target.join("debug"))
}
