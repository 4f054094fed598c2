//! `ota-admin top`: the gateway on one live screen, or as a stream of documents for programs.
//!
//! Asks a few endpoints every interval and draws what they say; owns no state of the gateway. A gateway that is away is shown as
//! away, with what was known last.

use std::{collections::VecDeque, time::Duration};

use ota_api::{safety::SafetyStatus, system::SystemStatus, updates::ProgressResponse, ws::EventPage};
use ota_client::{Client, ClientError};
use serde::Serialize;

use super::{Context, status::next, watch};
use crate::{
    exit::Failure,
    output::{facts, plain, table},
};

/// Speeds that the curve shows.
const CURVE: usize = 60;
/// Events that are listed.
const EVENTS: usize = 8;

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Seconds between two looks.
    #[arg(long, short = 'i', default_value = "1", value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) interval: u64,
    /// End after this many looks; without, Ctrl-C ends it.
    #[arg(long, short = 'n', value_name = "N")]
    pub(crate) count: Option<u64>,
}

/// What is known of the gateway; a line of `-o jsonl` is one of these.
#[derive(Default, Serialize)]
struct Picture {
    /// Whether the last look got answers.
    reachable: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    status: Option<SystemStatus>,
    safety: Option<SafetyStatus>,
    /// The active job.
    progress: Option<ProgressResponse>,
    #[serde(skip)]
    speeds: VecDeque<u64>,
    #[serde(skip)]
    events: VecDeque<String>,
    #[serde(skip)]
    seen: Option<u64>,
}

pub(crate) async fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let client = context.client()?;
    let screen = context.out.opens_screen();
    if screen {
        context.out.screen_on()?;
    }
    let shown = tokio::select! {
        shown = look_on(&client, &args, context, screen) => shown,
        _ = tokio::signal::ctrl_c() => Ok(()),
    };
    if screen {
        context.out.screen_off()?;
    }
    shown
}

async fn look_on(client: &Client, args: &Args, context: &mut Context, screen: bool) -> Result<(), Failure> {
    let mut picture = Picture::default();
    let mut left = args.count;
    loop {
        if let Err(error) = picture.look(client).await {
            // Not an answer that the next look could change: a wrong token, another program.
            if !error.may_pass() {
                return Err(error.into());
            }
            (picture.reachable, picture.why) = (false, Some(error.chain()));
        }
        if screen {
            context.out.frame(&frame(&picture))?;
        } else {
            context.out.element(&picture, |picture| frame(picture) + "\n")?;
        }
        left = left.map(|n| n.saturating_sub(1));
        if left == Some(0) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_secs(args.interval)).await;
    }
}

impl Picture {
    async fn look(&mut self, client: &Client) -> Result<(), ClientError> {
        let status = client.status().await?;
        self.progress = match &status.active_job {
            // It may have ended between the two questions.
            Some(job) => client.progress(Some(job)).await.ok().filter(|progress| !progress.ended),
            None => None,
        };
        self.status = Some(status);
        self.safety = Some(client.safety().await?);
        let page = client.all_events(self.seen).await?;
        self.take(page);
        let speed = self.progress.as_ref().map_or(0, |progress| progress.progress.bytes_per_second);
        self.speeds.push_back(speed);
        while self.speeds.len() > CURVE {
            self.speeds.pop_front();
        }
        (self.reachable, self.why) = (true, None);
        Ok(())
    }

    fn take(&mut self, page: EventPage) {
        self.seen = Some(page.next);
        let told =
            page.events.iter().filter(|event| !matches!(event, ota_api::ws::Message::ProgressUpdate(_)));
        self.events.extend(told.map(watch::line));
        while self.events.len() > EVENTS {
            self.events.pop_front();
        }
    }
}

/// The screen.
fn frame(picture: &Picture) -> String {
    let mut parts = Vec::new();
    if let Some(why) = &picture.why {
        parts.push(format!("AWAY: the gateway does not answer ({why}); what follows is what it said last"));
    }
    if let Some(status) = &picture.status {
        parts.push(head(status));
        parts.push(slots(status));
    }
    if let Some(progress) = &picture.progress {
        parts.push(job(progress, &picture.speeds));
    }
    if let Some(safety) = &picture.safety {
        parts.push(lights(safety));
    }
    if !picture.events.is_empty() {
        let lines: Vec<&str> = picture.events.iter().map(String::as_str).collect();
        parts.push(format!("EVENTS\n{}", lines.join("\n")));
    }
    parts.join("\n\n")
}

