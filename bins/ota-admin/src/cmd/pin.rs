//! `ota-admin pin`.

use std::path::PathBuf;

use ota_api::auth::{Secret, SetPinRequest};

use super::Context;
use crate::{ask::PinArgs, exit::Failure};

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
        #[arg(long)]
        first: bool,
        #[command(flatten)]
        pin: PinArgs,
    },
}

pub(crate) async fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let What::Set { new_pin_file, first, pin } = args.what;
    let client = context.client()?;
    let pin = if first { None } else { Some(pin.read("Present PIN: ")?) };
    let new_pin = new_pin(new_pin_file)?;
    let done = client.set_pin(&SetPinRequest { new_pin, pin }).await?;
    context.out.show(&done, |d| d.message.clone())
}

fn new_pin(file: Option<PathBuf>) -> Result<Secret, Failure> {
    let typed = file.is_none();
    let source = PinArgs { pin_file: file };
    let pin = source.read("New PIN: ")?;
    if typed && source.read("New PIN again: ")? != pin {
        return Err(Failure::Usage("the two PINs differ".into()));
    }
    Ok(pin)
}
