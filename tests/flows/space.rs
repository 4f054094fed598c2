//! What downloads take of a small disk, on an ext4 of its own.

use std::{
    fs,
    sync::{Arc, Mutex},
};

use ota_api::words::JobStatus;
use ota_core::Slot;
use ota_tests::Layout;

use crate::{
    partition::Partition,
    world::{Offer, TestDevice, device_prepared, folder, settings},
};

/// MiB of the file system that images are staged on: one of 20 MiB has room there, two have not.
const STAGING: u64 = 36;

/// The staging folder's partition.
type Mounted = Arc<Mutex<Option<Partition>>>;

async fn device() -> (TestDevice, Mounted) {
    let mounted = Mounted::default();
    let keep = Arc::clone(&mounted);
    let mount = move |layout: &Layout| {
        let staging = layout.state().join("staging");
        fs::create_dir_all(&staging).unwrap();
        let partition = Partition::make(&folder("devices").join("staging.ext4"), STAGING, staging);
        partition.mount();
        *keep.lock().unwrap() = Some(partition);
    };
    (device_prepared(Offer::Good, settings(), mount).await, mounted)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_download_that_failed_for_the_network_does_not_take_the_space_of_the_next_one() {
    let (device, mounted) = device().await;
    device.client.check().await.unwrap();
    device.server.hide(Some("rootfs.squashfs"));
    for _ in 0..2 {
        let job = device.start_download().await.unwrap();
        let ended = device.ended(&job).await;
        let why = ended.failure.as_ref().and_then(|why| why.code.clone());
        assert_eq!((ended.status, why.as_deref()), (JobStatus::Failed, Some("OTA_004")), "{ended:#?}");
    }
    device.server.hide(None);
    assert_eq!(device.update().await.status, JobStatus::Succeeded);
    device.check_rests_on(Slot::B).await;
    // Or its daemon keeps the file system busy.
    device.machine.power_off().await;
    let partition = mounted.lock().unwrap().take().unwrap();
    partition.unmount();
    partition.check();
}
