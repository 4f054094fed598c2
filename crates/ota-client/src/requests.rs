//! One method per endpoint of the API; path, method and body are those of `api-contract.md`.
//!
//! Every method fails with [`ClientError::Api`] when the gateway refuses, and with the transport's errors otherwise.

use std::{
    io,
    path::{Path, PathBuf},
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::stream::try_unfold;
use http::Method;
use ota_api::{
    audit::{AuditPage, AuditQuery, AuditVerdict},
    auth::{CreateTokenRequest, CreatedToken, Done, RevokeTokenQuery, SessionInfo, SetPinRequest, TokenList},
    explain::{ExplainRequest, Explanation},
    inhibitors::{InhibitRequest, Inhibitor, InhibitorList, ReleaseInhibitorQuery},
    jobs::{JobInfo, JobList, JobsQuery},
    reports::{ComplianceQuery, ComplianceReport},
    safety::{OverrideRequest, OverrideResponse, SafetyStatus},
    settings::Bandwidth,
    snapshots::{
        CreateSnapshotRequest, RestoreSnapshotRequest, RestoreSnapshotResponse, SnapshotInfo, SnapshotList,
    },
    system::{Probe, SystemStatus},
    updates::{
        CancelRequest, CheckResponse, DownloadRequest, DownloadResponse, FactoryResetRequest,
        FactoryResetResponse, InstallRequest, InstallResponse, JobRequest, JobResponse, JudgeRequest,
        ProgressQuery, ProgressResponse, RollbackRequest, RollbackResponse,
    },
    upload::{DeployRequest, DeployResponse, UploadList, UploadResponse, VerifyRequest, VerifyResponse},
    windows::{WindowList, WindowsQuery},
    ws::{EventPage, EventsQuery},
};
use reqwest::{
    Body,
    multipart::{Form, Part},
};
use serde_json::Value;
use tokio::{
    fs::File,
    io::AsyncReadExt as _,
    time::{Instant, timeout},
};

use crate::{
    Client, ClientError,
    error::transport,
    http::{Sink, answer},
};

/// Longest wait for a verification: an hour for an image of many GiB on a slow medium.
const VERIFICATION: Duration = Duration::from_secs(3600);
/// How often an upload is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// Bytes of the image that are read at once.
const PIECE: usize = 64 * 1024;
/// Bytes a second that a slow medium of a gateway takes.
const SLOW_MEDIUM: u64 = 4 << 20;
/// Events of a page when all are wanted: the most that a gateway gives at a time.
const EVENTS: u32 = 1000;

/// Asks, downloads, installs, judges.
impl Client {
    /// `GET updates/check`: releases newer than the running version. Asks the update server; changes no job.
    pub async fn check(&self) -> Result<CheckResponse, ClientError> {
        self.fetch(&["updates", "check"]).await
    }

    /// `POST updates/download`.
    pub async fn download(&self, request: &DownloadRequest) -> Result<DownloadResponse, ClientError> {
        self.post(&["updates", "download"], request).await
    }

    /// `GET updates/progress`: of a job or deployment, of the active one without a name.
    pub async fn progress(&self, job: Option<&str>) -> Result<ProgressResponse, ClientError> {
        let query = ProgressQuery { job_id: job.map(str::to_owned) };
        self.query(&["updates", "progress"], &query).await
    }

    /// `POST updates/install`.
    pub async fn install(&self, request: &InstallRequest) -> Result<InstallResponse, ClientError> {
        self.post(&["updates", "install"], request).await
    }

    /// `POST updates/cancel`.
    pub async fn cancel(&self, job: &str, reason: Option<&str>) -> Result<JobResponse, ClientError> {
        let request = CancelRequest { job_id: job.into(), reason: reason.map(str::to_owned) };
        self.post(&["updates", "cancel"], &request).await
    }

    /// `POST updates/pause`: of a job, of the active one without a name.
    pub async fn pause(&self, job: Option<&str>) -> Result<JobResponse, ClientError> {
        self.post(&["updates", "pause"], &JobRequest { job_id: job.map(str::to_owned) }).await
    }

    /// `POST updates/resume`: of a job, of the active one without a name.
    pub async fn resume(&self, job: Option<&str>) -> Result<JobResponse, ClientError> {
        self.post(&["updates", "resume"], &JobRequest { job_id: job.map(str::to_owned) }).await
    }

    /// `POST updates/confirm`: judges the trial as good.
    pub async fn confirm(&self, reason: Option<&str>) -> Result<JobResponse, ClientError> {
        self.post(&["updates", "confirm"], &JudgeRequest { reason: reason.map(str::to_owned) }).await
    }

    /// `POST updates/reject`: judges the trial as bad.
    pub async fn reject(&self, reason: Option<&str>) -> Result<JobResponse, ClientError> {
        self.post(&["updates", "reject"], &JudgeRequest { reason: reason.map(str::to_owned) }).await
    }

    /// `POST updates/explain`: a dry run.
    pub async fn explain(&self, request: &ExplainRequest) -> Result<Explanation, ClientError> {
        self.post(&["updates", "explain"], request).await
    }

    /// `POST updates/rollback`.
    pub async fn rollback(&self, request: &RollbackRequest) -> Result<RollbackResponse, ClientError> {
        self.post(&["updates", "rollback"], request).await
    }

    /// `POST factory-reset`.
    pub async fn factory_reset(
        &self,
        request: &FactoryResetRequest,
    ) -> Result<FactoryResetResponse, ClientError> {
        self.post(&["factory-reset"], request).await
    }

    /// `GET updates/jobs`: the history, newest first.
    pub async fn jobs(&self, query: &JobsQuery) -> Result<JobList, ClientError> {
        self.query(&["updates", "jobs"], query).await
    }

    /// `GET updates/jobs/{id}`: one job or deployment.
    pub async fn job(&self, id: &str) -> Result<JobInfo, ClientError> {
        self.fetch(&["updates", "jobs", id]).await
    }
}

/// Saved settings.
impl Client {
    /// `GET snapshots`: newest first.
    pub async fn snapshots(&self) -> Result<SnapshotList, ClientError> {
        self.fetch(&["snapshots"]).await
    }

    /// `POST snapshots`.
    pub async fn create_snapshot(
        &self,
        request: &CreateSnapshotRequest,
    ) -> Result<SnapshotInfo, ClientError> {
        self.post(&["snapshots"], request).await
    }

    /// `POST snapshots/{id}/restore`.
    pub async fn restore_snapshot(
        &self,
        id: &str,
        request: &RestoreSnapshotRequest,
    ) -> Result<RestoreSnapshotResponse, ClientError> {
        self.post(&["snapshots", id, "restore"], request).await
    }
}

/// Device, safety, events.
impl Client {
    /// `GET system/status`.
    pub async fn status(&self) -> Result<SystemStatus, ClientError> {
        self.fetch(&["system", "status"]).await
    }

    /// `GET safety/status`.
    pub async fn safety(&self) -> Result<SafetyStatus, ClientError> {
        self.fetch(&["safety", "status"]).await
    }

    /// `POST safety/override`.
    pub async fn safety_override(&self, request: &OverrideRequest) -> Result<OverrideResponse, ClientError> {
        self.post(&["safety", "override"], request).await
    }

    /// `GET safety/windows`: the next openings of all windows.
    pub async fn windows(&self, limit: Option<u32>) -> Result<WindowList, ClientError> {
        self.query(&["safety", "windows"], &WindowsQuery { limit }).await
    }

    /// `GET safety/inhibitors`.
    pub async fn inhibitors(&self) -> Result<InhibitorList, ClientError> {
        self.fetch(&["safety", "inhibitors"]).await
    }

    /// `POST safety/inhibitors`: takes a lease, or renews one.
    pub async fn inhibit(&self, request: &InhibitRequest) -> Result<Inhibitor, ClientError> {
        self.post(&["safety", "inhibitors"], request).await
    }

    /// `DELETE safety/inhibitors?id=`: gives a lease back.
    pub async fn release_inhibitor(&self, id: u64) -> Result<Done, ClientError> {
        let url = self.with_query(&["safety", "inhibitors"], &ReleaseInhibitorQuery { id })?;
        self.call(Method::DELETE, url, None).await
    }

    /// `GET settings/bandwidth`.
    pub async fn bandwidth(&self) -> Result<Bandwidth, ClientError> {
        self.fetch(&["settings", "bandwidth"]).await
    }

    /// `PUT settings/bandwidth`; `None`: no limit.
    pub async fn set_bandwidth(&self, bytes_per_second: Option<u64>) -> Result<Bandwidth, ClientError> {
        self.send(Method::PUT, &["settings", "bandwidth"], &Bandwidth { bytes_per_second }).await
    }

    /// `GET events`: the messages of the event stream without a stream.
    pub async fn events(&self, query: &EventsQuery) -> Result<EventPage, ClientError> {
        self.query(&["events"], query).await
    }

    /// `GET events`, page by page: all that is still remembered after `since`.
    pub async fn all_events(&self, since: Option<u64>) -> Result<EventPage, ClientError> {
        let mut all = EventPage { events: Vec::new(), next: since.unwrap_or(0), missed: 0 };
        let mut position = since;
        loop {
            let page = self.events(&EventsQuery { since: position, limit: Some(EVENTS) }).await?;
            // One that does not get on is the last, too: it would be given for ever.
            let last = page.events.len() < EVENTS as usize || page.next <= position.unwrap_or(0);
            position = Some(page.next);
            all.events.extend(page.events);
            (all.next, all.missed) = (page.next, all.missed + page.missed);
            if last {
                return Ok(all);
            }
        }
    }

    /// `GET /healthz`: whether the process lives. Open to all.
    pub async fn alive(&self) -> Result<Probe, ClientError> {
        self.call(Method::GET, self.base().outside("/healthz"), None).await
    }

    /// `GET /readyz`: whether the gateway can work. Open to all.
    pub async fn ready(&self) -> Result<Probe, ClientError> {
        self.call(Method::GET, self.base().outside("/readyz"), None).await
    }

    /// `GET /metrics`: Prometheus text.
    pub async fn metrics(&self) -> Result<Vec<u8>, ClientError> {
        self.text(self.base().outside("/metrics")).await
    }

    /// `GET /openapi.json`.
    pub async fn openapi(&self) -> Result<Value, ClientError> {
        self.call(Method::GET, self.base().outside("/openapi.json"), None).await
    }
}

/// Tokens, PIN, audit.
impl Client {
    /// `GET auth/session`: whose the token is that asks.
    pub async fn session(&self) -> Result<SessionInfo, ClientError> {
        self.fetch(&["auth", "session"]).await
    }

    /// `GET auth/tokens`.
    pub async fn tokens(&self) -> Result<TokenList, ClientError> {
        self.fetch(&["auth", "tokens"]).await
    }

    /// `POST auth/tokens`. The answer holds the secret, for the only time.
    pub async fn create_token(&self, request: &CreateTokenRequest) -> Result<CreatedToken, ClientError> {
        self.post(&["auth", "tokens"], request).await
    }

    /// `DELETE auth/tokens?name=`.
    pub async fn revoke_token(&self, name: &str) -> Result<Done, ClientError> {
        let query = RevokeTokenQuery { name: name.into() };
        let url = self.with_query(&["auth", "tokens"], &query)?;
        self.call(Method::DELETE, url, None).await
    }

    /// `PUT auth/pin`.
    pub async fn set_pin(&self, request: &SetPinRequest) -> Result<Done, ClientError> {
        self.send(Method::PUT, &["auth", "pin"], request).await
    }

    /// `GET audit`, as JSON whatever `format` says.
    pub async fn audit(&self, query: &AuditQuery) -> Result<AuditPage, ClientError> {
        self.query(&["audit"], &AuditQuery { format: None, ..query.clone() }).await
    }

    /// `GET audit` as it is written out: JSON lines or CSV, as `format` says; all that fits without a `limit`. The position to
    /// go on from is not in it; [`audit`](Self::audit) pages.
    pub async fn audit_text(&self, query: &AuditQuery, sink: Sink<'_>) -> Result<(), ClientError> {
        self.pour(Method::GET, self.with_query(&["audit"], query)?, sink).await
    }

    /// `GET reports/compliance`, as JSON whatever `format` says.
    pub async fn compliance(&self, query: &ComplianceQuery) -> Result<ComplianceReport, ClientError> {
        self.query(&["reports", "compliance"], &ComplianceQuery { format: None, ..query.clone() }).await
    }

    /// `GET reports/compliance` as `format` says.
    pub async fn compliance_text(&self, query: &ComplianceQuery, sink: Sink<'_>) -> Result<(), ClientError> {
        self.pour(Method::GET, self.with_query(&["reports", "compliance"], query)?, sink).await
    }

    /// `POST debug-bundle`: a gzipped tar archive.
    pub async fn debug_bundle(&self, sink: Sink<'_>) -> Result<(), ClientError> {
        self.pour(Method::POST, self.base().endpoint(["debug-bundle"]), sink).await
    }

    /// `GET audit/verify`.
    pub async fn audit_verify(&self) -> Result<AuditVerdict, ClientError> {
        self.fetch(&["audit", "verify"]).await
    }
}

/// An image file to upload, with what the gateway is told about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadFile {
    /// The image. Its base name becomes the name in staging.
    pub image: PathBuf,
    /// Version label.
    pub version: String,
    /// For people.
    pub description: Option<String>,
    /// Detached signature files, at most eight.
    pub signature: Vec<PathBuf>,
    /// Checksum file that lists the image by its base name.
    pub checksums: Option<PathBuf>,
    /// Detached signatures over the checksum file, at most eight.
    pub checksums_signature: Vec<PathBuf>,
    /// Expected SHA-256 in hexadecimal.
    pub sha256: Option<String>,
}

