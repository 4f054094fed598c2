//! The daemon as a process: what it is started with, on what system, and what signals do to it.

use std::{ffi::OsString, fs, path::Path, time::Duration};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use ota_tests::process;
use reqwest::Certificate;
use serde_json::Value;
use tokio::{
    process::Child,
    time::{Instant, sleep},
};

use crate::{
    api::PREFIX,
    world::{Offer, PATIENCE, TestDevice, device, program, root},
};

/// The daemon of a device that is switched off, started by hand with another configuration.
struct Daemon {
    process: Child,
    log: std::path::PathBuf,
    url: String,
    token: String,
}

impl Daemon {
    /// `environment`: `NAME=value`; `change`: of the text of `gateway.toml`.
    async fn start(device: &TestDevice, environment: &[&str], change: impl Fn(&str) -> String) -> Self {
        device.machine.power_off().await;
        let layout = &device.layout;
        let read = |path| fs::read_to_string(path).unwrap();
        fs::write(layout.gateway_toml(), change(&read(layout.gateway_toml()))).unwrap();
        let log = layout.dir().join("daemon.log");
        let mut arguments: Vec<OsString> = environment.iter().map(Into::into).collect();
        arguments.extend([program().into(), "--config".into(), layout.gateway_toml().into(), "run".into()]);
        let arguments: Vec<_> = arguments.iter().map(OsString::as_os_str).collect();
        let process = process::start(Path::new("env"), &arguments, &fs::File::create(&log).unwrap()).unwrap();
        let (url, token) = (read(layout.url()), read(layout.admin_token()));
        Self { process, log, url: url.trim().to_owned(), token: token.trim().to_owned() }
    }

    /// Kills it, and waits for its end.
    async fn kill(mut self) {
        self.process.kill().await.unwrap();
    }

