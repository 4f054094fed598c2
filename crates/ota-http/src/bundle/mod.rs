//! The debug bundle: what somebody far away needs to see what is wrong, in one archive, without a secret in it.
//!
//! Owns what goes in and how it is packed. Secrets stay out twice: what writes a text leaves them out, and every text goes
//! through [`redact::Redactor`] on its way into the archive. One text is in memory at a time.

mod archive;
mod redact;

use std::{io, sync::Arc};

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::header;
use ota_api::{auth::Secret, jobs::JobInfo, text, ws::Message};
use ota_core::{OtaError, Timestamp};
use serde::Serialize;
use serde_json::json;
use tokio::sync::mpsc;

use self::archive::Archive;
pub(crate) use self::redact::Redactor;
use crate::{app::App, app::blocking, show, status::Refusal};

/// Jobs, newest first.
const JOBS: u32 = 100;
/// Audit records, the newest.
const AUDIT: u32 = 2000;
/// Pieces of the archive that wait for a slow reader.
const AHEAD: usize = 4;

/// What the daemon knows beside what the API tells: logs, configuration, boot environment, versions. Blocking.
pub trait Diagnostics: Send + Sync {
    /// Gives `put` one text after the other: its file name, and the text or why there is none. `put` says whether more
    /// is wanted. Secrets are left out already.
    fn collect(&self, put: &mut dyn FnMut(&str, Result<String, String>) -> bool);

    /// Secrets in the daemon's configuration, which must not be found in a bundle in any encoding.
    fn secrets(&self) -> Vec<Secret>;

    /// What the operating system says of the daemon's process, for `/metrics`; `None` where it does not.
    fn process(&self) -> Option<ProcessFigures> {
        None
    }
}

/// What the daemon's process takes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ProcessFigures {
    /// Seconds of CPU time.
    pub cpu_seconds: f64,
    /// Bytes of memory that are resident.
    pub resident_bytes: u64,
    /// Bytes of address space.
    pub virtual_bytes: u64,
    /// Descriptors that are open.
    pub open_fds: u64,
    /// Most that may be.
    pub max_fds: u64,
    /// Threads.
    pub threads: u64,
    /// When it started, seconds since 1970.
    pub started: f64,
}

/// Nothing to add.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoDiagnostics;

impl Diagnostics for NoDiagnostics {
    fn collect(&self, _: &mut dyn FnMut(&str, Result<String, String>) -> bool) {}

    fn secrets(&self) -> Vec<Secret> {
        Vec::new()
    }
}

/// Makes a bundle and streams it as it is made.
///
/// # Errors
/// `SystemBusy` (OTA_014) while another one is made.
pub(crate) async fn stream(app: &App) -> Result<Response, Refusal> {
    let permit = Arc::clone(&app.bundling)
        .try_acquire_owned()
        .map_err(|_| OtaError::SystemBusy { with: "another debug bundle".into() })?;
    let now = app.clock.wall();
    let own = own_texts(app, now).await?;
    let folder = folder(&app.engine.status().await.map(|view| view.identity.name).unwrap_or_default(), now);
    let file = format!("attachment; filename=\"{folder}.tar.gz\"");
    let (pieces, mut arriving) = mpsc::channel::<io::Result<Bytes>>(AHEAD);
    let diagnostics = Arc::clone(&app.diagnostics);
    tokio::task::spawn_blocking(move || {
        let redactor = Redactor::new(diagnostics.secrets().iter().map(Secret::expose));
        let mut archive = Archive::new(pieces.clone(), folder, now, redactor);
        let mut result = own.into_iter().try_for_each(|(name, text)| archive.add(&name, &text));
        diagnostics.collect(&mut |name, text| {
            let text = text.unwrap_or_else(|why| format!("not available: {why}\n"));
            if result.is_ok() {
                result = archive.add(name, &text);
            }
            result.is_ok()
        });
        // Whoever reads must not take a part for the whole.
        if let Err(error) = result.and_then(|()| archive.finish()) {
            let _ = pieces.blocking_send(Err(error));
        }
        drop(permit);
    });
    let body = futures_util::stream::poll_fn(move |cx| arriving.poll_recv(cx));
    let headers =
        [(header::CONTENT_TYPE, "application/gzip".to_owned()), (header::CONTENT_DISPOSITION, file)];
    Ok((headers, Body::from_stream(body)).into_response())
}

