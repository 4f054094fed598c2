//! `ota-admin completions`.

use clap::CommandFactory as _;
use clap_complete::{Shell, generate};

use super::Context;
use crate::{cli::Cli, exit::Failure};

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Which shell.
    #[arg(value_enum)]
    pub(crate) shell: Shell,
}

pub(crate) fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let mut script = Vec::new();
    generate(args.shell, &mut Cli::command(), "ota-admin", &mut script);
    context.out.verbatim(&script)
}
