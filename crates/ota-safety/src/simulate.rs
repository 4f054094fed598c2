//! Replaying a recorded trace of sensor values against a configuration, so that rules can be tried before they go live.
//!
//! The same engine judges, on a clock that the trace moves. Nothing outside is touched; printing is left to the caller.

use std::{
    collections::BTreeMap,
    fmt,
    io::BufRead,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use ota_core::{
    Timestamp,
    error::{PortError, PortErrorKind},
    ports::{Clock, SafetyGate, SystemProbe},
    safety::{ConstraintState, Resources, SafetyStep},
};
use serde::{Deserialize, Serialize};

use crate::{
    SafetyConfig, SafetyConfigError, SafetyEngine,
    reading::{Fault, Sample, Value},
};

/// Longest line of a trace, in bytes.
const MAX_LINE: usize = 4096;

/// Longest time between two lines: each second of it is looked at.
const LONGEST_GAP: Duration = Duration::from_secs(24 * 3600);

/// One line of a trace: at that time that source said this. A line with a time only lets time pass.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    /// RFC 3339, or seconds since 1970. Never earlier than the line before, nor more than a day later.
    at: Moment,
    source: Option<String>,
    value: Option<Value>,
    /// Instead of a value: why there was none.
    fault: Option<Fault>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Moment {
    Text(jiff::Timestamp),
    Seconds(f64),
}

/// A verdict that changed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// When, on the trace's clock.
    pub at: Timestamp,
    /// What.
    pub what: Changed,
}

/// What changed.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Changed {
    /// How a constraint stands.
    Constraint {
        /// Its name.
        name: String,
        /// How it stands from now on.
        state: ConstraintState,
        /// The reading in a word or two.
        reading: String,
    },
    /// Whether a step may happen.
    Step {
        /// Which one.
        step: SafetyStep,
        /// Names of what holds it back from now on; empty means that it may happen.
        held_by: Vec<String>,
    },
}

/// Why a trace could not be replayed.
#[derive(Debug, thiserror::Error)]
pub enum SimulateError {
    /// The configuration contradicts itself.
    #[error("the configuration is not usable")]
    Config(#[from] SafetyConfigError),
    /// The trace could not be read.
    #[error("line {line} could not be read")]
    Io {
        /// Number of the line, from 1.
        line: usize,
        /// Why.
        source: std::io::Error,
    },
    /// A line that is not one.
    #[error("line {line}: {why}")]
    BadLine {
        /// Number of the line, from 1.
        line: usize,
        /// What is wrong with it.
        why: String,
    },
}

/// Replays `trace` (JSON lines: `{"at": "2026-03-02T06:00:00Z", "source": "crane", "value": "moving"}`, or `"fault":
/// "timed_out"` instead of a value) and gives every verdict that changed, in order. The first entries tell how everything
/// stands before the first line.
///
/// # Errors
/// [`SimulateError`], the first line that does not fit.
pub fn simulate(config: SafetyConfig, trace: impl BufRead) -> Result<Vec<Change>, SimulateError> {
    let clock = Arc::new(TraceClock::default());
    let engine = SafetyEngine::with_probe(config, clock.clone(), Arc::new(NoFigures))?;
    let mut replay =
        Replay { engine, clock, seen: BTreeMap::new(), held: BTreeMap::new(), changes: Vec::new() };
    for (number, line) in trace.lines().enumerate() {
        let number = number + 1;
        let text = line.map_err(|source| SimulateError::Io { line: number, source })?;
        if text.trim().is_empty() {
            continue;
        }
        replay.line(&text).map_err(|why| SimulateError::BadLine { line: number, why })?;
    }
    Ok(replay.changes)
}

struct Replay {
    engine: Arc<SafetyEngine>,
    clock: Arc<TraceClock>,
    seen: BTreeMap<String, ConstraintState>,
    held: BTreeMap<SafetyStep, Vec<String>>,
    changes: Vec<Change>,
}

impl Replay {
    fn line(&mut self, text: &str) -> Result<(), String> {
        if text.len() > MAX_LINE {
            return Err(format!("longer than {MAX_LINE} bytes"));
        }
        let line: Line = serde_json::from_str(text).map_err(|error| error.to_string())?;
        self.pass_until(line.at.timestamp())?;
        let outcome = match (line.value, line.fault) {
            (Some(value), None) => Ok(value.normalised()),
            (None, Some(fault)) => Err(fault),
            (None, None) if line.source.is_none() => return Ok(()),
            _ => return Err("needs a value or a fault".into()),
        };
        let name = line.source.ok_or("a value needs its source")?;
        let source = self.engine.source(&name).ok_or_else(|| format!("source {name:?} is not configured"))?;
        self.engine.observe(source, Sample { outcome, taken_at: self.clock.monotonic() });
        self.note();
        Ok(())
    }

