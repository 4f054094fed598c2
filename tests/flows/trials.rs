//! Trial boots that fail: the old slot comes back by itself, and the job says why.

use std::{fs, os::unix::fs::FileExt as _};

use ota_api::{updates::RollbackRequest, words::JobStatus};
use ota_core::Slot;
use ota_tests::make::PIN;

use crate::world::{Offer, TestDevice, device, device_with_pin, settings};

const A: Option<Slot> = Some(Slot::A);
const B: Option<Slot> = Some(Slot::B);

async fn check(offer: Offer, reason: &str, boots: &[Option<Slot>]) -> TestDevice {
    let device = device(offer).await;
    let job = device.update().await;
    assert_eq!(job.status, JobStatus::RolledBack, "{job:#?}\n{}", device.log_tail(30));
    let failure = job.failure.expect("a reason");
    println!("{offer:?}: {} {:?}", failure.message, failure.reason);
    assert_eq!(failure.reason.as_deref(), Some(reason), "{}", failure.message);
    if reason == "health_check" {
        assert!(failure.message.contains("health check system did not pass"), "{}", failure.message);
    }
    device.check_rests_on(Slot::A).await;
    assert_eq!(device.boots(), boots);
    device
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_that_hangs_gives_way_to_the_old_slot_within_its_tries() {
    let device = check(Offer::Hangs, "did_not_boot", &[A, B, B, B, A]).await;
    // It stays away from then on.
    device.machine.cut_power().await;
    device.booted(6).await;
    device.check_rests_on(Slot::A).await;
    assert_eq!(device.boots()[5], A);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_that_does_not_load_gives_way_to_the_old_slot_within_its_tries() {
    check(Offer::DoesNotLoad, "did_not_boot", &[A, None, None, None, A]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unhealthy_image_gives_way_to_the_old_slot_in_one_reboot() {
    check(Offer::Unhealthy, "health_check", &[A, B, A]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollback_to_a_slot_that_somebody_wrote_to_fails_and_leaves_the_running_slot_alone() {
    let device = device_with_pin(Offer::Small, settings()).await;
    assert_eq!(device.update().await.status, JobStatus::Succeeded);
    let environment = device.environment().bytes().unwrap();
    let slot = fs::OpenOptions::new().read(true).write(true).open(device.layout.slot(Slot::A)).unwrap();
    let mut byte = [0];
    slot.read_exact_at(&mut byte, 4711).unwrap();
    slot.write_all_at(&[byte[0] ^ 1], 4711).unwrap();
    let rollback = RollbackRequest { target_version: None, reason: None, pin: Some(PIN.into()) };
    device.safety_is(true).await;
    let job = device.client.rollback(&rollback).await.unwrap().job_id;
    let ended = device.ended(&job).await;
    let failure = ended.failure.expect("a reason");
    assert_eq!((ended.status, failure.code.as_deref()), (JobStatus::Failed, Some("OTA_012")));
    assert!(failure.message.contains("no longer holds what was recorded"), "{}", failure.message);
    assert_eq!(device.environment().bytes().unwrap(), environment);
    device.check_rests_on(Slot::B).await;
    slot.write_all_at(&byte, 4711).unwrap();
    let job = device.client.rollback(&rollback).await.unwrap().job_id;
    assert_eq!(device.ended(&job).await.status, JobStatus::Succeeded);
    device.check_rests_on(Slot::A).await;
}
