//! The five messages of the WebSocket, also given by `events`.

use jiff::Timestamp;
use ota_core::event::{Event, EventKind, Progress};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::{
    text,
    words::{ConstraintStatus, Outcome, Phase, Severity, SystemStatusWord},
};

/// A message, by its `type`. Readers must take unknown types without failing: see [`parse`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
#[expect(missing_docs, reason = "each is described at its type")]
pub enum Message {
    ProgressUpdate(ProgressUpdate),
    StatusChange(StatusChange),
    SafetyAlert(SafetyAlert),
    JobComplete(JobComplete),
    SystemEvent(SystemEvent),
}

/// Reads a message; `None` for a type this version does not know.
///
/// # Errors
/// When the text is not JSON, or a known type lacks its fields.
pub fn parse(json: &str) -> Result<Option<Message>, serde_json::Error> {
    #[derive(Deserialize)]
    struct Tag {
        #[serde(rename = "type")]
        tag: String,
    }
    let known = ["progress_update", "status_change", "safety_alert", "job_complete", "system_event"];
    let Tag { tag } = serde_json::from_str(json)?;
    if known.contains(&tag.as_str()) { serde_json::from_str(json).map(Some) } else { Ok(None) }
}

/// How far the current phase of a job is. At most four a second, and always a last one at 100.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ProgressUpdate {
    /// Which job.
    pub job_id: String,
    /// 0 to 100, of the current operation.
    pub progress: f64,
    /// `downloading`, `verifying`, `writing_partition` or `reading_back`.
    pub current_operation: String,
    /// `HH:MM:SS` to the end of the operation; an estimate at a nominal speed while none was measured.
    pub eta: String,
    /// The same in seconds; absent while no speed was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eta_seconds: Option<u64>,
    /// Numbers of the operation.
    pub details: ProgressDetails,
    /// Position in the stream of this device.
    #[serde(default)]
    pub seq: u64,
    /// When.
    #[serde(default)]
    pub timestamp: Timestamp,
}

/// Numbers of an operation, and their human strings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProgressDetails {
    /// `385MB` done.
    pub bytes_written: String,
    /// `452MB` to do.
    pub bytes_total: String,
    /// `5.2MB/s`.
    pub speed: String,
    /// Bytes done.
    #[serde(default)]
    pub written: u64,
    /// Bytes to do.
    #[serde(default)]
    pub total: u64,
    /// Bytes a second.
    #[serde(default)]
    pub bytes_per_second: u64,
}

/// The gateway as a whole changed state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StatusChange {
    /// The new state.
    pub system_status: SystemStatusWord,
    /// A sentence for people.
    pub message: String,
    /// How much it matters.
    pub severity: Severity,
    /// When.
    pub timestamp: Timestamp,
    /// Position in the stream of this device.
    #[serde(default)]
    pub seq: u64,
}

/// A constraint changed while something depends on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SafetyAlert {
    /// Name of the constraint.
    pub constraint: String,
    /// Its new state.
    pub status: ConstraintStatus,
    /// A sentence for people.
    pub message: String,
    /// How much it matters.
    pub severity: Severity,
    /// Whether a job is being held by it.
    pub action_required: bool,
    /// What the operator can do.
    pub suggested_action: String,
    /// When.
    #[serde(default)]
    pub timestamp: Timestamp,
    /// Position in the stream of this device.
    #[serde(default)]
    pub seq: u64,
}

/// A phase the client asked for has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JobComplete {
    /// Which job.
    pub job_id: String,
    /// How it ended.
    pub status: Outcome,
    /// A sentence for people.
    pub message: String,
    /// What ended.
    pub details: JobCompleteDetails,
    /// When.
    #[serde(default)]
    pub timestamp: Timestamp,
    /// Position in the stream of this device.
    #[serde(default)]
    pub seq: u64,
}

/// What ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JobCompleteDetails {
    /// Version the job brings.
    pub version: String,
    /// `452MB`.
    pub size: String,
    /// `5m 30s`.
    pub duration: String,
    /// Which phase ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// Length of the image in bytes.
    #[serde(default)]
    pub size_bytes: u64,
    /// Time the phase took, in seconds.
    #[serde(default)]
    pub duration_seconds: u64,
}

