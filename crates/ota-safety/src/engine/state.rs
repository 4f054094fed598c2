//! What the engine remembers, and bringing it up to an instant.

use std::time::Duration;

use ota_core::{
    Timestamp,
    ports::Clock,
    safety::{Block, ConstraintReport, ConstraintState, OnViolation, Opening, WindowKind},
};

use crate::{
    history::History,
    inhibitors::Inhibitors,
    overrides::{Override, Proposal},
    rules::Rule,
    track::Track,
    window::Windows,
};

/// Longest time without a look at the clock.
const LOOK_AT_LEAST: Duration = Duration::from_secs(1);

/// Both clocks, read together.
#[derive(Clone, Copy)]
pub(super) struct Now {
    pub(super) monotonic: Duration,
    pub(super) wall: Timestamp,
}

impl Now {
    pub(super) fn read(clock: &dyn Clock) -> Self {
        Self { monotonic: clock.monotonic(), wall: clock.wall() }
    }

    /// When a later instant of the wall clock is, on the monotonic one.
    fn monotonic_at(self, wall: Timestamp) -> Duration {
        self.monotonic + wall.since(self.wall)
    }
}

/// All that changes.
pub(super) struct State {
    pub(super) tracks: Vec<Track>,
    pub(super) standings: Vec<Standing>,
    pub(super) active_override: Option<Override>,
    pub(super) proposal: Option<Proposal>,
    pub(super) inhibitors: Inhibitors,
    pub(super) windows: Windows,
    /// The windows that are open.
    pub(super) update: Option<Opening>,
    pub(super) service: Option<Opening>,
    /// Whether the wall clock could be believed at the last look.
    pub(super) trusted: bool,
    pub(super) next_look: Duration,
}

/// Since when a constraint stands as it does.
pub(super) struct Standing {
    pub(super) state: ConstraintState,
    since: Timestamp,
    /// Since when it does not hold, on the monotonic clock.
    unmet_since: Option<Duration>,
    /// Whether it has held since the start: only what has held can become violated.
    has_held: bool,
    history: History,
}

impl State {
    pub(super) fn new(rules: usize, windows: Windows, now: Now) -> Self {
        let unknown = || Standing {
            state: ConstraintState::Unknown,
            since: now.wall,
            unmet_since: Some(now.monotonic),
            has_held: false,
            history: History::default(),
        };
        Self {
            tracks: vec![Track::default(); rules],
            standings: std::iter::repeat_with(unknown).take(rules).collect(),
            active_override: None,
            proposal: None,
            inhibitors: Inhibitors::default(),
            windows,
            update: None,
            service: None,
            trusted: false,
            next_look: now.monotonic,
        }
    }

    /// Whether anything has changed by `now`. Also plans the next look. `trusted`: whether the wall clock is to be believed.
    pub(super) fn refresh_all(&mut self, rules: &[Rule], now: Now, trusted: bool) -> bool {
        self.trusted = trusted;
        let mut changed = self.end_override(now);
        changed |= self.inhibitors.expire(now.monotonic);
        changed |= self.refresh_windows(now);
        let mut next = now.monotonic + LOOK_AT_LEAST;
        for (index, rule) in rules.iter().enumerate() {
            let (moved, changes_at) = self.refresh(index, rule, now);
            changed |= moved;
            next = next.min(changes_at);
        }
        let ends = self.active_override.iter().map(|active| active.until);
        let ends = ends.chain(self.proposal.iter().map(|proposal| proposal.until));
        let ends = ends.chain(self.inhibitors.leases().iter().map(|lease| lease.until()));
        let edge = self.windows.next_edge(now.wall).map(|edge| now.monotonic_at(edge));
        self.next_look = ends.chain(edge).fold(next, Duration::min);
        changed
    }

    /// Whether one constraint has changed, and when it changes by itself.
    pub(super) fn refresh(&mut self, index: usize, rule: &Rule, now: Now) -> (bool, Duration) {
        let assessment = self.tracks[index].assess(rule, now.monotonic);
        let moved = self.standings[index].move_to(assessment.state(), now);
        if moved {
            tracing::info!(constraint = rule.name, state = ?assessment.state(), why = ?assessment.outcome, "constraint");
        }
        // Staleness begins just after the sample's last good instant.
        let changes_at = assessment.changes_at.map_or(Duration::MAX, |at| at.max(now.monotonic));
        (moved, changes_at)
    }

    fn end_override(&mut self, now: Now) -> bool {
        let lapsed = self.proposal.take_if(|proposal| now.monotonic >= proposal.until);
        let ended = self.active_override.take_if(|active| !active.active(now.monotonic));
        if let Some(ended) = &ended {
            tracing::warn!(covered = ?ended.covers, "safety override has run out");
        }
        ended.is_some() || lapsed.is_some()
    }

    fn refresh_windows(&mut self, now: Now) -> bool {
        let mut open = |kind| self.windows.open(kind, now.wall).filter(|_| self.trusted);
        let (update, service) = (open(WindowKind::Update), open(WindowKind::Service));
        let changed = update != self.update || service != self.service;
        if changed {
            tracing::info!(update = ?update, service = ?service, "windows");
        }
        (self.update, self.service) = (update, service);
        changed
    }
}

impl Standing {
    fn move_to(&mut self, state: ConstraintState, now: Now) -> bool {
        if self.state == state {
            return false;
        }
        self.state = state;
        self.since = now.wall;
        if state != ConstraintState::Ok {
            self.unmet_since.get_or_insert(now.monotonic);
            return true;
        }
        // Waiting for the first samples after a start is no violation that tells how long the next one may last.
        let has_held = std::mem::replace(&mut self.has_held, true);
        if let Some(since) = self.unmet_since.take().filter(|_| has_held) {
            self.history.record(now.monotonic.saturating_sub(since));
        }
        true
    }

    fn estimate(&self, now: Now) -> Option<Duration> {
        self.history.estimate(now.monotonic.saturating_sub(self.unmet_since?))
    }

    pub(super) fn date_block(&self, block: &mut Block, now: Now) {
        block.detected_at = Some(self.since);
        // After a restart of the daemon nothing has been heard of yet: no reason to end a job that goes on.
        if !self.has_held {
            block.on_violation = block.on_violation.min(OnViolation::PauseWrite);
        }
        block.estimated_wait = block.estimated_wait.or_else(|| self.estimate(now));
    }

    pub(super) fn date_report(&self, report: &mut ConstraintReport, now: Now) {
        report.since = Some(self.since);
        report.estimated_wait = report.estimated_wait.or_else(|| self.estimate(now));
    }
}
