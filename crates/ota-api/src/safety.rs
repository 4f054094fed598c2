//! `safety/…`: status and override.

use jiff::Timestamp;
use ota_core::safety::{
    ConstraintReport, ConstraintState, InhibitorReport, Limits, OverrideReport, ProposalReport, SafetyReport,
    SafetyStep,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    auth::Secret,
    inhibitors::Inhibitor,
    text,
    windows::WindowOpening,
    words::{ConstraintStatus, OnViolation, Severity, Step},
};

/// Answer of `safety/status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SafetyStatus {
    /// Whether an install could write, switch and reboot now.
    pub update_allowed: bool,
    /// Every configured constraint.
    pub constraints: Vec<Constraint>,
    /// The `update` windows.
    pub maintenance_window: MaintenanceWindow,
    /// The active override; absent when there is none.
    #[serde(default, rename = "override", skip_serializing_if = "Option::is_none")]
    pub active_override: Option<ActiveOverride>,
    /// The override that waits for a second person; absent when there is none.
    #[serde(default, rename = "override_proposed", skip_serializing_if = "Option::is_none")]
    pub proposed_override: Option<ProposedOverride>,
    /// Leases by which people and programs hold updates back, oldest first.
    #[serde(default)]
    pub inhibitors: Vec<Inhibitor>,
    /// The `service` window that is open: people are at the machine; absent when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_window: Option<WindowOpening>,
}

/// One constraint as it stands now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Constraint {
    /// Name from the configuration.
    pub name: String,
    /// Whether it holds.
    pub status: ConstraintStatus,
    /// A sentence for people.
    pub message: String,
    /// Since when it is so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// The reading in a word or two: `moving`, `78.5 °C`, `stale`.
    pub reading: String,
    /// The same as a number, where it is one and is believed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// Its unit, `°C`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// What is demanded of the reading.
    #[serde(default)]
    pub limits: ConstraintLimits,
    /// How much a violation matters.
    pub severity: Severity,
    /// Whether an override may cover it.
    pub overridable: bool,
    /// Whether an active override covers it now.
    pub overridden: bool,
    /// Which steps it holds back.
    pub blocks: Vec<Step>,
    /// What a violation does to work that is under way.
    #[serde(default = "hold_reboot")]
    pub on_violation: OnViolation,
    /// What the operator can do about a violation.
    pub resolution: String,
    /// `HH:MM:SS` it may last, from history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimated_wait: Option<String>,
    /// The same in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimated_wait_seconds: Option<u64>,
}

const fn hold_reboot() -> OnViolation {
    OnViolation::HoldReboot
}

impl From<&ConstraintReport> for Constraint {
    fn from(report: &ConstraintReport) -> Self {
        let wait = report.estimated_wait.map(text::wait_seconds);
        Self {
            name: report.name.clone(),
            status: report.state.into(),
            message: report.message.clone(),
            since: report.since.map(text::time),
            reading: report.reading.clone(),
            value: report.value,
            unit: Some(report.unit.clone()).filter(|unit| !unit.is_empty()),
            limits: ConstraintLimits::from(&report.limits),
            severity: report.severity.into(),
            overridable: report.overridable,
            overridden: report.overridden,
            blocks: report.blocks.iter().map(|step| (*step).into()).collect(),
            on_violation: report.on_violation.into(),
            resolution: report.resolution.clone(),
            estimated_wait: wait.map(text::hms),
            estimated_wait_seconds: wait,
        }
    }
}

/// What a constraint demands of its readings; what is absent is not demanded.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ConstraintLimits {
    /// At least that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// At most that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
    /// Exactly that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub equals: Option<String>,
    /// Anything but that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_equals: Option<String>,
    /// No larger change within `over_seconds`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_change: Option<f64>,
    /// See `max_change`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over_seconds: Option<u64>,
}

impl From<&Limits> for ConstraintLimits {
    fn from(core: &Limits) -> Self {
        Self {
            min: core.min,
            max: core.max,
            equals: core.equals.clone(),
            not_equals: core.not_equals.clone(),
            max_change: core.max_change.map(|(change, _)| change),
            over_seconds: core.max_change.map(|(_, over)| over.as_secs()),
        }
    }
}

