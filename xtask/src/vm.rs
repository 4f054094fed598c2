//! `cargo xtask vm`: the real U-Boot in an emulated machine, with our boot script and our daemon.

use std::path::PathBuf;

use anyhow::Context;

use crate::{build, process, workspace::Workspace};

/// How long.
#[derive(clap::Args, Default)]
pub(crate) struct Args {
    /// Fifty power cuts instead of three, and U-Boot's sandbox built.
    #[arg(long)]
    long: bool,
    /// Where the packages, images and the disk are kept; the packages are fetched once.
    #[arg(long)]
    dir: Option<PathBuf>,
}

/// MiB of a slot: a kernel, an initramfs and the daemon.
const SLOT_MIB: &str = "72";

/// Gets what is missing, makes the disk, plays the story.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let dir = match &args.dir {
        Some(dir) => dir.clone(),
        None => Workspace::read()?.target.join("vm"),
    };
    std::fs::create_dir_all(dir.join("keys"))?;
    let (programs, scripts) = (build::folder()?, process::root().join("tests/vm"));
    // Both are `target/debug/ota-gatewayd` when they are built: the one that the tests run last, so that it stays.
    let daemon = dir.join("ota-gatewayd");
    build::static_daemon(&scripts.join("static.sh"))?;
    std::fs::copy(programs.join("ota-gatewayd"), &daemon).context("copying the daemon")?;
    build::programs()?;
    let script = |name: &str| {
        let mut command = process::command(scripts.join(name));
        command.env("OTA_VM_DIR", &dir).env("OTA_SLOT_MIB", SLOT_MIB);
        command
    };
    let story = || {
        let mut command = process::command(programs.join("ota-vm"));
        command.arg("--dir").arg(&dir).arg("--boot").arg(scripts.join("boot.sh"));
        command
    };
    let boot_script = process::root().join("dist/u-boot/ota-boot.cmd");
    process::run(&mut script("get.sh"))?;
    process::run(story().arg("--keys"))?;
    process::run(script("make.sh").arg(daemon).arg(&boot_script))?;
    process::run(story().args(["--cuts", if args.long { "50" } else { "3" }]))?;
    // Debian's builds keep one copy of the environment. The build with two takes minutes, so it is made for the long run and kept.
    if args.long {
        process::run(&mut script("build-uboot.sh"))?;
    }
    if dir.join("build-sandbox/u-boot").exists() {
        process::run(script("sandbox.sh").arg(&boot_script))?;
        process::run(story().args(["--sandbox", if args.long { "500" } else { "60" }]))?;
    }
    Ok(())
}
