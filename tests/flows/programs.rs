//! The spec's own example programs, run as they stand: three in Python and two in JavaScript on each of its two pages, which
//! use one pair of base paths each. Only host and token are replaced.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use ota_api::words::JobStatus;
use ota_core::Slot;
use ota_tests::{config::Settings, release::UPDATE_ID};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::{Instant, sleep, timeout},
};

use crate::{
    api::{PREFIX, send},
    spec::{API, EXAMPLES, PAGES, Page},
    world::{Offer, PATIENCE, TestDevice, device, device_with, device_with_pin, root, settings},
};

/// The name and the label that the spec's upload uses.
const NAME: &str = "custom-v5.1.0.img";
const LABEL: &str = "v5.1.0-custom";
/// So slow that the download is watched at least once while it runs.
const SLOW: u32 = 10_000_000;
/// So slow that it still runs when a program has looked twice, five seconds apart.
const VERY_SLOW: u32 = 500_000;
/// The headings of the programs.
const UPDATE: &str = "Python - Complete Update Flow";
const UPLOAD: &str = "Python - Manual Image Upload";
const OVERRIDE: &str = "Python - Safety Override and Update";
const MONITOR: &str = "JavaScript - Real-time Monitoring";
const DASHBOARD: &str = "JavaScript - OTA Dashboard Control";

#[expect(clippy::disallowed_methods, reason = "cargo xtask test says where the programs and packages are")]
fn told(name: &str, otherwise: impl FnOnce() -> PathBuf) -> PathBuf {
    std::env::var(name).map_or_else(|_| otherwise(), PathBuf::from)
}

/// Writes a program with nothing changed but host and token.
fn write(device: &TestDevice, page: Page, heading: &str, before: &str, file: &Path) {
    let program = page.program(heading).code;
    let socket = format!("{}/", device.api.url.replace("http://", "ws://"));
    let text = format!("{before}{program}\n")
        .replace("https://api.example.com", &device.api.url)
        .replace("ws://localhost/", &socket)
        .replace("your_token", &device.api.token);
    fs::write(file, text).unwrap();
}

/// Runs a Python program to its end; what it printed.
async fn python(device: &TestDevice, page: Page, heading: &str, before: &str, folder: &Path) -> String {
    let script = folder.join("example.py");
    write(device, page, heading, before, &script);
    let interpreter = told("OTA_PYTHON", || "python3".into());
    #[expect(clippy::disallowed_methods, reason = "the example is a program of its own")]
    let output = Command::new(&interpreter).arg(&script).current_dir(folder).output().await.unwrap();
    let (said, complaint) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(
        !complaint.contains("ModuleNotFoundError"),
        "{} lacks a package (PyPI: requests); run `cargo xtask test`: {complaint}",
        interpreter.display()
    );
    assert!(output.status.success(), "{heading} of {}: {said}{complaint}", page.name);
    said.into_owned()
}

/// How often the daemon was asked under this path, by its own log.
fn asked(device: &TestDevice, path: &str) -> usize {
    fs::read_to_string(device.layout.gateway_log()).unwrap().matches(path).count()
}

/// That it was.
#[track_caller]
fn check_asked(device: &TestDevice, path: &str) {
    assert!(asked(device, path) > 0, "nobody asked for {path}\n{}", device.log_tail(40));
}

/// Where the Python programs of a page send their requests.
fn python_prefix(page: Page) -> &'static str {
    if page == API { "/v1/ota" } else { "/v1/cloud-integration" }
}

