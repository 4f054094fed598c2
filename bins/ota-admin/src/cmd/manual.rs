//! `ota-admin manual`: the manual pages, made from the commands themselves. Hidden: packages are built with it.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::CommandFactory as _;

use super::Context;
use crate::{cli::Cli, exit::Failure};

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder for the pages, one a command; it must exist.
    pub(crate) dir: PathBuf,
}

pub(crate) fn run(args: &Args, _: &mut Context) -> Result<(), Failure> {
    clap_mangen::generate_to(Cli::command(), &args.dir)
        .with_context(|| format!("writing manual pages into {}", args.dir.display()))?;
    Ok(())
}
