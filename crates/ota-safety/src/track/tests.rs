//! What a constraint says over time, by example and over random traces.

use ota_core::safety::{ConstraintState, SafetyStep, Severity};
use proptest::prelude::*;

use super::*;

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn rule(condition: Condition) -> Rule {
    Rule {
        name: "x".into(),
        source: 0,
        condition,
        max_age: ms(5000),
        debounce: ms(1000),
        plausible: (-40.0, 125.0),
        blocks: [SafetyStep::Reboot].into(),
        overridable: true,
        on_violation: ota_core::safety::OnViolation::HoldReboot,
        severity: Severity::Warning,
        unit: String::new(),
        message_ok: String::new(),
        message_violated: String::new(),
        resolution: String::new(),
    }
}

fn stopped() -> Rule {
    rule(Condition::Equals(Value::Text("stopped".into())))
}

fn below_80() -> Rule {
    rule(Condition::Within { min: None, max: Some(80.0), hysteresis: 5.0 })
}

fn text(word: &str) -> Result<Value, Fault> {
    Ok(Value::Text(word.into()))
}

/// Feeds (milliseconds, value) and tells how the rule stands at `at`.
fn after(rule: &Rule, samples: &[(u64, Result<Value, Fault>)], at: u64) -> Result<(), Unmet> {
    let mut track = Track::default();
    for (taken, outcome) in samples {
        let sample = Sample { outcome: outcome.clone(), taken_at: ms(*taken) };
        track.observe(rule, sample, ms(*taken));
    }
    track.assess(rule, ms(at)).outcome
}

fn settling(until: u64, was_outside: bool) -> Unmet {
    Unmet::Settling { until: ms(until), was_outside }
}

fn numbers(samples: &[(u64, f64)]) -> Vec<(u64, Result<Value, Fault>)> {
    samples.iter().map(|(at, number)| (*at, Ok(Value::Number(*number)))).collect()
}

#[test]
fn without_a_sample_it_is_unknown() {
    assert_eq!(after(&stopped(), &[], 0), Err(Unmet::Fault(Fault::NoSample)));
}

#[test]
fn ok_comes_after_the_debounce_and_violated_at_once() {
    let samples = [(0, text("stopped")), (999, text("stopped"))];
    assert_eq!(after(&stopped(), &samples, 999), Err(settling(1000, false)));
    assert_eq!(after(&stopped(), &samples, 1000), Ok(()));
    let moving = [(0, text("stopped")), (2000, text("moving"))];
    assert_eq!(after(&stopped(), &moving, 2000), Err(Unmet::Outside));
}

#[test]
fn a_sample_older_than_max_age_is_stale_and_a_gap_starts_the_debounce_again() {
    let samples = [(0, text("stopped"))];
    assert_eq!(after(&stopped(), &samples, 5000), Ok(()));
    assert_eq!(after(&stopped(), &samples, 5001), Err(Unmet::Stale { age: ms(5001) }));
    let gap = [(0, text("stopped")), (6000, text("stopped"))];
    assert_eq!(after(&stopped(), &gap, 6000), Err(settling(7000, false)));
}

#[test]
fn while_it_settles_it_says_whether_a_violation_was_seen_or_nothing_was_known() {
    let seen = [(0, text("stopped")), (100, text("moving")), (200, text("stopped")), (300, text("stopped"))];
    assert_eq!(after(&stopped(), &seen, 300), Err(settling(1200, true)));
    let lost = [(0, text("moving")), (100, Err(Fault::NoSample)), (200, text("stopped"))];
    assert_eq!(after(&stopped(), &lost, 200), Err(settling(1200, false)));
    let gap = [(0, text("moving")), (6000, text("stopped"))];
    assert_eq!(after(&stopped(), &gap, 6000), Err(settling(7000, false)));
}

