//! The engine: holds the rules, the newest samples, since when each constraint stands as it does, and the override.
//!
//! Answers at once from what it has; whatever time changes by itself (a sample grows old, a debounce ends, an override
//! runs out) is looked at when it is due, so that [`SafetyEngine::changes`] tells of it without being asked.

use std::{
    collections::BTreeSet,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ota_core::{
    Timestamp,
    ports::{Clock, SafetyGate},
    safety::{Block, ConstraintReport, ConstraintState, OverrideReport, SafetyReport, SafetyStep, Verdict},
};
use tokio::sync::{Notify, watch};

use crate::{
    config::{SafetyConfig, SafetyConfigError},
    history::History,
    overrides::{Override, OverrideError},
    reading::Sample,
    rules::{self, Judgement, Rule, World},
    sources::{self, SourceConfig},
    track::Track,
};

/// Longest time without a look at the clock.
const LOOK_AT_LEAST: Duration = Duration::from_secs(1);

/// A configured source, by its position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceId(usize);

/// May this happen now. See the module.
pub struct SafetyEngine {
    rules: Vec<Rule>,
    /// For each source, the rules it feeds.
    fed: Vec<Vec<usize>>,
    sources: Vec<SourceConfig>,
    max_override: Duration,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    changes: watch::Sender<u64>,
    /// Something may change earlier than the next planned look.
    sooner: Notify,
}

struct State {
    tracks: Vec<Track>,
    standings: Vec<Standing>,
    active_override: Option<Override>,
    next_look: Duration,
}

/// Since when a constraint stands as it does.
struct Standing {
    state: ConstraintState,
    since: Timestamp,
    /// Since when it does not hold, on the monotonic clock.
    unmet_since: Option<Duration>,
    history: History,
}

/// Both clocks, read together.
#[derive(Clone, Copy)]
struct Now {
    monotonic: Duration,
    wall: Timestamp,
}

impl SafetyEngine {
    /// Checks the configuration. Until the first samples come in, every constraint is unknown and so counts as violated.
    ///
    /// # Errors
    /// [`SafetyConfigError`], the first contradiction.
    pub fn new(config: SafetyConfig, clock: Arc<dyn Clock>) -> Result<Arc<Self>, SafetyConfigError> {
        let rules = config.rules()?;
        let mut fed = vec![Vec::new(); config.sources.len()];
        for (index, rule) in rules.iter().enumerate() {
            fed[rule.source].push(index);
        }
        let state = State::new(rules.len(), Now::read(&*clock));
        Ok(Arc::new(Self {
            rules,
            fed,
            sources: config.sources,
            max_override: config.max_override,
            clock,
            state: Mutex::new(state),
            changes: watch::Sender::new(0),
            sooner: Notify::new(),
        }))
    }

    /// Reads every source and watches the clock until `shutdown` is ready. Sources never block one another.
    pub async fn run(self: Arc<Self>, shutdown: impl Future<Output = ()> + Send) {
        let mut tasks = tokio::task::JoinSet::new();
        for (index, source) in self.sources.iter().enumerate() {
            let engine = Arc::clone(&self);
            let feed = sources::Feed::new(Arc::clone(&self.clock), move |sample| {
                engine.observe(SourceId(index), sample);
            });
            tasks.spawn(sources::supervise(source.clone(), feed));
        }
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            let pause = self.look();
            tokio::select! {
                () = &mut shutdown => return,
                () = tokio::time::sleep(pause) => {}
                () = self.sooner.notified() => {}
            }
        }
    }

    /// A number that grows with every change of a constraint's state or of the override.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// The source of that name, to feed it by hand.
    #[must_use]
    pub fn source(&self, name: &str) -> Option<SourceId> {
        self.sources.iter().position(|source| source.name == name).map(SourceId)
    }

    /// Takes in a sample. What it changes counts when this returns.
    pub fn observe(&self, source: SourceId, sample: Sample) {
        let now = self.now();
        let mut state = self.lock();
        let mut changed = false;
        let mut due = Duration::MAX;
        for &index in self.fed.get(source.0).into_iter().flatten() {
            let (rule, track) = (&self.rules[index], &mut state.tracks[index]);
            track.observe(rule, sample.clone(), now.monotonic);
            let (moved, changes_at) = state.refresh(index, rule, now);
            changed |= moved;
            due = due.min(changes_at);
        }
        let sooner = due < state.next_look;
        drop(state);
        self.tell(changed);
        if sooner {
            self.sooner.notify_one();
        }
    }

    /// Overrides what is violated now and may be overridden, for `duration` (1 s to the configured maximum) on the monotonic
    /// clock. Replaces an active override. Never kept over a restart.
    ///
    /// # Errors
    /// [`OverrideError`]; nothing has changed then.
    pub fn enable_override(&self, reason: &str, duration: Duration) -> Result<OverrideReport, OverrideError> {
        if duration < Duration::from_secs(1) || duration > self.max_override {
            return Err(OverrideError::BadDuration { max: self.max_override });
        }
        let now = self.now();
        let mut state = self.lock();
        state.refresh_all(&self.rules, now);
        let covers = self.overridable_now(&state)?;
        let enabled = Override { covers, reason: reason.to_owned(), until: now.monotonic + duration };
        let report = enabled.report(now.monotonic, now.wall);
        tracing::warn!(covers = ?report.constraints, reason, seconds = duration.as_secs(), "safety override enabled");
        state.active_override = Some(enabled);
        state.next_look = state.next_look.min(now.monotonic + duration);
        drop(state);
        self.tell(true);
        self.sooner.notify_one();
        Ok(report)
    }

    /// Ends the override; `false` when there was none.
    pub fn disable_override(&self) -> bool {
        let ended = self.lock().active_override.take().is_some();
        self.tell(ended);
        ended
    }

    fn overridable_now(&self, state: &State) -> Result<BTreeSet<String>, OverrideError> {
        let unmet = || {
            let pairs = self.rules.iter().zip(&state.standings);
            pairs.filter(|(_, standing)| standing.state != ConstraintState::Ok).map(|(rule, _)| rule)
        };
        let covers: BTreeSet<String> =
            unmet().filter(|rule| rule.overridable).map(|rule| rule.name.clone()).collect();
        if !covers.is_empty() {
            return Ok(covers);
        }
        let constraints: Vec<String> = unmet().map(|rule| rule.name.clone()).collect();
        Err(if constraints.is_empty() {
            OverrideError::NothingViolated
        } else {
            OverrideError::NotOverridable { constraints }
        })
    }

    /// Brings everything up to now and says how long it stays so by itself.
    fn look(&self) -> Duration {
        let now = self.now();
        let mut state = self.lock();
        let changed = state.refresh_all(&self.rules, now);
        let pause = state.next_look.saturating_sub(now.monotonic);
        drop(state);
        self.tell(changed);
        // A millisecond over: timers and this clock need not tick together.
        pause + Duration::from_millis(1)
    }

    fn tell(&self, changed: bool) {
        if changed {
            self.changes.send_modify(|count| *count += 1);
        }
    }

    fn now(&self) -> Now {
        Now::read(&*self.clock)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `look` on the world as it is now.
    fn with_world<R>(&self, look: impl FnOnce(World<'_>, &State, Now) -> R) -> R {
        let now = self.now();
        let mut state = self.lock();
        let changed = state.refresh_all(&self.rules, now);
        let nothing = BTreeSet::new();
        let covered = state.active_override.as_ref().map_or(&nothing, |active| &active.covers);
        let world =
            World { rules: &self.rules, tracks: &state.tracks, covered, now: now.monotonic, wall: now.wall };
        let answer = look(world, &state, now);
        drop(state);
        self.tell(changed);
        answer
    }

    fn standing<'a>(&self, state: &'a State, name: &str) -> Option<&'a Standing> {
        let index = self.rules.iter().position(|rule| rule.name == name)?;
        state.standings.get(index)
    }
}