fn head(status: &SystemStatus) -> String {
    let gateway = &status.gateway;
    let resources = &status.resources;
    let megabytes = |bytes: u64| ota_api::text::megabytes(ota_core::ByteCount(bytes));
    let mut rows = vec![
        (
            "Gateway",
            format!("{} ({}, {})  {}", gateway.name, gateway.model, gateway.serial, status.timestamp),
        ),
        ("State", status.system_status.to_string()),
        (
            "Free",
            format!(
                "disk {}, memory {}, load {:.2}",
                megabytes(resources.disk_free),
                megabytes(resources.memory_free),
                resources.cpu_load
            ),
        ),
    ];
    rows.extend(status.degraded.iter().map(|why| ("Degraded", why.message.clone())));
    facts(rows)
}

fn slots(status: &SystemStatus) -> String {
    let pairs = [("running", &status.partitions.active), ("other", &status.partitions.inactive)];
    let rows = pairs.into_iter().filter_map(|(role, slot)| {
        let slot = slot.as_ref()?;
        let version = slot.version.clone().unwrap_or_else(|| "unknown".into());
        Some([slot.name.to_string(), role.into(), version, slot.state.to_string(), next(slot, status).into()])
    });
    table(["SLOT", "ROLE", "VERSION", "STATE", "NEXT"], rows)
}

fn job(progress: &ProgressResponse, speeds: &VecDeque<u64>) -> String {
    let numbers = &progress.progress;
    let mut text = format!(
        "JOB {}  {} to {} on {}\n{} {:>5.1} %  {}  {} left\n{}",
        progress.job_id,
        progress.status,
        progress.version,
        progress.target_partition,
        bar(numbers.percentage),
        numbers.percentage,
        numbers.speed,
        progress.eta,
        progress.current_operation,
    );
    if let Some(waiting) = &progress.waiting_for {
        let names = waiting.constraints.iter().map(|c| c.constraint.as_str());
        text.push_str(&format!("\nwaits for {} {}", waiting.reason, names.collect::<Vec<_>>().join(", ")));
    }
    if speeds.iter().any(|speed| *speed > 0) {
        text.push_str(&format!("\n{}", curve(speeds)));
    }
    text
}

/// Forty cells.
fn bar(percent: f64) -> String {
    let full = (0..40u32).filter(|cell| percent >= f64::from(cell + 1) * 2.5).count();
    format!("[{}{}]", "#".repeat(full), "-".repeat(40 - full))
}

/// One cell for each speed, the tallest is the greatest.
fn curve(speeds: &VecDeque<u64>) -> String {
    const CELLS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let greatest = speeds.iter().copied().max().unwrap_or(0).max(1);
    let cell = |speed: &u64| {
        let eighth = usize::try_from(u128::from(*speed) * 7 / u128::from(greatest)).unwrap_or(0);
        CELLS[eighth.min(7)]
    };
    speeds.iter().map(cell).collect()
}

fn lights(safety: &SafetyStatus) -> String {
    let mut rows =
        vec![("Updates", if safety.update_allowed { "allowed".into() } else { "held back".into() })];
    if let Some(active) = &safety.active_override {
        rows.push(("Override", format!("{} s left: {}", active.remaining_seconds, active.reason)));
    }
    if let Some(open) = &safety.proposed_override {
        rows.push(("Proposed", format!("{} asks to override: {}", open.by, open.reason)));
    }
    if let Some(window) = &safety.service_window {
        rows.push(("Service", format!("people are at the machine until {}", window.closes_at)));
    }
    rows.extend(
        safety.inhibitors.iter().map(|lease| ("Inhibitor", format!("{}: {}", lease.owner, lease.reason))),
    );
    if safety.constraints.is_empty() {
        return facts(rows);
    }
    let light = |c: &ota_api::safety::Constraint| {
        let status = if c.overridden { format!("{} (overridden)", c.status) } else { c.status.to_string() };
        [c.name.clone(), status, c.reading.clone(), plain(&c.message)]
    };
    let lights = table(["CONSTRAINT", "STATUS", "READING", "MESSAGE"], safety.constraints.iter().map(light));
    format!("{}\n{lights}", facts(rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_empty_full_and_in_between() {
        assert_eq!(bar(0.0), format!("[{}]", "-".repeat(40)));
        assert_eq!(bar(100.0), format!("[{}]", "#".repeat(40)));
        assert_eq!(bar(50.0).matches('#').count(), 20);
    }

    #[test]
    fn a_curve_reaches_from_the_floor_to_the_greatest_speed() {
        assert_eq!(curve(&VecDeque::from([0, 50, 100])), "▁▄█");
        assert_eq!(curve(&VecDeque::from([u64::MAX, 0])), "█▁");
    }
}
