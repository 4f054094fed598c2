//! The crane: while it moves nothing is switched and nothing reboots.

use ota_api::{jobs::JobInfo, words::JobStatus};
use ota_core::{ErrorCode, Slot};
use ota_tests::config::Settings;

use crate::world::{Offer, device, device_with, settings};

fn held_by_the_crane(job: &JobInfo) -> bool {
    let waits = job.waiting_for.as_ref().filter(|waits| waits.reason == "safety");
    waits.is_some_and(|waits| waits.constraints.iter().any(|c| c.constraint == "crane_motion"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_install_is_refused_while_the_crane_moves() {
    let device = device(Offer::Good).await;
    let job = device.download().await;
    let environment = device.environment().bytes().unwrap();
    device.set_sensor("crane_motion", "moving").unwrap();
    device.safety_is(false).await;
    let error = device.install(&job).await.unwrap_err();
    let api = error.api().expect("a refusal");
    assert_eq!(api.ota_code(), Some(ErrorCode::UpdateBlocked));
    assert_eq!((api.detail("constraint"), api.detail("status")), (Some("crane_motion"), Some("moving")));
    assert_eq!(device.environment().bytes().unwrap(), environment);
    device.set_sensor("crane_motion", "stopped").unwrap();
    device.safety_is(true).await;
    device.install(&job).await.unwrap();
    assert_eq!(device.ended(&job).await.status, JobStatus::Succeeded);
    device.check_rests_on(Slot::B).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crane_that_starts_to_move_during_the_writing_holds_the_switch() {
    // Long enough to be still written when the crane is seen.
    let device = device(Offer::Long(256)).await;
    let job = device.download().await;
    device.install(&job).await.unwrap();
    device.set_sensor("crane_motion", "moving").unwrap();
    device.until(&job, held_by_the_crane).await;
    let variables = device.environment().printed().unwrap();
    assert_eq!((variables["BOOT_ORDER"].as_str(), variables.get("ota_trial")), ("A", None));
    assert_eq!(device.boots(), [Some(Slot::A)]);
    device.set_sensor("crane_motion", "stopped").unwrap();
    assert_eq!(device.ended(&job).await.status, JobStatus::Succeeded);
    device.check_rests_on(Slot::B).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crane_that_starts_to_move_during_the_countdown_holds_the_reboot() {
    let device = device_with(Offer::Good, Settings { countdown_seconds: 2, ..settings() }).await;
    let job = device.download().await;
    device.install(&job).await.unwrap();
    device.until(&job, |_| device.environment().variables().unwrap().contains_key("ota_trial")).await;
    device.set_sensor("crane_motion", "moving").unwrap();
    device.until(&job, held_by_the_crane).await;
    assert_eq!(device.boots(), [Some(Slot::A)]);
    device.set_sensor("crane_motion", "stopped").unwrap();
    assert_eq!(device.ended(&job).await.status, JobStatus::Succeeded);
    device.check_rests_on(Slot::B).await;
}
