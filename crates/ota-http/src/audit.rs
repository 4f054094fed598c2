//! Writes who did what into the audit, off the async threads.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::response::Response;
use ota_core::{
    JobId,
    error::PortError,
    ports::{AuditEntry, AuditLog, AuditOutcome, AuditRecord, Clock},
};

use crate::{app::blocking, auth::Caller, status::Refusal};

/// Refusals of callers that nobody knows are audited up to this many a minute: a flood must not wear out the storage.
const UNKNOWN_A_MINUTE: u32 = 30;
/// Records that are read at a time.
const CHUNK: u32 = 500;

/// What a handler adds to the record of its request.
#[derive(Clone, Debug, Default)]
pub(crate) struct AuditNote {
    pub(crate) job: Option<JobId>,
    pub(crate) reason: Option<String>,
}

/// How a request ended, for its record.
pub(crate) struct Ended {
    outcome: AuditOutcome,
    note: AuditNote,
}

impl Ended {
    pub(crate) fn of(response: &Response) -> Self {
        let mut note = response.extensions().get::<AuditNote>().cloned().unwrap_or_default();
        if let Some(refusal) = response.extensions().get::<Arc<Refusal>>() {
            note.reason = Some(format!("{}: {refusal}", refusal.name()));
        }
        let status = response.status();
        let outcome = if status.is_server_error() {
            AuditOutcome::Failed
        } else if status.is_client_error() {
            AuditOutcome::Refused
        } else {
            AuditOutcome::Ok
        };
        Self { outcome, note }
    }
}

/// Appends to the audit.
pub(crate) struct Auditor {
    log: Arc<dyn AuditLog>,
    clock: Arc<dyn Clock>,
    unknown: Mutex<(Duration, u32)>,
}

impl Auditor {
    pub(crate) fn new(log: Arc<dyn AuditLog>, clock: Arc<dyn Clock>) -> Self {
        Self { log, clock, unknown: Mutex::default() }
    }

    /// Records before it happens what must not happen unrecorded.
    ///
    /// # Errors
    /// `UNAVAILABLE` with `audit_not_writable`.
    pub(crate) async fn intent(
        &self,
        caller: &Caller,
        action: &str,
        reason: Option<String>,
    ) -> Result<(), Refusal> {
        let note = AuditNote { job: None, reason };
        self.append(entry(caller, &format!("{action}.requested"), AuditOutcome::Ok, note)).await
    }

    /// Records how a request ended.
    pub(crate) async fn outcome(&self, caller: &Caller, action: &str, ended: Ended) {
        let Ended { outcome, note } = ended;
        if caller.role.is_none() && outcome == AuditOutcome::Refused && !self.may_record_unknown() {
            tracing::warn!(
                address = caller.address,
                action,
                "too many refusals of unknown callers to record this one"
            );
            return;
        }
        // What needs its record before it happens has called `intent`; here it is too late to refuse.
        if let Err(error) = self.append(entry(caller, action, outcome, note)).await {
            tracing::error!(request_id = caller.request_id, action, %error, "an action is missing from the audit");
        }
    }

    fn may_record_unknown(&self) -> bool {
        let now = self.clock.monotonic();
        let mut window = self.unknown.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_sub(window.0) >= Duration::from_secs(60) {
            *window = (now, 0);
        }
        window.1 = window.1.saturating_add(1);
        window.1 <= UNKNOWN_A_MINUTE
    }

    async fn append(&self, entry: AuditEntry) -> Result<(), Refusal> {
        let (log, at) = (Arc::clone(&self.log), self.clock.wall());
        blocking(move || log.append(at, &entry)).await??;
        Ok(())
    }

    /// Up to `limit` records after number `after`.
    pub(crate) async fn records(&self, after: u64, limit: u32) -> Result<Vec<AuditRecord>, Refusal> {
        let log = Arc::clone(&self.log);
        Ok(blocking(move || log.records(after, limit)).await??)
    }

    /// Number of the newest record: so many were ever written.
    pub(crate) async fn newest(&self) -> Result<u64, Refusal> {
        let log = Arc::clone(&self.log);
        Ok(blocking(move || log.newest()).await??)
    }

    /// The newest `limit` records, oldest first.
    pub(crate) async fn tail(&self, limit: u32) -> Result<Vec<AuditRecord>, Refusal> {
        let log = Arc::clone(&self.log);
        Ok(blocking(move || {
            log.newest().and_then(|seq| log.records(seq.saturating_sub(limit.into()), limit))
        })
        .await??)
    }

    /// Gives every record to `look`, oldest first, in one go off the async threads.
    pub(crate) async fn walk<T: Send + 'static>(
        &self,
        mut state: T,
        look: impl Fn(&mut T, &AuditRecord) + Send + 'static,
    ) -> Result<T, Refusal> {
        let log = Arc::clone(&self.log);
        let walked = blocking(move || {
            let mut after = 0;
            loop {
                let records = log.records(after, CHUNK)?;
                let Some(last) = records.last() else { return Ok::<_, PortError>(state) };
                after = last.seq;
                records.iter().for_each(|record| look(&mut state, record));
            }
        });
        Ok(walked.await??)
    }

    /// Records what the gateway did by itself. What cannot be recorded is in the log.
    pub(crate) async fn by_itself(&self, action: &str, outcome: AuditOutcome, reason: String) {
        let entry = AuditEntry {
            actor: "gateway".into(),
            role: None,
            address: None,
            action: action.into(),
            outcome,
            request_id: None,
            job: None,
            reason: Some(reason),
        };
        if let Err(error) = self.append(entry).await {
            tracing::error!(action, %error, "an action is missing from the audit");
        }
    }

    /// Checks the chain.
    pub(crate) async fn verify(&self) -> Result<Result<u64, u64>, Refusal> {
        let log = Arc::clone(&self.log);
        Ok(blocking(move || log.verify_chain()).await??)
    }
}

fn entry(caller: &Caller, action: &str, outcome: AuditOutcome, note: AuditNote) -> AuditEntry {
    AuditEntry {
        actor: caller.name.clone(),
        role: caller.role,
        address: Some(caller.address.clone()),
        action: action.into(),
        outcome,
        request_id: Some(caller.request_id.clone()),
        job: note.job,
        reason: note.reason,
    }
}
