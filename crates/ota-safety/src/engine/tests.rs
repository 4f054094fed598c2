//! The engine from outside: fed by hand on a fake clock, and running with a real file on tokio's clock.

use std::{fs, path::Path};

use ota_core::{Timestamp, safety::ConstraintState};
use ota_testkit::FakeClock;
use proptest::prelude::*;

use super::*;
use crate::{
    OverrideError,
    reading::{Fault, Value},
};

const CONFIG: &str = r#"
    [[sources]]
    name = "crane"
    file = { path = "/nowhere/crane" }
    [[sources]]
    name = "people"
    file = { path = "/nowhere/people" }
    [[constraints]]
    name = "crane_motion"
    source = "crane"
    condition = { equals = "stopped" }
    message_violated = "Crane movement detected"
    message_ok = "Crane is at rest"
    resolution = "Wait for crane to stop or use force override with PIN"
    [[constraints]]
    name = "people_near"
    source = "people"
    condition = { equals = 0 }
    overridable = false
    blocks = ["switch", "reboot"]
"#;

pub(super) struct Plant {
    pub(super) engine: Arc<SafetyEngine>,
    pub(super) clock: Arc<FakeClock>,
}

impl Plant {
    pub(super) fn new() -> Self {
        Self::with("")
    }

    /// With lines of configuration in front.
    pub(super) fn with(more: &str) -> Self {
        let clock = Arc::new(FakeClock::default());
        let config = toml::from_str(&format!("{more}\n{CONFIG}")).unwrap();
        Self { engine: SafetyEngine::new(config, clock.clone()).unwrap(), clock }
    }

    /// The same plant after a restart of the daemon: nothing is remembered but the time.
    pub(super) fn restarted(&self) -> Self {
        let clock = Arc::clone(&self.clock);
        Self { engine: SafetyEngine::new(toml::from_str(CONFIG).unwrap(), clock.clone()).unwrap(), clock }
    }

    pub(super) fn say(&self, source: &str, outcome: Result<Value, Fault>) {
        let sample = Sample { outcome, taken_at: self.clock.monotonic() };
        self.engine.observe(self.engine.source(source).unwrap(), sample);
    }

    pub(super) fn calm(&self) {
        for _ in 0..2 {
            self.say("crane", Ok(Value::Text("stopped".into())));
            self.say("people", Ok(Value::Number(0.0)));
            self.clock.advance(Duration::from_secs(1));
        }
    }

    pub(super) fn moving(&self) {
        self.say("crane", Ok(Value::Text("moving".into())));
    }

    pub(super) fn blocking(&self, step: SafetyStep) -> Vec<String> {
        self.engine.judge(step).blocks.into_iter().map(|block| block.constraint).collect()
    }

    pub(super) fn wait(&self, secs: u64) {
        self.clock.advance(Duration::from_secs(secs));
    }
}

#[test]
fn everything_is_held_back_until_the_first_samples() {
    let plant = Plant::new();
    assert_eq!(plant.blocking(SafetyStep::Reboot), ["crane_motion", "people_near"]);
    assert_eq!(plant.engine.judge(SafetyStep::Write).blocks[0].status, "no sample");
    assert!(plant.engine.judge(SafetyStep::Download).allowed());
    plant.calm();
    assert!(plant.engine.judge(SafetyStep::Reboot).allowed());
}

#[test]
fn a_block_tells_what_since_when_and_what_to_do() {
    let plant = Plant::new();
    plant.calm();
    let since = plant.clock.wall();
    plant.moving();
    plant.wait(3);
    let block = plant.engine.judge(SafetyStep::Switch).blocks.remove(0);
    assert_eq!(block.status, "moving");
    assert_eq!(block.message, "Crane movement detected");
    assert_eq!(block.detected_at, Some(since));
    assert_eq!(block.resolution, "Wait for crane to stop or use force override with PIN");
    assert_eq!(block.estimated_wait, None);
}

#[test]
fn the_start_is_no_violation_that_others_are_estimated_by() {
    let plant = Plant::new();
    plant.wait(100);
    plant.calm();
    plant.moving();
    assert_eq!(plant.engine.judge(SafetyStep::Switch).blocks[0].estimated_wait, None);
    assert_eq!(plant.engine.report().constraints[0].estimated_wait, None);
}

