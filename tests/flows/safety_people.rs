//! What people do with safety over the API of the real daemon: look, ask, hold back, override together, schedule.

use std::{fs, time::Duration};

use ota_api::{
    auth::CreateTokenRequest,
    explain::{ExplainRequest, Forecast, StepOutcome},
    inhibitors::InhibitRequest,
    safety::OverrideRequest,
    updates::InstallRequest,
    words::{JobStatus, Role, Step, Strategy, WindowKind},
};
use ota_client::{BaseUrl, Client, ClientError, Options, Token};
use ota_core::{ErrorCode, Slot};
use ota_testkit::peers::Peer;
use ota_tests::{config::Settings, make::PIN};
use tokio::time::{Instant, sleep};

use crate::{
    api::PREFIX,
    safety::{
        has_begun_to_write, held_by_the_crane, hold_the_switch, leave_it_to_the_crane, refusals, verified,
    },
    world::{Offer, PATIENCE, TestDevice, binary, device, device_with, device_with_pin, settings},
};

async fn somebody(device: &TestDevice, name: &str, role: Role) -> Client {
    let request = CreateTokenRequest { name: name.into(), role, expires_in: None };
    let created = device.client.create_token(&request).await.unwrap();
    let url: BaseUrl = fs::read_to_string(device.layout.url()).unwrap().trim().parse().unwrap();
    let mut options = Options::new(url);
    options.token = Some(Token::parse(created.token.expose()).unwrap());
    Client::new(options).unwrap()
}

fn code(error: &ClientError) -> Option<ErrorCode> {
    error.api().and_then(ota_client::ApiError::ota_code)
}

