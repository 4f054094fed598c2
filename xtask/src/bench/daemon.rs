//! `cargo xtask bench load` and `bench upload`: the real daemon on a simulated device, driven by programs of `ota-tests`.
//!
//! Owns building and starting them; what they measure stands in `tests/examples`.

use std::path::PathBuf;

use crate::{build::Profile, process, tools, workspace::Workspace};

/// How a bench of the daemon is run.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Where the device lies; below the target directory when it is not given.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Measure the development build, whose programs are there already. The figures say so.
    #[arg(long)]
    dev: bool,
    /// Installs what it is compared with (Debian's nginx), which is otherwise measured only when it is there.
    #[arg(long)]
    peers: bool,
    /// Handed on to the bench, `--rounds 5`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

/// Programs of others that a device is made with.
const TOOLS: [&str; 5] = ["fw_printenv", "openssl", "mksquashfs", "setpriv", "curl"];

/// Runs the example `name`.
pub(super) fn run(name: &str, args: &Args) -> anyhow::Result<()> {
    tools::debian_for(&TOOLS)?;
    if args.peers && !process::installed("nginx") {
        tools::apt(&["nginx-light"])?;
    }
    let profile = Profile::of(args.dev);
    profile.build(&["--bins", "--example", name])?;
    let target = Workspace::read()?.target;
    let folder = profile.folder(&target);
    let dir = args.dir.clone().unwrap_or_else(|| target.join("bench-daemon"));
    println!("{}", profile.sentence());
    let mut bench = process::command("prlimit");
    // More clients than a shell lets one process have files.
    bench.args(["--nofile=8192", "--"]).arg(folder.join("examples").join(name));
    bench.arg("--gatewayd").arg(folder.join("ota-gatewayd")).arg("--dir").arg(dir).args(&args.rest);
    process::run(&mut bench)
}
