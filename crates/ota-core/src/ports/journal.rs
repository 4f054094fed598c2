//! What survives a power cut: jobs, slots, audit, tokens, settings. Each changing call is durable when it returns.

use alloc::{string::String, vec::Vec};
use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    ByteCount, JobId, Sha256Digest, Slot, Timestamp, Version,
    error::PortError,
    job::{Job, JobStatus},
};

/// Job records. Errors of all: `Unavailable` with `store_read_only` when this run writes nothing; `Io`.
pub trait JobJournal: Send + Sync {
    /// Whether records are taken, as far as that is known without writing one.
    ///
    /// # Errors
    /// Why not: `Unavailable` with `store_read_only` where nothing is written before the next start; `Io` where the last
    /// write failed and the next one may go well.
    fn ready(&self) -> Result<(), PortError> {
        Ok(())
    }

    /// The next number for a job; never given twice, also across restarts.
    ///
    /// # Errors
    /// See the trait.
    fn next_number(&self) -> Result<u64, PortError>;

    /// Stores a job, whole.
    ///
    /// # Errors
    /// See the trait.
    fn save(&self, job: &Job) -> Result<(), PortError>;

    /// One job.
    ///
    /// # Errors
    /// See the trait.
    fn job(&self, id: &JobId) -> Result<Option<Job>, PortError>;

    /// The job that has not ended, if there is one.
    ///
    /// # Errors
    /// See the trait.
    fn active(&self) -> Result<Option<Job>, PortError>;

    /// `limit` (1–200) jobs, newest first, after skipping `offset`.
    ///
    /// # Errors
    /// See the trait.
    fn page(&self, offset: u64, limit: u32) -> Result<JobPage, PortError>;

    /// All jobs that ever ended, also those that the history keeps no more; a state in which none did may be missing.
    ///
    /// # Errors
    /// See the trait.
    fn ended(&self) -> Result<Vec<EndedJobs>, PortError>;

    /// Reserves `count` event sequence numbers and returns the first; never given twice. In a run that writes nothing
    /// ([`ready`](Self::ready)) they go on after the recorded ones and are kept in memory: the next run may give them again.
    ///
    /// # Errors
    /// See the trait.
    fn reserve_events(&self, count: u64) -> Result<u64, PortError>;
}

/// A page of the job history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobPage {
    /// The jobs, newest first.
    pub jobs: Vec<Job>,
    /// How many there are in all.
    pub total: u64,
}

/// The jobs that ended in one state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndedJobs {
    /// In which.
    pub state: JobStatus,
    /// How many.
    pub jobs: u64,
    /// How long they took together, from the request to the end of each.
    pub took: Duration,
}

/// What is known of each slot, beside the boot environment.
pub trait SlotFacts: Send + Sync {
    /// What is recorded of `slot`.
    ///
    /// # Errors
    /// `Io`.
    fn slot(&self, slot: Slot) -> Result<SlotRecord, PortError>;

    /// Replaces what is recorded of `slot`.
    ///
    /// # Errors
    /// `Unavailable`, `Io`.
    fn set_slot(&self, slot: Slot, record: &SlotRecord) -> Result<(), PortError>;

    /// How the last update ended.
    ///
    /// # Errors
    /// `Io`.
    fn last_update(&self) -> Result<Option<LastUpdate>, PortError>;

    /// Replaces it.
    ///
    /// # Errors
    /// `Unavailable`, `Io`.
    fn set_last_update(&self, last: &LastUpdate) -> Result<(), PortError>;
}

/// What is recorded of a slot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotRecord {
    /// Version it holds, if known.
    pub version: Option<Version>,
    /// Digest of the image it holds, if we wrote it.
    pub sha256: Option<Sha256Digest>,
    /// Length of that image.
    pub size: Option<ByteCount>,
    /// Boots of this slot over its life.
    pub boot_count: u64,
    /// When it was last booted.
    pub last_boot: Option<Timestamp>,
    /// The kernel's boot id of that boot, so that a restart of the daemon is not counted.
    pub last_boot_id: Option<String>,
    /// What it is good for.
    pub state: SlotState,
}

/// What a slot is good for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SlotState {
    /// Confirmed.
    Good,
    /// Not to be booted: half written, or given up after a trial.
    Bad,
    /// Written and compared; waits for its trial, or is on it.
    Trial,
    /// Nothing is known of it.
    #[default]
    Empty,
}

/// How the last update ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastUpdate {
    /// Version it brought.
    pub version: Version,
    /// When it ended.
    pub at: Timestamp,
    /// `success`, `failed`, `rolled_back` or `cancelled`.
    pub status: String,
    /// The job that it was; of older records and of a factory's it is not known.
    #[serde(default)]
    pub job: Option<JobId>,
}

