//! Counters of the server, and what Prometheus is told of the whole gateway. How that is written is left to `text`.
//!
//! Everything but the counters is asked for at the moment of the request: there is no second copy that could be stale.

mod format;
mod text;

use std::sync::atomic::{AtomicU64, Ordering};

use http::StatusCode;
use ota_core::{
    job::{Job, JobStatus},
    ports::JobPage,
    safety::{ConstraintState, SafetyReport},
};
use ota_engine::{JobView, SystemView, Totals};

use crate::{app::App, bundle::ProcessFigures, pin::PinFigures};
pub(crate) use format::Format;
use text::Text;

/// Jobs of the history that are counted by state.
const JOBS: u32 = 200;

/// Counters of the server.
#[derive(Default)]
pub(crate) struct Metrics {
    answers: [AtomicU64; 6],
    pub(crate) connections: AtomicU64,
    pub(crate) connections_refused: AtomicU64,
    pub(crate) connections_evicted: AtomicU64,
    pub(crate) web_sockets: AtomicU64,
    pub(crate) events_dropped: AtomicU64,
    pub(crate) uploaded_bytes: AtomicU64,
}

impl Metrics {
    pub(crate) fn answered(&self, status: StatusCode) {
        let class = usize::from(status.as_u16() / 100).min(5);
        self.answers[class].fetch_add(1, Ordering::Relaxed);
    }
}

/// What is asked for at a request. What cannot be told is left out, so that a gateway in trouble still answers.
struct Figures {
    view: Option<SystemView>,
    jobs: Option<JobPage>,
    active: Option<JobView>,
    totals: Option<Totals>,
    safety: SafetyReport,
    audit: Option<u64>,
    pin: Option<PinFigures>,
    process: Option<ProcessFigures>,
    events: u64,
}

/// All of it.
pub(crate) async fn render(app: &App, format: Format) -> String {
    let diagnostics = std::sync::Arc::clone(&app.diagnostics);
    let figures = Figures {
        view: app.engine.status().await.ok(),
        jobs: app.engine.jobs(0, JOBS).await.ok(),
        active: app.engine.progress(None).await.ok(),
        totals: app.engine.totals().await.ok(),
        safety: app.engine.safety(),
        audit: app.auditor.newest().await.ok(),
        pin: app.pin.figures().await.ok(),
        process: crate::app::blocking(move || diagnostics.process()).await.ok().flatten(),
        events: app.engine.bus().newest(),
    };
    let mut text = Text::new(format);
    server(&mut text, &app.metrics, &figures);
    gateway(&mut text, app, &figures);
    jobs(&mut text, &figures);
    if let Some(sums) = &figures.totals {
        totals(&mut text, sums);
    }
    safety(&mut text, &figures.safety);
    if let Some(process) = &figures.process {
        process_figures(&mut text, process);
    }
    text.done()
}

fn server(text: &mut Text, metrics: &Metrics, figures: &Figures) {
    let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    text.gauge("ota_up", "Whether the daemon answers.", 1_u8);
    let mut answers = text.counters("ota_http_responses_total", "Answers by class of status.");
    for (class, counter) in ["1xx", "2xx", "3xx", "4xx", "5xx"].into_iter().zip(&metrics.answers[1..]) {
        answers.sample(&[("class", class)], load(counter));
    }
    text.gauge("ota_http_connections", "Open connections.", load(&metrics.connections));
    let refused = load(&metrics.connections_refused);
    text.counter("ota_http_connections_refused_total", "Connections over the limits.", refused);
    let evicted = load(&metrics.connections_evicted);
    text.counter("ota_http_connections_evicted_total", "Silent connections that made room.", evicted);
    text.gauge("ota_websocket_clients", "Open WebSockets.", load(&metrics.web_sockets));
    text.counter("ota_events_total", "Events that were published.", figures.events);
    let dropped = load(&metrics.events_dropped);
    text.counter("ota_events_dropped_total", "Events that slow readers lost.", dropped);
    let uploaded = load(&metrics.uploaded_bytes);
    text.counter("ota_uploaded_bytes_total", "Bytes of uploads that arrived.", uploaded);
    if let Some(newest) = figures.audit {
        text.counter("ota_audit_records_total", "Records of the audit that were ever written.", newest);
    }
    if let Some(pin) = &figures.pin {
        text.counter(
            "ota_pin_failures_total",
            "Wrong or missing PINs since the daemon started.",
            pin.failures,
        );
        text.gauge("ota_pin_locked", "Whether the PIN is locked.", u8::from(pin.locked));
    }
}

