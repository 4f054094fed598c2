//! Two people, leases and windows, as the engine has them.

use ota_core::{
    Timestamp,
    ports::{Clock, MOST_INHIBITORS, SafetyGate},
    safety::{Opening, SafetyStep, WindowKind},
};

use super::*;
use crate::{SERVICE_WINDOW, engine::tests::Plant, rules::Judgement};

const MINUTE: Duration = Duration::from_secs(60);

fn request(owner: &str, ttl: Duration) -> InhibitRequest {
    InhibitRequest {
        owner: owner.into(),
        holder: "anna".into(),
        reason: "backup".into(),
        blocks: [SafetyStep::Reboot].into(),
        ttl,
    }
}

#[test]
fn where_two_people_must_agree_one_cannot_override_alone() {
    let plant = Plant::with("two_person_override = true");
    plant.calm();
    plant.moving();
    assert_eq!(plant.engine.enable_override("x", MINUTE), Err(OverrideError::SecondPersonNeeded));
    for _ in 0..3 {
        let first = plant.engine.request_override("anna", "urgent", MINUTE).unwrap();
        assert!(matches!(first, OverrideOutcome::Proposed { .. }), "{first:?}");
    }
    assert!(!plant.engine.judge(SafetyStep::Reboot).allowed());
    let open = plant.engine.report().proposed_override.unwrap();
    assert_eq!((open.by.as_str(), open.reason.as_str(), open.duration), ("anna", "urgent", MINUTE));
    assert_eq!(open.constraints, ["crane_motion"]);
    let second = plant.engine.request_override("ben", "agreed", MINUTE / 2).unwrap();
    let OverrideOutcome::Enabled(report) = second else { panic!("{second:?}") };
    assert_eq!((report.constraints, report.remaining), (vec!["crane_motion".to_owned()], MINUTE / 2));
    assert_eq!(report.reason, "urgent (anna), agreed (ben)");
    assert!(plant.engine.judge(SafetyStep::Reboot).allowed());
    assert_eq!(plant.engine.report().proposed_override, None);
}

#[test]
fn a_proposal_runs_out_and_covers_nothing_new() {
    let plant = Plant::with("two_person_override = true");
    plant.calm();
    plant.moving();
    plant.engine.request_override("anna", "urgent", MINUTE).unwrap();
    plant.wait(299);
    assert_eq!(plant.engine.report().proposed_override.unwrap().remaining, Duration::from_secs(1));
    plant.wait(2);
    assert_eq!(plant.engine.report().proposed_override, None);
    let late = plant.engine.request_override("ben", "agreed", MINUTE).unwrap();
    assert!(matches!(late, OverrideOutcome::Proposed { .. }), "{late:?}");
    assert!(plant.engine.disable_override(), "withdrawn");
    let again = plant.engine.request_override("anna", "urgent", MINUTE).unwrap();
    assert!(matches!(again, OverrideOutcome::Proposed { .. }), "{again:?}");
}

#[test]
fn a_lease_holds_back_its_steps_until_its_holder_falls_silent() {
    let plant = Plant::with("");
    plant.calm();
    let lease = plant.engine.take(request("backup.service", MINUTE)).unwrap();
    plant.calm();
    assert_eq!(plant.blocking(SafetyStep::Reboot), ["inhibitor_1"]);
    assert!(plant.engine.judge(SafetyStep::Write).allowed());
    plant.wait(50);
    plant.engine.renew(lease.id, MINUTE).unwrap();
    plant.wait(59);
    plant.calm();
    assert!(plant.engine.report().inhibitors.is_empty(), "61 s after the renewal");
    plant.calm();
    assert!(plant.engine.judge(SafetyStep::Reboot).allowed());
    assert_eq!(plant.engine.renew(lease.id, MINUTE), Err(InhibitError::Unknown { id: 1 }));
}

#[test]
fn a_lease_can_be_released_and_tells_from_when_it_may_go_on() {
    let plant = Plant::with("");
    plant.calm();
    let lease = plant.engine.take(request("anna", MINUTE)).unwrap();
    let Judgement::Wait { reasons, earliest } = plant.engine.judgement(SafetyStep::Reboot) else { panic!() };
    assert_eq!(reasons[0].message, "anna holds updates back: backup");
    assert_eq!(earliest, Some(lease.expires_at));
    assert!(plant.engine.release(lease.id));
    assert!(!plant.engine.release(lease.id));
    assert_eq!(plant.engine.judgement(SafetyStep::Reboot), Judgement::Allow);
}