/// Hears of an upload: how many bytes of the image are on their way, and how many it has.
pub type Watch<'a> = &'a mut (dyn FnMut(u64, u64) + Send);

/// Own images.
impl Client {
    /// `POST upload`: streams the file; memory stays constant. There is no limit on the time as a whole, but
    /// `Options::timeout` on each silence: no byte of the image moves, or all have gone and no answer comes in the time that a
    /// slow medium needs to take them.
    ///
    /// # Errors
    /// [`ClientError::File`] when a file cannot be read; [`ClientError::TimedOut`] after such a silence; otherwise as every method here.
    pub async fn upload(&self, file: &UploadFile) -> Result<UploadResponse, ClientError> {
        self.upload_watched(file, &mut |_, _| {}).await
    }

    /// The same; `watch` hears how far it is, the last time when the gateway has taken it.
    ///
    /// # Errors
    /// As [`upload`](Self::upload).
    pub async fn upload_watched(
        &self,
        file: &UploadFile,
        watch: Watch<'_>,
    ) -> Result<UploadResponse, ClientError> {
        let url = self.base().endpoint(["upload"]);
        let sent = Arc::new(AtomicU64::new(0));
        let unread = Unread::default();
        let (form, total) = form(file, &sent, &unread).await?;
        let request = self.request(Method::POST, url.clone()).multipart(form);
        let mut work = pin!(async {
            let response = request.send().await.map_err(|e| transport(&url, e))?;
            answer(&url, response).await
        });
        let patience = self.options.timeout;
        let (mut before, mut moved) = (0, Instant::now());
        loop {
            let outcome = timeout(LOOK.min(patience), &mut work).await;
            let now = sent.load(Ordering::Relaxed);
            if now != before {
                (before, moved) = (now, Instant::now());
                watch(now, total);
            }
            if let Ok(outcome) = outcome {
                // The connection broke because of it.
                let source = unread.lock().unwrap_or_else(PoisonError::into_inner).take();
                return source.map_or(outcome, |source| Err(unreadable(&file.image, source)));
            }
            // All is on its way: before it answers, the gateway writes to its medium what it still has in memory.
            let writing = if now < total { 0 } else { total / SLOW_MEDIUM };
            if moved.elapsed() >= patience + Duration::from_secs(writing) {
                return Err(ClientError::TimedOut { url: url.to_string() });
            }
        }
    }