impl SafetyGate for SafetyEngine {
    fn judge(&self, step: SafetyStep) -> Verdict {
        self.with_world(|world, state, now| {
            let mut reasons = match rules::judge(world, step) {
                Judgement::Allow => Vec::new(),
                Judgement::Wait { reasons, .. } => reasons,
            };
            for block in &mut reasons {
                if let Some(standing) = self.standing(state, &block.constraint) {
                    standing.date_block(block, now);
                }
            }
            Verdict { blocks: reasons }
        })
    }

    fn report(&self) -> SafetyReport {
        self.with_world(|world, state, now| {
            let mut constraints = world.reports();
            for (report, standing) in constraints.iter_mut().zip(&state.standings) {
                standing.date_report(report, now);
            }
            let active = state.active_override.as_ref();
            SafetyReport {
                constraints,
                active_override: active.map(|active| active.report(now.monotonic, now.wall)),
                window_active: false,
                next_window: None,
            }
        })
    }
}

impl Now {
    fn read(clock: &dyn Clock) -> Self {
        Self { monotonic: clock.monotonic(), wall: clock.wall() }
    }
}

impl State {
    fn new(rules: usize, now: Now) -> Self {
        let unknown = || Standing {
            state: ConstraintState::Unknown,
            since: now.wall,
            unmet_since: Some(now.monotonic),
            history: History::default(),
        };
        Self {
            tracks: vec![Track::default(); rules],
            standings: std::iter::repeat_with(unknown).take(rules).collect(),
            active_override: None,
            next_look: now.monotonic,
        }
    }

