//! `cargo xtask bench`: figures of the product, each printed as a ratio to its floor in the same run.

/// What is measured.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Name of the bench, `install`.
    #[arg(default_value = "install")]
    name: String,
}

/// Runs a bench.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    anyhow::bail!("the bench {:?} is not wired yet", args.name)
}