/// When scheduled work may run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MaintenanceWindow {
    /// Whether an `update` window is open now.
    pub active: bool,
    /// When the next one opens; `null` when none is configured or the clock is not trusted.
    #[serde(default)]
    pub next_window: Option<Timestamp>,
}

/// An override that is on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ActiveOverride {
    /// Constraints it covers.
    pub constraints_overridden: Vec<String>,
    /// Why it was enabled.
    pub reason: String,
    /// When it ends.
    pub expires_at: Timestamp,
    /// Seconds left.
    pub remaining_seconds: u64,
}

impl From<&OverrideReport> for ActiveOverride {
    fn from(report: &OverrideReport) -> Self {
        Self {
            constraints_overridden: report.constraints.clone(),
            reason: report.reason.clone(),
            expires_at: text::time(report.expires_at),
            remaining_seconds: report.remaining.as_secs(),
        }
    }
}

/// An override that one of two people asked for. It is enabled when another one asks, too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProposedOverride {
    /// Name of the token that asked.
    pub by: String,
    /// Why.
    pub reason: String,
    /// Constraints it would cover.
    pub constraints: Vec<String>,
    /// Seconds for which it would count at most.
    pub duration: u64,
    /// Until when it waits for the second person.
    pub expires_at: Timestamp,
    /// Seconds left.
    pub remaining_seconds: u64,
}

impl From<&ProposalReport> for ProposedOverride {
    fn from(report: &ProposalReport) -> Self {
        Self {
            by: report.by.clone(),
            reason: report.reason.clone(),
            constraints: report.constraints.clone(),
            duration: report.duration.as_secs(),
            expires_at: text::time(report.expires_at),
            remaining_seconds: report.remaining.as_secs(),
        }
    }
}

impl From<&SafetyReport> for SafetyStatus {
    fn from(report: &SafetyReport) -> Self {
        Self {
            update_allowed: report.service_window.is_none()
                && !report.constraints.iter().any(holds_back_an_update)
                && !report.inhibitors.iter().any(inhibits_an_update),
            constraints: report.constraints.iter().map(Constraint::from).collect(),
            maintenance_window: MaintenanceWindow {
                active: report.update_window.is_some(),
                next_window: report.next_window.as_ref().map(|opening| text::time(opening.opens)),
            },
            active_override: report.active_override.as_ref().map(ActiveOverride::from),
            proposed_override: report.proposed_override.as_ref().map(ProposedOverride::from),
            inhibitors: report.inhibitors.iter().map(Inhibitor::from).collect(),
            service_window: report.service_window.as_ref().map(WindowOpening::from),
        }
    }
}

fn holds_back_an_update(report: &ConstraintReport) -> bool {
    report.state != ConstraintState::Ok && !report.overridden && report.blocks.iter().any(is_needed)
}

fn inhibits_an_update(report: &InhibitorReport) -> bool {
    report.blocks.iter().any(is_needed)
}

const fn is_needed(step: &SafetyStep) -> bool {
    matches!(step, SafetyStep::Write | SafetyStep::Switch | SafetyStep::Reboot)
}

/// Body of `safety/override`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OverrideRequest {
    /// On or off. Off needs nothing else.
    pub enable: bool,
    /// The PIN; needed to enable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin: Option<Secret>,
    /// Why; needed to enable, goes into the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Seconds; needed to enable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<u64>,
    /// Must be `true` to enable.
    #[serde(default)]
    pub acknowledge_risks: bool,
}

/// Answer of `safety/override`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OverrideResponse {
    /// `override_enabled`, `override_proposed` (a second person must agree) or `override_disabled`.
    pub status: String,
    /// Seconds it lasts; absent when disabled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<u64>,
    /// When it ends; absent when disabled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// Constraints it covers; empty when disabled.
    #[serde(default)]
    pub constraints_overridden: Vec<String>,
    /// What to mind; absent when disabled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
}