    /// `POST upload/verify`. Takes as long as the gateway needs to read the whole image.
    pub async fn verify(&self, request: &VerifyRequest) -> Result<VerifyResponse, ClientError> {
        let url = self.base().endpoint(["upload", "verify"]);
        let request = self.request(Method::POST, url.clone()).json(request).timeout(VERIFICATION);
        let response = request.send().await.map_err(|e| transport(&url, e))?;
        answer(&url, response).await
    }

    /// `GET upload`: what was uploaded.
    pub async fn uploads(&self) -> Result<UploadList, ClientError> {
        self.fetch(&["upload"]).await
    }

    /// `DELETE upload/{filename}`.
    pub async fn remove_upload(&self, name: &str) -> Result<Done, ClientError> {
        self.call(Method::DELETE, self.base().endpoint(["upload", name]), None).await
    }

    /// `POST upload/deploy`.
    pub async fn deploy(&self, request: &DeployRequest) -> Result<DeployResponse, ClientError> {
        self.post(&["upload", "deploy"], request).await
    }
}

/// The parts of an upload; text first, so that the gateway knows the version before the bytes come. And the length of the image,
/// whose bytes are counted as they go.
async fn form(file: &UploadFile, sent: &Arc<AtomicU64>, unread: &Unread) -> Result<(Form, u64), ClientError> {
    let mut form = Form::new().text("version", file.version.clone());
    if let Some(description) = &file.description {
        form = form.text("description", description.clone());
    }
    if let Some(sha256) = &file.sha256 {
        form = form.text("sha256", sha256.clone());
    }
    let checksums: Vec<PathBuf> = file.checksums.iter().cloned().collect();
    let beside = [
        ("signature", &file.signature),
        ("checksums", &checksums),
        ("checksums_signature", &file.checksums_signature),
    ];
    for (name, paths) in beside {
        for path in paths {
            form = form.part(name, part(path).await?);
        }
    }
    let (image, length) = counted(&file.image, sent, unread).await?;
    Ok((form.part("file", image), length))
}

