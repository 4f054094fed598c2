//! Images and metadata that are not what was signed: refused, and the boot environment stays byte for byte.

use std::{fs, path::Path};

use ota_api::words::JobStatus;
use ota_core::Slot;
use ota_tests::server::Damage;

use crate::world::{Offer, TestDevice, device};

/// Codes with which damage may be refused.
const CODES: [&str; 3] = ["OTA_005", "OTA_006", "OTA_007"];

/// A sample of offsets: ends, and some between.
fn sample(length: u64, between: u64) -> Vec<u64> {
    let mut offsets = vec![0, 1, length - 1];
    offsets.extend((1..=between).map(|n| n * length / (between + 1) + n % 7));
    offsets.retain(|offset| *offset < length);
    offsets
}

/// Files below `repo` whose path holds `part`, as the server names them.
fn served(repo: &Path, part: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![repo.to_path_buf()];
    while let Some(dir) = open.pop() {
        for path in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                open.push(path);
            } else {
                found.push(path.strip_prefix(repo).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found.retain(|path| path.contains(part));
    found
}

/// The code with which a download ends.
async fn refusal(device: &TestDevice) -> String {
    let job = match device.start_download().await {
        Ok(job) => job,
        Err(error) => return error.api().expect("a refusal").code.clone(),
    };
    let ended = device.until(&job, |job| job.ended || job.status == JobStatus::Downloaded).await;
    assert_eq!(ended.status, JobStatus::Failed, "{ended:#?}");
    ended.failure.and_then(|failure| failure.code).expect("a code")
}

async fn check_untouched(device: &TestDevice, environment: &[u8]) {
    assert_eq!(device.environment().bytes().unwrap(), environment);
    device.check_rests_on(Slot::A).await;
    let slot = fs::read(device.layout.slot(Slot::B)).unwrap();
    assert!(slot.iter().all(|byte| *byte == 0), "slot B was written");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_byte_of_the_metadata_is_refused_at_the_check() {
    let device = device(Offer::Small).await;
    let environment = device.environment().bytes().unwrap();
    let (mut tried, repo) = (0, &device.release.repo);
    let current = ["metadata/timestamp.json", "metadata/2.snapshot.json", "metadata/2.targets.json"];
    let manifest = served(repo, "channels/");
    for path in current.into_iter().chain(manifest.iter().map(String::as_str)) {
        let length = fs::metadata(repo.join(path)).unwrap().len();
        for offset in sample(length, 12) {
            for flip in [0x01, 0x80] {
                let damage = Damage { path: path.to_owned(), offset, flip };
                device.server.damage(Some(damage.clone()));
                let error = device.client.check().await.expect_err(&format!("{damage:?} was accepted"));
                let code = &error.api().expect("a refusal").code;
                assert!(CODES.contains(&code.as_str()), "{damage:?}: {error}");
                tried += 1;
            }
        }
    }
    println!("{tried} flipped bytes of metadata, all refused");
    check_untouched(&device, &environment).await;
    device.server.damage(None);
    assert!(device.client.check().await.unwrap().available);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_byte_of_image_or_signature_is_refused_after_the_download() {
    let device = device(Offer::Small).await;
    device.client.check().await.unwrap();
    let environment = device.environment().bytes().unwrap();
    for path in served(&device.release.repo, "images/") {
        let length = fs::metadata(device.release.repo.join(&path)).unwrap().len();
        for offset in sample(length, 5) {
            let damage = Damage { path: path.clone(), offset, flip: 0x04 };
            device.server.damage(Some(damage.clone()));
            let code = refusal(&device).await;
            assert!(CODES.contains(&code.as_str()), "{damage:?}: {code}");
        }
    }
    check_untouched(&device, &environment).await;
    device.server.damage(None);
    assert_eq!(device.update().await.status, JobStatus::Succeeded);
    device.check_rests_on(Slot::B).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_that_a_stranger_or_nobody_signed_is_refused() {
    for offer in [Offer::Stranger, Offer::Unsigned] {
        let device = device(offer).await;
        let environment = device.environment().bytes().unwrap();
        device.client.check().await.unwrap();
        assert_eq!(refusal(&device).await, "OTA_006", "{offer:?}");
        check_untouched(&device, &environment).await;
    }
}
