//! `cargo xtask demo`: a whole update on a simulated device.

use std::path::PathBuf;

/// What the demo is asked for.
#[derive(clap::Args, Default)]
pub(crate) struct Args {
    /// Folder of the simulated device; a temporary one when it is not given.
    #[arg(long)]
    pub(crate) dir: Option<PathBuf>,
    /// Port of the API; a free one when it is not given.
    #[arg(long)]
    pub(crate) port: Option<u16>,
    /// Start the device on slot A with the update on offer, and leave it there.
    #[arg(long)]
    pub(crate) no_update: bool,
    /// Leave the device running until it is ended.
    #[arg(long)]
    pub(crate) keep: bool,
}

/// Runs the demo.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let Args { dir, port, no_update, keep } = args;
    anyhow::bail!(
        "the demo is not wired yet (dir {dir:?}, port {port:?}, no_update {no_update}, keep {keep})"
    )
}
