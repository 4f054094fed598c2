//! `reports/compliance`: what became of updates, who overrode what and why, per period.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::words::{JobKind, JobStatus};

/// Length of the periods of a report, in UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(title = "ReportPeriod")]
pub enum ReportPeriod {
    /// From midnight to midnight.
    Day,
    /// From Monday on.
    Week,
    /// A calendar month.
    #[default]
    Month,
    /// Three calendar months.
    Quarter,
    /// A calendar year.
    Year,
}

/// How a report is written out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(title = "ReportFormat")]
pub enum ReportFormat {
    /// One JSON object.
    #[default]
    Json,
    /// Comma-separated values: one of the tables.
    Csv,
    /// A page to print.
    Html,
}

/// Which table of a report is written out as CSV.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(title = "ReportTable")]
pub enum ReportTable {
    /// Sums of each period.
    #[default]
    Periods,
    /// Each update.
    Updates,
    /// Each override.
    Overrides,
}

/// Query of `reports/compliance`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ComplianceQuery {
    /// First moment of the report, RFC 3339; a year before its end when absent.
    #[serde(default)]
    pub from: Option<Timestamp>,
    /// First moment after the report, RFC 3339; now when absent.
    #[serde(default)]
    pub to: Option<Timestamp>,
    /// Length of the periods; `month` when absent.
    #[serde(default)]
    #[param(inline)]
    pub period: Option<ReportPeriod>,
    /// How it is written out; `json` when absent.
    #[serde(default)]
    #[param(inline)]
    pub format: Option<ReportFormat>,
    /// Which table is written out as CSV; `periods` when absent.
    #[serde(default)]
    #[param(inline)]
    pub table: Option<ReportTable>,
}

/// Answer of `reports/compliance`, made from the durable records of jobs and audit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ComplianceReport {
    /// Name of the gateway.
    pub gateway: String,
    /// Its model.
    pub model: String,
    /// Its serial number.
    pub serial: String,
    /// When the report was made.
    pub generated_at: Timestamp,
    /// First moment.
    pub from: Timestamp,
    /// First moment after it.
    pub to: Timestamp,
    /// Length of the periods.
    pub period: ReportPeriod,
    /// Since when the audit reaches back; what happened before is not in the report.
    pub audit_since: Option<Timestamp>,
    /// Whether every audit record fits its chain.
    pub audit_intact: bool,
    /// The sums of all periods.
    pub total: ComplianceSums,
    /// The periods in which something happened, oldest first.
    pub periods: Vec<CompliancePeriod>,
    /// The updates, oldest first.
    pub updates: Vec<ComplianceUpdate>,
    /// The overrides, oldest first.
    pub overrides: Vec<ComplianceOverride>,
}

/// One period.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CompliancePeriod {
    /// First day of the period, `2025-03-01`; the report may begin after it.
    pub begins: String,
    /// Its sums.
    #[serde(flatten)]
    pub sums: ComplianceSums,
}

/// What happened in a time. An update belongs to the time in which it was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ComplianceSums {
    /// Updates and deployments that were asked for.
    pub tried: u64,
    /// Of those: confirmed.
    pub succeeded: u64,
    /// Of those: tried and given up; the old version came back.
    pub rolled_back: u64,
    /// Of those: ended without a change of the running version.
    pub failed: u64,
    /// Of those: ended by request.
    pub cancelled: u64,
    /// Of those: not ended yet.
    pub unfinished: u64,
    /// Rollbacks that people asked for.
    pub rollbacks_by_hand: u64,
    /// Shortest time from the request to the confirmed boot, in seconds; of the succeeded ones.
    pub shortest_seconds: Option<u64>,
    /// Middle of those times.
    pub median_seconds: Option<u64>,
    /// Longest of those times.
    pub longest_seconds: Option<u64>,
    /// Overrides that were enabled.
    pub overrides: u64,
    /// Requests that were refused for want of the right PIN.
    pub pin_failures: u64,
    /// Requests that were refused because the PIN was locked.
    pub pin_locked: u64,
}

/// One update.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ComplianceUpdate {
    /// The job.
    pub job_id: String,
    /// Where the image came from.
    pub kind: JobKind,
    /// Version it brings.
    pub version: String,
    /// How it ended, or where it stands.
    pub status: JobStatus,
    /// When it was asked for.
    pub requested_at: Timestamp,
    /// When its install was asked for.
    pub install_requested_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// From the request to the end, in seconds.
    pub duration_seconds: Option<u64>,
    /// Why it failed or was cancelled.
    pub reason: Option<String>,
}

/// One override.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ComplianceOverride {
    /// When it was enabled.
    pub at: Timestamp,
    /// Who asked for it.
    pub actor: String,
    /// Address the request came from.
    pub address: Option<String>,
    /// The reason that was given, with the seconds it was asked for.
    pub reason: String,
    /// The audit record.
    pub audit_seq: u64,
}
