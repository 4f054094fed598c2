//! Saved settings on the real daemon.

use std::fs;

use ota_api::{
    snapshots::{CreateSnapshotRequest, RestoreSnapshotRequest},
    words::JobStatus,
};
use ota_tests::config::Settings;

use crate::world::{Offer, device, device_with, settings};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_are_saved_and_put_back_through_the_api() {
    let device = device(Offer::Small).await;
    let plant = device.layout.settings().join("plant.toml");
    fs::write(&plant, "speed = 3").unwrap();
    let request = CreateSnapshotRequest { description: Some("before the move".into()) };
    let made = device.client.create_snapshot(&request).await.unwrap();
    fs::write(&plant, "speed = 900").unwrap();
    // Also after the daemon was gone.
    device.machine.kill_daemon().await;
    device.ready().await.unwrap();
    assert_eq!(device.client.snapshots().await.unwrap().snapshots, std::slice::from_ref(&made));
    let done = device.client.restore_snapshot(&made.id, &RestoreSnapshotRequest::default()).await.unwrap();
    assert_eq!((done.files, fs::read_to_string(&plant).unwrap().as_str()), (2, "speed = 3"));
    let unknown = device.client.restore_snapshot("SNAP-1", &RestoreSnapshotRequest::default()).await;
    assert_eq!(unknown.unwrap_err().api().unwrap().code, "NOT_FOUND");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_update_saves_the_settings_before_it_writes_where_that_is_configured() {
    let device = device_with(Offer::Small, Settings { snapshot_before_install: true, ..settings() }).await;
    fs::write(device.layout.settings().join("plant.toml"), "speed = 3").unwrap();
    assert_eq!(device.update().await.status, JobStatus::Succeeded);
    let list = device.client.snapshots().await.unwrap().snapshots;
    assert_eq!(list.len(), 1);
    assert_eq!(list[0].cause.as_deref(), Some("before_install"));
}
