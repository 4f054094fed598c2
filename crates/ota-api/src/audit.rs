//! `audit` and `audit/verify`: the record of who did what.

use jiff::Timestamp;
use ota_core::ports::AuditRecord;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::{
    text,
    words::{AuditOutcome, Role},
};

/// How the audit is written out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(title = "AuditFormat")]
pub enum AuditFormat {
    /// One JSON object with a page of records.
    #[default]
    Json,
    /// One JSON object a line.
    Jsonl,
    /// Comma-separated values with a header line.
    Csv,
}

/// Query of `audit`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct AuditQuery {
    /// Only records after this number; 0 when absent.
    #[serde(default)]
    pub after: Option<u64>,
    /// Only records before this number.
    #[serde(default)]
    pub before: Option<u64>,
    /// The newest records that fit instead of the oldest; they, too, are listed oldest first.
    #[serde(default)]
    pub newest: Option<bool>,
    /// 1 to 1000. When absent: 100 as `json`, everything that fits as `jsonl` or `csv`.
    #[serde(default)]
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<u32>,
    /// Only of this actor.
    #[serde(default)]
    pub actor: Option<String>,
    /// Only actions that start with this, `updates.`.
    #[serde(default)]
    pub action: Option<String>,
    /// Only what ended like this.
    #[serde(default)]
    #[param(inline)]
    pub outcome: Option<AuditOutcome>,
    /// Only of this job.
    #[serde(default)]
    pub job_id: Option<String>,
    /// Only where actor, role, address, action, outcome, request, job or reason has this text in it, in capitals or not.
    #[serde(default)]
    pub text: Option<String>,
    /// How it is written out; `json` when absent.
    #[serde(default)]
    #[param(inline)]
    pub format: Option<AuditFormat>,
}

/// Answer of `audit`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditPage {
    /// The records, oldest first.
    pub records: Vec<AuditRow>,
    /// Number to ask after next; equal to the request's when there are no more.
    pub next: u64,
    /// Asked for the newest: the number to ask before next for older ones; absent when there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<u64>,
}

/// Who did what, how it ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditRow {
    /// 1, 2, 3 … without a gap.
    pub seq: u64,
    /// When.
    pub timestamp: Timestamp,
    /// Token name, `session:<name>`, `cert:<name>`, `cli`, or `gateway`.
    pub actor: String,
    /// Role of the actor.
    #[serde(default)]
    pub role: Option<Role>,
    /// Address the request came from.
    #[serde(default)]
    pub address: Option<String>,
    /// What was done, `updates.install`.
    pub action: String,
    /// How it ended.
    pub outcome: AuditOutcome,
    /// Request id.
    #[serde(default)]
    pub request_id: Option<String>,
    /// Job it belongs to.
    #[serde(default)]
    pub job_id: Option<String>,
    /// The reason that was given, or why it failed.
    #[serde(default)]
    pub reason: Option<String>,
    /// SHA-256 over the previous record's hash and this record.
    pub hash: String,
}

impl From<&AuditRecord> for AuditRow {
    fn from(core: &AuditRecord) -> Self {
        let entry = &core.entry;
        Self {
            seq: core.seq,
            timestamp: text::time(core.at),
            actor: entry.actor.clone(),
            role: entry.role.map(Role::from),
            address: entry.address.clone(),
            action: entry.action.clone(),
            outcome: entry.outcome.into(),
            request_id: entry.request_id.clone(),
            job_id: entry.job.as_ref().map(ToString::to_string),
            reason: entry.reason.clone(),
            hash: core.hash.clone(),
        }
    }
}

/// Answer of `audit/verify`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditVerdict {
    /// Whether every record fits.
    pub intact: bool,
    /// How many records fit.
    pub records: u64,
    /// Number of the oldest record that is kept.
    #[serde(default = "one")]
    pub first: u64,
    /// Number of the first record that does not fit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_bad: Option<u64>,
}

const fn one() -> u64 {
    1
}
