//! `ota-admin watch`: events as they happen, over reboots of the gateway.

use ota_api::ws::Message;
use ota_client::ws::{EventStream, Happening, Patience};
use serde_json::Value;

use super::Context;
use crate::exit::Failure;

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// First print what the gateway still has after this event.
    #[arg(long, value_name = "SEQ")]
    pub(crate) since: Option<u64>,
    /// End after this many events.
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<u64>,
}

pub(crate) async fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let client = context.client()?;
    let patience = Patience { give_up: context.pace.give_up, ..Patience::default() };
    let mut events = EventStream::open(&client, args.since, patience).await?;
    let mut left = args.count;
    while left != Some(0) {
        match events.next().await? {
            Happening::Message { message, raw, .. } => {
                context.out.element(&raw, |_| line(&message))?;
                left = left.map(|n| n - 1);
            }
            Happening::Unknown(raw) => {
                context.out.element(&raw, Value::to_string)?;
                left = left.map(|n| n - 1);
            }
            Happening::Lost { why } => context.out.note(&format!("connection lost: {why}; reconnecting"))?,
            Happening::Back => context.out.note("connected again")?,
        }
    }
    Ok(())
}

/// One event for people.
pub(super) fn line(message: &Message) -> String {
    match message {
        Message::ProgressUpdate(m) => format!(
            "{}  {}  {:>5.1} %  {}  {} of {}  {}",
            m.timestamp,
            m.job_id,
            m.progress,
            m.current_operation,
            m.details.bytes_written,
            m.details.bytes_total,
            m.details.speed
        ),
        Message::StatusChange(m) => {
            format!("{}  {}  {}: {}", m.timestamp, m.severity, m.system_status, m.message)
        }
        Message::SafetyAlert(m) => {
            let act = if m.action_required { format!(" ({})", m.suggested_action) } else { String::new() };
            format!("{}  {}  {} {}: {}{act}", m.timestamp, m.severity, m.constraint, m.status, m.message)
        }
        Message::JobComplete(m) => format!(
            "{}  {}  {}: {} ({}, {}, {})",
            m.timestamp, m.job_id, m.status, m.message, m.details.version, m.details.size, m.details.duration
        ),
        Message::SystemEvent(m) => {
            let countdown = m.countdown.map(|s| format!(" (in {s} s)")).unwrap_or_default();
            format!("{}  {}: {}{countdown}", m.timestamp, m.event, m.message)
        }
    }
}
