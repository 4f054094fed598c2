//! Safety and windows during a job: what stands still, what ends it, what waits, and what a dry run tells.

use ota_core::{
    Timestamp,
    job::{Held, Input, JobState},
    safety::OnViolation,
};

use super::*;
use crate::{ExplainRequest, brake::Brake, effects::fence};

const SCHEDULED: InstallOptions = InstallOptions { strategy: Strategy::MaintenanceWindow, ..SEAMLESS };

impl Gateway {
    /// `constraint` holds back `steps` from now on, with this reaction.
    pub(super) fn violate(&self, constraint: &str, steps: &[SafetyStep], reaction: OnViolation) {
        self.gate.violate(constraint, steps);
        self.gate.react(constraint, reaction);
        self.gate_changes.send_modify(|n| *n += 1);
    }

    pub(super) fn clear(&self, constraint: &str) {
        self.gate.clear(constraint);
        self.gate_changes.send_modify(|n| *n += 1);
    }

    /// Waits until the active job is in a state that `wanted` takes.
    async fn until_state(&self, wanted: impl Fn(&JobState) -> bool) -> Job {
        let mut active = self.engine().active();
        let job = active.wait_for(|job| job.as_ref().is_some_and(|job| wanted(&job.state))).await.unwrap();
        job.clone().unwrap()
    }

    fn writes_judged(&self) -> usize {
        self.gate.judged().into_iter().filter(|step| *step == SafetyStep::Write).count()
    }

    async fn until_held(&self) -> Job {
        self.until_state(|state| matches!(state.held(), Some(Held::Safety(_)))).await
    }
}

#[tokio::test]
async fn a_download_that_safety_pauses_goes_on_where_it_stopped() {
    let gateway = Gateway::start().await;
    gateway.source.script([FetchScript::HoldAt(40_960)]);
    let job = gateway.download().await.unwrap();
    gateway.source.until_held().await;
    gateway.violate("radio", &[SafetyStep::Download], OnViolation::PauseWrite);
    let held = gateway.until_held().await;
    // Far less than a checkpoint, and told all the same.
    assert!(matches!(held.state, JobState::Downloading { have: ByteCount(40_960), .. }), "{:?}", held.state);
    gateway.clear("radio");
    gateway.until(&job, JobStatus::Downloaded).await;
    assert_eq!(gateway.source.fetches(), [0, 40_960]);
}

#[tokio::test]
async fn a_download_goes_on_where_the_reaction_holds_the_reboot_only() {
    let gateway = Gateway::start().await;
    gateway.source.script([FetchScript::HoldAt(40_960)]);
    let job = gateway.download().await.unwrap();
    gateway.source.until_held().await;
    gateway.violate("radio", &[SafetyStep::Download], OnViolation::HoldReboot);
    gateway.source.go_on();
    gateway.until(&job, JobStatus::Downloaded).await;
    assert_eq!(gateway.source.fetches(), [0]);
}

#[tokio::test]
async fn a_violation_that_aborts_ends_the_download_and_keeps_what_arrived() {
    let gateway = Gateway::start().await;
    gateway.source.script([FetchScript::HoldAt(40_960)]);
    let job = gateway.download().await.unwrap();
    gateway.source.until_held().await;
    gateway.violate("radio", &[SafetyStep::Download], OnViolation::Abort);
    let end = gateway.until(&job, JobStatus::Failed).await;
    let why = end.state.failure().unwrap();
    assert_eq!((why.code, why.reason.as_deref()), (Some(ErrorCode::UpdateBlocked), Some("safety")));
    gateway.clear("radio");
    let again = gateway.download().await.unwrap();
    gateway.until(&again, JobStatus::Downloaded).await;
    assert_eq!(gateway.source.fetches(), [0, 40_960]);
}

#[tokio::test]
async fn a_violation_that_aborts_undoes_a_switch_that_waits_for_its_reboot() {
    let gateway = Gateway::start().await;
    let job = gateway.downloaded().await;
    gateway.violate("crane_motion", &[SafetyStep::Reboot], OnViolation::HoldReboot);
    gateway.install(&job, SEAMLESS).await.unwrap();
    gateway.until_held().await;
    assert_eq!(gateway.boot.env().trial, Some(Slot::B));
    gateway.violate("people", &[SafetyStep::Reboot], OnViolation::Abort);
    let end = gateway.until(&job, JobStatus::Failed).await;
    assert!(end.state.failure().unwrap().message.contains("people"));
    let env = gateway.boot.env();
    assert_eq!((env.trial, env.first), (None, Slot::A));
    assert!(gateway.rebooter.reasons().is_empty());
}

