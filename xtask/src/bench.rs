//! `cargo xtask bench NAME`: figures of the product, each beside its floor in the same run.
//!
//! Owns the list of benches; every bench is a module. What they share: [`meter`] runs a program and says what it took.
//! Nothing here fails because something is slow.

mod daemon;
mod install;
mod media;
mod meter;
mod peers;
mod safety;
mod verify;

/// What is measured.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(clap::Subcommand)]
enum Bench {
    /// A staged image into a slot: our data path beside `dd`, SHA-256 alone, and other installers.
    Install(install::Args),
    /// A thousand safety constraints: processor time and memory.
    Safety(safety::Args),
    /// A verification beside `openssl dgst -sha256` of the same bytes.
    Verify(verify::Args),
    /// Hostile clients against the daemon: an honest one's waiting, memory, a running update's speed.
    Load(daemon::Args),
    /// A long upload beside `dd` and nginx's WebDAV.
    Upload(daemon::Args),
}

/// Runs a bench.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    match &args.bench {
        Bench::Install(args) => install::run(args),
        Bench::Safety(args) => safety::run(args),
        Bench::Verify(args) => verify::run(args),
        Bench::Load(args) => daemon::run("bench_load", args),
        Bench::Upload(args) => daemon::run("bench_upload", args),
    }
}
