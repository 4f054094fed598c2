//! The words of a safety verdict: what may be asked, and what may be answered. `ota-safety` makes the verdicts.

use alloc::{string::String, vec::Vec};
use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Timestamp, units::ByteCount};

/// A step of an update that a constraint may hold back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SafetyStep {
    /// Fetching an image.
    Download,
    /// Writing the inactive slot.
    Write,
    /// Making the other slot the next to boot.
    Switch,
    /// Restarting the gateway.
    Reboot,
    /// Going back to the other slot on request.
    Rollback,
    /// Erasing user data.
    Reset,
    /// Installing an uploaded image.
    Deploy,
}

impl SafetyStep {
    /// Every step.
    pub const ALL: [Self; 7] =
        [Self::Download, Self::Write, Self::Switch, Self::Reboot, Self::Rollback, Self::Reset, Self::Deploy];
}

/// Whether a constraint holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ConstraintState {
    /// Within limits, on a fresh and sane sample.
    Ok,
    /// Outside its limits.
    Violated,
    /// No usable sample: absent, stale, absurd. Counts as violated.
    Unknown,
}

/// How much a violation matters to people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Something waits for it.
    Warning,
    /// Somebody should act.
    Error,
    /// People or loads are in danger.
    Critical,
}

/// What a violation does to work that is under way. The switch and the reboot wait in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnViolation {
    /// Bytes go on flowing; the switch and the reboot wait.
    #[default]
    HoldReboot,
    /// The download or the write stands still, too.
    PauseWrite,
    /// The job ends as failed; a switch is undone.
    Abort,
}

impl OnViolation {
    /// The strictest reaction that any of the reasons asks for.
    #[must_use]
    pub fn strictest(blocks: &[Block]) -> Self {
        blocks.iter().map(|block| block.on_violation).max().unwrap_or_default()
    }

    /// The word in the configuration and on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::HoldReboot => "hold_reboot",
            Self::PauseWrite => "pause_write",
            Self::Abort => "abort",
        }
    }
}

impl Severity {
    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Critical => "critical",
        }
    }
}

/// What a constraint demands of its readings, for people and plots. `None`: not that.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// At least that.
    pub min: Option<f64>,
    /// At most that.
    pub max: Option<f64>,
    /// Exactly that.
    pub equals: Option<String>,
    /// Anything but that.
    pub not_equals: Option<String>,
    /// No larger change within that time.
    pub max_change: Option<(f64, Duration)>,
}

/// One constraint as it stands now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConstraintReport {
    /// Name from the configuration, `crane_motion`.
    pub name: String,
    /// Whether it holds.
    pub state: ConstraintState,
    /// The reading in a word or two: `moving`, `78.5 °C`, `stale`, `no sample`.
    pub reading: String,
    /// The newest reading as a number, where it is one and is believed.
    #[serde(default)]
    pub value: Option<f64>,
    /// Its unit, `°C`; empty without one.
    #[serde(default)]
    pub unit: String,
    /// What is demanded of it.
    #[serde(default)]
    pub limits: Limits,
    /// A sentence for people.
    pub message: String,
    /// When `state` last changed.
    pub since: Option<Timestamp>,
    /// How much a violation matters.
    pub severity: Severity,
    /// Whether an override may cover it.
    pub overridable: bool,
    /// Whether an active override covers it now.
    pub overridden: bool,
    /// Which steps it holds back.
    pub blocks: Vec<SafetyStep>,
    /// What the operator can do about a violation.
    pub resolution: String,
    /// How long it may last, from history.
    pub estimated_wait: Option<Duration>,
    /// What a violation does to work that is under way.
    #[serde(default)]
    pub on_violation: OnViolation,
}

/// One reason why a step may not happen now. The OTA_002 details come from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// Name of the constraint.
    pub constraint: String,
    /// The reading in a word or two, `moving`.
    pub status: String,
    /// A sentence for people.
    pub message: String,
    /// Since when it is so.
    pub detected_at: Option<Timestamp>,
    /// What the operator can do.
    pub resolution: String,
    /// How long it may last.
    pub estimated_wait: Option<Duration>,
    /// What it does to work that is under way.
    #[serde(default)]
    pub on_violation: OnViolation,
}

