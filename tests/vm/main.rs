//! `ota-vm`: the real U-Boot, a Linux kernel and our daemon on an emulated machine, driven from outside over the API.
//!
//! `cargo xtask vm` makes what it boots (`make.sh`) and runs it. Owns the machine's process, its serial console and the
//! story that is played; what must hold is said at each step. Never the wrong slot, never U-Boot's prompt.

mod machine;
mod sandbox;
mod story;

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use anyhow::Context as _;
use clap::Parser;
use machine::Machine;
use ota_release::{CodeSigningOptions, SignMethod, make_code_signing_ca, sign_detached};
use sandbox::Sandbox;
use story::{IMAGES, Story};
use tokio::time::Instant;

/// Where the lines of output are kept too.
static REPORT: OnceLock<File> = OnceLock::new();

/// Drives a machine with the real boot loader through updates, failures and power cuts.
#[derive(Parser)]
struct Args {
    /// Folder with the disk and the images.
    #[arg(long)]
    dir: PathBuf,
    /// Script that starts the machine.
    #[arg(long)]
    boot: PathBuf,
    /// Times that the machine is killed, in the boot loader and during a trial.
    #[arg(long, default_value_t = 3)]
    cuts: u32,
    /// Boot so many environments in U-Boot's sandbox too.
    #[arg(long)]
    sandbox: Option<u64>,
    /// Keep what is printed in this file too.
    #[arg(long)]
    report: Option<PathBuf>,
    /// Only make the keys that `make.sh` puts into the images.
    #[arg(long)]
    keys: bool,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let made = args.dir.join("keys/made");
    if args.keys {
        let _ = std::fs::remove_dir_all(&made);
        let ca = make_code_signing_ca(&CodeSigningOptions::new(&made))?;
        std::fs::copy(&ca.ca_certificate, args.dir.join("keys/release-ca.pem"))?;
        return Ok(());
    }
    if let Some(report) = &args.report {
        let file = File::create(report).with_context(|| format!("making {}", report.display()))?;
        let _ = REPORT.set(file);
    }
    sign(&args.dir, &made)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let all = runtime.block_on(play(&args));
    // A sandbox that still runs when a story has failed says nothing more.
    runtime.shutdown_background();
    say(&all?);
    Ok(())
}

/// Two machines side by side, for an emulated one uses one processor; what is left of the time is the sandbox's.
async fn play(args: &Args) -> anyhow::Result<String> {
    let began = Instant::now();
    let story = |name| anyhow::Ok(Story::new(Machine::start(&args.dir, name, &args.boot)?));
    let (mut updates, mut cuts) = (story("updates")?, story("cuts")?);
    let loader = async {
        updates.updates().await?;
        let told = (updates.loader()?, updates.cycles);
        drop(updates);
        anyhow::Ok(told)
    };
    let rest = async {
        cuts.cuts(args.cuts).await?;
        let cycles = cuts.cycles;
        drop(cuts);
        let Some(times) = args.sandbox else { return anyhow::Ok(cycles) };
        let (dir, since) = (args.dir.clone(), Instant::now());
        let sandbox = tokio::task::spawn_blocking(move || Sandbox::new(&dir).agrees(times));
        let what = sandbox.await.context("the sandbox")??;
        proven(began.elapsed().as_secs(), since.elapsed().as_secs(), &what);
        anyhow::Ok(cycles + 1)
    };
    let ((loader, some), more) = tokio::try_join!(loader, rest)?;
    Ok(format!(
        "vm: {} cycles passed, {} power cuts, 0 wrong slots, never U-Boot's prompt, {} s; {loader}",
        some + more,
        args.cuts,
        began.elapsed().as_secs()
    ))
}

/// Signs all images, before a machine runs whose instants count.
fn sign(dir: &Path, made: &Path) -> anyhow::Result<()> {
    let (key, certificate) = (made.join("signer.key"), made.join("signer.pem"));
    let method = SignMethod::Cms { key, certificate, chain: None };
    for image in IMAGES {
        let path = dir.join(format!("{}.img", image.name));
        sign_detached(&path, &method, Some(&path.with_extension("img.p7s")))?;
    }
    Ok(())
}

/// One line for what was proven: `at` this second of the whole, in so many seconds.
fn proven(at: u64, seconds: u64, what: &str) {
    say(&format!("vm: {at:>4} s  {seconds:>3} s  {what}"));
}

/// A line on standard output and in the report.
fn say(line: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stdout().lock(), "{line}");
    if let Some(mut report) = REPORT.get() {
        let _ = writeln!(report, "{line}");
    }
}
