//! `cargo xtask package`: the Debian package installed, started, upgraded, removed and purged, in a name space of its own.
//!
//! Owns the sandbox: this machine's file system below an overlay, so that nothing of it changes. There is no systemd in it; the
//! daemon is started as the unit would, and the unit itself is read by `systemd-analyze`.

use std::{fs, path::Path};

use anyhow::{Context, ensure};

use crate::{build, dist, process, tools, workspace::Workspace};

/// What happens inside. `$1` and `$2` are the two packages, `$3` a folder with a simulated device.
const STORY: &str = include_str!("package.sh");

/// Runs the life of a package.
pub(crate) fn run() -> anyhow::Result<()> {
    tools::debian_for(&["mksquashfs", "objdump"])?;
    build::device_programs()?;
    let target = Workspace::read()?.target;
    let work = target.join("package");
    if work.exists() {
        fs::remove_dir_all(&work)?;
    }
    fs::create_dir_all(&work)?;
    let built = |suffix: &str| {
        let out = work.join(format!("build{suffix}"));
        dist::package(&dist::Args { development: true, out: Some(out), suffix: suffix.to_owned() })
    };
    let (old, new) = (built("")?, built("+upgrade1")?);
    let again = built("")?;
    ensure!(fs::read(&old)? == fs::read(&again)?, "the same sources gave another package");
    device(&target, &work.join("device"))?;
    let mut story = process::command("unshare");
    story.args(["--mount", "--propagation", "private", "sh", "-eu", "-c", STORY, "package"]);
    story.arg(&work).arg(&old).arg(&new).arg(work.join("device"));
    process::run(&mut story)?;
    println!("package: installed, started, upgraded, removed and purged");
    Ok(())
}

/// Slots, keys, environment and configuration for the daemon to start with.
fn device(target: &Path, dir: &Path) -> anyhow::Result<()> {
    let simdevice = target.join("debug/ota-simdevice");
    process::read(process::command(simdevice).args(["make", "--dir"]).arg(dir))
        .context("making a simulated device")?;
    Ok(())
}
