//! `cargo xtask vm`: the real U-Boot in an emulated machine, with our boot script and our daemon.

use std::{path::PathBuf, process::Command};

use anyhow::Context;

use crate::{build, process, proven, workspace::Workspace};

/// How long.
#[derive(clap::Args, Default)]
pub(crate) struct Args {
    /// Fifty power cuts instead of three, and U-Boot's sandbox built.
    #[arg(long)]
    long: bool,
    /// Where the packages, images and the disk are kept; the packages are fetched once.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Keep the lines of the story in this file too.
    #[arg(long)]
    report: Option<PathBuf>,
}

/// MiB of a slot: a kernel, an initramfs and the daemon.
const SLOT_MIB: &str = "72";

/// Gets what is missing, makes the disk, plays the story.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let bench = Bench::build(args)?;
    bench.play(args)
}

/// The same, unless this very daemon has passed with these scripts, boot loader, emulator and kernel.
pub(crate) fn once() -> anyhow::Result<()> {
    let args = Args::default();
    let bench = Bench::build(&args)?;
    let mut parts = vec![bench.daemon(), bench.story.clone(), bench.boot_script.clone()];
    // What came from Debian, and the order of all this.
    parts.extend([bench.dir.join("versions"), process::root().join("xtask/src/vm.rs")]);
    for entry in std::fs::read_dir(&bench.scripts)? {
        parts.push(entry?.path());
    }
    if bench.sandbox().exists() {
        parts.extend([bench.sandbox(), bench.dir.join("build-sandbox/ota.dtb")]);
    }
    parts.sort();
    proven::once("vm", &parts, |page| {
        bench.play(&Args { report: Some(page.into()), ..args })?;
        let mut told = std::fs::read(page)?;
        told.extend(process::read(
            process::command("date").args(["--utc", "+vm: the whole story passed on %F %H:%M UTC"]),
        )?);
        Ok(std::fs::write(page, told)?)
    })
}

/// What takes part.
struct Bench {
    dir: PathBuf,
    scripts: PathBuf,
    /// The program that plays the story.
    story: PathBuf,
    /// What U-Boot runs.
    boot_script: PathBuf,
}

impl Bench {
    fn build(args: &Args) -> anyhow::Result<Self> {
        let dir = match &args.dir {
            Some(dir) => dir.clone(),
            None => Workspace::read()?.target.join("vm"),
        };
        std::fs::create_dir_all(dir.join("keys"))?;
        let (programs, root) = (build::folder()?, process::root());
        let (story, boot_script) = (programs.join("ota-vm"), root.join("dist/u-boot/ota-boot.cmd"));
        let bench = Self { dir, scripts: root.join("tests/vm"), story, boot_script };
        // Both are `target/debug/ota-gatewayd` when they are built: the one that the tests run last, so that it stays.
        build::static_daemon(&bench.scripts.join("static.sh"))?;
        std::fs::copy(programs.join("ota-gatewayd"), bench.daemon()).context("copying the daemon")?;
        build::programs()?;
        process::run(&mut bench.script("get.sh"))?;
        Ok(bench)
    }

    fn script(&self, name: &str) -> Command {
        let mut command = process::command(self.scripts.join(name));
        command.env("OTA_VM_DIR", &self.dir).env("OTA_SLOT_MIB", SLOT_MIB);
        command
    }

    fn daemon(&self) -> PathBuf {
        self.dir.join("ota-gatewayd")
    }

    fn play(&self, args: &Args) -> anyhow::Result<()> {
        let story = || {
            let mut command = process::command(&self.story);
            command.arg("--dir").arg(&self.dir).arg("--boot").arg(self.scripts.join("boot.sh"));
            command
        };
        process::run(story().arg("--keys"))?;
        process::run(self.script("make.sh").arg(self.daemon()).arg(&self.boot_script))?;
        // Debian's builds keep one copy of the environment. The build with two takes minutes, so it is made for the long run
        // and kept.
        if args.long {
            process::run(&mut self.script("build-uboot.sh"))?;
        }
        let mut story = story();
        story.args(["--cuts", if args.long { "50" } else { "3" }]);
        if self.sandbox().exists() {
            process::run(self.script("sandbox.sh").arg(&self.boot_script))?;
            story.args(["--sandbox", if args.long { "500" } else { "60" }]);
        } else {
            println!(
                "vm: two copies of the environment NOT shown: `cargo xtask vm --long` makes U-Boot's sandbox, once"
            );
        }
        if let Some(report) = &args.report {
            story.arg("--report").arg(std::path::absolute(report)?);
        }
        process::run(&mut story)
    }

    /// U-Boot's sandbox, where it was made.
    fn sandbox(&self) -> PathBuf {
        self.dir.join("build-sandbox/u-boot")
    }
}
