//! What the gateway does by itself: when it asks, how far it goes, what holds it back, and what is kept of it.

use std::{collections::BTreeMap, time::Duration};

use ota_core::{
    job::JobState,
    policy::{AutoPolicy, Initiative},
    ports::{AuditLog as _, AuditOutcome},
};
use tokio::task::JoinHandle;

use super::*;
use crate::AutoConfig;

const HOUR: Duration = Duration::from_secs(3600);

/// What is done about every release of the source of these tests.
fn always(initiative: Initiative) -> AutoConfig {
    policy(AutoPolicy { normal: initiative, critical: initiative })
}

fn policy(policy: AutoPolicy) -> AutoConfig {
    AutoConfig { interval: HOUR, policies: BTreeMap::from([("test".to_owned(), policy)]) }
}

/// The gateway's initiative, until it is dropped.
struct Initiated(JoinHandle<()>);

impl Drop for Initiated {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Gateway {
    fn acts_by_itself(&self, config: AutoConfig) -> Initiated {
        let engine = self.engine().clone();
        Initiated(tokio::spawn(async move { engine.act_by_itself(&config).await }))
    }

    fn offer_critical(&self) {
        self.offer_also("v5.0.5", true);
    }

    fn offer_also(&self, version: &str, critical: bool) {
        let mut release = samples::release(version, &self.image);
        release.critical = critical;
        self.source.offer(release, &self.image, vec![signature()]);
    }

    /// What the gateway was refused when it asked itself: action and reason.
    fn refused(&self) -> Vec<(String, String)> {
        let records = self.journal.records(0, 1000).unwrap();
        let refused = records.into_iter().filter(|record| record.entry.outcome == AuditOutcome::Refused);
        refused.map(|record| (record.entry.action, record.entry.reason.unwrap_or_default())).collect()
    }

    /// The job once it is in this state, whoever made it.
    async fn until_job_is(&self, wanted: impl Fn(&JobState) -> bool) -> Job {
        let mut active = self.engine().active();
        let found = active.wait_for(|job| job.as_ref().is_some_and(|job| wanted(&job.state))).await;
        found.unwrap().clone().unwrap()
    }

    fn jobs(&self) -> u64 {
        self.journal.page(0, 1).unwrap().total
    }