/// The record of who did what. Hash-chained by the adapter.
pub trait AuditLog: Send + Sync {
    /// Appends a record.
    ///
    /// # Errors
    /// `Unavailable` with `audit_not_writable`.
    fn append(&self, at: Timestamp, entry: &AuditEntry) -> Result<u64, PortError>;

    /// Up to `limit` records with a sequence number above `after`, oldest first.
    ///
    /// # Errors
    /// `Io`.
    fn records(&self, after: u64, limit: u32) -> Result<Vec<AuditRecord>, PortError>;

    /// Sequence number of the newest record: so many were ever written. 0 without any.
    ///
    /// # Errors
    /// `Io`.
    fn newest(&self) -> Result<u64, PortError>;

    /// Checks the chain; `Err` inside is the sequence number of the first record that does not fit.
    ///
    /// # Errors
    /// `Io`.
    fn verify_chain(&self) -> Result<Result<u64, u64>, PortError>;
}

/// Who did what, how it ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// Token name, `session:<name>`, `cert:<name>` for a client certificate, `cli`, or `gateway` for what it does by itself.
    pub actor: String,
    /// Role of the actor, where it has one.
    pub role: Option<Role>,
    /// Address the request came from.
    pub address: Option<String>,
    /// What was done, `updates.install`.
    pub action: String,
    /// How it ended.
    pub outcome: AuditOutcome,
    /// Request id, where there was a request.
    pub request_id: Option<String>,
    /// Job it belongs to.
    pub job: Option<JobId>,
    /// The reason that was given, or why it failed.
    pub reason: Option<String>,
}

/// How an audited action ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names are their own description")]
pub enum AuditOutcome {
    Ok,
    Refused,
    Failed,
}

/// An entry as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRecord {
    /// 1, 2, 3 … without a gap.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
    /// What.
    pub entry: AuditEntry,
    /// SHA-256 over the previous record's hash and this record, in hexadecimal.
    pub hash: String,
}

/// What a token lets its holder do; each includes the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Reads and watches.
    Viewer,
    /// Also downloads, installs, cancels, pauses, uploads, verifies.
    Operator,
    /// Also deploys, rolls back, overrides, resets, manages tokens, reads the audit.
    Admin,
}

impl Role {
    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

/// Bearer tokens. Only digests are kept.
pub trait Tokens: Send + Sync {
    /// The token with this SHA-256 digest, if there is one that is neither expired nor revoked at `now`; notes the use.
    ///
    /// # Errors
    /// `Io`.
    fn find(&self, digest: &Sha256Digest, now: Timestamp) -> Result<Option<TokenRecord>, PortError>;

    /// Adds a token.
    ///
    /// # Errors
    /// `Unavailable`, `Io`; `SystemBusy` (OTA_014) when the name is taken.
    fn add(&self, digest: &Sha256Digest, record: &TokenRecord) -> Result<(), PortError>;

    /// Revokes a token by name; `false` when there is none.
    ///
    /// # Errors
    /// `Unavailable`, `Io`.
    fn revoke(&self, name: &str) -> Result<bool, PortError>;

    /// All tokens that are not revoked.
    ///
    /// # Errors
    /// `Io`.
    fn list(&self) -> Result<Vec<TokenRecord>, PortError>;
}

/// A token, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRecord {
    /// Its name, unique.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// When it was made.
    pub created: Timestamp,
    /// When it ends.
    pub expires: Option<Timestamp>,
    /// When it was last used, to the minute.
    pub last_used: Option<Timestamp>,
}

/// Failed PIN tries, counted before the comparison.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinTries {
    /// Failures since the last success.
    pub failures: u32,
    /// Locks since the last success, for the back-off.
    pub locks: u32,
    /// When the lock ends, in wall-clock time.
    pub locked_until: Option<Timestamp>,
}

/// Small named values that must survive: JSON text under a dotted name (`pin.hash`, `pin.tries`, `floor.version`,
/// `clock.floor`, `bandwidth.limit`, `rolled_back.versions`).
pub trait Settings: Send + Sync {
    /// The value under `name`.
    ///
    /// # Errors
    /// `Io`.
    fn value(&self, name: &str) -> Result<Option<String>, PortError>;

    /// Stores a value, `None` removes it.
    ///
    /// # Errors
    /// `Unavailable`, `Io`.
    fn set_value(&self, name: &str, value: Option<&str>) -> Result<(), PortError>;
}