impl From<&ConstraintReport> for Block {
    fn from(report: &ConstraintReport) -> Self {
        Self {
            constraint: report.name.clone(),
            status: report.reading.clone(),
            message: report.message.clone(),
            detected_at: report.since,
            resolution: report.resolution.clone(),
            estimated_wait: report.estimated_wait,
            on_violation: report.on_violation,
        }
    }
}

/// The answer to "may this step happen now".
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Empty means yes.
    pub blocks: Vec<Block>,
    /// The `service` window that is open and forbids it (OTA_015): people are at the machine.
    pub service: Option<Opening>,
    /// Not before this, when every reason ends at a known time.
    pub earliest: Option<Timestamp>,
}

impl Verdict {
    /// Whether the step may happen.
    #[must_use]
    pub const fn allowed(&self) -> bool {
        self.blocks.is_empty()
    }
}

/// An active override.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverrideReport {
    /// Constraints it covers.
    pub constraints: Vec<String>,
    /// Why it was enabled.
    pub reason: String,
    /// Time left on the monotonic clock.
    pub remaining: Duration,
    /// The same as wall-clock time, for people.
    pub expires_at: Timestamp,
}

/// What a window is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WindowKind {
    /// Scheduled work may run.
    Update,
    /// People are at the machine: nothing is written, switched, restarted or reset.
    Service,
}

/// One opening of a window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opening {
    /// Name of the window.
    pub window: String,
    /// What it is for.
    pub kind: WindowKind,
    /// First instant at which it is open.
    pub opens: Timestamp,
    /// First instant at which it is closed again.
    pub closes: Timestamp,
}

impl Opening {
    /// Whether it is open at `wall`.
    #[must_use]
    pub fn contains(&self, wall: Timestamp) -> bool {
        self.opens <= wall && wall < self.closes
    }
}

/// An override that the first of two people asked for; it counts when another one asks, too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProposalReport {
    /// Who asked: the name of a token.
    pub by: String,
    /// Why.
    pub reason: String,
    /// Constraints it would cover.
    pub constraints: Vec<String>,
    /// For how long it would count at most.
    pub duration: Duration,
    /// For how long it waits for the second person, on the monotonic clock.
    pub remaining: Duration,
    /// The same as wall-clock time, for people.
    pub expires_at: Timestamp,
}

/// An inhibitor that is held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InhibitorReport {
    /// Its number, never given twice while the daemon runs.
    pub id: u64,
    /// Who holds it, in words.
    pub owner: String,
    /// Name of the token that took it.
    pub holder: String,
    /// Why.
    pub reason: String,
    /// Which steps it holds back.
    pub blocks: Vec<SafetyStep>,
    /// When it was taken.
    pub since: Timestamp,
    /// Time left on the monotonic clock.
    pub remaining: Duration,
    /// The same as wall-clock time, for people.
    pub expires_at: Timestamp,
}

/// The whole picture, for `safety/status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SafetyReport {
    /// Every configured constraint.
    pub constraints: Vec<ConstraintReport>,
    /// The active override.
    pub active_override: Option<OverrideReport>,
    /// The override that waits for a second person.
    pub proposed_override: Option<ProposalReport>,
    /// The `update` window that is open; of several the one that closes last.
    pub update_window: Option<Opening>,
    /// The next `update` window; none is announced while the wall clock is not believed.
    pub next_window: Option<Opening>,
    /// The inhibitors that are held, oldest first.
    pub inhibitors: Vec<InhibitorReport>,
    /// The `service` window that is open.
    pub service_window: Option<Opening>,
    /// Whether the wall clock is believed; no window is open without that.
    pub clock_trusted: bool,
}

/// Free resources, for `system/status` and the space checks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Resources {
    /// Free bytes where images are staged.
    pub disk_free: ByteCount,
    /// Available memory.
    pub memory_free: ByteCount,
    /// One-minute load average divided by the number of processors.
    pub cpu_load: f64,
}
