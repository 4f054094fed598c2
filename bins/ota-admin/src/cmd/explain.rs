//! `ota-admin explain`.

use ota_api::explain::{ExplainRequest, Explanation, StepForecast, StepOutcome};

use super::Context;
use crate::{cmd::install::StrategyArg, exit::Failure, output::table};

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Which job; the active one, or an update that is still to be found, when it is not given.
    pub(crate) job: Option<String>,
    /// How it would be installed.
    #[arg(long, value_enum)]
    pub(crate) strategy: Option<StrategyArg>,
}

pub(crate) async fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let request = ExplainRequest { job_id: args.job, strategy: args.strategy.map(Into::into) };
    let explanation = context.client()?.explain(&request).await?;
    context.out.show(&explanation, shown)
}

fn shown(explanation: &Explanation) -> String {
    let mut text = explanation.message.clone();
    if let Some(duration) = &explanation.estimated_duration {
        text.push_str(&format!("\nIt takes about {duration} on this device."));
    }
    if !explanation.steps.is_empty() {
        let rows = explanation.steps.iter().map(step_row);
        text.push_str(&format!("\n\n{}", table(["STEP", "NOW", "NOT BEFORE", "HELD BACK BY"], rows)));
    }
    if !explanation.suggested_actions.is_empty() {
        text.push('\n');
        for action in &explanation.suggested_actions {
            text.push_str(&format!("\n- {action}"));
        }
    }
    text
}

fn step_row(step: &StepForecast) -> [String; 4] {
    let outcome = match step.outcome {
        StepOutcome::Allow => "allowed",
        StepOutcome::Wait => "waits",
        StepOutcome::Deny => "refused",
    };
    let reason = |block: &ota_api::jobs::Blocking| match &block.estimated_wait {
        Some(wait) => format!("{} ({}, about {wait})", block.constraint, block.status),
        None => format!("{} ({})", block.constraint, block.status),
    };
    [
        step.step.to_string(),
        outcome.to_owned(),
        step.not_before.map(|at| at.to_string()).unwrap_or_default(),
        step.reasons.iter().map(reason).collect::<Vec<_>>().join(", "),
    ]
}
