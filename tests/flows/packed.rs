//! Packed images and one-file images through the whole daemon: uploaded, and from the update server. Afterwards the file
//! system in the slot is clean, or, of what is refused, not a byte of environment and slots has changed.

use std::{fs, path::PathBuf};

use ota_api::words::JobStatus;
use ota_core::Slot;
use ota_tests::process;

use crate::{
    forms::Form,
    uploads::{deploy, exchange, upload, verify},
    world::{Offer, TestDevice, device},
};

/// That the slot holds a file system that its own checker finds clean, with the files of the image.
fn check_file_system(device: &TestDevice) {
    let slot: PathBuf = device.layout.slot(Slot::B);
    let slot = slot.to_str().unwrap();
    let line = format!(
        "export PATH=$PATH:/usr/sbin:/sbin; e2fsck -fn {slot}; debugfs -R 'cat /etc/os-release' {slot}"
    );
    let said = String::from_utf8(process::read("sh", ["-ec", &line]).unwrap()).unwrap();
    assert!(said.contains("VERSION_ID=5.0.5"), "{said}");
}

/// Gives the name of the file in staging.
async fn upload_and_verify(device: &TestDevice, signed_beside: bool) -> String {
    let mut file = upload(device);
    file.signature.retain(|_| signed_beside);
    file.version = "v5.0.5".into();
    let stored = device.client.upload(&file).await.unwrap();
    let verified = device.client.verify(&verify(&stored.file.name)).await.unwrap();
    assert!(verified.file.signature_valid && verified.ready_for_deployment, "{verified:?}");
    stored.file.name
}

async fn upload_and_deploy(device: &TestDevice, signed_beside: bool) {
    let name = upload_and_verify(device, signed_beside).await;
    let started = device.client.deploy(&deploy(&name)).await.unwrap();
    let ended = device.ended(&started.job_id).await;
    assert_eq!(ended.status, JobStatus::Succeeded, "{ended:#?}");
    device.check_rests_on(Slot::B).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_packed_image_of_every_form_is_uploaded_verified_deployed_and_confirmed() {
    for form in Form::ALL {
        let device = device(Offer::Packed(form)).await;
        upload_and_deploy(&device, true).await;
        check_file_system(&device);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_packed_image_comes_from_the_update_server_and_is_confirmed() {
    for form in [Form::TarZst, Form::ImgGz] {
        let device = device(Offer::Packed(form)).await;
        let job = device.update().await;
        assert_eq!(job.status, JobStatus::Succeeded, "{form:?}: {job:#?}");
        device.check_rests_on(Slot::B).await;
        check_file_system(&device);
    }
}

/// How long the image in front of the trailer is.
fn image_length(file: &[u8]) -> usize {
    let footer = std::str::from_utf8(&file[file.len() - 64..]).unwrap();
    usize::from_str_radix(&footer[35..51], 16).unwrap()
}

/// That the slot begins with the image and that nothing of the trailer is behind it.
fn check_stripped(device: &TestDevice) {
    let file = fs::read(&device.release.image).unwrap();
    let length = image_length(&file);
    let slot = fs::read(device.layout.slot(Slot::B)).unwrap();
    assert!(length < file.len() && slot[..length] == file[..length]);
    assert!(slot[length..].iter().all(|byte| *byte == 0), "something was written behind the image");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_one_file_image_goes_into_the_slot_without_its_trailer_uploaded_and_from_the_server() {
    let uploaded = device(Offer::OneFile(None)).await;
    upload_and_deploy(&uploaded, false).await;
    check_stripped(&uploaded);
    let fetched = device(Offer::OneFile(None)).await;
    let job = fetched.update().await;
    assert_eq!((job.status, job.signers.len()), (JobStatus::Succeeded, 1), "{job:#?}");
    fetched.check_rests_on(Slot::B).await;
    check_stripped(&fetched);
    let archive = device(Offer::OneFile(Some(Form::TarZst))).await;
    let job = archive.update().await;
    assert_eq!(job.status, JobStatus::Succeeded, "{job:#?}");
    archive.check_rests_on(Slot::B).await;
    check_file_system(&archive);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_of_a_one_file_image_that_is_damaged_after_its_verification_ends_the_write_and_is_named() {
    let device = device(Offer::OneFile(None)).await;
    let name = upload_and_verify(&device, false).await;
    let length = image_length(&fs::read(&device.release.image).unwrap());
    // Behind what is looked at of the format, and not in the last block.
    let block = length / 65536 - 1;
    assert!(block > 2, "too short to tell: {length} bytes");
    exchange(&device, &name, block * 65536 + 77);
    let started = device.client.deploy(&deploy(&name)).await.unwrap();
    let ended = device.ended(&started.job_id).await;
    let why = ended.failure.as_ref().unwrap();
    assert_eq!((ended.status, why.code.as_deref()), (JobStatus::Failed, Some("OTA_007")), "{ended:#?}");
    let place = format!("of block {block} (from byte {})", block * 65536);
    assert!(why.message.contains(&place), "{place}: {}", why.message);
    device.check_rests_on(Slot::A).await;
    assert_eq!(device.boots(), [Some(Slot::A)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_archive_that_escapes_or_is_longer_than_signed_is_refused_and_changes_nothing() {
    for (offer, code) in [(Offer::Escapes, "OTA_005"), (Offer::LongerThanSigned, "OTA_007")] {
        let device = device(offer).await;
        let environment = device.environment().bytes().unwrap();
        device.client.check().await.unwrap();
        let job = device.start_download().await.unwrap();
        let ended = device.until(&job, |job| job.ended || job.status == JobStatus::Downloaded).await;
        let refused = ended.failure.as_ref().and_then(|failure| failure.code.as_deref());
        assert_eq!((ended.status, refused), (JobStatus::Failed, Some(code)), "{ended:#?}");
        if offer == Offer::Escapes {
            let stored = device.client.upload(&upload(&device)).await.unwrap();
            let refused = device.client.verify(&verify(&stored.file.name)).await.unwrap_err();
            assert_eq!(refused.api().unwrap().code, code, "{}", refused.chain());
        }
        assert_eq!(device.environment().bytes().unwrap(), environment);
        assert!(fs::read(device.layout.slot(Slot::B)).unwrap().iter().all(|byte| *byte == 0));
        device.check_rests_on(Slot::A).await;
    }
}