#[test]
fn absurd_values_are_unknown() {
    for (number, why) in [(f64::NAN, "NaN"), (f64::INFINITY, "inf"), (200.0, "hot"), (-41.0, "cold")] {
        assert_eq!(after(&below_80(), &numbers(&[(0, number)]), 0), Err(Unmet::Implausible), "{why}");
    }
    assert_eq!(after(&below_80(), &[(0, text("warm"))], 0), Err(Unmet::WrongType));
    let not_moving = rule(Condition::NotEquals(Value::Text("moving".into())));
    assert_eq!(after(&not_moving, &numbers(&[(0, 3.0)]), 0), Err(Unmet::WrongType));
}

#[test]
fn a_sample_from_the_future_is_unknown_and_does_not_outlive_later_ones() {
    let mut track = Track::default();
    let rule = stopped();
    track.observe(&rule, Sample { outcome: text("stopped"), taken_at: ms(60_000) }, ms(100));
    assert_eq!(track.assess(&rule, ms(100)).outcome, Err(Unmet::Fault(Fault::FutureStamped)));
    track.observe(&rule, Sample { outcome: text("moving"), taken_at: ms(200) }, ms(200));
    assert_eq!(track.assess(&rule, ms(200)).outcome, Err(Unmet::Outside));
}

#[test]
fn a_late_sample_does_not_replace_a_newer_one() {
    let samples = [(1000, text("moving")), (500, text("stopped"))];
    assert_eq!(after(&stopped(), &samples, 3000), Err(Unmet::Outside));
}

#[test]
fn a_sample_that_is_stale_when_it_comes_is_a_fault_and_not_passed_over() {
    let (mut track, rule) = (Track::default(), stopped());
    for (taken_at, now) in [(8000, 8000), (9500, 9500)] {
        track.observe(&rule, Sample { outcome: text("stopped"), taken_at: ms(taken_at) }, ms(now));
    }
    assert_eq!(track.assess(&rule, ms(9600)).outcome, Ok(()));
    // Our clock was set forward, so that what is moving now seems to be from long ago.
    track.observe(&rule, Sample { outcome: text("moving"), taken_at: ms(1000) }, ms(9700));
    assert_eq!(track.assess(&rule, ms(9700)).outcome, Err(Unmet::Fault(Fault::Old)));
}

#[test]
fn a_number_comes_back_within_limits_past_the_hysteresis_only() {
    let rule = below_80();
    assert_eq!(
        after(&rule, &numbers(&[(0, 78.0)]), 1000),
        Err(Unmet::Outside),
        "comes from outside at the start"
    );
    assert_eq!(after(&rule, &numbers(&[(0, 75.0)]), 1000), Ok(()));
    assert_eq!(after(&rule, &numbers(&[(0, 70.0), (500, 79.0)]), 1000), Ok(()));
    assert_eq!(after(&rule, &numbers(&[(0, 70.0), (500, 81.0), (900, 78.0)]), 2000), Err(Unmet::Outside));
}

#[test]
fn a_rate_of_change_is_known_once_the_window_was_watched() {
    let steady = rule(Condition::Steady { max_change: 2.0, over: ms(2000) });
    let calm: Vec<(u64, f64)> = (0..60).map(|n| (n * 50, 20.0)).collect();
    assert_eq!(after(&steady, &numbers(&calm[..20]), 950), Err(Unmet::Watching));
    // Watched from 0, ok by itself at 2000, debounced at 2950 at the earliest.
    assert_eq!(after(&steady, &numbers(&calm), 3000), Ok(()));
    let mut leap = calm.clone();
    leap.push((3000, 23.0));
    assert_eq!(after(&steady, &numbers(&leap), 3000), Err(Unmet::Outside));
}

