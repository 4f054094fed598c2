//! Runs in which nothing can be recorded, and what the next run makes of what they left.

use std::sync::atomic::Ordering;

use ota_core::{job::End, safety::OnViolation};

use super::*;

impl Gateway {
    /// From now on records are taken, or not.
    fn records(&self, taken: bool) {
        self.journal.read_only.store(!taken, Ordering::Relaxed);
    }
}

fn reason(refused: Result<Job, EngineError>) -> &'static str {
    match refused {
        Err(EngineError::Unavailable { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_trial_in_a_run_that_records_nothing_is_neither_confirmed_nor_left_and_the_next_run_judges_it() {
    let mut gateway = Gateway::start().await;
    let job = gateway.rebooting().await;
    gateway.records(false);
    let (saves, writes) = (gateway.journal.saves().len(), gateway.boot.writes());
    assert_eq!(gateway.reboot().await, Slot::B);
    let trial = gateway.boot.env();
    let status = gateway.engine().status().await.unwrap();
    assert_eq!(status.degraded.iter().map(|why| why.0.as_str()).collect::<Vec<_>>(), ["store_read_only"]);
    assert_eq!(status.active_job.unwrap().state, JobState::Rebooting);
    let engine = gateway.engine();
    assert_eq!(reason(engine.judge_trial(&operator(), true, "fine".into()).await), "store_read_only");
    assert_eq!(reason(engine.judge_trial(&operator(), false, "bad".into()).await), "store_read_only");
    assert_eq!(reason(gateway.cancel(&job).await), "store_read_only");
    assert_eq!(gateway.boot.env(), trial);
    gateway.records(true);
    assert_eq!(gateway.journal.saves().len(), saves);
    assert_eq!(gateway.boot.writes(), writes, "none but the boot loader's own");
    gateway.restart_daemon().await;
    let end = gateway.until(&job, JobStatus::Succeeded).await;
    assert_eq!((end.counters.trials, gateway.boot.env().trial), (1, None));
    assert!(gateway.engine().status().await.unwrap().degraded.is_empty());
}

#[tokio::test]
async fn a_switch_whose_undo_is_on_record_is_undone_although_nothing_can_be_recorded() {
    let mut gateway = Gateway::start().await;
    let job = gateway.downloaded().await;
    gateway.install(&job, InstallOptions { reboot_after: false, ..SEAMLESS }).await.unwrap();
    let mut switched = gateway.until(&job, JobStatus::Rebooting).await;
    // As a cut leaves it right behind the answer to a cancel.
    switched.state = JobState::Undoing { end: End::Cancelled { reason: "changed my mind".into() } };
    gateway.journal.save(&switched).unwrap();
    gateway.records(false);
    gateway.restart_daemon().await;
    // Its end waits for the device to be at rest.
    gateway.engine.take().unwrap().shutdown().await;
    let env = gateway.boot.env();
    assert_eq!((env.trial, env.first), (None, Slot::A));
    gateway.records(true);
    gateway.restart_daemon().await;
    gateway.until(&job, JobStatus::Cancelled).await;
}

#[tokio::test]
async fn a_download_waits_in_a_run_that_records_nothing_and_a_new_job_is_refused() {
    let mut gateway = Gateway::start().await;
    gateway.records(false);
    gateway.restart_daemon().await;
    assert_eq!(reason(gateway.download().await), "store_read_only");
    gateway.records(true);
    gateway.restart_daemon().await;
    let job = gateway.downloaded().await;
    assert_eq!(job.id, JobId::from_number(1), "no number was used up");
}

#[tokio::test]
async fn a_change_of_safety_moves_no_job_in_a_run_that_records_nothing() {
    let mut gateway = Gateway::start().await;
    gateway.source.script([FetchScript::HoldAt(40_960)]);
    let job = gateway.download().await.unwrap();
    gateway.source.until_held().await;
    gateway.records(false);
    gateway.restart_daemon().await;
    let saves = gateway.journal.saves().len();
    for reaction in [OnViolation::PauseWrite, OnViolation::Abort] {
        gateway.violate("radio", &[SafetyStep::Download], reaction);
        // Each of them is answered by what looks at the change, too.
        for _ in 0..50 {
            assert_eq!(reason(gateway.cancel(&job).await), "store_read_only");
        }
        gateway.clear("radio");
        for _ in 0..50 {
            assert_eq!(reason(gateway.cancel(&job).await), "store_read_only");
        }
    }
    let active = gateway.engine().status().await.unwrap().active_job.unwrap();
    assert!(matches!(active.state, JobState::Downloading { held: None, .. }), "{:?}", active.state);
    assert_eq!((gateway.source.fetches(), gateway.journal.saves().len()), (vec![0], saves));
    gateway.records(true);
    gateway.restart_daemon().await;
    gateway.until(&job, JobStatus::Downloaded).await;
    assert_eq!(gateway.source.fetches().len(), 2);
}