    /// Whether anything has changed by `now`. Also plans the next look.
    fn refresh_all(&mut self, rules: &[Rule], now: Now) -> bool {
        let mut changed = self.end_override(now);
        let mut next = now.monotonic + LOOK_AT_LEAST;
        if let Some(active) = &self.active_override {
            next = next.min(active.until);
        }
        for (index, rule) in rules.iter().enumerate() {
            let (moved, changes_at) = self.refresh(index, rule, now);
            changed |= moved;
            next = next.min(changes_at);
        }
        self.next_look = next;
        changed
    }

    fn end_override(&mut self, now: Now) -> bool {
        let ended = self.active_override.take_if(|active| !active.active(now.monotonic));
        if let Some(ended) = &ended {
            tracing::warn!(covered = ?ended.covers, "safety override has run out");
        }
        ended.is_some()
    }

    /// Whether one constraint has changed, and when it changes by itself.
    fn refresh(&mut self, index: usize, rule: &Rule, now: Now) -> (bool, Duration) {
        let assessment = self.tracks[index].assess(rule, now.monotonic);
        let moved = self.standings[index].move_to(assessment.state(), now);
        if moved {
            tracing::info!(constraint = rule.name, state = ?assessment.state(), why = ?assessment.outcome, "constraint");
        }
        // Staleness begins just after the sample's last good instant.
        let changes_at = assessment.changes_at.map_or(Duration::MAX, |at| at.max(now.monotonic));
        (moved, changes_at)
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
        } else if let Some(since) = self.unmet_since.take() {
            self.history.record(now.monotonic.saturating_sub(since));
        }
        true
    }

    fn estimate(&self, now: Now) -> Option<Duration> {
        self.history.estimate(now.monotonic.saturating_sub(self.unmet_since?))
    }

    fn date_block(&self, block: &mut Block, now: Now) {
        block.detected_at = Some(self.since);
        block.estimated_wait = block.estimated_wait.or_else(|| self.estimate(now));
    }

    fn date_report(&self, report: &mut ConstraintReport, now: Now) {
        report.since = Some(self.since);
        report.estimated_wait = report.estimated_wait.or_else(|| self.estimate(now));
    }
}

#[cfg(test)]
mod tests;