async fn check_update(page: Page) {
    let device = device(Offer::Good).await;
    device.server.slow_down(Some(VERY_SLOW));
    let folder = tempfile::tempdir().unwrap();
    let looks = format!("{}/updates/progress", python_prefix(page));
    let twice = async {
        let deadline = Instant::now() + PATIENCE;
        while asked(&device, &looks) < 2 && Instant::now() < deadline {
            // tidy: waits for another process
            sleep(Duration::from_millis(50)).await;
        }
        device.server.slow_down(None);
    };
    let (said, ()) = tokio::join!(python(&device, page, UPDATE, "", folder.path()), twice);
    let (mut lines, last) = (said.lines(), said.lines().next_back().unwrap());
    assert_eq!(lines.next(), Some("Gateway: iot-gateway-01"), "{said}");
    assert_eq!(lines.next(), Some("Active Partition: v5.0.4"), "{said}");
    let available = "Available update: v5.0.5 - Security patches and performance improvements";
    assert_eq!(lines.next(), Some(available), "{said}");
    let started = lines.next().unwrap().strip_prefix("Download started: ").unwrap();
    let progress: Vec<&str> = lines.filter_map(|line| line.strip_prefix("Progress: ")).collect();
    assert!(progress.len() > 1 && progress.last() == Some(&"100.0%"), "{said}");
    assert_eq!(last, "Update installation started. System will reboot.");
    let ended = device.ended(started).await;
    assert_eq!((ended.update_id.as_str(), ended.target_partition), (UPDATE_ID, Slot::B.into()));
    assert_eq!(ended.status, JobStatus::Succeeded, "{ended:#?}");
    device.check_rests_on(Slot::B).await;
    assert!(device.holds_the_image(Slot::B));
    check_asked(&device, &format!("{}/updates/install", python_prefix(page)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_update_programs_of_the_spec_bring_a_device_to_a_confirmed_boot() {
    tokio::join!(check_update(API), check_update(EXAMPLES));
}

async fn check_upload(page: Page) {
    let device = device(Offer::Small).await;
    let folder = tempfile::tempdir().unwrap();
    fs::copy(&device.release.image, folder.path().join(NAME)).unwrap();
    // The program sends no signature: it lies beside the image in staging already.
    let staging = device.layout.state().join("staging");
    fs::copy(device.release.signature(), staging.join(format!("{NAME}.p7s"))).unwrap();
    let said = python(&device, page, UPLOAD, "", folder.path()).await;
    assert!(said.starts_with(&format!("Image verified: {LABEL}\nDeployment started: DEP-")), "{said}");
    let deployment = said.trim().rsplit(' ').next().unwrap();
    let ended = device.ended(deployment).await;
    assert_eq!(ended.deployment_id.as_deref(), Some(deployment));
    assert_eq!(ended.status, JobStatus::Succeeded, "{ended:#?}");
    device.check_rests_on(Slot::B).await;
    assert!(device.holds_the_image(Slot::B));
    assert_eq!(fs::read_dir(staging).unwrap().count(), 0);
    check_asked(&device, &format!("{}/upload/deploy", python_prefix(page)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_upload_programs_of_the_spec_deploy_a_signed_image_to_a_confirmed_boot() {
    tokio::join!(check_upload(API), check_upload(EXAMPLES));
}

/// The programs read the `status` of a refusal, too: they say that it failed and end well.
async fn check_refused_upload(page: Page) {
    let device = device(Offer::Small).await;
    let folder = tempfile::tempdir().unwrap();
    fs::copy(&device.release.image, folder.path().join(NAME)).unwrap();
    let said = python(&device, page, UPLOAD, "", folder.path()).await;
    assert_eq!(said, "Verification failed: True\n");
    assert!(device.newest().await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_upload_programs_of_the_spec_say_so_when_nobody_signed_the_image() {
    tokio::join!(check_refused_upload(API), check_refused_upload(EXAMPLES));
}

/// What this program uses and does not define, in the lines of the first program of its page.
fn names_from_before(page: Page) -> String {
    let first = page.program(UPDATE).code;
    let wanted = ["import requests", "headers = "];
    let lines: Vec<&str> =
        first.lines().filter(|line| wanted.iter().any(|start| line.starts_with(start))).collect();
    assert_eq!(lines.len(), wanted.len());
    lines.join("\n") + "\n"
}

async fn check_override(page: Page) {
    let device = device_with_pin(Offer::Small, settings()).await;
    let folder = tempfile::tempdir().unwrap();
    let before = names_from_before(page);
    let run = || python(&device, page, OVERRIDE, &before, folder.path());
    assert_eq!(run().await, "System ready for updates\n");
    device.set_sensor("crane_motion", "moving").unwrap();
    device.safety_is(false).await;
    let said = run().await;
    assert_eq!(said, "Safety constraints blocking update\nSafety override enabled for 1800 seconds\n");
    let safety = device.client.safety().await.unwrap();
    let active = safety.active_override.unwrap();
    assert_eq!(active.constraints_overridden, ["crane_motion"]);
    assert_eq!(active.reason, "Emergency security update");
    // The crane still moves, and an update goes through.
    assert!(safety.update_allowed);
    assert_eq!(device.update().await.status, JobStatus::Succeeded);
    check_asked(&device, &format!("{}/safety/override", python_prefix(page)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_override_programs_of_the_spec_let_an_update_through() {
    tokio::join!(check_override(API), check_override(EXAMPLES));
}

async fn check_refused_override(page: Page) {
    let device = device(Offer::Small).await;
    let set = device.api.request(Method::PUT, &format!("{PREFIX}/auth/pin"));
    send(set.json(&json!({"new_pin": "48151623"}))).await.ok();
    device.set_sensor("crane_motion", "moving").unwrap();
    device.safety_is(false).await;
    let folder = tempfile::tempdir().unwrap();
    let said = python(&device, page, OVERRIDE, &names_from_before(page), folder.path()).await;
    assert_eq!(said, "Safety constraints blocking update\nSafety override failed\n");
    assert!(device.client.safety().await.unwrap().active_override.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_override_programs_of_the_spec_say_so_when_the_pin_is_another_one() {
    tokio::join!(check_refused_override(API), check_refused_override(EXAMPLES));
}

/// A JavaScript program in its page.
struct InPage {
    _process: Child,
    lines: Lines<BufReader<ChildStdout>>,
    said: Vec<Value>,
    folder: tempfile::TempDir,
}

impl InPage {
    fn open(device: &TestDevice, page: Page, heading: &str, kind: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("example.js");
        write(device, page, heading, "", &program);
        let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let modules = told("OTA_NODE_MODULES", || tmp.with_file_name("npm").join("node_modules"));
        assert!(
            modules.join("jsdom").is_dir(),
            "{} has no jsdom (npm: jsdom): run `cargo xtask test`",
            modules.display()
        );
        let node = told("OTA_NODE", || "node".into());
        #[expect(clippy::disallowed_methods, reason = "the example is a program of its own")]
        let mut command = Command::new(node);
        command.arg(root().join("tests/js/page.cjs")).arg(kind).arg(program);
        command.args([device.api.url.as_str(), javascript_prefix(page)]);
        command.env("NODE_PATH", modules).env("OTA_TOKEN", &device.api.token).kill_on_drop(true);
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("node does not start: apt-get install nodejs npm");
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { _process: process, lines, said: Vec::new(), folder }
    }

    /// The next line of the page; `None` at its end.
    async fn next(&mut self) -> Option<Value> {
        let line = timeout(PATIENCE, self.lines.next_line()).await;
        let line =
            line.unwrap_or_else(|_| panic!("the page says nothing more: {:#?}", self.said)).unwrap()?;
        let value: Value = serde_json::from_str(&line).unwrap();
        assert!(value.get("uncaught").is_none() && value.get("error").is_none(), "{line}");
        self.said.push(value.clone());
        Some(value)
    }

    async fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let Some(value) = self.next().await else { panic!("the page has ended: {:#?}", self.said) };
            if wanted(&value) {
                return value;
            }
        }
    }

    /// Everything it says until it ends.
    async fn rest(&mut self) {
        while self.next().await.is_some() {}
    }

    /// Arguments of the calls of what belongs to the page, in order.
    fn calls(&self, name: &str) -> Vec<Value> {
        self.said.iter().filter(|said| said["call"] == name).map(|said| said["args"].clone()).collect()
    }
}

/// Where the JavaScript programs of a page send their requests.
fn javascript_prefix(page: Page) -> &'static str {
    if page == API { "/api/v1/ota" } else { "/cloud-integration" }
}

async fn check_monitor(page: Page) {
    let device = device_with(Offer::Good, Settings { countdown_seconds: 10, ..settings() }).await;
    let mut view = InPage::open(&device, page, MONITOR, "monitor");
    view.until(|said| said["log"] == json!(["Connected to OTA WebSocket"])).await;
    let job = device.download().await;
    view.until(|said| said["call"] == "enableNextStep").await;
    device.install_with(&job, false).await.unwrap();
    device.until(&job, |job| job.waiting_for.as_ref().is_some_and(|w| w.reason == "reboot")).await;
    device.set_sensor("crane_motion", "moving").unwrap();
    view.until(|said| said["call"] == "showActionButtons").await;
    device.set_sensor("crane_motion", "stopped").unwrap();
    device.safety_is(true).await;
    device.install(&job).await.unwrap();
    // The reboot takes the WebSocket away.
    view.rest().await;
    assert_eq!(view.said.last().unwrap()["log"], json!(["WebSocket connection closed"]));
    assert_eq!(device.ended(&job).await.status, JobStatus::Succeeded);
    check_shown(&view);
    let socket = if page == API { "/ws" } else { "/ws/updates" };
    check_asked(&device, &format!("{}{socket}", javascript_prefix(page)));
}

/// What the person at the page saw.
fn check_shown(view: &InPage) {
    let pages: Vec<&Value> = view.said.iter().filter_map(|said| said.get("page")).collect();
    let shown = |field: &str, value: &str| pages.iter().any(|page| page[field] == value);
    assert!(shown("bar", "100%") && shown("text", "100.0%"), "{pages:#?}");
    // A small image is written faster than a page is told.
    let installing = shown("operation", "writing_partition") || shown("operation", "reading_back");
    assert!(shown("operation", "downloading") && installing, "{pages:#?}");
    let notified = |class: &str, text: &str| {
        let card = json!({"class": format!("notification {class}"), "text": text});
        pages.iter().any(|page| page["notifications"].as_array().unwrap().contains(&card))
    };
    assert!(notified("info", "Update download in progress"), "{pages:#?}");
    assert!(notified("info", "Update installation in progress"), "{pages:#?}");
    for eta in view.calls("updateETA") {
        let text = eta[0].as_str().unwrap();
        assert!(text.len() == 8 && text.matches(':').count() == 2, "{eta}");
    }
    for status in ["idle", "downloading", "updating"] {
        assert!(view.calls("updateSystemStatus").contains(&json!([status])), "{status}");
    }
    assert!(view.calls("showSafetyAlert").contains(&json!(["crane_motion", "Crane movement detected"])));
    let advice = json!(["Wait for crane to stop or use force override with PIN"]);
    assert_eq!(view.calls("showActionButtons"), [advice]);
    assert_eq!(view.calls("showCompletionMessage")[0], json!(["Update downloaded successfully", "success"]));
    assert_eq!(view.calls("startRebootCountdown"), [json!([10])]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_monitoring_programs_of_the_spec_show_a_whole_update() {
    tokio::join!(check_monitor(API), check_monitor(EXAMPLES));
}

async fn check_dashboard(page: Page) {
    let device = device(Offer::Good).await;
    device.server.slow_down(Some(SLOW));
    let mut view = InPage::open(&device, page, DASHBOARD, "dashboard");
    view.rest().await;
    let job = device.newest().await.unwrap().unwrap();
    assert_eq!(job.status, JobStatus::Downloaded, "{job:#?}");
    let id = json!([job.job_id]);
    let listed = &view.calls("renderUpdatesList")[0][0];
    assert_eq!((&listed[0]["id"], &listed[0]["version"]), (&json!(UPDATE_ID), &json!("v5.0.5")));
    for call in ["startProgressMonitoring", "enableInstallButton"] {
        assert_eq!(view.calls(call), std::slice::from_ref(&id), "{call}");
    }
    let progress = view.calls("updateProgressUI");
    let last = &progress.last().unwrap()[0];
    assert_eq!((&last["status"], &last["progress"]["percentage"]), (&json!("downloaded"), &json!(100)));
    assert!(view.calls("showError").is_empty());
    check_asked(&device, &format!("{}/updates/download", javascript_prefix(page)));
    assert!(view.folder.path().exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_dashboard_programs_of_the_spec_download_an_update() {
    tokio::join!(check_dashboard(API), check_dashboard(EXAMPLES));
}

#[test]
fn every_program_of_the_spec_is_run_here() {
    let run = [UPDATE, UPLOAD, OVERRIDE, MONITOR, DASHBOARD];
    for page in PAGES {
        let blocks = page.blocks().into_iter();
        let programs = blocks.filter(|block| ["python", "javascript"].contains(&block.language.as_str()));
        assert_eq!(programs.map(|block| block.heading).collect::<Vec<_>>(), run, "{}", page.name);
    }
}