#[tokio::test]
async fn people_at_the_machine_are_a_condition_of_their_own() {
    let gateway = Gateway::start().await;
    let closes = Timestamp::from_secs(1_768_500_000);
    gateway.gate.set_service(Some(closes));
    let job = gateway.downloaded().await;
    let refused = gateway.install(&job, SEAMLESS).await.unwrap_err();
    let EngineError::Ota(OtaError::MaintenanceActive { window, until }) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!((window.as_str(), until), ("shift", Some(closes)));
    assert_eq!(
        code(gateway.engine().refuse_unsafe(SafetyStep::Reset).unwrap_err()),
        ErrorCode::MaintenanceActive
    );
}

#[tokio::test]
async fn a_scheduled_job_starts_only_in_a_window_that_it_fits_into() {
    let gateway = Gateway::start().await;
    let job = gateway.downloaded().await;
    let minute = Duration::from_secs(60);
    gateway.gate.set_window(true, None);
    gateway.gate.close_window_after(minute);
    gateway.install(&job, SCHEDULED).await.unwrap();
    let explained = gateway.engine().explain(ExplainRequest::default()).await.unwrap();
    assert!(explained.window.needed && !explained.window.fits);
    assert!(explained.work.unwrap() > minute, "nothing was measured yet: assumed to be slow");
    gateway.gate_changes.send_modify(|n| *n += 1);
    assert_eq!(gateway.until(&job, JobStatus::Scheduled).await.counters.installs, 0);
    gateway.gate.close_window_after(minute * 10);
    gateway.gate_changes.send_modify(|n| *n += 1);
    gateway.rebooter.until_reboots(1).await;
}

/// A scheduled job that was held before `step` until its window had closed, and waits for the next one.
async fn waiting_for_a_window(gateway: &Gateway, step: SafetyStep) -> Job {
    let job = gateway.downloaded().await;
    gateway.violate("crane_motion", &[step], OnViolation::HoldReboot);
    gateway.gate.set_window(true, None);
    gateway.install(&job, SCHEDULED).await.unwrap();
    gateway.until_held().await;
    gateway.gate.set_window(false, None);
    gateway.clear("crane_motion");
    gateway.until_state(|state| state.held() == Some(&Held::Window)).await
}

#[tokio::test]
async fn a_window_that_closes_before_the_switch_holds_it_until_the_next_one() {
    let gateway = Gateway::start().await;
    waiting_for_a_window(&gateway, SafetyStep::Switch).await;
    assert_eq!(gateway.boot.env().trial, None);
    gateway.gate.set_window(true, None);
    gateway.gate_changes.send_modify(|n| *n += 1);
    gateway.rebooter.until_reboots(1).await;
}

#[tokio::test]
async fn who_does_not_want_to_wait_for_the_next_window_installs_at_once() {
    let gateway = Gateway::start().await;
    let job = waiting_for_a_window(&gateway, SafetyStep::Reboot).await;
    gateway.install(&job, InstallOptions { strategy: Strategy::Immediate, ..SEAMLESS }).await.unwrap();
    gateway.rebooter.until_reboots(1).await;
}

#[tokio::test]
async fn who_does_not_want_to_wait_is_told_what_else_holds_the_reboot() {
    let gateway = Gateway::start().await;
    let job = waiting_for_a_window(&gateway, SafetyStep::Reboot).await;
    let at_once = InstallOptions { strategy: Strategy::Immediate, ..SEAMLESS };
    gateway.violate("crane_motion", &[SafetyStep::Reboot], OnViolation::HoldReboot);
    assert_eq!(code(gateway.install(&job, at_once).await.unwrap_err()), ErrorCode::UpdateBlocked);
    gateway.gate.set_service(Some(Timestamp::from_secs(1_768_500_000)));
    assert_eq!(code(gateway.install(&job, at_once).await.unwrap_err()), ErrorCode::MaintenanceActive);
    assert_eq!(gateway.until(&job, JobStatus::Rebooting).await.state.held(), Some(&Held::Window));
}

