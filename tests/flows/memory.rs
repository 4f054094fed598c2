//! Memory does not grow with the image.

use ota_api::words::JobStatus;

use crate::world::{Offer, device};

/// Bars of issue 2: absolute, and how much more a long image may need than a short one. KiB.
const MOST: u64 = 40 * 1024;
const GROWTH: u64 = 8 * 1024;

async fn peak_kib(mib: u64) -> u64 {
    let device = device(Offer::Long(mib)).await;
    let job = device.update().await;
    assert_eq!(job.status, JobStatus::Succeeded, "{job:#?}");
    device.machine.power_off().await;
    let peak = device.machine.record().borrow().peak_kib;
    println!("{mib} MiB: peak of the daemon's resident memory {peak} KiB");
    peak
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_stays_flat_from_128_mib_to_1_gib() {
    let (short, long) = (peak_kib(128).await, peak_kib(1024).await);
    assert!(long <= short + GROWTH, "128 MiB: {short} KiB, 1 GiB: {long} KiB");
    assert!(long.max(short) <= MOST, "128 MiB: {short} KiB, 1 GiB: {long} KiB");
}
