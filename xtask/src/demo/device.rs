//! The simulated device as a child process: `ota-simdevice` run for us, ended with us.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Stdio},
    sync::mpsc,
    thread,
};

use anyhow::{Context, bail, ensure};

use super::line;
use crate::process;

/// Folder and programs of a device that is off.
pub(super) struct Made {
    bin: PathBuf,
    dir: PathBuf,
}

/// A device that is on. Its standard input is our end of a pipe: it switches itself off when we are gone, however.
pub(super) struct Device {
    made: Made,
    child: Child,
    /// Base URL of the gateway.
    pub(super) url: String,
}

impl Device {
    /// Makes a device in `dir`, with the programs in `bin`.
    pub(super) fn make(bin: &Path, dir: &Path) -> anyhow::Result<Made> {
        process::run(process::command(bin.join("ota-simdevice")).arg("make").arg("--dir").arg(dir))?;
        let dir = dir.canonicalize().with_context(|| format!("opening {}", dir.display()))?;
        Ok(Made { bin: bin.to_path_buf(), dir })
    }
}

impl Made {
    /// Switches it on; back when the gateway answers.
    pub(super) fn power_on(self, port: Option<u16>) -> anyhow::Result<Device> {
        let mut command = process::command(self.bin.join("ota-simdevice"));
        command.args(["run", "--with-stdin", "--dir"]).arg(&self.dir);
        command.arg("--gatewayd").arg(self.bin.join("ota-gatewayd"));
        if let Some(port) = port {
            command.arg("--port").arg(port.to_string());
        }
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("starting ota-simdevice")?;
        let console = child.stdout.take().context("no console")?;
        let (tell, ready) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(console).lines().map_while(Result::ok) {
                match line.strip_prefix("ready ") {
                    Some(url) => drop(tell.send(url.to_owned())),
                    None => println!("   [device] {line}"),
                }
            }
        });
        // The sender is gone when the child has ended.
        let Ok(url) = ready.recv() else {
            let status = child.wait()?;
            bail!("the device did not come up ({status}); {}/gateway.log may say why", self.dir.display());
        };
        Ok(Device { made: self, child, url })
    }
}

impl Device {
    /// Its folder.
    pub(super) fn dir(&self) -> &Path {
        &self.made.dir
    }

    /// A file of it.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.made.dir.join(name)
    }

    /// Runs `ota-admin` on it.
    pub(super) fn admin(&self, args: &[&str]) -> anyhow::Result<()> {
        println!("$ ota-admin {}", args.join(" "));
        // It waits long for a gateway that is gone, so it must end when we do.
        let mut command = process::command("setpriv");
        command.args(["--pdeathsig", "TERM", "--"]).arg(self.made.bin.join("ota-admin"));
        command.arg("--url").arg(&self.url).arg("--token-file").arg(self.file("admin.token"));
        let status =
            command.args(args).status().context("starting ota-admin (with setpriv of util-linux)")?;
        ensure!(status.success(), "ota-admin {} ended with {status}", args.join(" "));
        Ok(())
    }

    /// The boot environment as Debian's tool reads it.
    pub(super) fn environment(&self) -> anyhow::Result<String> {
        let config = self.file("fw_env.config");
        let text = process::read(process::command("fw_printenv").arg("-c").arg(config))?;
        String::from_utf8(text).context("fw_printenv wrote no text")
    }

    /// Slots, versions and boot environment.
    pub(super) fn show(&self, when: &str) -> anyhow::Result<()> {
        super::step(when);
        self.admin(&["status"])?;
        println!("$ fw_printenv -c {}", self.file("fw_env.config").display());
        print!("{}", self.environment()?);
        let missing: Vec<&str> = FILES.into_iter().filter(|name| !self.file(name).exists()).collect();
        ensure!(missing.is_empty(), "the device lacks {missing:?}");
        ensure!(line(&self.file("url"))? == self.url, "the file url is stale");
        Ok(())
    }

    /// Until it ends.
    pub(super) fn wait(&mut self) -> anyhow::Result<()> {
        // `Child::wait` would close its standard input, and with that end it.
        let _input = self.child.stdin.take();
        let status = self.child.wait().context("waiting for the device")?;
        ensure!(status.success(), "the device ended with {status}");
        Ok(())
    }

    /// Switches it off, and waits for that.
    pub(super) fn power_off(&mut self) -> anyhow::Result<()> {
        drop(self.child.stdin.take());
        let status = self.child.wait().context("waiting for the device")?;
        ensure!(status.success(), "the device ended with {status}");
        Ok(())
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // After an error: the gateway must not stay behind.
        let _ = self.power_off();
    }
}

/// What every program that drives a simulated device may count on. Source: docs/simulated-device.md.
const FILES: [&str; 12] = [
    "url",
    "admin.token",
    "pin",
    "fw_env.config",
    "uboot.env",
    "slots/a.img",
    "slots/b.img",
    "gateway.toml",
    "repo/metadata/timestamp.json",
    "keys",
    "sensors/crane_motion",
    "gateway.log",
];