    fn hang_up(&self) {
        let pid = i32::try_from(self.process.id().unwrap()).unwrap();
        kill(Pid::from_raw(pid), Signal::SIGHUP).unwrap();
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    async fn get(&self, client: &reqwest::Client, path: &str) -> reqwest::Result<(u16, Value)> {
        let request = client.get(format!("{}{PREFIX}{path}", self.url)).bearer_auth(&self.token);
        let answer = request.send().await?;
        Ok((answer.status().as_u16(), answer.json().await.unwrap_or_default()))
    }

    /// Waits until `holds`.
    async fn until(&self, what: &str, holds: impl AsyncFn() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds().await {
            assert!(Instant::now() < deadline, "never: {what}\n{}", self.said());
            // tidy: waits for another process
            sleep(Duration::from_millis(20)).await;
        }
    }
}

/// A fresh certificate with its key where the daemon looks for them; a client that believes it and no other.
fn renew(certificate: &Path, key: &Path) -> impl Fn() -> reqwest::Client {
    let made = ota_http::self_signed(&["127.0.0.1".into()]).unwrap();
    fs::write(key, &made.key).unwrap();
    fs::write(certificate, &made.chain).unwrap();
    move || {
        let trusted = Certificate::from_pem(&made.chain).unwrap();
        reqwest::Client::builder().no_proxy().tls_certs_only([trusted]).build().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sighup_takes_up_a_renewed_certificate_and_keeps_it_when_the_next_one_cannot_be_used() {
    let device = device(Offer::Small).await;
    let (certificate, key) = (device.layout.dir().join("tls.pem"), device.layout.dir().join("tls.key"));
    let first = renew(&certificate, &key);
    let section = format!("[http]\ncertificate = {certificate:?}\nkey = {key:?}\n");
    let mut daemon = Daemon::start(&device, &[], |text| text.replace("[http]\n", &section)).await;
    daemon.url = daemon.url.replace("http://", "https://");
    let daemon = daemon;
    let old = first();
    daemon.until("it serves", async || daemon.get(&old, "/system/status").await.is_ok()).await;
    let second = renew(&certificate, &key);
    assert!(daemon.get(&second(), "/system/status").await.is_err(), "nobody has said anything yet");
    daemon.hang_up();
    daemon
        .until("the new one", async || {
            // Or it is closed for its silence.
            daemon.get(&old, "/system/status").await.unwrap();
            daemon.get(&second(), "/system/status").await.is_ok()
        })
        .await;
    assert!(daemon.get(&first(), "/system/status").await.is_err(), "the old one is shown no more");
    assert_eq!(daemon.get(&old, "/system/status").await.unwrap().0, 200, "what was connected stays so");
    let reloaded = async || {
        let (status, page) = daemon.get(&second(), "/audit?action=tls.reloaded").await.unwrap();
        assert_eq!(status, 200, "{page}");
        page.to_string().matches("\"tls.reloaded\"").count()
    };
    daemon.until("the record of it", async || reloaded().await == 1).await;
    fs::write(&certificate, "no certificate").unwrap();
    daemon.hang_up();
    daemon.until("the refusal", async || daemon.said().contains("the certificate was not reloaded")).await;
    assert_eq!(daemon.get(&second(), "/system/status").await.unwrap().0, 200);
    assert_eq!(reloaded().await, 1);
}

/// Where no certificate authority is found.
const NO_AUTHORITIES: [&str; 2] = ["SSL_CERT_FILE=/nowhere", "SSL_CERT_DIR=/nowhere"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_system_without_ca_certificates_is_warned_of_and_only_https_does_not_work() {
    let device = device(Offer::Small).await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let plain = Daemon::start(&device, &NO_AUTHORITIES, str::to_owned).await;
    plain.until("it serves", async || plain.get(&client, "/system/status").await.is_ok()).await;
    let (status, page) = plain.get(&client, "/updates/check").await.unwrap();
    assert_eq!((status, &page["available"]), (200, &true.into()), "{page}");
    assert!(plain.said().contains("this system has no CA certificates"), "{}", plain.said());
    plain.kill().await;
    let secure = |text: &str| text.replace("_url = \"http://", "_url = \"https://");
    let secure = Daemon::start(&device, &NO_AUTHORITIES, secure).await;
    secure.until("it serves", async || secure.get(&client, "/system/status").await.is_ok()).await;
    let (status, refused) = secure.get(&client, "/updates/check").await.unwrap();
    assert_eq!((status, &refused["code"]), (503, &"OTA_009".into()), "{refused}");
    assert_eq!(refused["details"]["reason"], "tls");
    let what = refused["details"]["what"].as_str().unwrap();
    assert!(what.contains("install ca-certificates, or name the CA of the server"), "{what}");
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn off_loopback_the_first_start_makes_a_certificate_that_later_ones_keep() {
    let device = device(Offer::Small).await;
    let (certificate, key) = (device.layout.state().join("tls.pem"), device.layout.state().join("tls.key"));
    let everywhere =
        |text: &str| text.replace("listen = \"127.0.0.1:", "hosts = [\"gw.example\"]\nlisten = \"0.0.0.0:");
    let mut shown = Vec::new();
    for start in [&everywhere as &dyn Fn(&str) -> String, &str::to_owned] {
        let mut daemon = Daemon::start(&device, &[], start).await;
        let port: u16 = daemon.url.rsplit(':').next().unwrap().parse().unwrap();
        daemon.url = format!("https://gw.example:{port}");
        let daemon = daemon;
        let believing = || {
            let pem = fs::read(&certificate).unwrap_or_default();
            let trusted = Certificate::from_pem(&pem).ok()?;
            let client = reqwest::Client::builder().no_proxy().tls_certs_only([trusted]);
            client.resolve("gw.example", ([127, 0, 0, 1], port).into()).build().ok()
        };
        daemon
            .until("it serves", async || match believing() {
                Some(client) => daemon.get(&client, "/system/status").await.is_ok(),
                None => false,
            })
            .await;
        shown.push(fs::read(&certificate).unwrap());
        daemon.kill().await;
    }
    assert_eq!(shown[0], shown[1]);
    assert_eq!((mode(&key), mode(&certificate)), (0o600, 0o600));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_start_shows_the_admin_token_on_the_console_once_and_never_in_a_log() {
    let device = device(Offer::Small).await;
    device.machine.power_off().await;
    let state = device.layout.state();
    fs::remove_dir_all(&state).unwrap();
    let gatewayd = program().display();
    let config = device.layout.gateway_toml();
    let said = device.layout.dir().join("console");
    // `script` gives the daemon a terminal, as the console of a device is one.
    let on_console = || async {
        // It ends with `script`.
        let line = format!("exec setpriv --pdeathsig KILL -- {gatewayd} --config {} run", config.display());
        let arguments = ["--quiet", "--flush", "--command", &line].map(OsString::from);
        let arguments: Vec<_> = arguments.iter().map(OsString::as_os_str).chain([said.as_os_str()]).collect();
        let _ = fs::remove_file(&said);
        let log = fs::File::create(device.layout.dir().join("script.log")).unwrap();
        let mut process = process::start(Path::new("script"), &arguments, &log).unwrap();
        let deadline = Instant::now() + PATIENCE;
        while !fs::read_to_string(&said).unwrap_or_default().contains("serving") {
            assert!(Instant::now() < deadline, "{:?}", fs::read_to_string(&said));
            // tidy: waits for another process
            sleep(Duration::from_millis(20)).await;
        }
        let console = fs::read_to_string(&said).unwrap();
        process.kill().await.unwrap();
        let lock = fs::File::open(state.join("daemon.lock")).unwrap();
        tokio::task::spawn_blocking(move || lock.lock()).await.unwrap().unwrap();
        console
    };
    let console = on_console().await;
    let token = fs::read_to_string(state.join("admin.token")).unwrap();
    assert_eq!(console.matches(token.trim()).count(), 1, "{console}");
    assert_eq!(mode(&state.join("admin.token")), 0o600);
    assert!(!on_console().await.contains(token.trim()), "once");
    // Without a terminal, as under systemd, it is not shown.
    fs::remove_dir_all(&state).unwrap();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let daemon = Daemon::start(&device, &[], str::to_owned).await;
    daemon.until("it serves", async || daemon.get(&client, "/healthz").await.is_ok()).await;
    let token = fs::read_to_string(state.join("admin.token")).unwrap();
    assert!(!daemon.said().contains(token.trim()), "{}", daemon.said());
}

#[test]
fn a_recorded_shift_and_a_heat_wave_are_replayed_with_the_commands_that_the_example_names() {
    let root = root();
    let example = fs::read_to_string(root.join("docs/safety/harbour-crane.toml")).unwrap();
    for (trace, tells) in [
        (
            "crane-shift.jsonl",
            ["crane_motion is violated", "reboot is held by crane_motion", "reboot may happen"],
        ),
        ("heat-wave.jsonl", ["cabinet_temperature is violated", "reboot is held by", "reboot may happen"]),
    ] {
        let mut named = example.lines().filter_map(|line| line.strip_prefix("#   ota-gatewayd "));
        let words = named.find(|words| words.ends_with(trace)).unwrap();
        let command = format!("cd '{}' && '{}' {words}", root.display(), program().display());
        let said = process::read("sh", ["-c", &command]).unwrap();
        let said = String::from_utf8(said).unwrap();
        assert!(said.lines().all(|line| line.starts_with("2026-")), "{said}");
        for told in tells {
            assert!(said.contains(told), "{told}: {said}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_in_json_is_one_object_to_a_line_with_time_level_target_and_fields() {
    let device = device(Offer::Small).await;
    let daemon =
        Daemon::start(&device, &[], |text| text.replace("format = \"human\"", "format = \"json\"")).await;
    daemon.until("it serves", async || daemon.said().contains("\"serving\"")).await;
    // The last line may still be written.
    let log = daemon.said();
    let lines: Vec<Value> = log[..=log.rfind('\n').unwrap()]
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    for line in &lines {
        let time = line["timestamp"].as_str().unwrap();
        assert!(time.starts_with("20") && time.contains('T') && time.ends_with('Z'), "{line}");
        assert!(["INFO", "WARN", "ERROR"].contains(&line["level"].as_str().unwrap()), "{line}");
        assert!(line["target"].is_string() && line["fields"]["message"].is_string(), "{line}");
    }
    let serving = lines.iter().find(|line| line["fields"]["message"] == "serving").unwrap();
    assert_eq!(serving["fields"]["address"], daemon.url.trim_start_matches("http://"), "{serving}");
}
