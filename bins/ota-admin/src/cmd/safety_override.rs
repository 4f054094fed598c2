//! `ota-admin override`.

use ota_api::safety::{OverrideRequest, OverrideResponse};

use super::Context;
use crate::{ask::PinArgs, exit::Failure};

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) what: What,
}

#[derive(Clone, Debug, clap::Subcommand)]
pub(crate) enum What {
    /// Cover the constraints that are violated now, for a while.
    On {
        /// Why; goes into the record.
        #[arg(long)]
        reason: String,
        /// Seconds it lasts at most.
        #[arg(long, value_name = "SECONDS")]
        duration: u64,
        /// Say that the risks are known.
        #[arg(long, required = true)]
        acknowledge_risks: bool,
        #[command(flatten)]
        pin: PinArgs,
    },
    /// End the override now. Needs no PIN.
    Off,
}

pub(crate) async fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let client = context.client()?;
    let request = match args.what {
        What::On { reason, duration, acknowledge_risks, pin } => OverrideRequest {
            enable: true,
            pin: Some(pin.read(&context.out, "PIN: ")?),
            reason: Some(reason),
            duration: Some(duration),
            acknowledge_risks,
        },
        What::Off => OverrideRequest {
            enable: false,
            pin: None,
            reason: None,
            duration: None,
            acknowledge_risks: false,
        },
    };
    let answer = client.safety_override(&request).await?;
    context.out.show(&answer, text)
}

fn text(answer: &OverrideResponse) -> String {
    let mut text = answer.status.clone();
    if !answer.constraints_overridden.is_empty() {
        text.push_str(&format!(": {}", answer.constraints_overridden.join(", ")));
    }
    if let Some(until) = answer.expires_at {
        text.push_str(&format!(" until {until}"));
    }
    match &answer.warning {
        Some(warning) => format!("{text}\n{warning}"),
        None => text,
    }
}
