//! The whole way, and ways out of it.

use std::fs;

use ota_api::words::JobStatus;
use ota_core::Slot;

use crate::world::{Offer, device};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_update_ends_confirmed_on_the_other_slot() {
    let device = device(Offer::Good).await;
    let before = fs::read(device.layout.slot(Slot::A)).unwrap();
    let job = device.update().await;
    assert_eq!(job.status, JobStatus::Succeeded, "{job:#?}");
    assert_eq!(job.signers.len(), 1);
    device.check_rests_on(Slot::B).await;
    assert_eq!(device.boots(), [Some(Slot::A), Some(Slot::B)]);
    assert!(device.holds_the_image(Slot::B));
    assert_eq!(fs::read(device.layout.slot(Slot::A)).unwrap(), before);
    let signature = fs::metadata(device.release.signature()).unwrap().len();
    assert_eq!(device.server.sent("rootfs.squashfs"), device.release.size() + signature);
    let status = device.client.status().await.unwrap();
    let (active, other) = (status.partitions.active.unwrap(), status.partitions.inactive.unwrap());
    assert_eq!((active.version.as_deref(), other.version.as_deref()), (Some("v5.0.5"), Some("v5.0.4")));
    assert!(!device.client.check().await.unwrap().available);
    // Foreign variables of the board are still there.
    assert_eq!(device.environment().printed().unwrap()["board_name"], "igw-5000");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_an_old_boot_loader_the_status_says_so_and_nothing_is_installed() {
    let device = device(Offer::Good).await;
    let job = device.download().await;
    let mut variables = device.environment().variables().unwrap();
    variables.insert("ver".into(), "U-Boot 2019.04 (Apr 08 2019 - 12:00:00 +0000)".into());
    device.environment().save(&variables).unwrap();
    let status = device.client.status().await.unwrap();
    assert_eq!(status.degraded[0].reason, "loader_too_old");
    assert!(status.boot.unwrap().loader_too_old);
    let refused = device.install(&job).await.unwrap_err();
    let refused = refused.api().expect("a refusal");
    assert_eq!(refused.code, "UNAVAILABLE");
    assert!(refused.message.contains("older than 2024.01"), "{}", refused.message);
    // The loader is renewed and has saved its environment.
    variables.insert("ver".into(), "U-Boot 2025.01 (Jan 07 2025 - 12:00:00 +0000)".into());
    device.environment().save(&variables).unwrap();
    device.install(&job).await.unwrap();
    assert_eq!(device.ended(&job).await.status, JobStatus::Succeeded);
    assert!(!device.client.status().await.unwrap().boot.unwrap().loader_too_old);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_confirmed_slot_stays_over_power_cuts() {
    let device = device(Offer::Good).await;
    device.update().await;
    for _ in 0..4 {
        device.machine.cut_power().await;
    }
    device.booted(6).await;
    device.check_rests_on(Slot::B).await;
    assert!(device.boots()[1..].iter().all(|slot| *slot == Some(Slot::B)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancel_after_the_switch_brings_the_old_order_back() {
    let device = device(Offer::Good).await;
    let job = device.download().await;
    device.install_with(&job, false).await.unwrap();
    let waits = |reason: &str| {
        let reason = reason.to_owned();
        move |job: &ota_api::jobs::JobInfo| job.waiting_for.as_ref().is_some_and(|w| w.reason == reason)
    };
    device.until(&job, waits("reboot")).await;
    assert_eq!(device.environment().printed().unwrap()["ota_trial"], "B");
    device.client.cancel(&job, Some("not today")).await.unwrap();
    let ended = device.ended(&job).await;
    assert_eq!((ended.status, ended.cancel_reason.as_deref()), (JobStatus::Cancelled, Some("not today")));
    device.check_rests_on(Slot::A).await;
    device.machine.cut_power().await;
    device.booted(2).await;
    device.check_rests_on(Slot::A).await;
    assert_eq!(device.boots(), [Some(Slot::A), Some(Slot::A)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reboot_from_outside_starts_the_trial_that_waited_for_it() {
    let device = device(Offer::Good).await;
    let job = device.download().await;
    device.install_with(&job, false).await.unwrap();
    device.until(&job, |job| job.waiting_for.as_ref().is_some_and(|w| w.reason == "reboot")).await;
    device.machine.cut_power().await;
    let ended = device.ended(&job).await;
    assert_eq!(ended.status, JobStatus::Succeeded, "{ended:#?}");
    device.check_rests_on(Slot::B).await;
}
