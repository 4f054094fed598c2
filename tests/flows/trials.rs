//! Trial boots that fail: the old slot comes back by itself, and the job says why.

use ota_api::words::JobStatus;
use ota_core::Slot;

use crate::world::{Offer, TestDevice, device};

const A: Option<Slot> = Some(Slot::A);
const B: Option<Slot> = Some(Slot::B);

async fn check(offer: Offer, boots: &[Option<Slot>]) -> TestDevice {
    let device = device(offer).await;
    let job = device.update().await;
    assert_eq!(job.status, JobStatus::RolledBack, "{job:#?}\n{}", device.log_tail(30));
    let failure = job.failure.expect("a reason");
    println!("{offer:?}: {} {:?}", failure.message, failure.reason);
    assert!(!failure.message.is_empty());
    device.check_rests_on(Slot::A).await;
    assert_eq!(device.boots(), boots);
    device
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_that_hangs_gives_way_to_the_old_slot_within_its_tries() {
    let device = check(Offer::Hangs, &[A, B, B, B, A]).await;
    // It stays away from then on.
    device.machine.cut_power().await;
    device.booted(6).await;
    device.check_rests_on(Slot::A).await;
    assert_eq!(device.boots()[5], A);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_that_does_not_load_gives_way_to_the_old_slot_within_its_tries() {
    check(Offer::DoesNotLoad, &[A, None, None, None, A]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unhealthy_image_gives_way_to_the_old_slot_in_one_reboot() {
    check(Offer::Unhealthy, &[A, B, A]).await;
}
