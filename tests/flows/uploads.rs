//! Images that people bring themselves: exchanged files, long files.

use std::fs;

use ota_api::{
    upload::{DeployRequest, VerifyRequest},
    words::JobStatus,
};
use ota_client::UploadFile;
use ota_core::Slot;

use crate::world::{Offer, TestDevice, device};

/// The label of uploads.
const LABEL: &str = "v5.1.0-custom";
/// How much more memory the daemon may need for a long upload than for a short one. KiB.
const GROWTH: u64 = 16 * 1024;

fn upload(device: &TestDevice) -> UploadFile {
    UploadFile {
        image: device.release.image.clone(),
        version: LABEL.into(),
        description: None,
        signature: Some(device.release.signature()),
        sha256: None,
    }
}

fn verify(filename: &str) -> VerifyRequest {
    VerifyRequest { filename: filename.into(), verify_signature: true, check_compatibility: true }
}

fn deploy(filename: &str) -> DeployRequest {
    DeployRequest {
        filename: filename.into(),
        version: None,
        target_partition: None,
        strategy: None,
        pin: None,
        reboot_after: true,
        rollback_on_failure: true,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_exchanged_after_its_verification_is_never_switched_to() {
    let device = device(Offer::Small).await;
    let stored = device.client.upload(&upload(&device)).await.unwrap();
    let name = stored.file.name;
    assert!(device.client.verify(&verify(&name)).await.unwrap().ready_for_deployment);
    let staged = device.layout.state().join("staging").join(&name);
    let times = fs::metadata(&staged).unwrap().modified().unwrap();
    let mut bytes = fs::read(&staged).unwrap();
    bytes[4096] ^= 1;
    // In place and with its old time, so that only its bytes tell.
    let file = fs::OpenOptions::new().write(true).open(&staged).unwrap();
    std::io::Write::write_all(&mut &file, &bytes).unwrap();
    file.set_modified(times).unwrap();
    let started = device.client.deploy(&deploy(&name)).await.unwrap();
    let ended = device.ended(&started.job_id).await;
    assert_eq!(ended.status, JobStatus::Failed, "{ended:#?}");
    device.check_rests_on(Slot::A).await;
    assert_eq!(device.boots(), [Some(Slot::A)]);
    // Seen without reading it, it is refused at once.
    fs::write(&staged, &bytes).unwrap();
    let refused = device.client.deploy(&deploy(&name)).await.unwrap_err();
    assert!(refused.chain().contains("upload/verify"), "{}", refused.chain());
}

async fn peak_kib(mib: u64) -> u64 {
    let device = device(Offer::Long(mib)).await;
    let stored = device.client.upload(&upload(&device)).await.unwrap();
    assert_eq!(stored.file.size, device.release.size());
    let verified = device.client.verify(&verify(&stored.file.name)).await.unwrap();
    assert!(verified.file.signature_valid && verified.ready_for_deployment);
    device.machine.power_off().await;
    let peak = device.machine.record().borrow().peak_kib;
    println!("upload of {mib} MiB: peak of the daemon's resident memory {peak} KiB");
    peak
}

/// How long the long image is: 512 MiB, or what `OTA_UPLOAD_MIB` says (2048 takes two minutes and 10 GiB of disk).
#[expect(clippy::disallowed_methods, reason = "longer runs are asked for by the environment")]
fn long_mib() -> u64 {
    std::env::var("OTA_UPLOAD_MIB").map_or(512, |mib| mib.parse().expect("OTA_UPLOAD_MIB is a number"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_stays_flat_when_a_long_image_is_uploaded() {
    let mib = long_mib();
    let (short, long) = (peak_kib(16).await, peak_kib(mib).await);
    assert!(long <= short + GROWTH, "16 MiB: {short} KiB, {mib} MiB: {long} KiB");
}