/// Lets everything else run until `done`, while no time passes.
async fn without_time(mut done: impl FnMut() -> bool) {
    let now = tokio::time::Instant::now();
    #[expect(clippy::disallowed_methods, reason = "the test's own time stands still")]
    let really = std::time::Instant::now();
    while !done() {
        assert!(really.elapsed() < Duration::from_secs(60), "it never comes");
        tokio::task::yield_now().await;
    }
    assert_eq!(now.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_violation_that_comes_while_the_slot_is_fenced_counts_as_soon_as_it_is_written() {
    let mut gateway = Gateway::start().await;
    gateway.before_install = true;
    gateway.restart_daemon().await;
    let job = gateway.downloaded().await;
    gateway.snapshots.hold();
    gateway.install(&job, SEAMLESS).await.unwrap();
    // Made in the midst of the fencing, after safety was asked.
    gateway.snapshots.until_held().await;
    let (looks, asked) = (gateway.gate.reports(), gateway.writes_judged());
    gateway.violate("crane_motion", &[SafetyStep::Write, SafetyStep::Switch], OnViolation::PauseWrite);
    without_time(|| gateway.gate.reports() > looks).await;
    assert_eq!(gateway.writes_judged(), asked, "there is nothing to stop yet");
    gateway.snapshots.release();
    without_time(|| gateway.writes_judged() > asked).await;
    gateway.until_held().await;
    gateway.clear("crane_motion");
    gateway.rebooter.until_reboots(1).await;
}

#[tokio::test]
async fn what_is_stopped_before_the_slot_is_touched_leaves_it_as_it_was() {
    let gateway = Gateway::start().await;
    let job = gateway.downloaded().await;
    let (before, slot) = (gateway.boot.env(), gateway.journal.slot(Slot::B).unwrap());
    let brake = Brake::default();
    brake.stop();
    let stopped = fence(&gateway.engine().shared, &job, &brake);
    assert!(matches!(stopped, Input::FenceFailed(_)), "{stopped:?}");
    assert_eq!((gateway.boot.env(), gateway.journal.slot(Slot::B).unwrap()), (before.clone(), slot));
    let fenced = fence(&gateway.engine().shared, &job, &Brake::default());
    assert!(matches!(fenced, Input::Fenced) && gateway.boot.env() != before, "{fenced:?}");
}

#[tokio::test(start_paused = true)]
async fn a_download_that_people_resume_under_a_violation_stands_still_at_once() {
    let gateway = Gateway::start().await;
    gateway.source.script([FetchScript::HoldAt(40_960), FetchScript::HoldAt(45_056)]);
    let job = gateway.download().await.unwrap();
    gateway.source.until_held().await;
    gateway.engine().pause(&Actor::gateway(), None).await.unwrap();
    let looks = gateway.gate.reports();
    gateway.violate("radio", &[SafetyStep::Download], OnViolation::PauseWrite);
    without_time(|| gateway.gate.reports() > looks).await;
    gateway.engine().resume(&Actor::gateway(), None).await.unwrap();
    let held = || gateway.engine().active().borrow().as_ref().is_some_and(|job| job.state.held().is_some());
    without_time(held).await;
    gateway.clear("radio");
    gateway.source.go_on();
    gateway.until(&job, JobStatus::Downloaded).await;
}

/// A gateway whose update was confirmed, so that there is something to go back to.
pub(super) async fn updated() -> Gateway {
    let mut gateway = Gateway::start().await;
    let job = gateway.rebooting().await;
    gateway.reboot().await;
    gateway.until(&job, JobStatus::Succeeded).await;
    gateway.provision(Slot::A, 4096);
    gateway
}

#[tokio::test]
async fn what_holds_back_a_rollback_does_so_until_its_reboot() {
    let mut gateway = updated().await;
    gateway.violate("crane_motion", &[SafetyStep::Switch, SafetyStep::Reboot], OnViolation::HoldReboot);
    let back = RollbackRequest { target_version: None };
    gateway.engine().rollback(&Actor::gateway(), back).await.unwrap();
    gateway.until_held().await;
    let held_by = |constraints: &'static [&'static str]| {
        move |state: &JobState| match state.held() {
            Some(Held::Safety(blocks)) => {
                blocks.iter().map(|b| b.constraint.as_str()).eq(constraints.iter().copied())
            }
            _ => false,
        }
    };
    gateway.violate("people", &[SafetyStep::Rollback], OnViolation::HoldReboot);
    gateway.clear("crane_motion");
    let job = gateway.until_state(held_by(&["people"])).await;
    assert!(matches!(job.state, JobState::Installed { .. }), "{:?}", job.state);
    assert_eq!(gateway.boot.env().trial, None);
    let explained = gateway.engine().explain(ExplainRequest::default()).await.unwrap();
    let steps: Vec<_> = explained.steps.iter().map(|(step, verdict)| (*step, verdict.allowed())).collect();
    assert_eq!(
        steps,
        [(SafetyStep::Rollback, false), (SafetyStep::Switch, true), (SafetyStep::Reboot, true)]
    );
    // The same right before the reboot.
    gateway.violate("crane_motion", &[SafetyStep::Reboot], OnViolation::HoldReboot);
    gateway.clear("people");
    gateway.until_state(|state| matches!(state, JobState::Armed { held: Some(_) })).await;
    gateway.violate("people", &[SafetyStep::Rollback], OnViolation::HoldReboot);
    gateway.clear("crane_motion");
    gateway.until_state(held_by(&["people"])).await;
    assert_eq!(gateway.rebooter.reasons().len(), 1, "that of the update");
    gateway.clear("people");
    gateway.rebooter.until_reboots(2).await;
    // Undoing it is not going back: nothing that blocks `rollback` holds that.
    gateway.health.fail("modem does not answer");
    gateway.violate("people", &[SafetyStep::Rollback], OnViolation::HoldReboot);
    gateway.reboot().await;
    assert_eq!(gateway.rebooter.until_reboots(3).await.last(), Some(&RebootReason::GoBack));
}

#[tokio::test]
async fn what_holds_back_a_deployment_does_so_until_its_reboot() {
    let gateway = Gateway::start().await;
    gateway.violate("crane_motion", &[SafetyStep::Reboot], OnViolation::HoldReboot);
    gateway.engine().deploy(&Actor::gateway(), deployment(&gateway)).await.unwrap();
    gateway.until_state(|state| matches!(state, JobState::Armed { held: Some(_) })).await;
    gateway.violate("people", &[SafetyStep::Deploy], OnViolation::HoldReboot);
    gateway.clear("crane_motion");
    let people = |state: &JobState| match state.held() {
        Some(Held::Safety(blocks)) => blocks.len() == 1 && blocks[0].constraint == "people",
        _ => false,
    };
    gateway.until_state(people).await;
    assert!(gateway.rebooter.reasons().is_empty());
    gateway.clear("people");
    gateway.rebooter.until_reboots(1).await;
}

/// How often safety is looked at while others get `turns` on the one thread of this runtime.
async fn looks_within(gateway: &Gateway, turns: usize) -> usize {
    let before = gateway.gate.reports();
    for _ in 0..turns {
        tokio::task::yield_now().await;
    }
    gateway.gate.reports() - before
}

#[tokio::test]
async fn when_nobody_announces_changes_of_safety_any_more_they_are_still_seen_and_the_runner_rests() {
    let mut gateway = Gateway::start().await;
    gateway.violate("crane_motion", &[SafetyStep::Switch], OnViolation::HoldReboot);
    let job = gateway.downloaded().await;
    gateway.install(&job, SEAMLESS).await.unwrap();
    gateway.until_held().await;
    gateway.gate_changes = watch::Sender::new(0);
    assert!(looks_within(&gateway, 2000).await < 100, "it spins");
    gateway.gate.clear("crane_motion");
    gateway.rebooter.until_reboots(1).await;
}

#[tokio::test]
async fn what_was_measured_is_what_the_next_job_is_expected_to_take() {
    let mut gateway = Gateway::start().await;
    let job = gateway.rebooting().await;
    gateway.reboot().await;
    gateway.until(&job, JobStatus::Succeeded).await;
    let job = gateway.journal.page(0, 1).unwrap().jobs.remove(0);
    // The fake clock stands still: nothing took any time, which counts as the shortest that is kept. That is written down
    // after the job has ended, so it may take a moment to be seen.
    for _ in 0..10_000 {
        let request = ExplainRequest { job: Some(JobRef::Job(job.id.clone())), strategy: None };
        let explained = gateway.engine().explain(request).await.unwrap();
        assert!(explained.steps.is_empty(), "it has ended");
        if explained.work.is_some_and(|work| work.as_secs() <= 2) {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("the restart was not measured");
}

#[tokio::test]
async fn a_dry_run_tells_of_the_steps_that_are_to_come_and_changes_nothing() {
    let gateway = Gateway::start().await;
    let nobody = gateway.engine().explain(ExplainRequest::default()).await.unwrap();
    assert_eq!((nobody.job, nobody.steps.len()), (None, 7));
    let job = gateway.downloaded().await;
    gateway.gate.violate("crane_motion", &[SafetyStep::Switch]);
    let explained = gateway.engine().explain(ExplainRequest::default()).await.unwrap();
    let steps: Vec<_> = explained.steps.iter().map(|(step, verdict)| (*step, verdict.allowed())).collect();
    assert_eq!(steps, [(SafetyStep::Write, true), (SafetyStep::Switch, false), (SafetyStep::Reboot, true)]);
    assert!(explained.obstacles.is_empty());
    gateway.boot.set_readable(false);
    let broken = gateway.engine().explain(ExplainRequest::default()).await.unwrap();
    assert_eq!(broken.obstacles.len(), 1, "{:?}", broken.obstacles);
    gateway.boot.set_readable(true);
    gateway.snapshots.hold();
    let engine = gateway.engine().clone();
    let snapshot = tokio::spawn(async move { engine.create_snapshot(&Actor::gateway(), None).await });
    gateway.snapshots.until_held().await;
    let claimed = gateway.engine().explain(ExplainRequest::default()).await.unwrap();
    assert!(claimed.obstacles[0].1.contains("a snapshot is being made"), "{:?}", claimed.obstacles);
    assert_eq!(code(gateway.install(&job, SEAMLESS).await.unwrap_err()), ErrorCode::SystemBusy);
    gateway.snapshots.release();
    snapshot.await.unwrap().unwrap();
    assert_eq!(gateway.until(&job, JobStatus::Downloaded).await.counters.installs, 0);
}
