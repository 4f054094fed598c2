//! Random traces of a crane woven with random steps of a job: whatever comes, nothing is switched or restarted on a newest
//! sample that is violated, stale or absent, unless an override covers it.
//!
//! The job is the real machine of `ota-core`; what performs its effects here asks the engine where `ota-engine` does.

use std::{collections::VecDeque, time::Duration};

use ota_core::{
    Timestamp,
    job::{Effect, Failure, Input, InstallOptions, Job, JobKind, JobState, Strategy as How, step, table},
    ports::{Clock, SafetyGate},
    safety::SafetyStep,
};
use proptest::prelude::*;

use super::tests::Plant;
use crate::reading::{Fault, Value};

/// Oldest sample that counts, of the plant's constraints.
const MAX_AGE: Duration = Duration::from_secs(5);

#[derive(Clone, Debug)]
enum Event {
    Moving,
    Stopped,
    Lost,
    Pass(u64),
    /// The next effect of the job is performed.
    Perform,
    Override(u64),
    EndOverride,
    /// The wall clock is set.
    Jump(i64),
    /// The daemon is restarted.
    Restart,
    Cancel,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        2 => Just(Event::Moving),
        6 => Just(Event::Stopped),
        1 => Just(Event::Lost),
        8 => (0u64..3000).prop_map(Event::Pass),
        12 => Just(Event::Perform),
        2 => (1u64..20).prop_map(Event::Override),
        1 => Just(Event::EndOverride),
        1 => (0i64..4_000_000_000).prop_map(Event::Jump),
        1 => Just(Event::Restart),
        1 => Just(Event::Cancel),
    ]
}

struct Walk {
    plant: Plant,
    /// When the crane last said something since the start, and whether that was good.
    newest: Option<(Duration, bool)>,
    overridden_until: Option<Duration>,
    job: Job,
    effects: VecDeque<Effect>,
    waiting: Option<SafetyStep>,
    acts: usize,
}

impl Walk {
    fn new() -> Self {
        let mut walk = Self {
            plant: Plant::new(),
            newest: None,
            overridden_until: None,
            job: table::sample(JobKind::Update, JobState::Downloaded),
            effects: VecDeque::new(),
            waiting: None,
            acts: 0,
        };
        walk.install();
        walk
    }

    fn install(&mut self) {
        self.job = table::sample(JobKind::Update, JobState::Downloaded);
        self.effects.clear();
        self.waiting = None;
        let options =
            InstallOptions { strategy: How::Seamless, reboot_after: true, rollback_on_failure: true };
        self.feed(Input::Install(options));
    }

    fn feed(&mut self, input: Input) {
        let Ok(next) = step(&self.job, input, Timestamp::default()) else { return };
        self.job = next.job;
        self.effects.extend(next.effects);
        if self.job.state.is_end() || self.job.state == JobState::Rebooting {
            self.install();
        }
    }

    fn say(&mut self, outcome: Result<Value, Fault>) {
        self.newest = Some((self.plant.clock.monotonic(), outcome == Ok(Value::Text("stopped".into()))));
        self.plant.say("crane", outcome);
    }

    fn take(&mut self, event: &Event) -> Result<(), TestCaseError> {
        self.plant.say("people", Ok(Value::Number(0.0)));
        match event {
            Event::Moving => self.say(Ok(Value::Text("moving".into()))),
            Event::Stopped => self.say(Ok(Value::Text("stopped".into()))),
            Event::Lost => self.say(Err(Fault::TimedOut)),
            Event::Pass(millis) => self.plant.clock.advance(Duration::from_millis(*millis)),
            Event::Jump(to) => self.plant.clock.set_wall(Timestamp::from_secs(*to)),
            Event::Override(secs) => {
                let span = Duration::from_secs(*secs);
                if self.plant.engine.enable_override("walk", span).is_ok() {
                    self.overridden_until = Some(self.plant.clock.monotonic() + span);
                }
            }
            Event::EndOverride => {
                self.plant.engine.disable_override();
                self.overridden_until = None;
            }
            Event::Restart => {
                self.plant = self.plant.restarted();
                (self.newest, self.overridden_until) = (None, None);
            }
            Event::Cancel => self.feed(Input::Cancel { reason: "walk".into() }),
            Event::Perform => self.perform()?,
        }
        if let Some(step) = self.waiting.filter(|step| self.plant.engine.judge(*step).allowed()) {
            self.waiting = None;
            self.feed(Input::Unblocked);
            let _ = step;
        }
        Ok(())
    }

    fn perform(&mut self) -> Result<(), TestCaseError> {
        let Some(effect) = self.effects.pop_front() else { return Ok(()) };
        let outcome = match effect {
            Effect::FenceSlot => self.unless_blocked(SafetyStep::Write, Input::Fenced)?,
            Effect::WriteSlot => Input::Written,
            Effect::ArmSlot => self.unless_blocked(SafetyStep::Switch, Input::Armed)?,
            Effect::Reboot | Effect::RebootBack => {
                self.unless_blocked(SafetyStep::Reboot, Input::RebootStarted)?
            }
            Effect::GoBack | Effect::GoBackAgain => Input::WentBack,
            Effect::CheckHealth => Input::HealthFailed(Failure::internal("walk")),
            Effect::AwaitUnblocked => {
                self.waiting = Some(match self.job.state {
                    JobState::Fencing { .. } => SafetyStep::Write,
                    JobState::Installed { .. } => SafetyStep::Switch,
                    _ => SafetyStep::Reboot,
                });
                return Ok(());
            }
            _ => return Ok(()),
        };
        self.feed(outcome);
        Ok(())
    }

    /// As `ota_engine::effects` does it: asks, and acts in the same breath.
    fn unless_blocked(&mut self, step: SafetyStep, done: Input) -> Result<Input, TestCaseError> {
        let verdict = self.plant.engine.judge(step);
        prop_assert_eq!(&verdict, &self.plant.engine.judge(step), "same inputs, same answer");
        if !verdict.allowed() {
            return Ok(Input::Blocked(verdict.blocks));
        }
        let now = self.plant.clock.monotonic();
        let good = self.newest.is_some_and(|(taken, good)| good && now - taken <= MAX_AGE);
        let overridden = self.overridden_until.is_some_and(|until| now < until);
        prop_assert!(good || overridden, "{:?} at {:?} on {:?}", step, now, self.newest);
        self.acts += 1;
        Ok(done)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn nothing_is_written_switched_or_restarted_on_a_bad_newest_sample_unless_it_is_overridden(
        events in prop::collection::vec(event(), 1..200)
    ) {
        let mut walk = Walk::new();
        for event in &events {
            walk.take(event)?;
        }
    }
}

#[test]
fn a_calm_walk_does_act() {
    let mut walk = Walk::new();
    for _ in 0..10 {
        for event in [Event::Stopped, Event::Pass(600), Event::Perform, Event::Perform] {
            walk.take(&event).unwrap();
        }
    }
    assert!(walk.acts >= 3, "fenced, switched and restarted: {}", walk.acts);
}