/// Something else, by name: `reboot_scheduled`, `override_expired`, `events_dropped`, …
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SystemEvent {
    /// Its name.
    pub event: String,
    /// A sentence for people.
    pub message: String,
    /// When.
    pub timestamp: Timestamp,
    /// Seconds until it takes effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub countdown: Option<u32>,
    /// Position in the stream of this device.
    #[serde(default)]
    pub seq: u64,
    /// How many events were lost, of `events_dropped`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dropped: Option<u64>,
}

impl Message {
    /// Position in the stream of this device; 0 when the sender gives none.
    #[must_use]
    pub const fn seq(&self) -> u64 {
        match self {
            Self::ProgressUpdate(m) => m.seq,
            Self::StatusChange(m) => m.seq,
            Self::SafetyAlert(m) => m.seq,
            Self::JobComplete(m) => m.seq,
            Self::SystemEvent(m) => m.seq,
        }
    }
}

impl ProgressUpdate {
    /// A progress with its place in the stream.
    #[must_use]
    pub fn new(progress: &Progress, seq: u64, timestamp: Timestamp) -> Self {
        let left = progress.total.saturating_sub(progress.current);
        let eta = text::seconds_for(left, progress.bytes_per_second);
        let speed = progress.bytes_per_second.unwrap_or(0);
        Self {
            job_id: progress.job.to_string(),
            progress: text::percent(progress.current, progress.total),
            current_operation: progress.operation.as_str().into(),
            eta: text::hms(eta),
            eta_seconds: (speed > 0).then_some(eta),
            details: ProgressDetails {
                bytes_written: text::megabytes(progress.current),
                bytes_total: text::megabytes(progress.total),
                speed: text::speed(speed),
                written: progress.current.get(),
                total: progress.total.get(),
                bytes_per_second: speed,
            },
            seq,
            timestamp,
        }
    }
}

impl From<&Event> for Message {
    fn from(event: &Event) -> Self {
        let (seq, timestamp) = (event.seq, text::time(event.at));
        match &event.kind {
            EventKind::Progress(progress) => {
                Self::ProgressUpdate(ProgressUpdate::new(progress, seq, timestamp))
            }
            EventKind::StatusChange { system, message, severity } => Self::StatusChange(StatusChange {
                system_status: (*system).into(),
                message: message.clone(),
                severity: (*severity).into(),
                timestamp,
                seq,
            }),
            EventKind::SafetyAlert {
                constraint,
                state,
                message,
                severity,
                action_required,
                suggested_action,
            } => Self::SafetyAlert(SafetyAlert {
                constraint: constraint.clone(),
                status: (*state).into(),
                message: message.clone(),
                severity: (*severity).into(),
                action_required: *action_required,
                suggested_action: suggested_action.clone(),
                timestamp,
                seq,
            }),
            EventKind::JobComplete { job, phase, outcome, message, version, size, duration } => {
                Self::JobComplete(JobComplete {
                    job_id: job.to_string(),
                    status: (*outcome).into(),
                    message: message.clone(),
                    details: JobCompleteDetails {
                        version: version.to_string(),
                        size: text::megabytes(*size),
                        duration: text::spoken(*duration),
                        phase: Some((*phase).into()),
                        size_bytes: size.get(),
                        duration_seconds: duration.as_secs(),
                    },
                    timestamp,
                    seq,
                })
            }
            EventKind::System { event, message, countdown } => Self::SystemEvent(SystemEvent {
                event: event.clone(),
                message: message.clone(),
                timestamp,
                countdown: *countdown,
                seq,
                dropped: None,
            }),
        }
    }
}

/// Query of `events` and of the WebSocket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct EventsQuery {
    /// Only events after this position; without it, `events` gives what is in the ring and the WebSocket only new ones.
    #[serde(default)]
    pub since: Option<u64>,
    /// 1 to 1000, of `events`; 256 when absent.
    #[serde(default)]
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<u32>,
}

/// Answer of `events`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EventPage {
    /// The events, oldest first.
    pub events: Vec<Message>,
    /// Position to ask from next.
    pub next: u64,
    /// How many were lost before the first one.
    pub missed: u64,
}
