//! The engine: holds the rules, the newest samples, since when each constraint stands as it does, and the override.
//!
//! Answers at once from what it has; whatever time changes by itself (a sample grows old, a debounce ends, an override
//! runs out) is looked at when it is due, so that [`SafetyEngine::changes`] tells of it without being asked.

mod people;
mod state;
mod switch;

use std::{
    collections::BTreeSet,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ota_core::{
    ports::{Clock, SafetyGate, SystemProbe},
    safety::{OnViolation, Opening, SafetyReport, SafetyStep, Verdict, WindowKind},
};
use tokio::sync::{Notify, watch};

use self::state::{Now, Standing, State};
use crate::{
    config::{SafetyConfig, SafetyConfigError},
    reading::Sample,
    rules::{self, Judgement, Rule, World},
    sources::{self, Env, SourceConfig},
    window::Windows,
};

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
    two_person: bool,
    max_inhibit: Duration,
    on_violation: OnViolation,
    env: Env,
    state: Mutex<State>,
    changes: watch::Sender<u64>,
    /// Something may change earlier than the next planned look.
    sooner: Notify,
}

impl SafetyEngine {
    /// Checks the configuration. Until the first samples come in, every constraint is unknown and so counts as violated.
    ///
    /// # Errors
    /// [`SafetyConfigError`], the first contradiction.
    pub fn new(config: SafetyConfig, clock: Arc<dyn Clock>) -> Result<Arc<Self>, SafetyConfigError> {
        Self::build(config, Env { clock, system: None })
    }

    /// The same, with the gateway's own figures (load, memory, disk) as possible sources.
    ///
    /// # Errors
    /// [`SafetyConfigError`], the first contradiction.
    pub fn with_probe(
        config: SafetyConfig,
        clock: Arc<dyn Clock>,
        system: Arc<dyn SystemProbe>,
    ) -> Result<Arc<Self>, SafetyConfigError> {
        Self::build(config, Env { clock, system: Some(system) })
    }

    fn build(config: SafetyConfig, env: Env) -> Result<Arc<Self>, SafetyConfigError> {
        let rules = config.rules()?;
        for source in &config.sources {
            source.check(&env)?;
        }
        let mut fed = vec![Vec::new(); config.sources.len()];
        for (index, rule) in rules.iter().enumerate() {
            fed[rule.source].push(index);
        }
        let windows = Windows::new(config.windows()?);
        let state = State::new(rules.len(), windows, Now::read(&*env.clock));
        Ok(Arc::new(Self {
            rules,
            fed,
            sources: config.sources,
            max_override: config.max_override,
            two_person: config.two_person_override,
            max_inhibit: config.max_inhibit,
            on_violation: config.on_violation,
            env,
            state: Mutex::new(state),
            changes: watch::Sender::new(0),
            sooner: Notify::new(),
        }))
    }

    /// Reads every source and watches the clock until `shutdown` is ready. Sources never block one another.
    pub async fn run(self: Arc<Self>, shutdown: impl Future<Output = ()> + Send) {
        let feeds = self.sources.iter().enumerate().map(|(index, source)| {
            let engine = Arc::clone(&self);
            let sink = move |sample| engine.observe(SourceId(index), sample);
            (source, sources::Feed::new(Arc::clone(&self.env.clock), sink))
        });
        // They end with this.
        let _running = sources::start(feeds, &self.env);
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

    /// Whether `step` may happen now, and if not why, from when it might, and what to do: all that `explain` tells.
    #[must_use]
    pub fn judgement(&self, step: SafetyStep) -> Judgement {
        self.with_world(|world, state, now| {
            let mut judgement = rules::judge(world, step);
            for block in judgement.reasons_mut() {
                if let Some(standing) = self.standing(state, &block.constraint) {
                    standing.date_block(block, now);
                }
            }
            judgement
        })
    }

    /// Whether any `update` window is configured: without one scheduled work never starts.
    #[must_use]
    pub fn has_update_windows(&self) -> bool {
        self.lock().windows.has(WindowKind::Update)
    }

    /// The window of that kind that is open now.
    #[must_use]
    pub fn open_window(&self, kind: WindowKind) -> Option<Opening> {
        self.with_world(|_, state, _| match kind {
            WindowKind::Update => state.update.clone(),
            WindowKind::Service => state.service.clone(),
        })
    }

    /// What the check of the configuration should tell the operator: days on which a window has no run.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let wall = self.now().wall;
        self.lock().windows.warnings(wall)
    }

    /// Brings everything up to now and says how long it stays so by itself.
    pub(crate) fn look(&self) -> Duration {
        let (now, state, changed) = self.up_to_now();
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
        Now::read(&*self.env.clock)
    }

    /// Looks at everything as it is now, and says whether anything has changed. Only here the clock is asked whether it may be
    /// believed: that can cost a look at a file, which a sample does not need.
    fn up_to_now(&self) -> (Now, MutexGuard<'_, State>, bool) {
        let (now, trusted) = (self.now(), self.env.clock.wall_is_trusted());
        let mut state = self.lock();
        let changed = state.refresh_all(&self.rules, now, trusted);
        (now, state, changed)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `look` on the world as it is now.
    fn with_world<R>(&self, look: impl FnOnce(World<'_>, &State, Now) -> R) -> R {
        let (now, state, changed) = self.up_to_now();
        let nothing = BTreeSet::new();
        let world = World {
            rules: &self.rules,
            tracks: &state.tracks,
            covered: state.active_override.as_ref().map_or(&nothing, |active| &active.covers),
            service: state.service.as_ref(),
            leases: state.inhibitors.leases(),
            on_violation: self.on_violation,
            now: now.monotonic,
            wall: now.wall,
        };
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
        self.judgement(step).into()
    }

    fn report(&self) -> SafetyReport {
        let mut report = self.with_world(|world, state, now| {
            let mut constraints = world.reports();
            for (report, standing) in constraints.iter_mut().zip(&state.standings) {
                standing.date_report(report, now);
            }
            let active = state.active_override.as_ref();
            SafetyReport {
                constraints,
                active_override: active.map(|active| active.report(now.monotonic, now.wall)),
                proposed_override: state.proposal.as_ref().map(|open| open.report(now.monotonic, now.wall)),
                update_window: state.update.clone(),
                next_window: None,
                inhibitors: state.inhibitors.reports(now.monotonic, now.wall),
                service_window: state.service.clone(),
                clock_trusted: state.trusted,
            }
        });
        // With a clock that is not believed no window opens, so none is announced.
        if report.clock_trusted {
            report.next_window = self.lock().windows.next(WindowKind::Update, self.now().wall);
        }
        report
    }

    fn fits_window(&self, work: Duration) -> bool {
        let (closes, now) =
            self.with_world(|_, state, now| (state.update.as_ref().map(|open| open.closes), now.wall));
        closes.is_some_and(|closes| now + work <= closes)
    }

    fn windows(&self, count: usize) -> Vec<Opening> {
        let wall = self.now().wall;
        self.lock().windows.preview(wall, count)
    }
}

#[cfg(test)]
pub(crate) mod tests;
#[cfg(test)]
mod walk;