fn lease(reason: &str, scope: &[Step], ttl: u64) -> InhibitRequest {
    InhibitRequest {
        reason: Some(reason.into()),
        scope: Some(scope.to_vec()),
        ttl,
        ..InhibitRequest::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_holds_an_install_back_until_it_is_given_back_or_its_holder_dies() {
    let device = device(Offer::Small).await;
    let (anna, ben) =
        (somebody(&device, "anna", Role::Operator).await, somebody(&device, "ben", Role::Operator).await);
    let job = device.download().await;
    let taken = anna.inhibit(&lease("calibration", &[Step::Write, Step::Reboot], 600)).await.unwrap();
    assert_eq!((taken.owner.as_str(), taken.holder.as_str()), ("anna", "anna"));
    let listed = async || ben.inhibitors().await.unwrap().inhibitors;
    // A lease tells the seconds that are left of it: all three have to be of the same one.
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        assert!(Instant::now() < deadline, "the lease never tells the same twice");
        let before = listed().await;
        let status = device.client.safety().await.unwrap();
        if listed().await == before {
            assert_eq!(status.inhibitors, before);
            break status;
        }
    };
    assert!(!status.update_allowed);
    assert_eq!(status.inhibitors[0].reason, "calibration");
    let refused = device.install(&job).await.unwrap_err();
    assert_eq!(code(&refused), Some(ErrorCode::UpdateBlocked));
    assert_eq!(refused.api().unwrap().detail("constraint"), Some("inhibitor_1"));
    // Somebody else's is an admin's business.
    let foreign = ben.release_inhibitor(taken.id).await.unwrap_err();
    assert_eq!(foreign.api().unwrap().status, 403);
    let renewal = InhibitRequest { id: Some(taken.id), ttl: 900, ..InhibitRequest::default() };
    assert!(anna.inhibit(&renewal).await.unwrap().remaining_seconds > 800);
    anna.release_inhibitor(taken.id).await.unwrap();
    assert_eq!(anna.release_inhibitor(taken.id).await.unwrap_err().api().unwrap().status, 404);
    // A holder that dies: nobody renews any more.
    let taken = anna.inhibit(&lease("backup", &[Step::Switch], 600)).await.unwrap();
    device.install(&job).await.unwrap();
    let name = format!("inhibitor_{}", taken.id);
    let held = |job: &ota_api::jobs::JobInfo| {
        job.waiting_for.as_ref().is_some_and(|w| w.constraints.iter().any(|c| c.constraint == name))
    };
    device.until(&job, held).await;
    let last = InhibitRequest { id: Some(taken.id), ttl: 2, ..InhibitRequest::default() };
    anna.inhibit(&last).await.unwrap();
    assert_eq!(device.ended(&job).await.status, JobStatus::Succeeded);
    device.check_rests_on(Slot::B).await;
    let too_long = device.client.inhibit(&lease("x", &[Step::Switch], 100_000)).await.unwrap_err();
    assert_eq!(too_long.api().unwrap().detail("path"), Some("$.ttl"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_holds_updates_back_while_it_runs_and_when_its_holder_dies_they_go_on() {
    let device = device(Offer::Small).await;
    let url = fs::read_to_string(device.layout.url()).unwrap();
    let token = device.layout.admin_token();
    let inhibit = |command: &[&str]| {
        let connection = ["--url", url.trim(), "--token-file", token.to_str().unwrap()];
        let words = ["inhibit", "--ttl", "9", "--scope", "reboot", "--reason", "calibration", "--"];
        let arguments: Vec<&str> =
            connection.into_iter().chain(words).chain(command.iter().copied()).collect();
        Peer::start(binary("ota-admin").to_str().unwrap(), "ota-admin", &arguments)
    };
    let listed = async || device.client.inhibitors().await.unwrap().inhibitors;
    let until_listed = async |count: usize| {
        let deadline = Instant::now() + PATIENCE;
        while listed().await.len() != count {
            assert!(Instant::now() < deadline, "{:?}", listed().await);
            // tidy: waits for another process
            sleep(Duration::from_millis(20)).await;
        }
    };
    // `cat` runs until its standard input ends; what it says is the command's.
    let mut holder = inhibit(&["cat"]);
    until_listed(1).await;
    assert_eq!(listed().await[0].reason, "calibration");
    // Longer than its time to live: it is renewed.
    for _ in 0..10 {
        // tidy: waits for another process
        sleep(Duration::from_secs(1)).await;
        assert_eq!(listed().await.len(), 1);
    }
    holder.say("still there");
    assert_eq!(holder.hear(), "still there\n");
    tokio::task::spawn_blocking(move || holder.wait()).await.unwrap();
    assert!(listed().await.is_empty(), "given back at the command's end");
    // Who ends the holder ends the command, which may take its time, and updates are held back until it has ended.
    for signal in ["TERM", "HUP"] {
        let script = format!(
            "trap 'echo ending; read line; exit 0' {signal}; kill -{signal} $PPID; while :; do sleep 0.05; done"
        );
        let mut holder = inhibit(&["sh", "-c", &script]);
        assert_eq!(holder.hear(), "ending\n", "{signal}");
        assert_eq!(listed().await.len(), 1, "{signal}");
        tokio::task::spawn_blocking(move || holder.wait()).await.unwrap();
        assert!(listed().await.is_empty(), "{signal}");
    }
    let mut holder = inhibit(&["cat"]);
    until_listed(1).await;
    let job = device.download().await;
    device.install(&job).await.unwrap();
    let held = |job: &ota_api::jobs::JobInfo| job.waiting_for.as_ref().is_some_and(|w| w.reason == "safety");
    device.until(&job, held).await;
    holder.kill();
    assert_eq!(device.ended(&job).await.status, JobStatus::Succeeded);
    device.check_rests_on(Slot::B).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_an_override_is_told_on_the_websocket_and_its_reason_is_kept() {
    let device = device_with_pin(Offer::Small, settings()).await;
    let mut messages = device.api.listen(&format!("{PREFIX}/ws")).await;
    device.set_sensor("crane_motion", "moving").unwrap();
    device.safety_is(false).await;
    let enable = |duration: u64| OverrideRequest {
        enable: true,
        pin: Some(PIN.into()),
        reason: Some("the storm comes".into()),
        duration: Some(duration),
        acknowledge_risks: true,
    };
    device.client.safety_override(&enable(15)).await.unwrap();
    device.safety_is(true).await;
    messages.first(|m| m["event"] == "override_enabled").await;
    messages.first(|m| m["event"] == "override_expired").await;
    device.safety_is(false).await;
    // Ended by hand, while the PIN is locked: there is nothing to prove for that.
    device.client.safety_override(&enable(600)).await.unwrap();
    device.safety_is(true).await;
    let wrong = || OverrideRequest { pin: Some("0815".into()), ..enable(600) };
    while device.client.safety_override(&wrong()).await.unwrap_err().api().unwrap().status != 429 {}
    let off =
        OverrideRequest { enable: false, pin: None, reason: None, duration: None, acknowledge_risks: false };
    device.client.safety_override(&off).await.unwrap();
    messages.first(|m| m["event"] == "override_disabled").await;
    device.safety_is(false).await;
    let audit = device.api.get("/audit?action=safety.override").await.ok().to_string();
    assert!(audit.contains("the storm comes (15 s)"), "{audit}");
    // It is told before it is written down.
    let deadline = Instant::now() + PATIENCE;
    let expired = loop {
        let expired = device.api.get("/audit?action=safety.override.expired").await.ok().to_string();
        if expired.contains("the storm comes") {
            break expired;
        }
        assert!(Instant::now() < deadline, "{expired}");
        // tidy: waits for another process
        sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(expired.matches("the storm comes").count(), 1, "{expired}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_admins_must_agree_to_an_override_where_the_configuration_says_so() {
    let safety = "two_person_override = true".to_owned();
    let device = device_with_pin(Offer::Small, Settings { safety, ..settings() }).await;
    let second = somebody(&device, "second", Role::Admin).await;
    let request = |reason: &str| OverrideRequest {
        enable: true,
        pin: Some(PIN.into()),
        reason: Some(reason.into()),
        duration: Some(600),
        acknowledge_risks: true,
    };
    device.set_sensor("crane_motion", "moving").unwrap();
    device.safety_is(false).await;
    for _ in 0..2 {
        let proposed = device.client.safety_override(&request("urgent")).await.unwrap();
        assert_eq!(proposed.status, "override_proposed");
        let status = device.client.safety().await.unwrap();
        assert!(!status.update_allowed, "one alone overrides nothing");
        let open = status.proposed_override.unwrap();
        assert_eq!((open.by.as_str(), open.reason.as_str(), open.duration), ("admin", "urgent", 600));
    }
    let agreed = second.safety_override(&request("seen it")).await.unwrap();
    assert_eq!(
        (agreed.status.as_str(), agreed.constraints_overridden),
        ("override_enabled", vec!["crane_motion".to_owned()])
    );
    let status = device.client.safety().await.unwrap();
    assert!(status.update_allowed);
    assert_eq!(status.active_override.unwrap().reason, "urgent (admin), seen it (second)");
    // It lives in memory only: a restart of the daemon ends it.
    device.machine.kill_daemon().await;
    device.ready().await.unwrap();
    device.safety_is(false).await;
    assert!(device.client.safety().await.unwrap().active_override.is_none());
}

/// Weekly windows around the present moment, which is tested against the wall clock of the machine.
fn windows(kind: &str) -> String {
    format!(
        "[[safety.windows]]\nname = \"{kind}-window\"\nkind = \"{kind}\"\nzone = \"UTC\"\n\
         cron = \"0 0 * * *\"\nduration = \"25h\"\n"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_at_the_machine_mean_ota_015_for_everything_that_writes_or_reboots() {
    let device = device_with_pin(Offer::Small, Settings { safety: windows("service"), ..settings() }).await;
    for (what, error) in refusals(&device, &verified(&device).await).await {
        let api = error.api().expect("a refusal");
        assert_eq!((api.ota_code(), api.status), (Some(ErrorCode::MaintenanceActive), 409), "{what}");
    }
    let job = device.download().await;
    let refused = device.install(&job).await.unwrap_err();
    let api = refused.api().unwrap();
    assert_eq!((api.ota_code(), api.status), (Some(ErrorCode::MaintenanceActive), 409));
    assert_eq!(api.detail("window"), Some("service-window"));
    let explained = device.client.explain(&ExplainRequest::default()).await.unwrap();
    assert_eq!((explained.forecast, explained.steps[0].outcome), (Forecast::Refuse, StepOutcome::Deny));
    assert_eq!(explained.steps[0].step, Step::Write);
    let status = device.client.safety().await.unwrap();
    assert_eq!(
        (status.update_allowed, status.service_window.unwrap().name.as_str()),
        (false, "service-window")
    );
    let openings = device.client.windows(Some(3)).await.unwrap();
    assert_eq!(openings.windows.len(), 3);
    assert!(openings.clock_trusted && openings.windows.iter().all(|w| w.kind == WindowKind::Service));
    assert_eq!(device.boots(), [Some(Slot::A)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_tells_of_the_monthly_update_window_behind_all_the_service_windows_before_it() {
    let safety = "[[safety.windows]]\nname = \"rounds\"\nkind = \"service\"\nzone = \"UTC\"\n\
                  cron = \"*/5 * * * *\"\nduration = \"1m\"\n\
                  [[safety.windows]]\nname = \"monthly\"\nkind = \"update\"\nzone = \"UTC\"\n\
                  cron = \"0 2 14 * *\"\nduration = \"2h\"\n";
    let device = device_with(Offer::Small, Settings { safety: safety.to_owned(), ..settings() }).await;
    let strategy = Some(Strategy::MaintenanceWindow);
    let explained = device.client.explain(&ExplainRequest { strategy, job_id: None }).await.unwrap();
    let next = explained.window.next.expect("the next update window");
    assert_eq!(
        (next.name.as_str(), next.kind, explained.window.needed),
        ("monthly", WindowKind::Update, true)
    );
    let told = format!("{} {:?}", explained.message, explained.suggested_actions);
    assert!(!told.contains("No update window") && !told.contains("Configure an update window"), "{told}");
    let status = device.client.safety().await.unwrap();
    assert_eq!(status.maintenance_window.next_window, Some(next.opens_at));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scheduled_install_starts_by_itself_in_its_window_and_is_held_not_lost_when_blocked() {
    let device = device_with(Offer::Small, Settings { safety: windows("update"), ..settings() }).await;
    let job = device.download().await;
    device.set_sensor("crane_motion", "moving").unwrap();
    device.safety_is(false).await;
    let request = InstallRequest {
        job_id: job.clone(),
        strategy: Some(Strategy::MaintenanceWindow),
        reboot_after: true,
        rollback_on_failure: true,
        pin: None,
    };
    assert_eq!(device.client.install(&request).await.unwrap().status, "scheduled");
    let explained = device.client.explain(&ExplainRequest::default()).await.unwrap();
    assert_eq!(
        (explained.forecast, explained.window.needed, explained.window.fits),
        (Forecast::Wait, true, true)
    );
    assert!(
        explained
            .suggested_actions
            .contains(&"Wait for crane to stop or use force override with PIN".to_owned())
    );
    assert_eq!(device.client.job(&job).await.unwrap().status, JobStatus::Scheduled);
    device.set_sensor("crane_motion", "stopped").unwrap();
    assert_eq!(device.ended(&job).await.status, JobStatus::Succeeded);
    device.check_rests_on(Slot::B).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_speed_limit_brakes_a_running_download_and_stays_over_a_restart() {
    let device = device_with(Offer::Good, Settings { bytes_per_second: Some(256 << 10), ..settings() }).await;
    assert_eq!(device.client.bandwidth().await.unwrap().bytes_per_second, Some(256 << 10));
    device.client.check().await.unwrap();
    let job = device.start_download().await.unwrap();
    let moves = |job: &ota_api::jobs::JobInfo| job.status == JobStatus::Downloading;
    device.until(&job, moves).await;
    let too_slow = device.client.set_bandwidth(Some(10)).await.unwrap_err();
    assert_eq!(too_slow.api().unwrap().detail("path"), Some("$.bytes_per_second"));
    // 20 MiB at 256 KiB/s would take more than a minute.
    device.client.set_bandwidth(None).await.unwrap();
    device.until(&job, |job| job.status == JobStatus::Downloaded).await;
    device.client.set_bandwidth(Some(2_000_000)).await.unwrap();
    device.machine.kill_daemon().await;
    device.ready().await.unwrap();
    assert_eq!(device.client.bandwidth().await.unwrap().bytes_per_second, Some(2_000_000));
}

/// Every field that the spec shows of `safety/status` and of the refusal, with its form.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_and_refusal_have_every_field_of_the_spec() {
    let device = device_with(Offer::Small, Settings { safety: windows("update"), ..settings() }).await;
    let job = device.download().await;
    // A first stop, so that history tells how long the next one may last.
    for (state, lasts) in [("moving", 3), ("stopped", 0), ("moving", 0)] {
        device.set_sensor("crane_motion", state).unwrap();
        device.safety_is(state == "stopped").await;
        // tidy: waits for as long as a crane moves, longer than what is asked below takes
        sleep(Duration::from_secs(lasts)).await;
    }
    let status = serde_json::to_value(device.client.safety().await.unwrap()).unwrap();
    assert_eq!(status["update_allowed"], false);
    let crane = &status["constraints"][0];
    assert_eq!(
        (&crane["name"], &crane["status"], &crane["message"]),
        (&"crane_motion".into(), &"violated".into(), &"Crane movement detected".into())
    );
    assert!(is_time(&crane["since"]), "{crane}");
    let temperature = &status["constraints"][1];
    assert_eq!(
        (&temperature["name"], &temperature["status"], &temperature["message"]),
        (&"high_temperature".into(), &"ok".into(), &"Temperature within limits".into())
    );
    assert_eq!(status["maintenance_window"]["active"], true);
    assert!(is_time(&status["maintenance_window"]["next_window"]), "{status}");
    let mut refused = device.install(&job).await.unwrap_err();
    for _ in 0..5 {
        if !refused.api().unwrap().details["estimated_wait"].is_null() {
            break;
        }
        // On a machine that stands still this stop lasts longer than the one before, of which history tells nothing then.
        for state in ["stopped", "moving"] {
            device.set_sensor("crane_motion", state).unwrap();
            device.safety_is(state == "stopped").await;
        }
        refused = device.install(&job).await.unwrap_err();
    }
    let api = refused.api().unwrap();
    assert_eq!((api.code.as_str(), api.name.as_str(), api.status), ("OTA_002", "UPDATE_BLOCKED", 400));
    assert_eq!(api.message, "Update blocked by safety constraints");
    let details = &api.details;
    assert_eq!((&details["constraint"], &details["status"]), (&"crane_motion".into(), &"moving".into()));
    assert_eq!(details["resolution"], "Wait for crane to stop or use force override with PIN");
    assert!(is_time(&details["detected_at"]), "{details}");
    let wait = details["estimated_wait"].as_str().unwrap();
    assert!(wait.len() == 8 && wait.as_bytes()[2] == b':' && wait.as_bytes()[5] == b':', "{details}");
    assert_eq!(
        api.suggested_actions,
        [
            "Wait for operations to complete",
            "Schedule update during maintenance window",
            "Use safety override with proper authorization"
        ]
    );
    assert!(api.request_id.starts_with("req_"));
}

/// `2025-03-15T10:25:30Z`.
fn is_time(value: &serde_json::Value) -> bool {
    value.as_str().is_some_and(|text| text.len() == 20 && text.ends_with('Z') && text.as_bytes()[10] == b'T')
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pause_write_stops_the_bytes_and_abort_ends_the_job() {
    let with = |reaction: &str| Settings { safety: format!("on_violation = \"{reaction}\""), ..settings() };
    let device = device_with(Offer::Long(256), with("pause_write")).await;
    let job = device.download().await;
    let lease = hold_the_switch(&device).await;
    device.install(&job).await.unwrap();
    device.until(&job, has_begun_to_write).await;
    device.set_sensor("crane_motion", "moving").unwrap();
    device.until(&job, held_by_the_crane).await;
    leave_it_to_the_crane(&device, &job, lease).await;
    let bytes = async || device.client.progress(Some(&job)).await.unwrap().progress.bytes_downloaded;
    // What was on its way is written; then nothing moves.
    let mut before = bytes().await;
    loop {
        // tidy: waits for another process
        sleep(Duration::from_millis(300)).await;
        let now = bytes().await;
        if now == before {
            break;
        }
        before = now;
    }
    assert!(before < 256 << 20, "it stands still in the middle");
    device.set_sensor("crane_motion", "stopped").unwrap();
    assert_eq!(device.ended(&job).await.status, JobStatus::Succeeded);
    device.check_rests_on(Slot::B).await;
    drop(device);
    // Who looks late finds the countdown, which is aborted, too.
    let abort = Settings { countdown_seconds: 30, ..with("abort") };
    let device = device_with(Offer::Long(256), abort).await;
    let job = device.download().await;
    device.install(&job).await.unwrap();
    device.until(&job, |job| has_begun_to_write(job) || job.status == JobStatus::Rebooting).await;
    device.set_sensor("crane_motion", "moving").unwrap();
    let ended = device.ended(&job).await;
    let failure = ended.failure.unwrap();
    assert_eq!((ended.status, failure.code.as_deref()), (JobStatus::Failed, Some("OTA_002")));
    assert!(failure.message.contains("crane_motion"), "{failure:?}");
    device.check_rests_on(Slot::A).await;
}
