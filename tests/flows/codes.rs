//! Every code of the contract's table, each raised by a real situation on a device: status, name, details, advice.

use std::{fs, path::Path};

use ota_api::words::JobStatus;
use ota_core::ErrorCode;
use ota_tests::{config::Settings, make::PIN};
use reqwest::{
    Method,
    multipart::{Form, Part},
};
use serde_json::{Value, json};

use crate::{
    api::{Answer, PREFIX, send},
    world::{Offer, TestDevice, device_with, device_with_pin, settings},
};

/// One row of the table: what the envelope tells beside code and status.
struct Row {
    code: ErrorCode,
    /// Facts that `details` must have.
    details: &'static [&'static str],
    suggested_actions: &'static [&'static str],
}

const fn row(
    code: ErrorCode,
    details: &'static [&'static str],
    suggested_actions: &'static [&'static str],
) -> Row {
    Row { code, details, suggested_actions }
}

const ROWS: [Row; 15] = [
    row(
        ErrorCode::UpdateInProgress,
        &["job_id"],
        &["Follow the active job with updates/progress", "Cancel the active job"],
    ),
    row(
        ErrorCode::UpdateBlocked,
        &["constraint", "status", "detected_at", "resolution", "estimated_wait"],
        &[
            "Wait for operations to complete",
            "Schedule update during maintenance window",
            "Use safety override with proper authorization",
        ],
    ),
    row(
        ErrorCode::InsufficientSpace,
        &["required", "available", "where"],
        &["Free up disk space", "Use an image that fits the partition"],
    ),
    row(
        ErrorCode::NetworkError,
        &["reason"],
        &["Check network connection", "Start the download again; it goes on where it stopped"],
    ),
    row(
        ErrorCode::InvalidImage,
        &["reason"],
        &["Check that the image was made for this model and is complete"],
    ),
    row(
        ErrorCode::SignatureInvalid,
        &["reason", "what"],
        &["Sign the image with a trusted key", "Check the gateway's keys and clock"],
    ),
    row(ErrorCode::ChecksumMismatch, &["expected", "actual"], &["Transfer the image again"]),
    row(
        ErrorCode::InvalidPartition,
        &["partition", "reason"],
        &["Leave target_partition out: the inactive partition is taken"],
    ),
    row(
        ErrorCode::ServerUnreachable,
        &["reason", "what"],
        &["Verify network settings", "Check that the update server is up"],
    ),
    row(
        ErrorCode::InvalidPin,
        &["attempts_left"],
        &[
            "Enter the PIN again",
            "Unlock or set it on the device: ota-gatewayd pin unlock, ota-gatewayd pin set",
        ],
    ),
    row(
        ErrorCode::FactoryResetNotAllowed,
        &["reason"],
        &["Send the confirmation sentence exactly", "Ask who sets this device's policy"],
    ),
    row(
        ErrorCode::RollbackNotAvailable,
        &["reason"],
        &["Look at the partitions in system/status", "Install the wanted version instead"],
    ),
    row(ErrorCode::JobNotFound, &["job_id", "ended"], &["List the jobs with updates/jobs"]),
    row(
        ErrorCode::SystemBusy,
        &["with"],
        &["Wait until the other operation has ended", "Install or cancel a job that waits"],
    ),
    row(ErrorCode::MaintenanceActive, &["window", "until"], &["Wait until the service window closes"]),
];

/// Room for one upload of the small image and not for two.
const QUOTA: &str = "[upload]\nquota_bytes = 1500000\n";
/// Somebody is always at the machine.
const SERVICE: &str = r#"
[[safety.windows]]
name = "inspection"
kind = "service"
zone = "UTC"
cron = "0 0 * * *"
duration = "168h"
"#;

/// What happened, by the code it should have.
type Happened = Vec<(ErrorCode, Answer)>;

/// A file as somebody uploads it.
struct Upload<'a> {
    name: &'static str,
    image: &'a Path,
    signature: Option<&'a Path>,
    sha256: Option<&'static str>,
}

async fn upload(device: &TestDevice, upload: Upload<'_>) -> Answer {
    let part = |path: &Path, name: String| Part::bytes(fs::read(path).unwrap()).file_name(name);
    let mut form = Form::new().text("version", "v5.1.0-custom");
    if let Some(sha256) = upload.sha256 {
        form = form.text("sha256", sha256);
    }
    if let Some(signature) = upload.signature {
        form = form.part("signature", part(signature, format!("{}.p7s", upload.name)));
    }
    form = form.part("file", part(upload.image, upload.name.into()));
    send(device.api.request(Method::POST, &format!("{PREFIX}/upload")).multipart(form)).await
}

fn download() -> Value {
    json!({"update_id": ota_tests::release::UPDATE_ID})
}