#[test]
fn behind_a_start_no_violation_is_told_that_nobody_has_seen() {
    let plant = Plant::new();
    let told = |said: &str| {
        plant.say("crane", Ok(Value::Text(said.into())));
        let block = plant.engine.judge(SafetyStep::Switch).blocks.remove(0);
        (block.status, block.message)
    };
    let (status, message) = told("stopped");
    assert_eq!(status, "stopped, settling");
    assert_eq!(message, "Within limits, not yet for long enough (settling), counts as violated");
    told("moving");
    assert_eq!(told("stopped").1, "Crane movement detected (back within limits, settling)");
}

#[test]
fn a_wait_is_estimated_from_earlier_violations() {
    let plant = Plant::new();
    plant.calm();
    plant.moving();
    plant.wait(100);
    plant.calm();
    plant.moving();
    plant.wait(1);
    let left = plant.engine.judge(SafetyStep::Write).blocks[0].estimated_wait.unwrap();
    assert!((99..=101).contains(&left.as_secs()), "{left:?}");
}

#[test]
fn a_silent_sensor_blocks_without_being_heard() {
    let plant = Plant::new();
    plant.calm();
    plant.wait(10);
    let report = plant.engine.report();
    assert_eq!(report.constraints[0].state, ConstraintState::Unknown);
    assert_eq!(report.constraints[0].reading, "stale");
    assert_eq!(plant.blocking(SafetyStep::Reboot).len(), 2);
}

#[test]
fn an_override_covers_only_what_was_violated_and_may_be_overridden() {
    let plant = Plant::new();
    plant.calm();
    assert_eq!(
        plant.engine.enable_override("x", Duration::from_secs(60)),
        Err(OverrideError::NothingViolated)
    );
    plant.moving();
    let report = plant.engine.enable_override("Emergency security update", Duration::from_secs(60)).unwrap();
    assert_eq!(report.constraints, ["crane_motion"]);
    assert!(plant.engine.judge(SafetyStep::Reboot).allowed());
    assert!(plant.engine.report().constraints[0].overridden);
    plant.say("people", Ok(Value::Number(1.0)));
    assert_eq!(plant.blocking(SafetyStep::Reboot), ["people_near"]);
    assert!(plant.engine.disable_override());
    assert_eq!(plant.blocking(SafetyStep::Write), ["crane_motion"]);
    assert!(!plant.engine.disable_override());
}

#[test]
fn what_may_never_be_overridden_is_not() {
    let plant = Plant::new();
    plant.calm();
    plant.say("people", Err(Fault::TimedOut));
    let refused = plant.engine.enable_override("x", Duration::from_secs(60));
    assert_eq!(refused, Err(OverrideError::NotOverridable { constraints: vec!["people_near".into()] }));
}

