//! The sums for those who watch, over updates, failures and restarts.

use super::*;
use crate::Totals;

/// How many jobs ended in `state`, and how long they took together.
fn ended(totals: &Totals, state: JobStatus) -> (u64, Duration) {
    let ended = totals.ended.iter().find(|sum| sum.state == state).unwrap();
    (ended.jobs, ended.took)
}

#[tokio::test]
async fn ended_jobs_are_counted_over_restarts_and_bytes_since_the_start() {
    let mut gateway = Gateway::start().await;
    let totals = gateway.engine().totals().await.unwrap();
    assert_eq!(totals.ended.len(), 4, "each end is there before the first job ends so");
    assert_eq!((totals.downloaded, totals.written), (ByteCount::ZERO, ByteCount::ZERO));
    let job = gateway.rebooting().await;
    let totals = gateway.engine().totals().await.unwrap();
    let image = ByteCount(IMAGE_BYTES as u64);
    assert_eq!((totals.downloaded, totals.written), (image, image));
    gateway.clock.advance(Duration::from_secs(90));
    gateway.reboot().await;
    gateway.until(&job, JobStatus::Succeeded).await;
    gateway.engine().active().wait_for(Option::is_none).await.unwrap();
    let totals = gateway.engine().totals().await.unwrap();
    let (jobs, took) = ended(&totals, JobStatus::Succeeded);
    assert!(jobs == 1 && took >= Duration::from_secs(90), "{totals:?}");
    assert_eq!((totals.downloaded, totals.written), (ByteCount::ZERO, ByteCount::ZERO));
    gateway.restart_daemon().await;
    let totals = gateway.engine().totals().await.unwrap();
    assert_eq!(ended(&totals, JobStatus::Succeeded), (1, took));
    assert_eq!(ended(&totals, JobStatus::Failed), (0, Duration::ZERO));
}

#[tokio::test]
async fn what_an_earlier_fetch_left_is_not_downloaded_twice() {
    let gateway = Gateway::start().await;
    let cut = PortErrorKind::Io("cut".into());
    gateway.source.script([FetchScript::FailAt(100_000, cut)]);
    let job = gateway.download().await.unwrap();
    gateway.until(&job, JobStatus::Failed).await;
    gateway.engine().active().wait_for(Option::is_none).await.unwrap();
    let job = gateway.downloaded().await;
    let totals = gateway.engine().totals().await.unwrap();
    assert_eq!(gateway.source.fetches(), [0, 100_000]);
    assert_eq!(totals.downloaded, job.release.size);
    assert_eq!(ended(&totals, JobStatus::Failed).0, 1);
}
