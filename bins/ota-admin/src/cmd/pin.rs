//! `ota-admin pin`.

use std::path::{Path, PathBuf};

use ota_api::auth::{Secret, SetPinRequest};

use super::Context;
use crate::{
    ask::{self, PinArgs},
    exit::Failure,
    output::Output,
};

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) what: What,
}

#[derive(Clone, Debug, clap::Subcommand)]
pub(crate) enum What {
    /// Set a new PIN. It is asked for twice at the terminal, or read from a file.
    Set {
        /// File that holds the new PIN (`/dev/fd/N` for a descriptor).
        #[arg(long, value_name = "FILE")]
        new_pin_file: Option<PathBuf>,
        /// No PIN is set yet.
        #[arg(long, conflicts_with = "pin_file")]
        first: bool,
        #[command(flatten)]
        pin: PinArgs,
    },
}

pub(crate) async fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let What::Set { new_pin_file, first, pin } = args.what;
    let client = context.client()?;
    let pin = if first { None } else { Some(pin.read(&context.out, "Present PIN: ")?) };
    let new_pin = new_pin(new_pin_file.as_deref(), &context.out)?;
    let done = client.set_pin(&SetPinRequest { new_pin, pin }).await?;
    context.out.show(&done, |d| d.message.clone())
}

fn new_pin(file: Option<&Path>, out: &Output) -> Result<Secret, Failure> {
    let ask = |prompt| ask::pin(file, "--new-pin-file", out, prompt);
    let pin = ask("New PIN: ")?;
    if file.is_none() && ask("New PIN again: ")? != pin {
        return Err(Failure::Usage("the two PINs differ".into()));
    }
    Ok(pin)
}