#[test]
fn leases_are_bounded_in_number_length_and_words() {
    let plant = Plant::with("max_inhibit = \"10m\"");
    for _ in 0..MOST_INHIBITORS {
        plant.engine.take(request("x", MINUTE)).unwrap();
    }
    assert_eq!(plant.engine.take(request("x", MINUTE)), Err(InhibitError::TooMany));
    let longest = InhibitError::BadDuration { max: Duration::from_secs(600) };
    assert_eq!(plant.engine.take(request("x", MINUTE * 11)), Err(longest));
    assert_eq!(plant.engine.take(request(" ", MINUTE)), Err(InhibitError::Incomplete));
    let nothing = InhibitRequest { blocks: BTreeSet::new(), ..request("x", MINUTE) };
    assert_eq!(plant.engine.take(nothing), Err(InhibitError::Incomplete));
}

#[test]
fn an_override_does_not_touch_a_lease() {
    let plant = Plant::with("");
    plant.calm();
    plant.moving();
    plant.engine.take(request("anna", MINUTE)).unwrap();
    plant.engine.enable_override("x", MINUTE).unwrap();
    assert_eq!(plant.blocking(SafetyStep::Reboot), ["inhibitor_1"]);
}

/// Wall time of the plant starts on 2026-01-15 at 12:00 UTC, a Thursday.
const WINDOWS: &str = r#"
    [[windows]]
    name = "night"
    kind = "update"
    zone = "UTC"
    weekly = "daily 12:30-14:00"
    [[windows]]
    name = "shift"
    kind = "service"
    zone = "UTC"
    weekly = "Thu 13:00-13:15"
"#;

#[test]
fn people_at_the_machine_mean_no_for_everything_but_the_download() {
    let plant = Plant::with(WINDOWS);
    plant.wait(3598);
    plant.calm();
    for step in SafetyStep::ALL {
        let judgement = plant.engine.judgement(step);
        if step == SafetyStep::Download {
            assert_eq!(judgement, Judgement::Allow);
            continue;
        }
        let Judgement::Deny { reasons, service } = judgement else { panic!("{step:?}: {judgement:?}") };
        assert_eq!((reasons[0].constraint.as_str(), service.window.as_str()), (SERVICE_WINDOW, "shift"));
        assert_eq!(service.closes, plant.clock.wall() + MINUTE * 15);
    }
    plant.clock.set_trusted(false);
    assert_eq!(plant.engine.judgement(SafetyStep::Reboot), Judgement::Allow, "no window is open");
}

#[test]
fn work_fits_only_when_it_ends_before_the_window_closes() {
    let plant = Plant::with(WINDOWS);
    assert!(plant.engine.has_update_windows());
    let opens = plant.clock.wall() + MINUTE * 30;
    let next = || plant.engine.report().next_window.map(|opening| opening.opens);
    assert_eq!((plant.engine.report().update_window, next()), (None, Some(opens)));
    assert!(!plant.engine.fits_window(Duration::ZERO));
    plant.wait(30 * 60);
    assert_eq!(plant.engine.report().update_window.map(|opening| opening.opens), Some(opens));
    assert_eq!(next(), Some(opens + MINUTE * 1440));
    assert!(plant.engine.fits_window(MINUTE * 90));
    assert!(!plant.engine.fits_window(MINUTE * 91));
    plant.clock.set_trusted(false);
    assert!(!plant.engine.fits_window(MINUTE), "an untrusted clock means no window");
    let report = plant.engine.report();
    assert_eq!((report.clock_trusted, report.update_window, report.next_window), (false, None, None));
    assert_eq!(plant.engine.open_window(WindowKind::Update), None);
}

#[test]
fn the_next_update_window_is_found_behind_any_number_of_service_windows() {
    let plant = Plant::with(
        r#"
        [[windows]]
        name = "shift"
        kind = "service"
        zone = "UTC"
        weekly = "daily 13:00-13:15"
        [[windows]]
        name = "monthly"
        kind = "update"
        zone = "UTC"
        cron = "0 2 14 * *"
        duration = "2h"
    "#,
    );
    let gate: &dyn SafetyGate = &*plant.engine;
    assert!(gate.windows(20).iter().all(|opening| opening.kind == WindowKind::Service));
    // From the 15th at noon to the 14th of the next month at two.
    let opens = plant.clock.wall() + MINUTE * (29 * 1440 + 14 * 60);
    let (window, closes) = ("monthly".to_owned(), opens + MINUTE * 120);
    let next = Opening { window, kind: WindowKind::Update, opens, closes };
    assert_eq!(gate.report().next_window, Some(next));
}

#[test]
fn the_preview_shows_all_windows_in_order() {
    let plant = Plant::with(WINDOWS);
    let names: Vec<_> = plant.engine.windows(4).into_iter().map(|o| (o.window, o.opens)).collect();
    let at = |minutes: u32| Timestamp::from_secs(1_768_478_400) + MINUTE * minutes;
    assert_eq!(names[0], ("night".into(), at(30)));
    assert_eq!(names[1], ("shift".into(), at(60)));
    assert_eq!(names[2], ("night".into(), at(30 + 1440)));
    assert!(plant.engine.warnings().is_empty());
}
