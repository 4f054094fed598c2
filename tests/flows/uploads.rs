//! Images that people bring themselves: exchanged files, long files.

use std::{
    fs,
    path::{Path, PathBuf},
};

use ota_api::{
    upload::{DeployRequest, VerifyRequest},
    words::JobStatus,
};
use ota_client::UploadFile;
use ota_core::Slot;
use ota_tests::{process, release::SignedBy};

use crate::world::{Offer, TestDevice, device, publisher};

/// The label of uploads.
const LABEL: &str = "v5.1.0-custom";
/// How much more memory the daemon may need for a long upload than for a short one. KiB.
const GROWTH: u64 = 16 * 1024;

/// The release on offer with its signature, as somebody uploads it.
pub(crate) fn upload(device: &TestDevice) -> UploadFile {
    UploadFile {
        image: device.release.image.clone(),
        version: LABEL.into(),
        description: None,
        signature: vec![device.release.signature()],
        checksums: None,
        checksums_signature: Vec::new(),
        sha256: None,
    }
}

pub(crate) fn verify(filename: &str) -> VerifyRequest {
    VerifyRequest { filename: filename.into(), verify_signature: true, check_compatibility: true }
}

pub(crate) fn deploy(filename: &str) -> DeployRequest {
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

/// Changes a bit of byte `at` of a staged file: in place and with its old time, so that only its bytes tell.
pub(crate) fn exchange(device: &TestDevice, name: &str, at: usize) -> PathBuf {
    let staged = device.layout.state().join("staging").join(name);
    let times = fs::metadata(&staged).unwrap().modified().unwrap();
    let mut bytes = fs::read(&staged).unwrap();
    bytes[at] ^= 1;
    let file = fs::OpenOptions::new().write(true).open(&staged).unwrap();
    std::io::Write::write_all(&mut &file, &bytes).unwrap();
    file.set_modified(times).unwrap();
    staged
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_exchanged_after_its_verification_is_never_switched_to() {
    let device = device(Offer::Small).await;
    let stored = device.client.upload(&upload(&device)).await.unwrap();
    let name = stored.file.name;
    assert!(device.client.verify(&verify(&name)).await.unwrap().ready_for_deployment);
    let staged = exchange(&device, &name, 4096);
    let bytes = fs::read(&staged).unwrap();
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_that_fails_its_trial_comes_back_and_goes_by_its_own_name() {
    let device = device(Offer::Unhealthy).await;
    let name = device.client.upload(&upload(&device)).await.unwrap().file.name;
    device.client.verify(&verify(&name)).await.unwrap();
    let started = device.client.deploy(&deploy(&name)).await.unwrap();
    let ended = device.ended(&started.deployment_id).await;
    assert_eq!((ended.status, &ended.job_id), (JobStatus::RolledBack, &started.job_id), "{ended:#?}");
    assert_eq!(ended.deployment_id.as_ref(), Some(&started.deployment_id));
    let why = ended.failure.unwrap();
    assert_eq!(why.reason.as_deref(), Some("health_check"), "{}", why.message);
    device.check_rests_on(Slot::A).await;
    assert_eq!(device.boots(), [Some(Slot::A), Some(Slot::B), Some(Slot::A)]);
    // It is its owner's, to be looked at or deployed again; this time somebody changes their mind.
    let held = DeployRequest { reboot_after: false, ..deploy(&name) };
    device.safety_is(true).await;
    let second = device.client.deploy(&held).await.unwrap().deployment_id;
    device.until(&second, |job| job.status == JobStatus::Rebooting).await;
    device.client.cancel(&second, Some("not today")).await.unwrap();
    let ended = device.ended(&second).await;
    assert_eq!((ended.status, ended.cancel_reason.as_deref()), (JobStatus::Cancelled, Some("not today")));
    device.check_rests_on(Slot::A).await;
}

/// A checksum file of `image` by coreutils, in a folder of its own.
fn list(device: &TestDevice, tool: &str, folder: &str) -> PathBuf {
    let image = &device.release.image;
    let dir = device.layout.dir().join(folder);
    fs::create_dir_all(&dir).unwrap();
    let line = format!(
        "cd {} && {tool} {}",
        image.parent().unwrap().display(),
        image.file_name().unwrap().display()
    );
    let path = dir.join("SUMS");
    fs::write(&path, process::read("sh", ["-ec", &line]).unwrap()).unwrap();
    path
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_goes_by_a_signed_checksum_file_and_by_none_that_is_unsigned_changed_or_of_other_bytes() {
    let device = device(Offer::Small).await;
    let environment = device.environment().bytes().unwrap();
    let signed = |list: &Path| publisher().sign(list, SignedBy::Us).unwrap();
    let edited = |folder: &str, change: fn(String) -> String| {
        let path = list(&device, "sha256sum", folder);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, change(text)).unwrap();
        path
    };
    let good = list(&device, "sha512sum", "good");
    let signature = signed(&good);
    let other_digest = edited("digest", |text| format!("{}{}", "0".repeat(64), &text[64..]));
    let other_name = edited("name", |text| text.replace("rootfs", "another"));
    let no_list = edited("text", |_| "hello\n".into());
    let longer = edited("longer", |text| format!("{text}{}  more\n", "0".repeat(64)));
    let old_signature = signed(&list(&device, "sha256sum", "old"));
    let by = |checksums: &Path, checksums_signature: Option<PathBuf>| UploadFile {
        signature: Vec::new(),
        checksums: Some(checksums.to_owned()),
        checksums_signature: checksums_signature.into_iter().collect(),
        ..upload(&device)
    };
    let both = UploadFile { signature: vec![device.release.signature()], ..by(&other_digest, None) };
    for (file, code) in [
        (by(&good, None), "OTA_006"),
        (by(&longer, old_signature), "OTA_006"),
        (by(&other_digest, signed(&other_digest)), "OTA_007"),
        (both, "OTA_007"),
        (by(&other_name, signed(&other_name)), "OTA_005"),
        (by(&no_list, signed(&no_list)), "OTA_005"),
    ] {
        let stored = device.client.upload(&file).await.unwrap();
        let refused = device.client.verify(&verify(&stored.file.name)).await.unwrap_err();
        assert_eq!(refused.api().unwrap().code, code, "{file:?}: {}", refused.chain());
    }
    assert_eq!(device.environment().bytes().unwrap(), environment);
    let stored = device.client.upload(&by(&good, signature)).await.unwrap();
    let verified = device.client.verify(&verify(&stored.file.name)).await.unwrap();
    assert!(verified.file.signature_valid && verified.ready_for_deployment);
    let started = device.client.deploy(&deploy(&stored.file.name)).await.unwrap();
    assert_eq!(device.ended(&started.job_id).await.status, JobStatus::Succeeded);
    device.check_rests_on(Slot::B).await;
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