/// Also where the outage is shorter than `max_age`, or is told in time: what is watched must be watched all the time.
#[test]
fn after_an_outage_a_rate_of_change_is_watched_anew() {
    let steady = rule(Condition::Steady { max_change: 2.0, over: ms(2000) });
    let outages = [Err(Fault::TimedOut), Ok(Value::Number(f64::NAN)), Ok(Value::Number(999.0)), text("warm")];
    for outage in outages {
        let calm = (0..60).map(|n| (n * 50, Ok(Value::Number(20.0))));
        let lost = (60..120).map(|n| (n * 50, outage.clone()));
        let mut samples: Vec<_> = calm.chain(lost).collect();
        samples.push((6000, Ok(Value::Number(20.0))));
        assert_eq!(after(&steady, &samples, 6000), Err(Unmet::Watching), "{outage:?}");
        samples.extend((121..160).map(|n| (n * 50, Ok(Value::Number(20.0)))));
        assert_eq!(after(&steady, &samples, 7950), Err(Unmet::Watching), "{outage:?}");
        samples.extend((160..181).map(|n| (n * 50, Ok(Value::Number(20.0)))));
        assert_eq!(after(&steady, &samples, 9000), Ok(()), "{outage:?}");
    }
}

#[test]
fn a_fast_sensor_does_not_grow_the_memory() {
    let steady = rule(Condition::Steady { max_change: 2.0, over: ms(2000) });
    let mut track = Track::default();
    for at in 0..20_000 {
        track.observe(&steady, Sample { outcome: Ok(Value::Number(1.0)), taken_at: ms(at) }, ms(at));
    }
    assert!(track.slices.len() <= 66, "{}", track.slices.len());
    assert_eq!(track.assess(&steady, ms(20_000)).outcome, Ok(()));
}

fn outcome() -> impl Strategy<Value = Result<Value, Fault>> {
    prop_oneof![
        6 => (60.0..90.0f64).prop_map(|n| Ok(Value::Number(n))),
        1 => Just(Ok(Value::Number(f64::NAN))),
        1 => Just(Ok(Value::Text("hot".into()))),
        1 => Just(Err(Fault::TimedOut)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Over any trace: ok only with a fresh, sane newest sample within limits, and never twice within the debounce.
    #[test]
    fn ok_is_never_said_of_a_bad_newest_sample_and_never_flaps_within_the_debounce(
        steps in prop::collection::vec((1u64..3000, prop::option::weighted(0.8, outcome())), 1..80)
    ) {
        let rule = below_80();
        let mut track = Track::default();
        let mut at = 0;
        let mut newest: Option<(u64, Result<Value, Fault>)> = None;
        let (mut was_ok, mut not_ok_since) = (false, 0);
        for (pause, outcome) in steps {
            at += pause;
            if let Some(outcome) = outcome {
                track.observe(&rule, Sample { outcome: outcome.clone(), taken_at: ms(at) }, ms(at));
                newest = Some((at, outcome));
            }
            let first = track.assess(&rule, ms(at));
            prop_assert_eq!(&first, &track.assess(&rule, ms(at)), "same inputs, same answer");
            let ok = first.state() == ConstraintState::Ok;
            if ok {
                let (taken, outcome) = newest.clone().unwrap();
                prop_assert!(at - taken <= 5000);
                prop_assert!(matches!(outcome, Ok(Value::Number(n)) if n <= 80.0));
            }
            if ok && !was_ok {
                prop_assert!(at - not_ok_since >= 1000, "ok again after {} ms", at - not_ok_since);
            }
            if !ok && was_ok {
                // The violation itself may be up to one step old; the sample that shows it is from now or it grew stale.
                not_ok_since = newest.as_ref().map_or(at, |(taken, _)| (*taken).max(not_ok_since));
            }
            was_ok = ok;
        }
    }

    /// The engine sleeps until `changes_at`: nothing may change earlier by itself.
    #[test]
    fn nothing_changes_by_itself_before_it_was_foretold(
        values in prop::collection::vec((0u64..4000, outcome()), 0..10), wait in 0u64..20_000
    ) {
        let rule = below_80();
        let mut track = Track::default();
        let mut at = 0;
        for (pause, outcome) in values {
            at += pause;
            track.observe(&rule, Sample { outcome, taken_at: ms(at) }, ms(at));
        }
        let now = track.assess(&rule, ms(at));
        if now.changes_at.is_none_or(|changes| ms(at + wait) < changes) {
            prop_assert_eq!(now.state(), track.assess(&rule, ms(at + wait)).state());
        }
    }
}
