//! Whole runs of the command line against a stand-in gateway: what is printed, and the exit code.

mod commands;
mod endpoints;
mod fake;
mod help;
mod pin;
mod pipes;
mod profiles;
mod release;
mod safety;
mod shown;
mod update;
mod user_data;
mod verdict;

use std::{
    io::{self, Write},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ota_api::updates::ProgressResponse;
use ota_core::Timestamp;
use serde_json::json;

use crate::{cli::Cli, cmd, connect::Environment, follow::Pace, output::Output};

/// 2025-03-15T10:30:45Z.
const NOW: Timestamp = Timestamp::from_secs(1_742_034_645);

/// What was printed.
#[derive(Clone, Default)]
pub(crate) struct Seen {
    pub(crate) results: Memory,
    pub(crate) messages: Memory,
}

impl Seen {
    pub(crate) fn results(&self) -> String {
        self.results.text()
    }

    pub(crate) fn messages(&self) -> String {
        self.messages.text()
    }
}

#[derive(Clone, Default)]
pub(crate) struct Memory {
    bytes: Arc<Mutex<Vec<u8>>>,
    closed: Arc<AtomicBool>,
}

impl Memory {
    fn text(&self) -> String {
        String::from_utf8(self.bytes.lock().unwrap().clone()).unwrap()
    }

    /// Who reads goes away.
    fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }
}

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.closed.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.bytes.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How a run ended.
struct Run {
    exit: u8,
    out: String,
    err: String,
}

/// Runs `ota-admin ARGS` inside this process.
async fn run(args: &[&str]) -> Run {
    run_at(args, NOW).await
}

/// The same at another time.
async fn run_at(args: &[&str], now: Timestamp) -> Run {
    run_in(args, Environment { token: Some("s3cret".into()), ..Environment::default() }, now).await
}

/// The same in another environment.
async fn run_in(args: &[&str], environment: Environment, now: Timestamp) -> Run {
    run_watched(args, environment, now, drop).await
}

/// The same; `watch` gets what is printed, as it comes.
async fn run_watched(
    args: &[&str],
    environment: Environment,
    now: Timestamp,
    watch: impl FnOnce(Seen),
) -> Run {
    let cli = Cli::read([&["ota-admin"], args].concat()).unwrap_or_else(|e| panic!("{e}"));
    let pace = Pace { poll: Duration::from_millis(2), give_up: Duration::from_secs(20) };
    let mut kept = None;
    let output = |format| {
        let (out, seen) = Output::captured(format);
        watch(seen.clone());
        kept = Some(seen);
        out
    };
    let (mut out, outcome) = cmd::start(cli, environment, output, now, pace).await;
    let exit = crate::end(&mut out, outcome);
    let seen = kept.unwrap();
    Run { exit, out: seen.results(), err: seen.messages() }
}

/// A progress answer.
pub(crate) fn progress(status: &str, percent: f64) -> ProgressResponse {
    serde_json::from_value(progress_json(status, percent)).unwrap()
}

pub(crate) fn progress_json(status: &str, percent: f64) -> serde_json::Value {
    json!({
        "job_id": "OTA-JOB-8821X", "status": status,
        "progress": {"percentage": percent, "bytes_downloaded": 295_000_000, "bytes_total": 452_000_000,
                     "speed": "5.2MB/s", "bytes_per_second": 5_200_000},
        "current_operation": "Downloading update package", "eta": "00:02:15", "eta_seconds": 135,
        "version": "v5.0.5", "target_partition": "B",
        "ended": matches!(status, "succeeded" | "failed" | "cancelled" | "rolled_back"),
        "updated_at": "2025-03-15T10:30:45Z"
    })
}
