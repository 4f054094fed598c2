//! The job machine against its table, its document and its invariants.

extern crate std;

use alloc::{string::ToString, vec::Vec};

use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_assert, prop_oneof, proptest};

use super::{
    Effect, End, Failure, Held, Input, JobKind, JobState, JobStatus, MAX_CHANGES, MAX_INSTALLS, MAX_TRIALS,
    Situation, World, after_end, situation, step,
    table::{inputs, markdown, sample, states},
};
use crate::{
    ByteCount, Slot, Timestamp,
    ports::{BootStatus, SlotBoot},
};

#[test]
fn the_document_is_what_the_function_does() {
    let path = "../../docs/job-states.md";
    #[expect(
        clippy::disallowed_methods,
        reason = "blessing a generated document is asked for by environment"
    )]
    if std::env::var("OTA_BLESS").is_ok() {
        std::fs::write(path, markdown()).unwrap();
    }
    let document = std::fs::read_to_string(path).unwrap_or_default();
    assert!(document == markdown(), "docs/job-states.md is stale: `cargo xtask pages` writes it");
}

#[test]
fn ended_states_take_nothing() {
    for state in states().into_iter().filter(JobState::is_end) {
        for input in inputs() {
            for kind in [JobKind::Update, JobKind::Deployment, JobKind::Rollback] {
                assert!(step(&sample(kind, state.clone()), input.clone(), Timestamp::default()).is_err());
            }
        }
    }
}

#[test]
fn whatever_changes_the_device_is_made_durable_first() {
    for state in states() {
        for input in inputs() {
            let job = sample(JobKind::Update, state.clone());
            let Ok(next) = step(&job, input, Timestamp::default()) else { continue };
            if next.job.state.name() != state.name() && !next.effects.is_empty() {
                let live = matches!(next.job.state, JobState::Installed { .. } | JobState::Armed { .. });
                assert!(live || next.effects[0] == Effect::Persist, "{state:?} -> {:?}", next.effects);
            }
        }
    }
}

#[test]
fn cancel_after_the_switch_sets_the_environment_back() {
    let job = sample(JobKind::Update, JobState::Armed { held: None });
    let next = step(&job, Input::Cancel { reason: "no".to_string() }, Timestamp::default()).unwrap();
    assert_eq!(next.effects, [Effect::Persist, Effect::GoBack]);
    let end = step(&next.job, Input::WentBack, Timestamp::default()).unwrap();
    assert_eq!(end.job.state, JobState::Cancelled { reason: "no".to_string() });
}

#[test]
fn an_upload_leaves_staging_only_after_its_confirmed_boot() {
    let cancel = Input::Cancel { reason: "no".to_string() };
    let next =
        step(&sample(JobKind::Deployment, JobState::Downloaded), cancel, Timestamp::default()).unwrap();
    assert!(!next.effects.contains(&Effect::DropImage));
    let confirmed = sample(JobKind::Deployment, JobState::Committing);
    let next = step(&confirmed, Input::SlotConfirmed, Timestamp::default()).unwrap();
    assert!(next.effects.contains(&Effect::DropImage));
}

#[test]
fn what_belongs_to_an_end_is_what_the_step_to_it_asks_for_but_for_the_telling() {
    let ends = [
        (JobState::Committing, Input::SlotConfirmed),
        (JobState::Undoing { end: End::Cancelled { reason: "no".into() } }, Input::WentBack),
        (JobState::Undoing { end: End::RolledBack { why: Failure::internal("x") } }, Input::WentBack),
    ];
    for kind in [JobKind::Update, JobKind::Deployment, JobKind::Rollback] {
        for (state, input) in &ends {
            let next = step(&sample(kind, state.clone()), input.clone(), Timestamp::default()).unwrap();
            let beside = |effect: &&Effect| !matches!(effect, Effect::Persist | Effect::Announce(..));
            let asked: Vec<Effect> = next.effects.iter().filter(beside).copied().collect();
            assert_eq!(after_end(&next.job), asked, "{kind:?} {state:?}");
        }
    }
    assert!(after_end(&sample(JobKind::Update, JobState::Downloaded)).is_empty());
}

#[test]
fn an_image_that_never_starts_ends_rolled_back_with_the_reason() {
    let job = sample(JobKind::Update, JobState::Rebooting);
    let situation = Situation::OnOldTriesUsed;
    let next = step(&job, Input::Recovered { situation, new_boot: true }, Timestamp::default()).unwrap();
    let end = step(&next.job, Input::WentBack, Timestamp::default()).unwrap();
    assert_eq!(end.job.state.failure().unwrap().reason.as_deref(), Some("did_not_boot"));
    assert_eq!(end.job.state.status(), JobStatus::RolledBack);
}

