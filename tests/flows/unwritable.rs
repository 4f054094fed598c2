//! A daemon that starts on a state partition which takes no writes: it answers from what is recorded, changes nothing, and says
//! why. On an ext4 of its own.

use std::{
    fs,
    io::{ErrorKind, Write as _},
    path::Path,
    sync::{Arc, Mutex},
};

use ota_api::{audit::AuditQuery, jobs::JobsQuery, words::JobStatus};
use ota_core::Slot;
use ota_tests::Layout;

use crate::{
    partition::Partition,
    world::{Offer, TestDevice, device_prepared, folder, program, settings},
};

/// MiB of the file system of the state.
const STATE: u64 = 32;

/// A device with its state on a partition of its own, a downloaded update in its records, and its power off.
async fn device(name: &str) -> (TestDevice, String, Partition) {
    let mounted = Arc::new(Mutex::new(None));
    let (keep, file) = (Arc::clone(&mounted), folder("devices").join(name));
    let mount = move |layout: &Layout| {
        fs::create_dir_all(layout.state()).unwrap();
        let partition = Partition::make(&file, STATE, layout.state());
        partition.mount();
        *keep.lock().unwrap() = Some(partition);
    };
    let device = device_prepared(Offer::Small, settings(), mount).await;
    let job = device.download().await;
    let partition = mounted.lock().unwrap().take().unwrap();
    (device, job, partition)
}

async fn power_on(device: &mut TestDevice) {
    device.machine.power_on_again();
    device.ready().await.unwrap();
}

/// That the job, once safety allows it, is installed and runs.
async fn check_installs(device: &TestDevice, job: &str) {
    device.safety_is(true).await;
    device.install(job).await.unwrap();
    let ended = device.ended(job).await;
    assert_eq!(ended.status, JobStatus::Succeeded, "{ended:#?}");
    device.check_rests_on(Slot::B).await;
}

/// Why the gateway cannot install, by its status.
async fn degraded(device: &TestDevice) -> Vec<(String, String)> {
    let status = device.client.status().await.unwrap();
    status.degraded.into_iter().map(|why| (why.reason, why.message)).collect()
}

/// That everything can be read, nothing is taken, and `word` says in all places why.
async fn check_answers(device: &TestDevice, job: &str, status: JobStatus, word: &str) {
    let why = degraded(device).await;
    let [(reason, message)] = why.as_slice() else { panic!("{why:?}") };
    assert_eq!(reason, "store_read_only");
    assert!(message.contains(word) && message.contains("restart ota-gatewayd"), "{message}");
    let not_ready = device.client.ready().await.unwrap_err();
    assert_eq!(not_ready.api().expect("an answer").status, 503);
    assert_eq!(device.client.job(job).await.unwrap().status, status);
    assert_eq!(device.client.jobs(&JobsQuery::default()).await.unwrap().total, 1);
    let audit = device.client.audit(&AuditQuery::default()).await.unwrap();
    assert!(audit.records.iter().any(|record| record.action == "gateway.started"), "{audit:#?}");
    for refused in [device.install(job).await.err(), device.client.confirm(None).await.err()] {
        let refused = refused.expect("a refusal");
        let refused = refused.api().expect("an answer");
        assert_eq!((refused.status, refused.code.as_str()), (503, "UNAVAILABLE"), "{refused:#?}");
        assert_eq!(refused.details["reason"], "store_read_only");
        assert!(refused.message.contains(word), "{refused:#?}");
    }
    assert_eq!(device.client.job(job).await.unwrap().status, status);
    let log = fs::read_to_string(device.layout.gateway_log()).unwrap();
    assert_eq!(log.matches("the store takes no writes").count(), 1, "{log}");
    assert!(!log.contains("the job record could not be written"), "{log}");
}

/// That the gateway is as good as new, and its job is there.
async fn check_is_well(device: &TestDevice, job: &str) {
    let why = degraded(device).await;
    assert!(why.is_empty(), "{why:?}");
    device.client.ready().await.unwrap();
    assert!(device.client.audit_verify().await.unwrap().intact);
    assert_eq!(device.client.job(job).await.unwrap().job_id, job);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_read_only_state_the_gateway_shows_its_job_changes_nothing_and_goes_on_once_that_is_mended() {
    let (mut device, job, partition) = device("read-only.ext4").await;
    device.machine.power_off().await;
    partition.remount("ro");
    power_on(&mut device).await;
    check_answers(&device, &job, JobStatus::Downloaded, "read-only").await;
    // Nor does another daemon start beside it.
    let config = device.layout.gateway_toml();
    let arguments = ["--config".as_ref(), config.as_os_str(), "run".as_ref()];
    let second = ota_tests::process::outcome(&program().to_string_lossy(), arguments).unwrap();
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(!second.status.success() && said.contains("another ota-gatewayd works in"), "{said}");
    device.machine.power_off().await;
    partition.remount("rw");
    power_on(&mut device).await;
    check_is_well(&device, &job).await;
    check_installs(&device, &job).await;
    device.machine.power_off().await;
    partition.unmount();
    partition.check();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trial_whose_end_cannot_be_recorded_is_not_confirmed_and_is_judged_at_the_next_boot_that_can() {
    let (mut device, job, partition) = device("trial.ext4").await;
    device.safety_is(true).await;
    device.install_with(&job, false).await.unwrap();
    device.until(&job, |job| job.status == JobStatus::Rebooting).await;
    device.machine.power_off().await;
    partition.remount("ro");
    power_on(&mut device).await;
    let booted = device.environment().bytes().unwrap();
    let status = device.client.status().await.unwrap();
    assert_eq!(status.partitions.active.unwrap().name, Slot::B.into());
    // The requests in it come behind whatever the start has done.
    check_answers(&device, &job, JobStatus::Rebooting, "read-only").await;
    let variables = device.environment().variables().unwrap();
    assert!(variables.contains_key("ota_trial"), "{variables:?}");
    assert_eq!(device.environment().bytes().unwrap(), booted, "neither confirmed nor left");
    device.machine.power_off().await;
    partition.remount("rw");
    power_on(&mut device).await;
    let ended = device.ended(&job).await;
    assert_eq!(ended.status, JobStatus::Succeeded, "{ended:#?}");
    check_is_well(&device, &job).await;
    device.check_rests_on(Slot::B).await;
    device.machine.power_off().await;
    partition.unmount();
    partition.check();
}

/// Leaves no block free.
fn fill(path: &Path) {
    let mut file = fs::File::create(path).unwrap();
    // What was set aside for blocks that were not written yet comes free with the sync.
    for _ in 0..3 {
        let mut length = 1 << 20;
        while length > 0 {
            if let Err(error) = file.write_all(&vec![0xA5; length]) {
                assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
                length /= 2;
            }
        }
        file.sync_all().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_full_state_the_gateway_shows_its_job_changes_nothing_and_goes_on_once_there_is_room() {
    let (mut device, job, partition) = device("full.ext4").await;
    device.machine.power_off().await;
    // It is made anew at each start, and does not outlive an orderly end.
    let _ = fs::remove_file(device.layout.state().join("state.db-shm"));
    let filler = device.layout.state().join("filler");
    fill(&filler);
    power_on(&mut device).await;
    check_answers(&device, &job, JobStatus::Downloaded, "full").await;
    device.machine.power_off().await;
    fs::remove_file(&filler).unwrap();
    power_on(&mut device).await;
    check_is_well(&device, &job).await;
    check_installs(&device, &job).await;
    device.machine.power_off().await;
    partition.unmount();
    partition.check();
}