/// Why the image could not be read on its way. The HTTP library only says that the connection broke.
type Unread = Arc<Mutex<Option<io::Error>>>;

async fn part(path: &Path) -> Result<Part, ClientError> {
    length(path).await?;
    Part::file(path).await.map_err(|source| unreadable(path, source))
}

/// A file as a part whose bytes are counted, and its length.
async fn counted(path: &Path, sent: &Arc<AtomicU64>, unread: &Unread) -> Result<(Part, u64), ClientError> {
    let length = length(path).await?;
    let file = File::open(path).await.map_err(|source| unreadable(path, source))?;
    let begun = (file.take(length), Arc::clone(sent), Arc::clone(unread));
    let pieces = try_unfold(begun, |(mut file, sent, unread)| async move {
        let mut piece = vec![0; PIECE];
        let mut read = file.read(&mut piece).await;
        if matches!(read, Ok(0)) && file.limit() > 0 {
            read = Err(io::ErrorKind::UnexpectedEof.into());
        }
        let read = read.map_err(|error| {
            let kind = error.kind();
            *unread.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            io::Error::from(kind)
        })?;
        piece.truncate(read);
        sent.fetch_add(read as u64, Ordering::Relaxed);
        Ok::<_, io::Error>((read > 0).then_some((piece, (file, sent, unread))))
    });
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok((Part::stream_with_length(Body::wrap_stream(pieces), length).file_name(name), length))
}

/// Bytes of a file. What is none (a folder, a pipe) has no length to be sent with.
async fn length(path: &Path) -> Result<u64, ClientError> {
    let found = tokio::fs::metadata(path).await.map_err(|source| unreadable(path, source))?;
    if !found.is_file() {
        let source = io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file");
        return Err(unreadable(path, source));
    }
    Ok(found.len())
}

fn unreadable(path: &Path, source: io::Error) -> ClientError {
    ClientError::File { path: path.display().to_string(), source }
}
