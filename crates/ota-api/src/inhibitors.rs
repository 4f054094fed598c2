//! `safety/inhibitors`: leases by which people and programs hold updates back.

use jiff::Timestamp;
use ota_core::safety::InhibitorReport;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::{text, words::Step};

/// A lease that is held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Inhibitor {
    /// Its number, never given twice while the daemon runs.
    pub id: u64,
    /// Who holds it, in words.
    pub owner: String,
    /// Name of the token that took it.
    pub holder: String,
    /// Why.
    pub reason: String,
    /// Which steps it holds back.
    pub scope: Vec<Step>,
    /// When it was taken.
    pub since: Timestamp,
    /// When it runs out unless it is renewed.
    pub expires_at: Timestamp,
    /// Seconds until then.
    pub remaining_seconds: u64,
}

impl From<&InhibitorReport> for Inhibitor {
    fn from(report: &InhibitorReport) -> Self {
        Self {
            id: report.id,
            owner: report.owner.clone(),
            holder: report.holder.clone(),
            reason: report.reason.clone(),
            scope: report.blocks.iter().map(|step| (*step).into()).collect(),
            since: text::time(report.since),
            expires_at: text::time(report.expires_at),
            remaining_seconds: report.remaining.as_secs(),
        }
    }
}

/// Answer of `GET safety/inhibitors`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InhibitorList {
    /// The leases that are held, oldest first.
    pub inhibitors: Vec<Inhibitor>,
}

/// Body of `POST safety/inhibitors`: a new lease, or with `id` the renewal of one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InhibitRequest {
    /// The lease to renew; only `ttl` counts then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u64>,
    /// Who holds it, in words, 1 to 200 characters; the name of the token when it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Why, for the people who have to wait, 1 to 200 characters; needed for a new one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Which steps it holds back; all but the download when it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Vec<Step>>,
    /// Seconds it lasts without a renewal.
    pub ttl: u64,
}

/// Query of `DELETE safety/inhibitors`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ReleaseInhibitorQuery {
    /// The lease to give back.
    pub id: u64,
}