#[test]
fn an_override_lasts_no_longer_than_the_configuration_allows() {
    let plant = Plant::new();
    for secs in [0, 3601] {
        let refused = plant.engine.enable_override("x", Duration::from_secs(secs));
        assert_eq!(refused, Err(OverrideError::BadDuration { max: Duration::from_secs(3600) }));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn an_override_ends_on_the_monotonic_clock_whatever_the_wall_clock_does(
        secs in 1u64..3600, jumps in prop::collection::vec((0i64..4_000_000_000, 1u64..600), 1..20)
    ) {
        let plant = Plant::new();
        plant.calm();
        plant.moving();
        plant.engine.enable_override("test", Duration::from_secs(secs)).unwrap();
        let mut passed = 0;
        for (wall, pause) in jumps {
            plant.clock.set_wall(Timestamp::from_secs(wall));
            plant.wait(pause);
            passed += pause;
            plant.say("people", Ok(Value::Number(0.0)));
            plant.moving();
            prop_assert_eq!(plant.engine.judge(SafetyStep::Write).allowed(), passed < secs);
            let left = plant.engine.report().active_override.map(|active| active.remaining.as_secs());
            prop_assert_eq!(left, (passed < secs).then(|| secs - passed));
        }
    }

    #[test]
    fn no_reboot_is_allowed_on_a_bad_or_old_newest_sample(
        steps in prop::collection::vec((0u64..7000, 0u8..4), 1..60)
    ) {
        let plant = Plant::new();
        let mut newest = None;
        for (pause, say) in steps {
            plant.clock.advance(Duration::from_millis(pause));
            let at = plant.clock.monotonic();
            plant.say("people", Ok(Value::Number(0.0)));
            match say {
                0 => { plant.moving(); newest = Some((at, false)); }
                1 => { plant.say("crane", Err(Fault::Disconnected("broker".into()))); newest = Some((at, false)); }
                2 => { plant.say("crane", Ok(Value::Text("stopped".into()))); newest = Some((at, true)); }
                _ => {}
            }
            let good = newest.is_some_and(|(taken, good)| good && at - taken <= Duration::from_secs(5));
            for step in [SafetyStep::Switch, SafetyStep::Reboot] {
                prop_assert!(good || !plant.engine.judge(step).allowed());
            }
        }
    }
}

/// Tokio's clock as our clock, so that paused time moves both.
pub(crate) struct TokioClock {
    start: tokio::time::Instant,
}

impl TokioClock {
    pub(crate) fn started_now() -> Arc<Self> {
        Arc::new(Self { start: tokio::time::Instant::now() })
    }
}

impl Clock for TokioClock {
    fn wall(&self) -> Timestamp {
        Timestamp::from_secs(1_768_478_400) + self.start.elapsed()
    }
    fn monotonic(&self) -> Duration {
        Duration::from_secs(3600) + self.start.elapsed()
    }
    fn wall_is_trusted(&self) -> bool {
        true
    }
}

fn running(crane: &Path) -> Arc<SafetyEngine> {
    running_as(crane, CONFIG)
}

fn running_as(crane: &Path, config: &str) -> Arc<SafetyEngine> {
    let text = config.replace("/nowhere/crane", &crane.display().to_string());
    let clock = TokioClock::started_now();
    let engine = SafetyEngine::new(toml::from_str(&text).unwrap(), clock).unwrap();
    tokio::spawn(Arc::clone(&engine).run(std::future::pending()));
    engine
}

pub(crate) async fn until(engine: &SafetyEngine, state: ConstraintState) -> Duration {
    let began = tokio::time::Instant::now();
    let mut changes = engine.changes();
    while engine.report().constraints[0].state != state {
        changes.changed().await.unwrap();
    }
    began.elapsed()
}

#[tokio::test(start_paused = true)]
async fn a_change_of_the_file_is_told_within_100_ms() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("crane_motion");
    fs::write(&file, "stopped\n").unwrap();
    let engine = running(&file);
    until(&engine, ConstraintState::Ok).await;
    for _ in 0..5 {
        fs::write(&file, "moving\n").unwrap();
        let noticed = until(&engine, ConstraintState::Violated).await;
        assert!(noticed <= Duration::from_millis(100), "{noticed:?}");
        fs::write(&file, "stopped\n").unwrap();
        until(&engine, ConstraintState::Ok).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_that_hangs_holds_no_other_one_back() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("crane_motion");
    fs::write(&file, "stopped\n").unwrap();
    let hangs = "command = { program = \"/bin/sleep\", args = [\"1000\"] }";
    let config = CONFIG.replace("file = { path = \"/nowhere/people\" }", hangs);
    assert!(config.contains(hangs));
    let engine = running_as(&file, &config);
    until(&engine, ConstraintState::Ok).await;
    // Longer than that one is waited for, and longer than until it is tried again.
    for _ in 0..20 {
        fs::write(&file, "moving\n").unwrap();
        let noticed = until(&engine, ConstraintState::Violated).await;
        assert!(noticed <= Duration::from_millis(100), "{noticed:?}");
        fs::write(&file, "stopped\n").unwrap();
        until(&engine, ConstraintState::Ok).await;
    }
    assert_eq!(engine.report().constraints[1].state, ConstraintState::Unknown);
}

#[tokio::test(start_paused = true)]
async fn a_file_that_goes_away_blocks_and_comes_back_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("crane_motion");
    fs::write(&file, "stopped\n").unwrap();
    let engine = running(&file);
    until(&engine, ConstraintState::Ok).await;
    fs::remove_file(&file).unwrap();
    until(&engine, ConstraintState::Unknown).await;
    assert_eq!(engine.judge(SafetyStep::Reboot).blocks[0].status, "absent");
    fs::write(&file, "stopped\n").unwrap();
    until(&engine, ConstraintState::Ok).await;
}