fn gateway(text: &mut Text, app: &App, figures: &Figures) {
    let identity = app.engine.identity();
    text.gauges("ota_build_info", "The daemon's version.")
        .sample(&[("version", env!("CARGO_PKG_VERSION"))], 1_u8);
    let mut info = text.gauges("ota_gateway_info", "Who this gateway is.");
    let who = [("name", &*identity.name), ("model", &*identity.model), ("serial", &*identity.serial)];
    info.sample(&who, 1_u8);
    let Some(view) = &figures.view else { return };
    let mut slots = text.gauges("ota_slot_info", "What is in the slots; active is the running one.");
    for (role, slot) in [("active", &view.active), ("inactive", &view.inactive)] {
        let Some(slot) = slot else { continue };
        let version = slot.record.version.as_ref().map(ToString::to_string).unwrap_or_default();
        let letter = slot.slot.to_string();
        let state = ota_api::words::PartitionState::from(slot.state).as_str();
        let labels = [("slot", &*letter), ("role", role), ("version", &*version), ("state", state)];
        slots.sample(&labels, 1_u8);
    }
    text.gauge("ota_degraded", "Reasons why the gateway cannot install.", view.degraded.len());
    text.gauges("ota_system_state", "State of the gateway.").sample(&[("state", view.state.as_str())], 1_u8);
    text.gauge("ota_disk_free_bytes", "Free bytes in staging.", view.resources.disk_free.get());
    text.gauge("ota_memory_free_bytes", "Available memory.", view.resources.memory_free.get());
    text.gauge("ota_load_ratio", "One-minute load average by processor.", view.resources.cpu_load);
    let age = view.last_good_check.map(|at| view.now.since(at).as_secs());
    text.gauge_if("ota_last_good_check_age_seconds", "Age of the last good check.", age);
}

fn jobs(text: &mut Text, figures: &Figures) {
    let active = figures.active.as_ref();
    text.gauge("ota_active_job", "Whether a job is active.", u8::from(active.is_some()));
    let mut info = text.gauges("ota_active_job_info", "The job that has not ended.");
    if let Some(view) = active {
        let status = view.job.state.status().as_str();
        info.sample(&[("job_id", &*view.job.id.to_string()), ("state", status)], 1_u8);
    }
    let live = active.and_then(|view| view.live);
    let done = live.map(|live| live.current.get());
    text.gauge_if("ota_active_job_done_bytes", "Bytes done of the present phase.", done);
    let size = live.map(|live| live.total.get());
    text.gauge_if("ota_active_job_size_bytes", "Bytes of the present phase.", size);
    let speed = live.and_then(|live| live.bytes_per_second);
    text.gauge_if("ota_active_job_speed_bytes_per_second", "Recent speed.", speed);
    let Some(page) = &figures.jobs else { return };
    text.gauge("ota_jobs", "Jobs that the history keeps.", page.total);
    let mut by_state = text.gauges("ota_recent_jobs", "Of the last 200 jobs, how many are in a state.");
    for state in JobStatus::ALL {
        let count = page.jobs.iter().filter(|job| job.state.status() == state).count();
        by_state.sample(&[("state", state.as_str())], count);
    }
    last_job(text, page.jobs.iter().find(|job| job.state.status().is_end()));
}

