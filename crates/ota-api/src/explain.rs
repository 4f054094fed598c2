//! `updates/explain`: a dry run. What would happen now, what holds it back, until when, what to do.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    jobs::Blocking,
    windows::WindowOpening,
    words::{JobStatus, Step, Strategy},
};

/// Body of `updates/explain`; may be absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExplainRequest {
    /// Which job; the active one, or an update that is still to be found, when it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_id: Option<String>,
    /// How it would be installed; as it was asked for, or `seamless`, when it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy: Option<Strategy>,
}

/// What would become of an update now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Forecast {
    /// It would run to its end.
    Start,
    /// It would start, and wait before the switch or the reboot, or until its install is asked for.
    StartThenWait,
    /// It waits, and goes on by itself.
    Wait,
    /// It waits until somebody does what `suggested_actions` says: resumes it, reboots the gateway, judges a trial.
    AwaitPeople,
    /// The request would be refused.
    Refuse,
    /// There is nothing left to do.
    Nothing,
}

impl Forecast {
    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::StartThenWait => "start_then_wait",
            Self::Wait => "wait",
            Self::AwaitPeople => "await_people",
            Self::Refuse => "refuse",
            Self::Nothing => "nothing",
        }
    }
}

/// Whether a step may happen now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StepOutcome {
    /// It may.
    Allow,
    /// Not now; it may later without anybody changing the configuration.
    Wait,
    /// People are at the machine: requests are refused with OTA_015.
    Deny,
}

/// One step that is still to come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StepForecast {
    /// Which.
    pub step: Step,
    /// Whether it may happen now.
    pub outcome: StepOutcome,
    /// Not before this; absent when nobody can tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Timestamp>,
    /// What holds it back.
    pub reasons: Vec<Blocking>,
}

/// How the update stands to the `update` windows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WindowForecast {
    /// Whether it waits for them (strategy `maintenance_window`).
    pub needed: bool,
    /// The one that is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open: Option<WindowOpening>,
    /// Whether the work would end before that one closes.
    pub fits: bool,
    /// The next one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<WindowOpening>,
    /// Whether the gateway believes its wall clock; no window is open without that.
    pub clock_trusted: bool,
}

/// What would refuse an update whatever safety says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Obstacle {
    /// Symbolic name of the condition, or the word of `UNAVAILABLE`'s `details.reason`.
    pub name: String,
    /// A sentence for people.
    pub message: String,
}

/// Answer of `updates/explain`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Explanation {
    /// What would happen, in a word.
    pub forecast: Forecast,
    /// The same in a sentence or two.
    pub message: String,
    /// The job it is about, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_id: Option<String>,
    /// Where that stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<JobStatus>,
    /// How it is, or would be, installed.
    pub strategy: Strategy,
    /// The steps that are still to come, in order.
    pub steps: Vec<StepForecast>,
    /// `HH:MM:SS` from the first byte written to the confirmed partition, by what was measured on this device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimated_duration: Option<String>,
    /// The same in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimated_duration_seconds: Option<u64>,
    /// The `update` windows.
    pub window: WindowForecast,
    /// What would refuse it whatever safety says.
    pub obstacles: Vec<Obstacle>,
    /// What to do.
    pub suggested_actions: Vec<String>,
}
