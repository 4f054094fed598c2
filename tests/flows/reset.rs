//! Factory reset: on a partition of its own, cut off after every durable step; and on a device without one.

use std::{ffi::OsStr, fs, time::Duration};

use ota_api::{
    audit::AuditQuery,
    auth::{CreateTokenRequest, SetPinRequest},
    snapshots::RestoreSnapshotRequest,
    updates::{FactoryResetRequest, FactoryResetResponse, RESET_CONFIRMATION},
};
use ota_client::{Client, ClientError, Options, Token};
use ota_core::ports::Role;
use ota_tests::{Layout, config::Settings, process};
use tokio::time::{Instant, sleep};

use crate::{
    partition::Partition,
    world::{Offer, PATIENCE, TestDevice, device, device_prepared, program, settings},
};

const PIN: &str = "4711";

/// A PIN, settings, a second token and a job: all that a reset has to do with.
async fn live_in(device: &TestDevice) -> (String, String) {
    let pin = SetPinRequest { new_pin: PIN.into(), pin: None };
    device.client.set_pin(&pin).await.unwrap();
    fs::write(device.layout.settings().join("plant.toml"), "speed = 3").unwrap();
    let request =
        CreateTokenRequest { name: "night-shift".into(), role: Role::Viewer.into(), expires_in: None };
    let token = device.client.create_token(&request).await.unwrap().token.expose().to_owned();
    let job = device.start_download().await.unwrap();
    device.until(&job, |job| job.status == ota_api::words::JobStatus::Downloaded).await;
    let busy = ask_reset(device, PIN, RESET_CONFIRMATION).await.unwrap_err();
    assert_eq!(busy.api().unwrap().code, "OTA_014");
    device.client.cancel(&job, None).await.unwrap();
    device.ended(&job).await;
    (job, token)
}

async fn ask_reset(
    device: &TestDevice,
    pin: &str,
    confirmation: &str,
) -> Result<FactoryResetResponse, ClientError> {
    let request = FactoryResetRequest {
        pin: Some(pin.into()),
        backup_settings: true,
        confirmation: confirmation.into(),
    };
    device.client.factory_reset(&request).await
}

fn client(device: &TestDevice, token: &str) -> Client {
    let url = fs::read_to_string(device.layout.url()).unwrap();
    let mut options = Options::new(url.trim().parse().unwrap());
    options.token = Some(Token::parse(token).unwrap());
    Client::new(options).unwrap()
}

/// A client with the token that the first start after the reset made.
async fn first_admin(device: &TestDevice) -> Client {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Ok(token) = fs::read_to_string(device.layout.state().join("admin.token"))
            && token.ends_with('\n')
        {
            let admin = client(device, &token);
            if admin.status().await.is_ok() {
                return admin;
            }
        }
        assert!(Instant::now() < deadline, "no admin after the reset\n{}", device.log_tail(40));
        // tidy: waits for another process
        sleep(Duration::from_millis(20)).await;
    }
}

/// A fresh state that still says who erased the old one; the backup brings the settings back.
async fn check_fresh(device: &TestDevice, admin: &Client, viewer: &str, backup: &str) {
    let old = fs::read_to_string(device.layout.admin_token()).unwrap();
    for token in [old.as_str(), viewer] {
        let refused = client(device, token).status().await.unwrap_err();
        assert_eq!(refused.api().unwrap().code, "UNAUTHORIZED");
    }
    let log = admin.audit(&AuditQuery::default()).await.unwrap();
    let first = log.records.iter().min_by_key(|record| record.seq).unwrap();
    assert_eq!((first.seq, first.action.as_str(), first.actor.as_str()), (1, "factory-reset", "admin"));
    let reason = first.reason.as_deref().unwrap();
    assert!(reason.contains("ended with record") && reason.contains(backup), "{reason}");
    assert!(first.request_id.as_ref().is_some_and(|id| id.starts_with("req_")));
    assert!(admin.audit_verify().await.unwrap().intact);
    assert!(!device.layout.keep().join("factory-reset.json").exists());
    // No PIN: none is right, not even the old one.
    let request = FactoryResetRequest {
        pin: Some(PIN.into()),
        backup_settings: false,
        confirmation: RESET_CONFIRMATION.into(),
    };
    let refused = admin.factory_reset(&request).await.unwrap_err();
    assert_eq!(refused.api().unwrap().code, "OTA_010");
    // What a reset must not set back.
    assert!(admin.jobs(&Default::default()).await.unwrap().jobs.is_empty());
    let status = admin.status().await.unwrap();
    assert_eq!(status.partitions.active.unwrap().version.as_deref(), Some("v5.0.4"));
    let listed = admin.snapshots().await.unwrap().snapshots;
    assert_eq!(listed.iter().map(|snapshot| snapshot.id.as_str()).collect::<Vec<_>>(), [backup]);
    let plant = device.layout.settings().join("plant.toml");
    let _ = fs::remove_file(&plant);
    admin.restore_snapshot(backup, &RestoreSnapshotRequest::default()).await.unwrap();
    assert_eq!(fs::read_to_string(&plant).unwrap(), "speed = 3");
}