    /// How often watchers have been told of an update.
    fn told(&self) -> usize {
        let (_, events) = self.engine().bus().since(0, 1000);
        let offers = events.iter().filter(
            |event| matches!(&event.kind, EventKind::System { event, .. } if event == "update_available"),
        );
        offers.count()
    }
}

async fn pass(time: Duration) {
    // tidy: paused time
    tokio::time::sleep(time).await;
}

#[tokio::test(start_paused = true)]
async fn the_sources_are_asked_soon_after_the_start_and_then_at_the_interval() {
    let gateway = Gateway::start().await;
    let _initiative = gateway.acts_by_itself(always(Initiative::Notify));
    pass(Duration::from_secs(40)).await;
    assert_eq!(gateway.source.checks(), 1);
    pass(HOUR * 11).await;
    // A tenth is added at most.
    assert!((11..=12).contains(&gateway.source.checks()), "{}", gateway.source.checks());
    assert_eq!((gateway.told(), gateway.jobs()), (1, 0), "told once");
}

#[tokio::test(start_paused = true)]
async fn a_source_that_does_not_answer_is_asked_after_longer_and_longer_waits() {
    let gateway = Gateway::start().await;
    gateway.source.check_faults.fail_always(PortErrorKind::Io("no answer".into()));
    let _initiative = gateway.acts_by_itself(always(Initiative::Notify));
    pass(HOUR).await;
    // After 0.5, 1, 2, 4, 8 and 16 minutes.
    assert!((5..=6).contains(&gateway.source.checks()), "{}", gateway.source.checks());
    pass(HOUR * 10).await;
    assert!(gateway.source.checks() <= 17, "{}", gateway.source.checks());
    gateway.source.check_faults.clear();
    pass(HOUR * 2).await;
    assert_eq!(gateway.told(), 1);
}

#[tokio::test]
async fn whoever_asks_the_sources_are_asked_every_ten_seconds_at_most() {
    let mut gateway = Gateway::start().await;
    gateway.check_pause = Duration::from_secs(10);
    gateway.restart_daemon().await;
    let engine = gateway.engine();
    let all = futures_util::future::join_all((0..50).map(|_| engine.check())).await;
    assert!(all.into_iter().all(|offers| offers.unwrap().len() == 1));
    gateway.source.withdraw_all();
    gateway.clock.advance(Duration::from_millis(9_999));
    assert_eq!(engine.check().await.unwrap().len(), 1, "the last answer");
    assert_eq!(gateway.source.checks(), 1);
    gateway.clock.advance(Duration::from_millis(1));
    assert!(engine.check().await.unwrap().is_empty());
    // A failure is no reason to ask more often.
    gateway.clock.advance(Duration::from_secs(10));
    let away = OtaError::ServerUnreachable { reason: ota_core::error::ServerFault::Dns, what: "x".into() };
    gateway.source.check_faults.fail_next(PortErrorKind::Ota(away));
    for _ in 0..3 {
        assert_eq!(code(engine.check().await.unwrap_err()), ErrorCode::ServerUnreachable);
    }
    assert_eq!(gateway.source.checks(), 3);
    gateway.clock.advance(Duration::from_secs(10));
    assert!(engine.check().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn to_notify_is_to_tell_and_no_more_also_for_a_source_without_a_policy() {
    for config in [always(Initiative::Notify), AutoConfig { interval: HOUR, policies: BTreeMap::new() }] {
        let gateway = Gateway::start().await;
        let _initiative = gateway.acts_by_itself(config);
        pass(HOUR * 3).await;
        assert_eq!((gateway.told(), gateway.jobs()), (1, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn to_download_is_to_wait_for_people_then() {
    let gateway = Gateway::start().await;
    let _initiative = gateway.acts_by_itself(always(Initiative::Download));
    let job = gateway.until_job_is(|state| matches!(state, JobState::Downloaded)).await;
    pass(HOUR * 3).await;
    let job = gateway.until(&job, JobStatus::Downloaded).await;
    assert_eq!((job.counters.installs, gateway.jobs()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn to_install_in_a_window_is_to_wait_for_the_next_one() {
    let gateway = Gateway::start().await;
    let _initiative = gateway.acts_by_itself(always(Initiative::InstallInWindow));
    let job = gateway.until_job_is(|state| matches!(state, JobState::Scheduled)).await;
    pass(HOUR * 3).await;
    assert_eq!(gateway.until(&job, JobStatus::Scheduled).await.counters.installs, 0);
    gateway.gate.set_window(true, None);
    gateway.gate_changes.send_modify(|n| *n += 1);
    gateway.rebooter.until_reboots(1).await;
}

#[tokio::test(start_paused = true)]
async fn how_urgent_a_release_is_decides_by_the_policy_of_its_source() {
    let urgent = policy(AutoPolicy { normal: Initiative::Notify, critical: Initiative::Install });
    let gateway = Gateway::start().await;
    let _initiative = gateway.acts_by_itself(urgent);
    pass(HOUR).await;
    assert_eq!((gateway.told(), gateway.jobs()), (1, 0), "an ordinary one");
    gateway.offer_critical();
    gateway.rebooter.until_reboots(1).await;
    assert_eq!(gateway.jobs(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_safety_holds_back_is_done_as_soon_as_it_may_be_and_not_at_the_next_check() {
    let gateway = Gateway::start().await;
    gateway.gate.violate("crane_motion", &[SafetyStep::Write]);
    let _initiative = gateway.acts_by_itself(always(Initiative::Install));
    let job = gateway.until_job_is(|state| matches!(state, JobState::Downloaded)).await;
    pass(HOUR / 2).await;
    assert_eq!(gateway.until(&job, JobStatus::Downloaded).await.counters.installs, 0);
    let asked = gateway.source.checks();
    gateway.gate.clear("crane_motion");
    gateway.gate_changes.send_modify(|n| *n += 1);
    gateway.until_job_is(|state| !matches!(state, JobState::Downloaded)).await;
    assert_eq!(gateway.source.checks(), asked);
    gateway.rebooter.until_reboots(1).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_ready_at_the_start_is_installed_without_waiting_for_a_check() {
    let mut gateway = Gateway::start().await;
    gateway.gate.violate("crane_motion", &[SafetyStep::Write]);
    let initiative = gateway.acts_by_itself(always(Initiative::Install));
    gateway.until_job_is(|state| matches!(state, JobState::Downloaded)).await;
    drop(initiative);
    gateway.gate.clear("crane_motion");
    gateway.restart_daemon().await;
    let asked = gateway.source.checks();
    let _initiative = gateway.acts_by_itself(always(Initiative::Install));
    gateway.until_job_is(|state| !matches!(state, JobState::Downloaded)).await;
    assert_eq!(gateway.source.checks(), asked);
    gateway.rebooter.until_reboots(1).await;
}

#[tokio::test(start_paused = true)]
async fn a_job_of_somebody_else_is_left_alone() {
    let gateway = Gateway::start().await;
    let job = gateway.downloaded().await;
    let _initiative = gateway.acts_by_itself(always(Initiative::Install));
    pass(HOUR * 3).await;
    assert_eq!(gateway.until(&job, JobStatus::Downloaded).await.counters.installs, 0);
}

#[tokio::test(start_paused = true)]
async fn a_version_that_somebody_went_back_from_is_not_tried_again_by_itself() {
    let gateway = safety::updated().await;
    gateway.engine().rollback(&Actor::gateway(), RollbackRequest { target_version: None }).await.unwrap();
    let mut gateway = gateway;
    gateway.rebooter.until_reboots(2).await;
    gateway.reboot().await;
    gateway.engine().active().wait_for(Option::is_none).await.unwrap();
    assert_eq!(gateway.journal.value(crate::facts::ROLLED_BACK).unwrap().as_deref(), Some("5.0.5\n"));
    let jobs = gateway.jobs();
    let _initiative = gateway.acts_by_itself(always(Initiative::Install));
    pass(HOUR * 3).await;
    assert_eq!((gateway.told(), gateway.jobs()), (1, jobs), "told, not tried");
}

#[tokio::test(start_paused = true)]
async fn a_version_that_was_rolled_back_is_told_and_not_tried_again_and_why_is_kept() {
    let mut gateway = Gateway::start().await;
    gateway.offer_critical();
    gateway.health.fail("modem does not answer");
    let urgent = || policy(AutoPolicy { normal: Initiative::Notify, critical: Initiative::Install });
    let initiative = gateway.acts_by_itself(urgent());
    gateway.rebooter.until_reboots(1).await;
    drop(initiative);
    gateway.reboot().await;
    gateway.rebooter.until_reboots(2).await;
    gateway.reboot().await;
    let job = gateway.journal.page(0, 1).unwrap().jobs.remove(0);
    let end = gateway.until(&job, JobStatus::RolledBack).await;
    assert_eq!(end.state.failure().unwrap().message, "modem does not answer");
    assert_eq!(gateway.engine().status().await.unwrap().last_update.unwrap().status, "rolled_back");
    let records = gateway.journal.records(0, 1000).unwrap();
    let record = records.iter().find(|record| record.entry.action == "job.rolled_back").unwrap();
    assert_eq!(
        (record.entry.actor.as_str(), record.entry.outcome, record.entry.reason.as_deref()),
        ("gateway", AuditOutcome::Failed, Some("modem does not answer"))
    );
    let _initiative = gateway.acts_by_itself(urgent());
    pass(HOUR * 3).await;
    assert_eq!((gateway.told(), gateway.jobs()), (1, 1), "told, not tried");
}

#[tokio::test(start_paused = true)]
async fn its_own_download_that_waits_makes_way_for_a_critical_release() {
    let gateway = Gateway::start().await;
    let urgent = policy(AutoPolicy { normal: Initiative::Download, critical: Initiative::Install });
    let _initiative = gateway.acts_by_itself(urgent);
    let waiting = gateway.until_job_is(|state| matches!(state, JobState::Downloaded)).await;
    gateway.offer_also("v5.0.6", true);
    gateway.rebooter.until_reboots(1).await;
    let replaced = gateway.journal.job(&waiting.id).unwrap().unwrap();
    let why = |reason: &str| reason == "v5.0.5 makes way for v5.0.6";
    assert!(matches!(&replaced.state, JobState::Cancelled { reason } if why(reason)), "{replaced:#?}");
    let newest = gateway.journal.page(0, 1).unwrap().jobs.remove(0);
    assert_eq!((newest.release.version.to_string().as_str(), gateway.jobs()), ("v5.0.6", 2));
}

#[tokio::test(start_paused = true)]
async fn nothing_that_is_ready_is_given_up_while_safety_holds_downloads_back() {
    let gateway = Gateway::start().await;
    let urgent = policy(AutoPolicy { normal: Initiative::Download, critical: Initiative::Install });
    let _initiative = gateway.acts_by_itself(urgent);
    let waiting = gateway.until_job_is(|state| matches!(state, JobState::Downloaded)).await;
    gateway.gate.violate("crane_motion", &[SafetyStep::Download]);
    gateway.offer_also("v5.0.6", true);
    pass(HOUR * 3).await;
    gateway.until(&waiting, JobStatus::Downloaded).await;
    gateway.gate.clear("crane_motion");
    gateway.gate_changes.send_modify(|n| *n += 1);
    gateway.rebooter.until_reboots(1).await;
    assert_eq!(gateway.jobs(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_it_wanted_to_do_and_was_refused_is_in_the_audit_once() {
    let gateway = Gateway::start().await;
    gateway.gate.violate("crane_motion", &[SafetyStep::Download]);
    let _initiative = gateway.acts_by_itself(always(Initiative::Install));
    pass(HOUR * 3).await;
    let refused = gateway.refused();
    let [(action, reason)] = refused.as_slice() else { panic!("{refused:#?}") };
    assert_eq!((action.as_str(), gateway.jobs()), ("updates.download", 0));
    assert!(reason.starts_with("v5.0.5: ") && reason.contains("crane_motion"), "{reason}");
    gateway.gate.clear("crane_motion");
    gateway.gate.violate("temperature", &[SafetyStep::Write]);
    gateway.gate_changes.send_modify(|n| *n += 1);
    gateway.until_job_is(|state| matches!(state, JobState::Downloaded)).await;
    pass(HOUR * 3).await;
    let refused = gateway.refused();
    let [_, (action, reason)] = refused.as_slice() else { panic!("{refused:#?}") };
    assert_eq!(action, "updates.install");
    assert!(reason.contains("temperature"), "{reason}");
}
