//! `cargo xtask demo`: a whole update on a simulated device, from slot A at v5.0.4 to the confirmed boot of v5.0.5.
//!
//! Owns the order of the show and what it tells. The device is `ota-simdevice` (package ota-tests), the update is driven
//! by `ota-admin`; both are the programs that are built first.

mod device;
mod slots;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};

use self::device::Device;
use crate::{build, tools};

/// What the demo is asked for.
#[derive(clap::Args, Default)]
pub(crate) struct Args {
    /// Folder of the simulated device; target/demo when it is not given. One of an earlier run is made afresh.
    #[arg(long)]
    pub(crate) dir: Option<PathBuf>,
    /// Port of the API; 8080 or a free one when it is not given.
    #[arg(long)]
    pub(crate) port: Option<u16>,
    /// Start the device on slot A with the update on offer, and do not install it.
    #[arg(long)]
    pub(crate) no_update: bool,
    /// Leave the device running until it is ended.
    #[arg(long)]
    pub(crate) keep: bool,
}

/// Programs of others that the demo needs; what it says at its end is done with the last one.
const TOOLS: [&str; 4] = ["fw_printenv", "openssl", "mksquashfs", "curl"];

/// Runs the demo.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    step("Building the daemon, the command line tool and the simulated device");
    tools::debian_for(&TOOLS)?;
    build::device_programs()?;
    let bin = build::folder()?;
    // From where it was asked for: what is started works in the root of the workspace.
    let dir = args.dir.as_ref().map(std::path::absolute).transpose()?;
    let dir = dir.unwrap_or_else(|| bin.with_file_name("demo"));

    step("Making a device: two slots, a redundant U-Boot environment, keys, a signed update");
    let device = Device::make(&bin, &dir)?;
    step("Switching it on: update server, boot loader, gateway with its dashboard");
    let mut device = device.power_on(args.port)?;
    println!("The gateway is ready at {}", device.url);
    device.show("Before the update")?;
    if !args.no_update {
        update(&device)?;
    }
    explain(&device, &bin.join("ota-admin"), args.keep);
    if args.keep { device.wait() } else { device.power_off() }
}

fn update(device: &Device) -> anyhow::Result<()> {
    step("Asking the update server");
    device.admin(&["check"])?;
    step("Updating: download, verify, write slot B, switch, reboot, health checks, confirm");
    device.admin(&["update", "--yes"])?;
    device.show("After the update")?;
    step("Comparing slot B with the image, byte by byte");
    let image = device.file("images/rootfs-v5.0.5.squashfs");
    let compared = slots::compare(&device.file("slots/b.img"), &image)?;
    println!("slot B begins with the {compared} bytes of {}", image.display());
    let variables = device.environment()?;
    ensure!(variables.lines().any(|l| l == "BOOT_ORDER=B A"), "slot B is not first: {variables}");
    ensure!(!variables.contains("ota_trial"), "slot B is still on trial: {variables}");
    println!("slot B is first in the boot order and confirmed: the update is complete");
    Ok(())
}

fn explain(device: &Device, admin: &Path, keep: bool) {
    let (url, dir) = (&device.url, device.dir().display());
    step("How to go on");
    if !keep {
        println!("Run `cargo xtask demo --keep` to leave the device running; then");
    }
    println!("dashboard    {url}/  (log in with the token in {dir}/admin.token)");
    println!(
        "status       curl -H \"Authorization: Bearer $(cat {dir}/admin.token)\" {url}/api/v1/ota/system/status"
    );
    println!("tool         {} --url {url} --token-file {dir}/admin.token status", admin.display());
    println!("environment  fw_printenv -c {dir}/fw_env.config");
    println!("crane        echo moving > {dir}/sensors/crane_motion");
    println!("log          {dir}/gateway.log");
    if keep {
        println!("The device runs until Ctrl-C.");
    }
}

fn step(text: &str) {
    println!("\n== {text}");
}

/// The text of a file below the device's folder, without the line's end.
fn line(path: &Path) -> anyhow::Result<String> {
    let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    Ok(text.trim().to_owned())
}