/// One early boot, which a power cut ends after so many durable steps.
fn early_boot(device: &TestDevice, cut_after: Option<u32>) -> std::process::Output {
    let config = device.layout.gateway_toml();
    let cut = cut_after.map(|steps| steps.to_string());
    let mut args: Vec<&OsStr> =
        vec!["--config".as_ref(), config.as_ref(), "factory-reset".as_ref(), "--apply".as_ref()];
    if let Some(steps) = &cut {
        args.extend([OsStr::new("--cut-after"), OsStr::new(steps)]);
    }
    process::outcome(&program().to_string_lossy(), args).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_of_the_data_partition_survives_a_cut_after_every_step() {
    let (tell, told) = std::sync::mpsc::channel();
    let image = tempfile::NamedTempFile::new().unwrap();
    let file = image.path().to_owned();
    let mut on = Settings { reboot_for_reset: false, ..settings() };
    // Which loop device it becomes is known only once it is made; the configuration names a link to it.
    let link = file.with_extension("partition");
    on.data_partition = Some(link.clone());
    let named = link.clone();
    let mut device = device_prepared(Offer::Small, on, move |layout: &Layout| {
        let data = Partition::make(&file, 64, layout.state());
        data.mount();
        std::os::unix::fs::symlink(&data.device, named).unwrap();
        tell.send(data).unwrap();
    })
    .await;
    let data = told.recv().unwrap();
    let name = data.name();
    let (_, viewer) = live_in(&device).await;
    let refused = ask_reset(&device, PIN, "yes").await.unwrap_err();
    assert_eq!(refused.api().unwrap().code, "OTA_011");
    let answer = ask_reset(&device, PIN, RESET_CONFIRMATION).await.unwrap();
    assert_eq!((answer.status.as_str(), answer.reboot_required), ("reset_scheduled", true));
    // It is durable: a daemon that is killed right after the answer knows of it.
    device.machine.kill_daemon().await;
    device.ready().await.unwrap();
    let busy = device.start_download().await.unwrap_err();
    assert_eq!(busy.api().unwrap().code, "OTA_014");
    // While it is mounted, nothing is erased.
    assert!(!early_boot(&device, None).status.success());
    device.machine.power_off().await;
    data.unmount();
    for (boot, steps) in [1, 1, 2, 2, 3].into_iter().enumerate() {
        let output = early_boot(&device, Some(steps));
        assert!(!output.status.success(), "boot {boot} was to be cut off: {output:?}");
        if boot == 1 {
            // As a cut in the middle of mkfs leaves it.
            let torn = fs::OpenOptions::new().write(true).open(&data.device).unwrap();
            std::io::copy(&mut std::io::Read::take(std::io::repeat(0), 256 << 10), &mut &torn).unwrap();
            torn.sync_all().unwrap();
        }
    }
    let done = early_boot(&device, None);
    assert!(
        done.status.success() && String::from_utf8_lossy(&done.stdout).contains("factory state"),
        "{done:?}"
    );
    data.check();
    assert_eq!(data.name(), name);
    data.mount();
    let left: Vec<_> =
        fs::read_dir(device.layout.state()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["lost+found"]);
    device.machine.power_on_again();
    let admin = first_admin(&device).await;
    check_fresh(&device, &admin, &viewer, answer.backup.as_deref().unwrap()).await;
    device.machine.power_off().await;
    data.unmount();
    data.check();
    let _ = fs::remove_file(link);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_without_a_data_partition_is_reset_by_its_own_reboot() {
    let device = device(Offer::Small).await;
    let (job, viewer) = live_in(&device).await;
    let answer = ask_reset(&device, PIN, RESET_CONFIRMATION).await.unwrap();
    device.booted(2).await;
    let admin = first_admin(&device).await;
    // It can be switched on, although nobody knows the token in its folder any more.
    device.ready().await.unwrap();
    check_fresh(&device, &admin, &viewer, answer.backup.as_deref().unwrap()).await;
    // A job's number is not given twice in the life of a device.
    admin.check().await.unwrap();
    let request = ota_api::updates::DownloadRequest {
        update_id: ota_tests::release::UPDATE_ID.into(),
        version: None,
        target_partition: None,
        priority: None,
        verify_signature: true,
    };
    assert_ne!(admin.download(&request).await.unwrap().job_id, job);
}
