//! RAUC: its service on a private message bus, a custom bootloader backend that only nods, a plain bundle.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, bail};

use super::{Installer, keys, require};
use crate::{
    bench::{
        media::Medium,
        meter::{Cost, measured, urgent},
    },
    process,
};

/// How long the bus and the service may take to come up: looks, and the pause between two.
const LOOKS: u32 = 100;
const PAUSE: Duration = Duration::from_millis(50);

const BACKEND: &str = "#!/bin/sh
case \"$1\" in get-primary|get-current) echo A ;; get-state) echo good ;; esac
";

pub(super) struct Rauc {
    dir: PathBuf,
    services: Vec<Child>,
}

impl Rauc {
    pub(super) fn prepare(medium: &Medium) -> anyhow::Result<Self> {
        require("rauc", "rauc")?;
        require("dbus-daemon", "dbus-daemon")?;
        require("mksquashfs", "squashfs-tools")?;
        let dir = medium.dir.join("rauc");
        fs::create_dir_all(dir.join("content"))?;
        fs::create_dir_all(dir.join("mnt"))?;
        keys(&dir)?;
        bundle(&dir, medium)?;
        configure(&dir, medium)?;
        let mut rauc = Self { dir, services: Vec::new() };
        rauc.start()?;
        Ok(rauc)
    }

    fn start(&mut self) -> anyhow::Result<()> {
        let bus = self.dir.join("bus");
        let mut daemon = process::command("dbus-daemon");
        daemon.args(["--config-file=bus.conf", "--nofork", "--nopidfile"]);
        self.spawn(daemon)?;
        wait_for("the message bus", || bus.exists())?;
        // Said on the command line, because our own kernel command line names no slot.
        let mut service = urgent("rauc");
        service.args(["--conf=system.conf", "--override-boot-slot=A", "service"]);
        self.spawn(service)?;
        wait_for("rauc's service", || {
            process::outcome(self.on_bus(process::command("rauc")).args(["--conf=system.conf", "status"]))
                .is_ok_and(|output| output.status.success())
        })
    }

    fn spawn(&mut self, command: Command) -> anyhow::Result<()> {
        let log = fs::File::options().create(true).append(true).open(self.dir.join("services.log"))?;
        let mut command = self.on_bus(command);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.services.push(command.spawn().with_context(|| format!("starting {command:?}"))?);
        Ok(())
    }

    fn on_bus(&self, mut command: Command) -> Command {
        let address = format!("unix:path={}", self.dir.join("bus").display());
        command.env("DBUS_SYSTEM_BUS_ADDRESS", address).env("LC_ALL", "C").current_dir(&self.dir);
        command
    }
}

impl Installer for Rauc {
    fn install(&self, medium: &Medium) -> anyhow::Result<Cost> {
        let services: Vec<u32> = self.services.iter().map(Child::id).collect();
        let mut command = self.on_bus(urgent("rauc"));
        command.args(["--conf=system.conf", "install"]).arg(self.dir.join("image.raucb"));
        measured(&mut command, &services, &medium.dir.join("log"))
    }
}

impl Drop for Rauc {
    fn drop(&mut self) {
        for service in self.services.iter_mut().rev() {
            let _ = service.kill();
            let _ = service.wait();
        }
    }
}

fn bundle(dir: &Path, medium: &Medium) -> anyhow::Result<()> {
    fs::hard_link(&medium.image, dir.join("content/rootfs.img"))?;
    let manifest = "[update]\ncompatible=bench\nversion=1\n[bundle]\nformat=plain\n[image.rootfs]\nfilename=rootfs.img\n";
    fs::write(dir.join("content/manifest.raucm"), manifest)?;
    // The image does not compress, so nothing but time is lost by not trying.
    let mut rauc = process::command("rauc");
    rauc.args(["bundle", "--cert=cert.pem", "--key=key.pem", "--mksquashfs-args=-noD -noF"]);
    process::read(rauc.args(["content", "image.raucb"]).current_dir(dir)).map(drop)
}

fn configure(dir: &Path, medium: &Medium) -> anyhow::Result<()> {
    let (here, slot) = (dir.display(), medium.slot.display());
    fs::write(
        dir.join("system.conf"),
        format!(
            "[system]\ncompatible=bench\nbootloader=custom\nstatusfile={here}/status\nmountprefix={here}/mnt\n\
             bundle-formats=plain\n[keyring]\npath={here}/cert.pem\ncheck-purpose=any\n\
             [handlers]\nbootloader-custom-backend={here}/backend\n\
             [slot.rootfs.0]\ndevice={here}/running\ntype=raw\nbootname=A\n\
             [slot.rootfs.1]\ndevice={slot}\ntype=raw\nbootname=B\n"
        ),
    )?;
    fs::write(dir.join("running"), "")?;
    let backend = dir.join("backend");
    fs::write(&backend, BACKEND)?;
    fs::set_permissions(&backend, fs::Permissions::from_mode(0o755))?;
    fs::write(
        dir.join("bus.conf"),
        format!(
            "<!DOCTYPE busconfig PUBLIC \"-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN\" \
             \"http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd\">\n\
             <busconfig><type>system</type><listen>unix:path={here}/bus</listen><auth>EXTERNAL</auth>\
             <policy context=\"default\"><allow user=\"*\"/><allow own=\"*\"/><allow send_destination=\"*\"/>\
             <allow receive_sender=\"*\"/></policy></busconfig>\n"
        ),
    )?;
    Ok(())
}

fn wait_for(what: &str, there: impl Fn() -> bool) -> anyhow::Result<()> {
    for _ in 0..LOOKS {
        if there() {
            return Ok(());
        }
        thread::sleep(PAUSE);
    }
    bail!("{what} does not come up")
}
