//! `ota-admin factory-reset`.

use ota_api::updates::{FactoryResetRequest, FactoryResetResponse, RESET_CONFIRMATION};

use super::Context;
use crate::{
    ask::{self, PinArgs},
    exit::Failure,
};

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Save the settings before, where the reset does not reach.
    #[arg(long)]
    pub(crate) backup_settings: bool,
    /// The sentence, exactly: "I understand this will erase all data". It is asked for at the terminal otherwise.
    #[arg(long, value_name = "SENTENCE")]
    pub(crate) confirmation: Option<String>,
    #[command(flatten)]
    pub(crate) pin: PinArgs,
}

pub(crate) async fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let client = context.client()?;
    let confirmation = match args.confirmation {
        Some(sentence) => sentence,
        None => {
            let question =
                format!("This erases all data and settings of {}. Type: {RESET_CONFIRMATION}", client.base());
            ask::line(&mut context.out, &question, "--confirmation")?
        }
    };
    if confirmation != RESET_CONFIRMATION {
        return Err(Failure::Usage(format!("the sentence is not exactly \"{RESET_CONFIRMATION}\"")));
    }
    let pin = Some(args.pin.read(&context.out, "PIN: ")?);
    let request = FactoryResetRequest { pin, backup_settings: args.backup_settings, confirmation };
    let answer = client.factory_reset(&request).await?;
    context.out.show(&answer, text)
}

fn text(answer: &FactoryResetResponse) -> String {
    match &answer.backup {
        Some(id) => format!("{}: {}; the settings are in {id}", answer.status, answer.message),
        None => format!("{}: {}", answer.status, answer.message),
    }
}