#[test]
fn an_install_that_was_cut_off_waits_for_its_window_once_more() {
    let mut job = sample(JobKind::Update, JobState::Writing { written: ByteCount(7), held: None });
    let recovered = Input::Recovered { situation: Situation::OnOld, new_boot: true };
    let at_once = step(&job, recovered.clone(), Timestamp::default()).unwrap();
    assert!(matches!(at_once.job.state, JobState::Fencing { .. }));
    let strategy = super::Strategy::MaintenanceWindow;
    let options = super::InstallOptions { strategy, ..job.install.unwrap() };
    job.install = Some(options);
    let waits = step(&job, recovered, Timestamp::default()).unwrap();
    assert_eq!(waits.job.state, JobState::Scheduled);
    assert_eq!(waits.effects, [Effect::Persist, Effect::AwaitWindow]);
    let open = step(&waits.job, Input::WindowOpen, Timestamp::default()).unwrap();
    assert!(matches!(open.job.state, JobState::Fencing { .. }), "and spoils the slot before it writes");
    let held = step(&open.job, Input::Blocked(Vec::new()), Timestamp::default()).unwrap();
    let free = step(&held.job, Input::Unblocked, Timestamp::default()).unwrap();
    assert_eq!(free.job.state, JobState::Scheduled, "safety may have held it for longer than the window");
}

#[test]
fn a_daemon_restart_is_not_a_reboot_and_uses_up_no_trial() {
    let job = sample(JobKind::Update, JobState::Armed { held: None });
    let situation = Situation::OnOldSwitched;
    let same = step(&job, Input::Recovered { situation, new_boot: false }, Timestamp::default()).unwrap();
    assert_eq!(same.job.counters.trials, 0);
    let other = step(&job, Input::Recovered { situation, new_boot: true }, Timestamp::default()).unwrap();
    assert_eq!(other.job.counters.trials, 1);
}

#[test]
fn health_that_fails_without_rollback_on_failure_waits_for_a_hand() {
    let mut job = sample(JobKind::Update, JobState::Confirming { unhealthy: None });
    job.install.as_mut().unwrap().rollback_on_failure = false;
    let next = step(&job, Input::HealthFailed(Failure::internal("modem")), Timestamp::default()).unwrap();
    assert!(matches!(next.job.state, JobState::Confirming { unhealthy: Some(_) }));
    assert!(!next.effects.contains(&Effect::ConfirmSlot), "an unhealthy slot is never confirmed by itself");
    let by_hand = step(&next.job, Input::ConfirmByHand, Timestamp::default()).unwrap();
    assert_eq!(by_hand.effects, [Effect::Persist, Effect::ConfirmSlot]);
    let recovered = Input::Recovered { situation: Situation::OnNewTrial, new_boot: true };
    let after_a_cut = step(&by_hand.job, recovered, Timestamp::default()).unwrap();
    assert_eq!(
        after_a_cut.effects,
        [Effect::ConfirmSlot],
        "what somebody was told is known is not asked again"
    );
}

#[test]
fn a_cancel_is_not_over_before_the_switch_is_undone() {
    let armed = sample(JobKind::Update, JobState::Armed { held: Some(Held::ExternalReboot) });
    let cancel = Input::Cancel { reason: "not today".into() };
    let mut next = step(&armed, cancel, Timestamp::default()).unwrap();
    for _ in 0..50 {
        let failed = Input::GoBackFailed(Failure::internal("no space"));
        next = step(&next.job, failed, Timestamp::default()).unwrap();
        assert_eq!(next.effects, [Effect::GoBackAgain]);
    }
    let undone = step(&next.job, Input::WentBack, Timestamp::default()).unwrap();
    assert_eq!(undone.job.state, JobState::Cancelled { reason: "not today".into() });
}

#[test]
fn the_situation_follows_from_running_slot_and_environment() {
    let job = sample(JobKind::Update, JobState::Rebooting);
    let world = |running, trial, bootable, tries_left| World {
        running,
        boot: Some(BootStatus {
            first: Slot::A,
            trial,
            a: SlotBoot { bootable: true, tries_left: 3 },
            b: SlotBoot { bootable, tries_left },
            redundant: true,
            canary: true,
            loader_version: None,
            loader_too_old: false,
        }),
    };
    let b = Some(Slot::B);
    let a = Some(Slot::A);
    for (world, expected) in [
        (world(a, None, false, 3), Situation::OnOld),
        (world(a, b, true, 2), Situation::OnOldSwitched),
        (world(a, b, true, 0), Situation::OnOldTriesUsed),
        (world(b, b, true, 1), Situation::OnNewTrial),
        (world(b, None, true, 3), Situation::OnNewConfirmed),
        (world(None, None, true, 3), Situation::Lost),
        (World { running: a, boot: None }, Situation::Lost),
    ] {
        assert_eq!(situation(&job, &world), expected, "{world:?}");
    }
}