/// How the newest job that ended went.
fn last_job(text: &mut Text, job: Option<&Job>) {
    let state = job.map_or("", |job| job.state.status().as_str());
    let took = job.map(|job| job.updated.since(job.created).as_secs_f64());
    let mut took_seconds =
        text.gauges("ota_last_job_duration_seconds", "From the request to the end of the last ended job.");
    took.into_iter().for_each(|took| took_seconds.sample(&[("state", state)], took));
    let mut end = text.gauges("ota_last_job_end_timestamp_seconds", "When the last ended job ended.");
    job.into_iter().for_each(|job| end.sample(&[("state", state)], job.updated.as_secs()));
    let size = job.and_then(|job| job.image.as_ref()).map(|image| image.size.get());
    text.gauge_if("ota_last_job_image_bytes", "Length of the last ended job's image.", size);
}

fn totals(text: &mut Text, totals: &Totals) {
    let (downloaded, written) = (totals.downloaded.get(), totals.written.get());
    text.counter(
        "ota_downloaded_bytes_total",
        "Bytes of images that arrived from update servers.",
        downloaded,
    );
    text.counter("ota_written_bytes_total", "Bytes of images that were written to slots.", written);
    let mut ended = text.counters("ota_jobs_ended_total", "Jobs that ended.");
    for sum in &totals.ended {
        ended.sample(&[("state", sum.state.as_str())], sum.jobs);
    }
    let mut took = text.counters(
        "ota_job_duration_seconds_total",
        "What the jobs that ended took together, each from the request to its end.",
    );
    for sum in &totals.ended {
        took.sample(&[("state", sum.state.as_str())], sum.took.as_secs_f64());
    }
}

fn safety(text: &mut Text, report: &SafetyReport) {
    let all = &report.constraints;
    let mut ok = text.gauges("ota_safety_constraint_ok", "Whether a constraint holds.");
    for constraint in all {
        ok.sample(&[("constraint", &constraint.name)], u8::from(constraint.state == ConstraintState::Ok));
    }
    let mut known = text.gauges("ota_safety_constraint_known", "Whether there is a usable sample for it.");
    for constraint in all {
        let sampled = constraint.state != ConstraintState::Unknown;
        known.sample(&[("constraint", &constraint.name)], u8::from(sampled));
    }
    let mut values =
        text.gauges("ota_safety_constraint_value", "Its newest reading, where that is a number.");
    for constraint in all {
        if let Some(value) = constraint.value {
            values.sample(&[("constraint", &*constraint.name), ("unit", &*constraint.unit)], value);
        }
    }
    let active = u8::from(report.active_override.is_some());
    text.gauge("ota_safety_override_active", "Whether an override is on.", active);
    text.gauge("ota_safety_inhibitors", "Leases that hold updates back.", report.inhibitors.len());
    let open = u8::from(report.update_window.is_some());
    text.gauge("ota_update_window_open", "Whether an update window is open.", open);
    let people = u8::from(report.service_window.is_some());
    text.gauge("ota_service_window_open", "Whether people are at the machine.", people);
    let trusted = u8::from(report.clock_trusted);
    text.gauge("ota_clock_trusted", "Whether the wall clock is believed.", trusted);
}

/// By the names that every Prometheus client library uses.
fn process_figures(text: &mut Text, process: &ProcessFigures) {
    text.counter("process_cpu_seconds_total", "CPU time of the daemon.", process.cpu_seconds);
    text.gauge("process_resident_memory_bytes", "Resident memory.", process.resident_bytes);
    text.gauge("process_virtual_memory_bytes", "Virtual memory.", process.virtual_bytes);
    text.gauge("process_open_fds", "Open file descriptors.", process.open_fds);
    text.gauge("process_max_fds", "Most file descriptors.", process.max_fds);
    text.gauge("process_threads", "Threads.", process.threads);
    text.gauge("process_start_time_seconds", "Start of the daemon since 1970.", process.started);
}