/// A device in use: jobs, safety, PIN.
async fn in_use() -> Happened {
    let device = device_with_pin(Offer::Small, settings()).await;
    let api = &device.api;
    let mut happened = Vec::new();
    let mut add = |code, answer| happened.push((code, answer));
    add(ErrorCode::InvalidPartition, {
        let running = json!({"update_id": "update_12345", "target_partition": "A"});
        api.post("/updates/download", &running).await
    });
    add(ErrorCode::JobNotFound, api.get("/updates/progress?job_id=OTA-JOB-00000").await);
    add(ErrorCode::RollbackNotAvailable, api.post("/updates/rollback", &json!({"pin": PIN})).await);
    add(ErrorCode::InvalidPin, api.post("/updates/rollback", &json!({"pin": "0001"})).await);
    add(ErrorCode::FactoryResetNotAllowed, {
        let yes = json!({"pin": PIN, "confirmation": "yes, erase all data"});
        api.post("/factory-reset", &yes).await
    });
    device.server.slow_down(Some(100_000));
    let job = api.post("/updates/download", &download()).await.ok()["job_id"].clone();
    let id = job.as_str().unwrap();
    let second = api.post("/updates/download", &download()).await;
    assert_eq!(second.body["details"]["job_id"], job);
    add(ErrorCode::UpdateInProgress, second);
    device.server.slow_down(None);
    device.until(id, |job| job.status == JobStatus::Downloaded).await;
    device.set_sensor("crane_motion", "moving").unwrap();
    device.safety_is(false).await;
    add(ErrorCode::UpdateBlocked, api.post("/updates/install", &json!({"job_id": job})).await);
    device.set_sensor("crane_motion", "stopped").unwrap();
    device.safety_is(true).await;
    device.install_with(id, false).await.unwrap();
    device.until(id, |job| job.status == JobStatus::Rebooting).await;
    add(ErrorCode::SystemBusy, api.post("/updates/download", &download()).await);
    happened
}

/// Images that people bring, and a server that is not there. What the image says it is, it is not.
async fn with_bad_images() -> Happened {
    let settings = Settings { more: QUOTA, ..settings() };
    let device = device_with(Offer::NoImage, settings).await;
    let (image, signature) = (device.release.image.as_path(), device.release.signature());
    let file = |name| Upload { name, image, signature: None, sha256: None };
    let verify = async |name: &str| device.api.post("/upload/verify", &json!({"filename": name})).await;
    let mut happened = Vec::new();
    let mut add = |code, answer| happened.push((code, answer));
    upload(&device, file("image.img")).await.ok();
    let unsigned = verify("image.img").await;
    assert_eq!(unsigned.body["details"]["reason"], "missing");
    add(ErrorCode::SignatureInvalid, unsigned);
    let full = upload(&device, file("another.img")).await;
    assert_eq!(full.body["details"]["where"], "uploads");
    add(ErrorCode::InsufficientSpace, full);
    let other = "0000000000000000000000000000000000000000000000000000000000000000";
    add(
        ErrorCode::ChecksumMismatch,
        upload(&device, Upload { sha256: Some(other), ..file("image.img") }).await,
    );
    let signed = Upload { signature: Some(&signature), ..file("image.img") };
    upload(&device, signed).await.ok();
    add(ErrorCode::InvalidImage, verify("image.img").await);
    device.server.stop();
    let gone = device.api.get("/updates/check").await;
    assert_eq!(gone.body["details"]["reason"], "connect");
    add(ErrorCode::ServerUnreachable, gone);
    happened
}

/// People at the machine, and a network that breaks off.
async fn in_service() -> Happened {
    let device = device_with(Offer::Small, Settings { more: SERVICE, ..settings() }).await;
    device.server.break_off(Some("metadata/"));
    let broken = device.api.get("/updates/check").await;
    device.server.break_off(None);
    let job = device.download().await;
    let refused = device.api.post("/updates/install", &json!({"job_id": job})).await;
    assert_eq!(refused.body["details"]["window"], "inspection", "{refused:#?}");
    vec![(ErrorCode::NetworkError, broken), (ErrorCode::MaintenanceActive, refused)]
}

/// Status and name of a code, as the contract's table has them.
fn contract(code: ErrorCode) -> (u16, &'static str) {
    let page = include_str!("../../docs/design/api-contract.md");
    let line = page.lines().find(|line| line.starts_with(&format!("| {code} |"))).unwrap();
    let cells: Vec<&str> = line.split('|').map(str::trim).collect();
    (cells[3].parse().unwrap(), cells[2])
}

fn check(row: &Row, answer: &Answer) {
    let (status, name) = contract(row.code);
    let body = &answer.body;
    assert_eq!(answer.status, status, "{}: {answer:#?}", row.code);
    assert_eq!(answer.content_type, "application/json", "{}", row.code);
    assert_eq!((&body["error"], &body["code"]), (&json!(true), &json!(row.code.to_string())), "{body:#}");
    assert_eq!((&body["name"], &body["status"]), (&json!(name), &json!("error")), "{body:#}");
    assert_eq!(body["suggested_actions"], json!(row.suggested_actions), "{}", row.code);
    for fact in row.details {
        assert!(body["details"].get(*fact).is_some(), "{} lacks details.{fact}: {body:#}", row.code);
    }
    let text = |field: &str| body[field].as_str().unwrap_or_else(|| panic!("{field}: {body:#}")).to_owned();
    assert!(!text("message").is_empty() && text("request_id").starts_with("req_"), "{body:#}");
    assert!(text("timestamp").len() == 20 && text("timestamp").ends_with('Z'), "{body:#}");
    println!("{} {status} {name:<25} {}", row.code, text("message"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_code_of_the_contract_is_raised_by_a_real_situation() {
    let (a, b, c) = tokio::join!(in_use(), with_bad_images(), in_service());
    let happened: Happened = a.into_iter().chain(b).chain(c).collect();
    assert_eq!(ROWS.each_ref().map(|row| row.code), ErrorCode::ALL);
    for row in &ROWS {
        let found = happened.iter().filter(|(code, _)| *code == row.code);
        let answers: Vec<&Answer> = found.map(|(_, answer)| answer).collect();
        assert_eq!(answers.len(), 1, "{}", row.code);
        check(row, answers[0]);
    }
}