fn any_input() -> impl Strategy<Value = Input> {
    let all = inputs();
    (0..all.len(), any::<bool>()).prop_map(move |(i, new_boot)| match all[i].clone() {
        Input::Recovered { situation, .. } => Input::Recovered { situation, new_boot },
        other => other,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn no_walk_of_the_machine_breaks_an_invariant(
        walk in proptest::collection::vec(any_input(), 1..80),
        kind in prop_oneof![Just(JobKind::Update), Just(JobKind::Deployment), Just(JobKind::Rollback)],
        reboot_after: bool,
        rollback_on_failure: bool,
    ) {
        let mut job = sample(kind, JobState::Queued);
        job.install = None;
        let mut written = ByteCount::ZERO;
        let mut bytes_were_compared = false;
        for mut input in walk {
            if let Input::Install(options) = &mut input {
                options.reboot_after = reboot_after;
                options.rollback_on_failure = rollback_on_failure;
            }
            if let Input::WriteProgress { written: w } = &mut input {
                *w = ByteCount(written.get() / 2);
            }
            let Ok(next) = step(&job, input.clone(), Timestamp::default()) else { continue };
            prop_assert!(!job.state.is_end(), "ended states take nothing");
            match (&job.state, &next.job.state) {
                (JobState::Writing { written: a, .. }, JobState::Writing { written: b, .. }) => {
                    prop_assert!(b >= a, "written never falls");
                    written = *b;
                }
                (_, JobState::Writing { .. }) => { written = ByteCount::ZERO; bytes_were_compared = false; }
                _ => {}
            }
            bytes_were_compared |= matches!(input, Input::Written);
            if next.effects.contains(&Effect::ArmSlot) {
                prop_assert!(bytes_were_compared, "no slot is armed whose bytes were not compared");
            }
            if next.effects.contains(&Effect::WriteSlot) {
                prop_assert!(matches!(job.state, JobState::Fencing { .. }), "the target is fenced before it is written");
            }
            if matches!(next.job.state, JobState::Committing) {
                let judged = matches!(input, Input::HealthPassed | Input::ConfirmByHand);
                prop_assert!(judged || job.state == next.job.state, "only health or a hand confirms");
            }
            prop_assert!(next.job.target == Slot::B && next.job.source == Slot::A);
            prop_assert!(next.job.counters.changes <= MAX_CHANGES + 1, "loop guard");
            prop_assert!(next.job.counters.installs <= MAX_INSTALLS + 1);
            job = next.job;
        }
    }

    #[test]
    fn restarts_at_any_time_end_the_job_within_the_loop_guard(
        start in 0..states().len(),
        situations in proptest::collection::vec((0..5_usize, any::<bool>()), 60..61),
        answers in proptest::collection::vec(any::<bool>(), 400..401),
    ) {
        let all = [Situation::OnOld, Situation::OnOldSwitched, Situation::OnOldTriesUsed, Situation::OnNewTrial,
            Situation::OnNewConfirmed];
        let mut job = sample(JobKind::Update, states()[start].clone());
        let mut answers = answers.into_iter();
        for (i, new_boot) in situations {
            let recovered = Input::Recovered { situation: all[i], new_boot };
            let Ok(mut next) = step(&job, recovered, Timestamp::default()) else { break };
            // Let one or two effects come true, then cut again.
            for _ in 0..2 {
                let outcome = next.effects.iter().rev().find_map(|e| outcome(*e, answers.next().unwrap_or(true)));
                let Some(outcome) = outcome else { break };
                match step(&next.job, outcome, Timestamp::default()) {
                    Ok(after) => next = after,
                    Err(_) => break,
                }
            }
            job = next.job;
            prop_assert!(job.counters.changes <= MAX_CHANGES, "{:?}", job.state);
            prop_assert!(job.counters.trials <= MAX_TRIALS + 1);
        }
    }
}

fn outcome(effect: Effect, good: bool) -> Option<Input> {
    let why = Failure::internal("example");
    let all: Vec<Input> = inputs();
    Some(match (effect, good) {
        (Effect::FenceSlot, true) => Input::Fenced,
        (Effect::WriteSlot, true) => Input::Written,
        (Effect::ArmSlot, true) => Input::Armed,
        (Effect::ArmSlot, false) => Input::ArmFailed(why),
        (Effect::Reboot, true) => Input::RebootStarted,
        (Effect::CheckHealth, true) => Input::HealthPassed,
        (Effect::CheckHealth, false) => Input::HealthFailed(why),
        (Effect::ConfirmSlot, true) => Input::SlotConfirmed,
        (Effect::GoBack | Effect::GoBackAgain, true) => Input::WentBack,
        (Effect::GoBack | Effect::GoBackAgain, false) => Input::GoBackFailed(why),
        (Effect::StartFetch, true) => all.into_iter().find(|i| matches!(i, Input::Fetched(_)))?,
        (Effect::VerifyImage, true) => all.into_iter().find(|i| matches!(i, Input::Verified(_)))?,
        _ => return None,
    })
}