/// `debug-<gateway>-<time>`, of characters that every file system takes.
fn folder(gateway: &str, now: Timestamp) -> String {
    let name: String = gateway
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' })
        .take(48)
        .collect();
    let time: String = text::rfc3339(now).chars().filter(char::is_ascii_alphanumeric).collect();
    format!("debug-{name}-{time}")
}

/// What the API itself tells. What cannot be read is said in place of it, so that a sick gateway has a bundle too.
async fn own_texts(app: &App, now: Timestamp) -> Result<Vec<(String, String)>, Refusal> {
    let mut texts = Vec::new();
    let mut put = |name: &str, text: Result<String, String>| {
        texts.push((name.to_owned(), text.unwrap_or_else(|why| format!("not available: {why}\n"))));
    };
    let status = app.engine.status().await;
    put(
        "status.json",
        status.as_ref().map_err(ToString::to_string).and_then(|view| pretty(&show::system(view))),
    );
    put("safety.json", pretty(&ota_api::safety::SafetyStatus::from(&app.engine.safety())));
    let metrics = crate::metrics::render(app, crate::metrics::Format::default()).await;
    put("metrics.txt", Ok(metrics));
    let jobs = app.engine.jobs(0, JOBS).await.map_err(|error| error.to_string());
    put(
        "jobs.json",
        jobs.and_then(|page| pretty(&page.jobs.iter().map(JobInfo::from).collect::<Vec<JobInfo>>())),
    );
    let (_, events) = app.engine.bus().since(0, usize::MAX);
    put("events.jsonl", lines(events.iter().map(Message::from)));
    let tail = app.auditor.tail(AUDIT).await;
    let rows = tail.as_ref().map_err(ToString::to_string);
    put("audit.jsonl", rows.and_then(|rows| lines(rows.iter().map(ota_api::audit::AuditRow::from))));
    let chain = app.auditor.verify().await.map_err(|error| error.to_string());
    put(
        "audit-verify.json",
        chain.and_then(|verdict| {
            pretty(&json!({
                "intact": verdict.is_ok(), "first_bad": verdict.err(),
            }))
        }),
    );
    let uploads = Arc::clone(&app.uploads);
    let uploads = blocking(move || uploads.list()).await?.map_err(|error| error.chain());
    put(
        "uploads.json",
        uploads.and_then(|all| {
            pretty(&all.into_iter().map(ota_api::upload::UploadSummary::from).collect::<Vec<_>>())
        }),
    );
    let about = json!({
        "made": text::rfc3339(now),
        "program": env!("CARGO_PKG_VERSION"),
        "api": crate::PREFIXES[0],
        "secrets": "left out when the texts were made, and by a last pass over them; *** stands in their place",
    });
    put("about.json", pretty(&about));
    Ok(texts)
}

fn pretty(value: &impl Serialize) -> Result<String, String> {
    serde_json::to_string_pretty(value).map(|text| text + "\n").map_err(|error| error.to_string())
}

fn lines<T: Serialize>(values: impl Iterator<Item = T>) -> Result<String, String> {
    let mut out = String::new();
    for value in values {
        out += &serde_json::to_string(&value).map_err(|error| error.to_string())?;
        out.push('\n');
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_bundle_is_made_of_plain_characters() {
        assert_eq!(folder("gw 1/../ä", Timestamp::from_secs(0)), "debug-gw_1_____-19700101T000000Z");
    }
}