    /// Lets time pass, with a look whenever something may change by itself.
    fn pass_until(&mut self, at: Timestamp) -> Result<(), String> {
        if self.clock.start(at) {
            self.note();
        }
        if at < self.clock.wall() {
            return Err("earlier than the line before".into());
        }
        if at.since(self.clock.wall()) > LONGEST_GAP {
            return Err("more than a day after the line before; is the time of one of them wrong?".into());
        }
        loop {
            let left = at.since(self.clock.wall());
            let pause = self.engine.look();
            if pause >= left {
                self.clock.pass(left);
                self.note();
                return Ok(());
            }
            self.clock.pass(pause);
            self.note();
        }
    }

    fn note(&mut self) {
        let at = self.clock.wall();
        for report in self.engine.report().constraints {
            if self.seen.get(&report.name) != Some(&report.state) {
                self.seen.insert(report.name.clone(), report.state);
                let what =
                    Changed::Constraint { name: report.name, state: report.state, reading: report.reading };
                self.changes.push(Change { at, what });
            }
        }
        for step in SafetyStep::ALL {
            let held_by: Vec<String> =
                self.engine.judge(step).blocks.into_iter().map(|b| b.constraint).collect();
            if self.held.get(&step) != Some(&held_by) {
                self.held.insert(step, held_by.clone());
                self.changes.push(Change { at, what: Changed::Step { step, held_by } });
            }
        }
    }
}

impl Moment {
    fn timestamp(&self) -> Timestamp {
        match self {
            Self::Text(time) => Timestamp::from_millis(time.as_millisecond()),
            #[expect(
                clippy::cast_possible_truncation,
                reason = "a float cast saturates, and milliseconds are all we keep"
            )]
            Self::Seconds(seconds) => Timestamp::from_millis((seconds * 1000.0).round() as i64),
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = jiff::Timestamp::from_millisecond(self.at.as_millis()).map_err(|_| fmt::Error)?;
        match &self.what {
            Changed::Constraint { name, state, reading } => {
                write!(f, "{at}  {name} is {} ({reading})", format!("{state:?}").to_lowercase())
            }
            Changed::Step { step, held_by } if held_by.is_empty() => {
                write!(f, "{at}  {} may happen", format!("{step:?}").to_lowercase())
            }
            Changed::Step { step, held_by } => {
                write!(f, "{at}  {} is held by {}", format!("{step:?}").to_lowercase(), held_by.join(", "))
            }
        }
    }
}

/// A clock that the trace moves. Its wall time counts as trusted, so that windows are tried too.
#[derive(Default)]
struct TraceClock {
    /// Wall time of the first line, and what has passed since.
    state: Mutex<(Option<Timestamp>, Duration)>,
}

impl TraceClock {
    /// Sets the wall clock by the first line; whether this was it.
    fn start(&self, at: Timestamp) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let first = state.0.is_none();
        state.0.get_or_insert(at);
        first
    }

    fn pass(&self, span: Duration) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).1 += span;
    }
}

impl Clock for TraceClock {
    fn wall(&self) -> Timestamp {
        let (start, passed) = *self.state.lock().unwrap_or_else(PoisonError::into_inner);
        start.unwrap_or_default() + passed
    }

    fn monotonic(&self) -> Duration {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).1
    }

    fn wall_is_trusted(&self) -> bool {
        true
    }
}

/// Stands in for the gateway's own figures: a trace brings its own.
struct NoFigures;

