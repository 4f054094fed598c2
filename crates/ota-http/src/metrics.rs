//! Counters of the server, and the text that Prometheus reads.

use std::{
    fmt::Write as _,
    sync::atomic::{AtomicU64, Ordering},
};

use http::StatusCode;
use ota_core::safety::{ConstraintState, SafetyReport};
use ota_engine::SystemView;

/// Counters of the server.
#[derive(Default)]
pub(crate) struct Metrics {
    answers: [AtomicU64; 6],
    pub(crate) connections: AtomicU64,
    pub(crate) connections_refused: AtomicU64,
    pub(crate) connections_evicted: AtomicU64,
    pub(crate) web_sockets: AtomicU64,
    pub(crate) events_dropped: AtomicU64,
}

impl Metrics {
    pub(crate) fn answered(&self, status: StatusCode) {
        let class = usize::from(status.as_u16() / 100).min(5);
        self.answers[class].fetch_add(1, Ordering::Relaxed);
    }

    /// Prometheus text format 0.0.4.
    pub(crate) fn render(
        &self,
        status: Option<&SystemView>,
        safety: &SafetyReport,
        newest_event: u64,
    ) -> String {
        let mut out = String::new();
        let mut metric = |name: &str, kind: &str, help: &str, samples: &[(String, String)]| {
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
            for (labels, value) in samples {
                let _ = writeln!(out, "{name}{labels} {value}");
            }
        };
        let one = |value: u64| vec![(String::new(), value.to_string())];
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        metric("ota_up", "gauge", "Whether the daemon answers.", &one(1));
        let answers: Vec<_> = (1..6)
            .map(|class| (format!("{{class=\"{class}xx\"}}"), load(&self.answers[class]).to_string()))
            .collect();
        metric("ota_http_responses_total", "counter", "Answers by class of status.", &answers);
        metric("ota_http_connections", "gauge", "Open connections.", &one(load(&self.connections)));
        let refused = load(&self.connections_refused);
        metric(
            "ota_http_connections_refused_total",
            "counter",
            "Connections over the limits.",
            &one(refused),
        );
        let evicted = load(&self.connections_evicted);
        metric(
            "ota_http_connections_evicted_total",
            "counter",
            "Silent connections that made room.",
            &one(evicted),
        );
        metric("ota_websockets", "gauge", "Open WebSockets.", &one(load(&self.web_sockets)));
        let dropped = load(&self.events_dropped);
        metric("ota_events_dropped_total", "counter", "Events that slow readers lost.", &one(dropped));
        metric("ota_events_newest", "counter", "Number of the newest event.", &one(newest_event));
        let constraints: Vec<_> = safety
            .constraints
            .iter()
            .map(|c| {
                let ok = u8::from(c.state == ConstraintState::Ok);
                (format!("{{constraint=\"{}\"}}", escape(&c.name)), ok.to_string())
            })
            .collect();
        metric("ota_safety_constraint_ok", "gauge", "Whether a constraint holds.", &constraints);
        if let Some(view) = status {
            metric(
                "ota_active_job",
                "gauge",
                "Whether a job is active.",
                &one(view.active_job.is_some().into()),
            );
            metric(
                "ota_degraded",
                "gauge",
                "Reasons why the gateway cannot install.",
                &one(view.degraded.len() as u64),
            );
            let state = vec![(format!("{{state=\"{}\"}}", view.state.as_str()), "1".into())];
            metric("ota_system_state", "gauge", "State of the gateway.", &state);
            metric(
                "ota_disk_free_bytes",
                "gauge",
                "Free bytes in staging.",
                &one(view.resources.disk_free.get()),
            );
            let age = view.last_good_check.map(|at| view.now.since(at).as_secs());
            let age: Vec<_> = age.map(one).unwrap_or_default();
            metric("ota_last_good_check_age_seconds", "gauge", "Age of the last good check.", &age);
        }
        out
    }
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
