//! `ota-admin top`: the gateway on one live screen, or as a stream of documents for programs.
//!
//! Asks a few endpoints every interval and draws what they say; owns no state of the gateway. A gateway that goes away is shown as
//! away, with what was known last. Whatever ends it gives the terminal back as it was.

use std::{collections::VecDeque, time::Duration};

use anyhow::Context as _;
use nix::sys::signal::{Signal, raise};
use ota_api::{safety::SafetyStatus, system::SystemStatus, updates::ProgressResponse, ws::EventPage};
use ota_client::{Client, ClientError};
use serde::Serialize;
use tokio::signal::unix::{self, SignalKind};

use super::{Context, status::next, watch};
use crate::{
    exit::Failure,
    output::{Output, facts, flat_table, one_line},
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
    let mut picture = Picture::default();
    // Who does not answer at first is told of in a line and by the exit code, before there is a screen.
    picture.look(&client).await?;
    if !context.out.opens_screen() {
        return look_on(&client, &args, picture, &mut context.out, None).await;
    }
    let signals = Signals::listen()?;
    context.out.screen_on()?;
    let shown = look_on(&client, &args, picture, &mut context.out, Some(signals)).await;
    let given_back = context.out.screen_off();
    shown.and(given_back)
}

/// Shows what is known, look after look; with `signals` on a screen of its own.
async fn look_on(
    client: &Client,
    args: &Args,
    mut picture: Picture,
    out: &mut Output,
    mut signals: Option<Signals>,
) -> Result<(), Failure> {
    let mut looks = 1;
    loop {
        if signals.is_some() {
            let text = frame(&picture, out.rows());
            out.frame(&text)?;
        } else {
            let gap = if looks > 1 { "\n" } else { "" };
            out.element(&picture, |picture| format!("{gap}{}", frame(picture, None)))?;
        }
        if args.count.is_some_and(|count| looks >= count) {
            return Ok(());
        }
        let next = async {
            tokio::time::sleep(Duration::from_secs(args.interval)).await;
            picture.look_again(client).await
        };
        tokio::select! {
            looked = next => {
                looked?;
                looks += 1;
            }
            signal = signal_of(&mut signals) => stop(signal, out)?,
        }
    }
}

/// What ends or stops a program that has taken the screen. Without one nobody listens, and a signal does what it always does.
struct Signals {
    interrupt: unix::Signal,
    terminate: unix::Signal,
    hang_up: unix::Signal,
    suspend: unix::Signal,
}

impl Signals {
    fn listen() -> Result<Self, Failure> {
        let listen = |kind| unix::signal(kind).context("listening to signals");
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hang_up: listen(SignalKind::hangup())?,
            suspend: listen(SignalKind::from_raw(Signal::SIGTSTP as i32))?,
        })
    }
}

/// The next one that comes.
async fn signal_of(signals: &mut Option<Signals>) -> Signal {
    let Some(signals) = signals else { return std::future::pending().await };
    tokio::select! {
        _ = signals.interrupt.recv() => Signal::SIGINT,
        _ = signals.terminate.recv() => Signal::SIGTERM,
        _ = signals.hang_up.recv() => Signal::SIGHUP,
        _ = signals.suspend.recv() => Signal::SIGTSTP,
    }
}

/// Stops with the screen given back and takes it again afterwards; every other signal is the end.
fn stop(signal: Signal, out: &mut Output) -> Result<(), Failure> {
    if signal != Signal::SIGTSTP {
        return Err(Failure::Killed { signal: u8::try_from(signal as i32).unwrap_or_default() });
    }
    out.screen_off()?;
    raise(Signal::SIGSTOP).context("stopping")?;
    out.screen_on()
}

impl Picture {
    /// One more look at a gateway that has answered before: that it is away is then something to show.
    async fn look_again(&mut self, client: &Client) -> Result<(), ClientError> {
        match self.look(client).await {
            // Another answer is none that the next look could change: a wrong token, another program.
            Err(error) if error.may_pass() => {
                (self.reachable, self.why) = (false, Some(error.chain()));
                Ok(())
            }
            looked => looked,
        }
    }

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
        self.events.extend(told.map(|event| one_line(&watch::line(event))));
        while self.events.len() > EVENTS {
            self.events.pop_front();
        }
    }
}

/// What is shown, in one line less than a screen has. The older events make way first, then the lines at the end.
fn frame(picture: &Picture, rows: Option<usize>) -> String {
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
    let text = parts.join("\n\n");
    let mut lines: Vec<&str> = text.lines().collect();
    let room = rows.map_or(usize::MAX, |rows| rows.saturating_sub(1));
    // With them come an empty line and their heading.
    let newest = picture.events.len().min(room.saturating_sub(lines.len() + 2));
    if newest > 0 {
        lines.extend(["", "EVENTS"]);
        lines.extend(picture.events.iter().skip(picture.events.len() - newest).map(String::as_str));
    }
    let hidden = lines.len().saturating_sub(room);
    if hidden == 0 {
        return lines.join("\n");
    }
    lines.truncate(room.saturating_sub(1));
    let more = format!("({} more lines on a taller screen)", hidden + 1);
    lines.push(&more);
    lines.join("\n")
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
    flat_table(["SLOT", "ROLE", "VERSION", "STATE", "NEXT"], rows)
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
        [c.name.clone(), status, c.reading.clone(), c.message.clone()]
    };
    let lights =
        flat_table(["CONSTRAINT", "STATUS", "READING", "MESSAGE"], safety.constraints.iter().map(light));
    format!("{}\n{lights}", facts(rows))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

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

    /// A gateway with that many constraints, and events `1` to `8`.
    fn busy(constraints: usize) -> Picture {
        let crane = json!({"name": "crane", "status": "violated", "message": "moves\nsince noon", "reading": "moving",
            "severity": "warning", "overridable": true, "overridden": false, "blocks": ["write"], "resolution": "Wait"});
        let safety = json!({"update_allowed": false, "constraints": vec![crane; constraints],
            "maintenance_window": {"active": false, "next_window": null}});
        let events = (1..=8).map(|number| format!("event {number}")).collect();
        Picture { safety: serde_json::from_value(safety).unwrap(), events, ..Picture::default() }
    }

    #[test]
    fn a_frame_fits_its_screen_and_the_older_events_make_way_first() {
        let whole = frame(&busy(3), None);
        let lines: Vec<&str> = whole.lines().collect();
        // Sums, the heading of the constraints, three of them, an empty line, the heading of the events, eight of them.
        assert_eq!(lines.len(), 15, "{whole}");
        assert!(lines[2].ends_with("moves since noon"), "{whole}");
        assert_eq!(frame(&busy(3), Some(16)), whole);

        let short = frame(&busy(3), Some(11));
        assert_eq!(short.lines().count(), 10, "{short}");
        assert_eq!(short.lines().skip(6).collect::<Vec<_>>(), ["EVENTS", "event 6", "event 7", "event 8"]);
        assert!(!frame(&busy(3), Some(8)).contains("EVENTS"), "no heading without events");

        let cut = frame(&busy(30), Some(24));
        assert_eq!(cut.lines().count(), 23, "{cut}");
        assert!(cut.starts_with("Updates") && cut.ends_with("\n(10 more lines on a taller screen)"), "{cut}");
    }

    #[test]
    fn a_gateway_that_went_away_is_shown_as_away_above_what_it_said_last() {
        let why = Some("connection refused".into());
        let text = frame(&Picture { why, ..busy(1) }, None);
        assert!(text.starts_with("AWAY: the gateway does not answer (connection refused)"), "{text}");
        assert!(text.contains("moves since noon"), "{text}");
    }
}