impl SystemProbe for NoFigures {
    fn resources(&self) -> Result<Resources, PortError> {
        Err(PortErrorKind::Io("a simulation measures nothing".into()).into())
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    const CONFIG: &str = r#"
        [[sources]]
        name = "crane"
        file = { path = "/run/crane" }
        [[constraints]]
        name = "crane_motion"
        source = "crane"
        condition = { equals = "stopped" }
        max_age = "10s"
        debounce = "2s"
        blocks = ["reboot"]
    "#;

    fn run(trace: &str) -> Result<Vec<String>, String> {
        let changes =
            simulate(toml::from_str(CONFIG).unwrap(), trace.as_bytes()).map_err(|e| e.to_string())?;
        Ok(changes.iter().map(ToString::to_string).filter(|line| !line.contains("may happen")).collect())
    }

    #[test]
    fn every_change_is_told_also_those_that_only_time_brings() {
        let trace = r#"
            {"at": "2026-03-02T06:00:00Z", "source": "crane", "value": "stopped"}
            {"at": "2026-03-02T06:00:05Z", "source": "crane", "value": "moving"}
            {"at": "2026-03-02T06:00:06Z", "source": "crane", "fault": "timed_out"}
            {"at": "2026-03-02T06:00:07Z", "source": "crane", "value": "stopped"}
            {"at": "2026-03-02T06:01:00Z"}
        "#;
        let told = run(trace).unwrap();
        let expected = [
            "06:00:00Z  crane_motion is unknown (no sample)",
            "06:00:00Z  reboot is held by crane_motion",
            "06:00:00Z  crane_motion is violated (stopped, settling)",
            "06:00:02.001Z  crane_motion is ok (stopped)",
            "06:00:05Z  crane_motion is violated (moving)",
            "06:00:05Z  reboot is held by crane_motion",
            "06:00:06Z  crane_motion is unknown (no answer)",
            "06:00:07Z  crane_motion is violated (stopped, settling)",
            "06:00:09.001Z  crane_motion is ok (stopped)",
            "06:00:17.001Z  crane_motion is unknown (stale)",
            "06:00:17.001Z  reboot is held by crane_motion",
        ];
        assert_eq!(told, expected.map(|line| format!("2026-03-02T{line}")));
    }

    #[test]
    fn a_line_that_does_not_fit_is_named() {
        let refused = [
            ("{\"at\": 5, \"source\": \"crane\"}", "line 1: needs a value"),
            ("{\"at\": 5}\n{\"at\": 4}", "line 2: earlier"),
            ("{\"at\": 0}\n{\"at\": \"2026-03-02T06:00:00Z\"}", "line 2: more than a day after"),
            ("{\"at\": 5, \"source\": \"wind\", \"value\": 1}", "not configured"),
            ("{\"at\": 5, \"value\": 1}", "needs its source"),
            ("\n\nmoving", "line 3"),
        ];
        for (trace, complaint) in refused {
            let error = run(trace).unwrap_err();
            assert!(error.contains(complaint), "{error}");
        }
    }

    /// The traces that are shipped, and that the documentation speaks of.
    #[test]
    fn the_shipped_traces_tell_a_working_day_and_a_hot_one() {
        let dir = Path::new("../../docs/safety");
        let told = |trace: &str| {
            let text = fs::read_to_string(dir.join("harbour-crane.toml")).unwrap();
            let config: toml::Table = text.parse().unwrap();
            let config: SafetyConfig = config["safety"].clone().try_into().unwrap();
            let trace = fs::read(dir.join(trace)).unwrap();
            simulate(config, trace.as_slice()).unwrap()
        };
        let violations = |changes: &[Change], of: &str| {
            let hit = |change: &&Change| {
                matches!(&change.what, Changed::Constraint { name, state: ConstraintState::Violated, reading }
                    if name == of && !reading.contains("settling"))
            };
            changes.iter().filter(hit).count()
        };
        let shift = told("crane-shift.jsonl");
        assert!(violations(&shift, "crane_motion") >= 20, "{}", violations(&shift, "crane_motion"));
        assert_eq!(violations(&shift, "cabinet_temperature"), 0);
        let heat = told("heat-wave.jsonl");
        let hot = violations(&heat, "cabinet_temperature");
        assert!((1..=3).contains(&hot), "the hysteresis keeps it from flapping: {hot}");
        let crane = heat.iter().filter_map(|change| match &change.what {
            Changed::Constraint { name, state, .. } if name == "crane_motion" => Some(*state),
            _ => None,
        });
        let after_rest: Vec<_> = crane.skip_while(|state| *state != ConstraintState::Ok).skip(1).collect();
        assert_eq!(after_rest, [], "it stands still all the time");
        let stale = |change: &Change| matches!(&change.what, Changed::Constraint { reading, .. } if reading == "stale");
        assert!(!shift.iter().chain(&heat).any(stale), "recorded as often as the rules want it");
    }
}