#[tokio::test(start_paused = true)]
async fn staleness_and_the_end_of_an_override_are_told_without_a_sample() {
    let text = CONFIG.replace("/nowhere/crane", "/dev/null").replace("/nowhere/people", "/dev/zero");
    let clock = TokioClock::started_now();
    let mut engine = SafetyEngine::new(toml::from_str(&text).unwrap(), clock.clone()).unwrap();
    // One look at the start, then silence: no configuration may ask so rarely.
    for source in &mut Arc::get_mut(&mut engine).unwrap().sources {
        source.file.as_mut().unwrap().every = Duration::from_secs(1_000_000);
    }
    tokio::spawn(Arc::clone(&engine).run(std::future::pending()));
    while engine.report().constraints[0].reading != "unreadable" {
        tokio::task::yield_now().await;
    }
    let crane = engine.source("crane").unwrap();
    let sample = || Sample { outcome: Ok(Value::Text("stopped".into())), taken_at: clock.monotonic() };
    engine.observe(crane, sample());
    until(&engine, ConstraintState::Ok).await;
    let stale_after = until(&engine, ConstraintState::Unknown).await;
    assert!((4000..=4010).contains(&stale_after.as_millis()), "{stale_after:?}");
    engine.enable_override("test", Duration::from_secs(30)).unwrap();
    let mut changes = engine.changes();
    let began = tokio::time::Instant::now();
    while engine.report().active_override.is_some() {
        changes.changed().await.unwrap();
    }
    assert!((30_000..=30_010).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
}

/// As it stands there.
#[test]
fn the_worked_example_of_the_documentation_is_a_configuration() {
    let page = fs::read_to_string("../../docs/safety.md").unwrap();
    let (_, example) = page.split_once("## A worked example").unwrap();
    let text = example.split("```").nth(1).and_then(|block| block.strip_prefix("toml\n")).unwrap();
    let table: toml::Table = text.parse().unwrap();
    let config: SafetyConfig = table["safety"].clone().try_into().unwrap();
    let engine = SafetyEngine::new(config, Arc::new(FakeClock::default())).unwrap();
    let judged = engine.judge(SafetyStep::Reboot).blocks.into_iter().map(|block| block.constraint);
    assert_eq!(judged.collect::<Vec<_>>(), ["crane_motion", "wind_speed"]);
    assert!(engine.source("crane").is_some() && engine.source("wind").is_some());
}

/// Bar: below 5 % of a core. Dev profile, so with room to spare; the figure is printed.
#[test]
fn a_thousand_constraints_at_ten_samples_a_second_cost_little() {
    let clock = Arc::new(FakeClock::default());
    let mut text = String::new();
    for n in 0..1000 {
        text += &format!("[[sources]]\nname = \"s{n}\"\nfile = {{ path = \"/nowhere\" }}\n");
        text += &format!(
            "[[constraints]]\nname = \"c{n}\"\nsource = \"s{n}\"\ncondition = {{ max = 80, hysteresis = 5 }}\n"
        );
    }
    let engine = SafetyEngine::new(toml::from_str(&text).unwrap(), clock.clone()).unwrap();
    // What the kernel charges to this thread: what else runs on the machine does not count.
    let charged = || {
        let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
        Duration::from_nanos(text.split_whitespace().next().unwrap().parse().unwrap())
    };
    let began = charged();
    for _ in 0..20 {
        for source in 0..1000 {
            let sample = Sample { outcome: Ok(Value::Number(20.0)), taken_at: clock.monotonic() };
            engine.observe(SourceId(source), sample);
        }
        clock.advance(Duration::from_millis(100));
        engine.look();
    }
    let share = (charged() - began).as_secs_f64() / 2.0;
    println!("1,000 constraints at 10 samples/s: {:.2} % of a core", share * 100.0);
    assert!(share < 0.05, "{share}");
}
