//! `safety/windows`: when scheduled work may run, and when people are at the machine.

use jiff::Timestamp;
use ota_core::safety::Opening;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::{text, words::WindowKind};

/// Query of `safety/windows`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct WindowsQuery {
    /// How many openings at most, 1 to 100, 10 when it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// Answer of `safety/windows`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WindowList {
    /// Whether the gateway believes its wall clock; no window is open without that.
    pub clock_trusted: bool,
    /// The next openings of all windows by the time they open, those that are open now first.
    pub windows: Vec<WindowOpening>,
}

/// One opening of a window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WindowOpening {
    /// Name of the window.
    pub name: String,
    /// `update`: scheduled work may run; `service`: people are at the machine.
    pub kind: WindowKind,
    /// First instant at which it is open.
    pub opens_at: Timestamp,
    /// First instant at which it is closed again.
    pub closes_at: Timestamp,
    /// Seconds between the two.
    pub duration_seconds: u64,
}

impl From<&Opening> for WindowOpening {
    fn from(opening: &Opening) -> Self {
        Self {
            name: opening.window.clone(),
            kind: opening.kind.into(),
            opens_at: text::time(opening.opens),
            closes_at: text::time(opening.closes),
            duration_seconds: opening.closes.since(opening.opens).as_secs(),
        }
    }
}
