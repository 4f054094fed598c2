//! `ota-admin safety`.

use ota_api::safety::SafetyStatus;

use super::Context;
use crate::{
    exit::Failure,
    output::{facts, table},
};

pub(crate) async fn run(context: &mut Context) -> Result<(), Failure> {
    let status = context.client()?.safety().await?;
    context.out.show(&status, text)
}

fn text(status: &SafetyStatus) -> String {
    let window = &status.maintenance_window;
    let next = window.next_window.map_or_else(|| "none planned".into(), |at| format!("next at {at}"));
    let mut rows = vec![
        ("Update", if status.update_allowed { "allowed".into() } else { "blocked".into() }),
        ("Window", if window.active { "open".into() } else { format!("closed, {next}") }),
    ];
    if let Some(active) = &status.active_override {
        let names = active.constraints_overridden.join(", ");
        let (left, why) = (active.remaining_seconds, &active.reason);
        rows.push(("Override", format!("{names} for {left} s more: {why}")));
    }
    if let Some(open) = &status.proposed_override {
        let (names, by) = (open.constraints.join(", "), &open.by);
        let left = open.remaining_seconds;
        rows.push(("Proposed", format!("{by} asks to override {names}, for {left} s more: {}", open.reason)));
    }
    if let Some(window) = &status.service_window {
        rows.push((
            "Service",
            format!("people are at the machine until {} ({})", window.closes_at, window.name),
        ));
    }
    for lease in &status.inhibitors {
        rows.push(("Inhibitor", format!("{} until {}: {}", lease.owner, lease.expires_at, lease.reason)));
    }
    if status.constraints.is_empty() {
        return facts(rows);
    }
    let constraints = status.constraints.iter().map(|c| {
        [
            c.name.clone(),
            if c.overridden { format!("{} (overridden)", c.status) } else { c.status.to_string() },
            c.reading.clone(),
            c.since.map(|at| at.to_string()).unwrap_or_default(),
            c.blocks.iter().map(|step| step.as_str()).collect::<Vec<_>>().join(","),
            c.message.clone(),
        ]
    });
    let header = ["CONSTRAINT", "STATUS", "READING", "SINCE", "HOLDS BACK", "MESSAGE"];
    format!("{}\n\n{}", facts(rows), table(header, constraints))
}
