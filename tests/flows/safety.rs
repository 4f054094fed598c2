//! The crane: while it moves nothing is switched and nothing reboots.

use ota_api::{
    inhibitors::InhibitRequest,
    jobs::JobInfo,
    updates::{FactoryResetRequest, RESET_CONFIRMATION, RollbackRequest},
    upload::DeployRequest,
    words::{JobStatus, Step},
};
use ota_client::ClientError;
use ota_core::{ErrorCode, Slot};
use ota_tests::{config::Settings, make::PIN};

use crate::{
    uploads::{deploy, upload, verify},
    world::{Offer, TestDevice, device, device_with, device_with_pin, settings},
};

pub(crate) fn held_by_the_crane(job: &JobInfo) -> bool {
    let waits = job.waiting_for.as_ref().filter(|waits| waits.reason == "safety");
    waits.is_some_and(|waits| waits.constraints.iter().any(|c| c.constraint == "crane_motion"))
}

/// Whether the slot is being written, or is written and not switched to.
pub(crate) fn has_begun_to_write(job: &JobInfo) -> bool {
    ["Writing the inactive partition", "Switching partitions", "Written; the switch waits"]
        .contains(&job.current_operation.as_str())
}

/// Takes a lease that keeps the switch until a crane is heard, however long that takes; its number.
pub(crate) async fn hold_the_switch(device: &TestDevice) -> u64 {
    let lease = InhibitRequest {
        reason: Some("the crane comes first".into()),
        scope: Some(vec![Step::Switch]),
        ttl: 600,
        ..InhibitRequest::default()
    };
    device.client.inhibit(&lease).await.unwrap().id
}

/// Gives that lease back: the crane alone holds the job then.
pub(crate) async fn leave_it_to_the_crane(device: &TestDevice, job: &str, lease: u64) {
    device.client.release_inhibitor(lease).await.unwrap();
    let alone = |job: &JobInfo| {
        let waits = job.waiting_for.as_ref();
        held_by_the_crane(job) && waits.is_some_and(|waits| waits.constraints.len() == 1)
    };
    device.until(job, alone).await;
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

fn rollback() -> RollbackRequest {
    RollbackRequest { target_version: None, reason: None, pin: Some(PIN.into()) }
}

fn reset() -> FactoryResetRequest {
    let confirmation = RESET_CONFIRMATION.into();
    FactoryResetRequest { pin: Some(PIN.into()), backup_settings: false, confirmation }
}

/// An uploaded and verified image, to be deployed without a reboot of its own.
pub(crate) async fn verified(device: &TestDevice) -> DeployRequest {
    let name = device.client.upload(&upload(device)).await.unwrap().file.name;
    device.client.verify(&verify(&name)).await.unwrap();
    DeployRequest { reboot_after: false, ..deploy(&name) }
}

/// What is refused while it is not safe, beside an install: by what it is.
pub(crate) async fn refusals(
    device: &TestDevice,
    request: &DeployRequest,
) -> [(&'static str, ClientError); 3] {
    [
        ("rollback", device.client.rollback(&rollback()).await.unwrap_err()),
        ("deploy", device.client.deploy(request).await.unwrap_err()),
        ("reset", device.client.factory_reset(&reset()).await.unwrap_err()),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rollback_deploy_reset_and_a_reboot_are_refused_while_the_crane_moves() {
    let device = device_with_pin(Offer::Small, settings()).await;
    let request = verified(&device).await;
    let environment = device.environment().bytes().unwrap();
    device.set_sensor("crane_motion", "moving").unwrap();
    device.safety_is(false).await;
    for (what, error) in refusals(&device, &request).await {
        let api = error.api().expect("a refusal");
        assert_eq!((api.ota_code(), api.status), (Some(ErrorCode::UpdateBlocked), 400), "{what}");
        assert_eq!(api.detail("constraint"), Some("crane_motion"), "{what}");
    }
    assert_eq!(device.environment().bytes().unwrap(), environment);
    device.set_sensor("crane_motion", "stopped").unwrap();
    device.safety_is(true).await;
    let job = device.client.deploy(&request).await.unwrap().job_id;
    device.until(&job, |job| job.status == JobStatus::Rebooting).await;
    device.set_sensor("crane_motion", "moving").unwrap();
    device.safety_is(false).await;
    let refused = device.install(&job).await.unwrap_err();
    assert_eq!(refused.api().unwrap().ota_code(), Some(ErrorCode::UpdateBlocked));
    assert_eq!(device.boots(), [Some(Slot::A)]);
    // To undo the switch is always allowed.
    device.client.cancel(&job, None).await.unwrap();
    assert_eq!(device.ended(&job).await.status, JobStatus::Cancelled);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crane_that_starts_to_move_during_the_writing_holds_the_switch() {
    // Long enough to be still written when the crane is seen, as a rule.
    let device = device(Offer::Long(256)).await;
    let job = device.download().await;
    let lease = hold_the_switch(&device).await;
    device.install(&job).await.unwrap();
    device.until(&job, has_begun_to_write).await;
    device.set_sensor("crane_motion", "moving").unwrap();
    device.until(&job, held_by_the_crane).await;
    leave_it_to_the_crane(&device, &job, lease).await;
    let variables = device.environment().printed().unwrap();
    assert_eq!((variables["BOOT_ORDER"].as_str(), variables.get("ota_trial")), ("A", None));
    assert_eq!(device.boots(), [Some(Slot::A)]);
    device.set_sensor("crane_motion", "stopped").unwrap();
    assert_eq!(device.ended(&job).await.status, JobStatus::Succeeded);
    device.check_rests_on(Slot::B).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crane_that_starts_to_move_during_the_countdown_holds_the_reboot() {
    let device = device_with(Offer::Good, Settings { countdown_seconds: 15, ..settings() }).await;
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
