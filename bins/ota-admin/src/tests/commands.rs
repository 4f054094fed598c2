//! What each command asks for and prints.

use std::{fs, net::SocketAddr};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::{
    fake::{Answer, Fake},
    progress_json, run,
};

fn status() -> Value {
    json!({
        "gateway": {"name": "iot-gateway-01", "model": "IGW-5000", "serial": "SN123456789"},
        "partitions": {
            "active": {"name": "A", "version": "v5.0.4", "boot_count": 42, "last_boot": "2025-03-15T08:00:00Z", "state": "good"},
            "inactive": {"name": "B", "version": "v5.0.3", "boot_count": 38, "state": "good"}
        },
        "resources": {"disk_free": 15_000_000_000_u64, "memory_free": 800_000_000, "cpu_load": 0.25},
        "last_update": {"version": "v5.0.4", "timestamp": "2025-03-10T14:30:00Z", "status": "success"},
        "system_status": "idle", "degraded": [], "active_job": null, "allow_unsigned": false,
        "boot": {"first": "A", "trial": null, "a": {"bootable": true, "tries_left": 3},
                 "b": {"bootable": true, "tries_left": 3}, "redundant": true, "canary": true},
        "last_good_check": "2025-03-15T10:00:00Z", "timestamp": "2025-03-15T10:30:45Z",
        "a_field_of_tomorrow": 1
    })
}

fn offer() -> Value {
    json!({"available": true, "updates": [{
        "id": "update_12345", "version": "v5.0.5", "description": "Security patches\u{1b}[2J and \u{202e}more",
        "size": 452_000_000, "release_date": "2025-03-10T14:30:00Z", "critical": true, "requires_reboot": true
    }]})
}

fn job(status: &str) -> Value {
    json!({
        "job_id": "OTA-JOB-8821X", "kind": "update", "status": status, "current_operation": "Update failed",
        "ended": true, "update_id": "update_12345", "version": "v5.0.5", "size": 452_000_000,
        "checksum": "sha256:abc123", "source_partition": "A", "target_partition": "B", "priority": "normal",
        "install": {"strategy": "seamless", "reboot_after": true, "rollback_on_failure": true},
        "signers": ["OTA release signer"],
        "failure": {"code": "OTA_006", "name": "SIGNATURE_INVALID", "message": "signature not accepted (untrusted)",
                    "suggested_actions": ["Sign the image with a trusted key"]},
        "created_at": "2025-03-15T10:00:00Z", "updated_at": "2025-03-15T10:05:00Z"
    })
}

fn changed(status: &str) -> Value {
    json!({"status": status, "message": "Done as asked", "job_id": "OTA-JOB-8821X"})
}

#[tokio::test]
async fn status_shows_both_partitions() {
    let fake = Fake::start().await;
    fake.answers("GET system/status", status());
    let run = run(&["--url", &fake.url(), "status"]).await;
    assert_eq!((run.exit, run.err.as_str()), (0, ""));
    insta::assert_snapshot!(run.out);
}

#[tokio::test]
async fn status_shows_a_factory_reset_that_waits_for_a_boot() {
    let fake = Fake::start().await;
    let mut waiting = status();
    waiting["factory_reset"] = json!({"message": "a factory reset is scheduled", "requested_by": "ada"});
    fake.answers("GET system/status", waiting);
    let run = run(&["--url", &fake.url(), "status"]).await;
    assert!(run.out.contains("a factory reset is scheduled (asked for by ada)"), "{}", run.out);
}

#[tokio::test]
async fn json_output_is_the_document_of_the_api() {
    let fake = Fake::start().await;
    fake.answers("GET updates/check", offer());
    let json = run(&["--url", &fake.url(), "-o", "json", "check"]).await;
    let document: Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(document["updates"][0]["id"], "update_12345");
    assert!(json.out.lines().count() > 5);
    let jsonl = run(&["--url", &fake.url(), "-o", "jsonl", "check"]).await;
    assert_eq!(jsonl.out.lines().count(), 1);
    assert_eq!(serde_json::from_str::<Value>(&jsonl.out).unwrap(), document);
}

#[tokio::test]
async fn text_of_a_server_cannot_steer_the_terminal() {
    let fake = Fake::start().await;
    fake.answers("GET updates/check", offer());
    let run = run(&["--url", &fake.url(), "check"]).await;
    assert!(!run.out.contains(['\u{1b}', '\u{202e}']));
    insta::assert_snapshot!(run.out);
}

#[tokio::test]
async fn the_prefix_of_the_url_is_used() {
    let fake = Fake::start().await;
    fake.answers("GET /v1/cloud-integration/updates/check", json!({"available": false, "updates": []}));
    let run = run(&["--url", &format!("{}/v1/cloud-integration", fake.url()), "check"]).await;
    assert_eq!((run.exit, run.out.as_str()), (0, "no update is on offer\n"));
}

#[tokio::test]
async fn a_refusal_is_shown_with_what_to_do_and_ends_in_the_codes_exit_code() {
    let fake = Fake::start().await;
    let refusal = json!({
        "error": true, "code": "OTA_002", "name": "UPDATE_BLOCKED", "message": "Update blocked by safety constraints",
        "details": {"constraint": "crane_motion", "status": "moving", "estimated_wait": "00:02:30",
                    "windows": null, "constraints": [{"constraint": "crane_motion"}]},
        "suggested_actions": ["Wait for operations to complete"], "request_id": "req_abc123",
        "timestamp": "2025-03-15T10:30:45Z"
    });
    fake.on("POST updates/install", [Answer::Refusal(400, refusal)]);
    let text = run(&["--url", &fake.url(), "install", "OTA-JOB-8821X"]).await;
    assert_eq!((text.exit, text.out.as_str()), (12, ""));
    insta::assert_snapshot!(text.err);
    let json = run(&["--url", &fake.url(), "-o", "json", "install", "OTA-JOB-8821X"]).await;
    let document: Value = serde_json::from_str(&json.err).unwrap();
    assert_eq!((&document["exit_code"], &document["name"]), (&json!(12), &json!("UPDATE_BLOCKED")));
}

#[tokio::test]
async fn a_closed_port_and_a_missing_token_have_their_own_exit_codes() {
    let run_unreachable = run(&["--url", "http://127.0.0.1:9", "status"]).await;
    assert_eq!(run_unreachable.exit, 3);
    assert!(run_unreachable.err.contains("is the gateway running"), "{}", run_unreachable.err);

    let fake = Fake::start().await;
    let refusal =
        json!({"error": true, "code": "UNAUTHORIZED", "name": "UNAUTHORIZED", "message": "no token"});
    fake.on("GET system/status", [Answer::Refusal(401, refusal)]);
    let unauthorized = run(&["--url", &fake.url(), "status"]).await;
    assert_eq!(unauthorized.exit, 4);
    assert!(unauthorized.err.contains("OTA_TOKEN_FILE"), "{}", unauthorized.err);
}

/// A server that answers one connection with these bytes, whatever it is asked.
async fn answering(bytes: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.read(&mut [0; 4096]).await;
        stream.write_all(bytes).await.unwrap();
        let _ = stream.shutdown().await;
    });
    address
}

#[tokio::test]
async fn what_does_not_speak_as_the_url_says_is_told_with_what_to_write_there() {
    let folder = tempfile::tempdir().unwrap();
    let made = run(&["keygen", "code-signing", "--dir", folder.path().to_str().unwrap()]).await;
    assert_eq!(made.exit, 0, "{}", made.err);
    let ca = folder.path().join("ca.pem").display().to_string();
    let plain = answering(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    let refused = run(&["--url", &format!("https://{plain}"), "--ca", &ca, "status"]).await;
    assert_eq!((refused.exit, refused.err.contains("is it http:// in --url?")), (3, true), "{}", refused.err);
    // A fatal alert of TLS.
    let encrypted = answering(b"\x15\x03\x03\x00\x02\x02\x32").await;
    let refused = run(&["--url", &format!("http://{encrypted}"), "status"]).await;
    assert_eq!((refused.exit, refused.err.contains("it is https:// in --url")), (3, true), "{}", refused.err);
    let proxy = Fake::start().await;
    proxy.on("GET system/status", [Answer::Refusal(401, json!("who are you?"))]);
    let refused = run(&["--url", &proxy.url(), "status"]).await;
    assert_eq!((refused.exit, refused.err.contains("a proxy or another")), (4, true), "{}", refused.err);
}

#[tokio::test]
async fn a_download_asks_for_what_was_typed() {
    let fake = Fake::start().await;
    fake.answers(
        "POST updates/download",
        json!({"status": "started", "job_id": "OTA-JOB-8821X", "estimated_duration": "00:05:30",
               "estimated_duration_seconds": 330, "message": "Download started successfully"}),
    );
    let args = ["--url", &fake.url(), "download", "update_12345", "--target", "b", "--priority", "high"];
    let run = run(&args).await;
    assert_eq!(run.out, "OTA-JOB-8821X started (about 00:05:30): Download started successfully\n");
    assert_eq!(
        fake.requests(),
        [
            r#"POST updates/download {"update_id":"update_12345","target_partition":"B","priority":"high","verify_signature":true}"#
        ]
    );
}

#[tokio::test]
async fn waiting_for_a_download_ends_when_it_is_verified_or_failed() {
    let fake = Fake::start().await;
    fake.answers(
        "POST updates/download",
        json!({"status": "started", "job_id": "OTA-JOB-8821X", "estimated_duration": "00:05:30",
               "estimated_duration_seconds": 330, "message": "Download started successfully"}),
    );
    let walk = [("downloading", 10.0), ("downloading", 60.0), ("verifying", 100.0), ("downloaded", 100.0)];
    fake.on("GET updates/progress", walk.map(|(s, p)| Answer::Ok(progress_json(s, p))));
    let args = ["--url", &fake.url(), "download", "update_12345", "--wait"];
    let done = run(&args).await;
    assert_eq!(done.exit, 0, "{}", done.err);
    assert_eq!(done.err.lines().count(), 4, "{}", done.err);

    let mut failed = progress_json("failed", 60.0);
    failed["failure"] = json!({"code": "OTA_007", "message": "checksum differs",
        "suggested_actions": ["Transfer the image again"]});
    fake.answers("GET updates/progress", failed);
    let failed = run(&args).await;
    assert_eq!(failed.exit, 17);
    assert!(
        failed.err.ends_with(
            "error: job OTA-JOB-8821X failed: checksum differs (OTA_007)\n  - Transfer the image again\n"
        ),
        "{}",
        failed.err
    );
}

#[tokio::test]
async fn waiting_ends_with_the_users_patience_and_the_job_goes_on() {
    let fake = Fake::start().await;
    let started = json!({"status": "started", "job_id": "OTA-JOB-8821X", "estimated_duration": "00:05:30",
                         "estimated_duration_seconds": 330, "message": "Download started successfully"});
    fake.answers("POST updates/download", started);
    fake.answers("GET updates/progress", progress_json("downloading", 10.0));
    let url = fake.url();
    for words in ["download update_12345 --wait", "progress OTA-JOB-8821X --wait"] {
        let words: Vec<&str> = words.split(' ').collect();
        let run = run(&[&["--url", &url], &words[..], &["--wait-timeout", "1"]].concat()).await;
        assert_eq!((run.exit, run.out.as_str()), (124, ""));
        assert!(run.err.contains("not done after 1 s; job OTA-JOB-8821X goes on"), "{}", run.err);
    }
    assert!(!fake.requests().iter().any(|request| request.contains("cancel")));
    // Without --wait there is nothing that it could bound.
    let refused = crate::cli::Cli::read(["ota-admin", "download", "u", "--wait-timeout", "1"]);
    assert!(refused.unwrap_err().to_string().contains("--wait"));
}

#[tokio::test]
async fn the_audit_shows_its_newest_records_and_pages_both_ways() {
    let fake = Fake::start().await;
    let record = |seq: u64| {
        json!({"seq": seq, "timestamp": "2025-03-15T10:30:45Z", "actor": "ada", "role": "operator",
               "address": "192.0.2.7", "action": "updates.install", "outcome": "refused", "request_id": "req_1",
               "job_id": "OTA-JOB-8821X", "reason": "UPDATE_BLOCKED: crane", "hash": "00"})
    };
    let page = json!({"records": [record(841), record(842)], "next": 842, "previous": 841});
    fake.answers("GET audit", page);
    let url = fake.url();
    let newest = run(&["--url", &url, "audit", "list", "--limit", "2", "--outcome", "refused"]).await;
    insta::assert_snapshot!(newest.out);
    run(&["--url", &url, "audit", "list", "--before", "841", "--job", "OTA-JOB-8821X"]).await;
    fake.answers("GET audit", json!({"records": [record(841)], "next": 841}));
    let after = run(&["--url", &url, "audit", "list", "--after", "840", "--text", "crane"]).await;
    assert!(after.out.ends_with("`--after 841` shows the next ones\n"), "{}", after.out);
    assert_eq!(
        fake.requests(),
        [
            "GET audit?limit=2&newest=true&outcome=refused",
            "GET audit?before=841&job_id=OTA-JOB-8821X&limit=100&newest=true",
            "GET audit?after=840&limit=100&text=crane",
        ]
    );
}

#[tokio::test]
async fn an_install_without_reboot_waits_until_only_the_reboot_is_missing() {
    let fake = Fake::start().await;
    fake.answers(
        "POST updates/install",
        json!({"status": "installing", "message": "Update installation in progress", "requires_reboot": true,
               "estimated_duration": "00:03:00", "estimated_duration_seconds": 180, "job_id": "OTA-JOB-8821X"}),
    );
    let mut armed = progress_json("rebooting", 100.0);
    armed["waiting_for"] = json!({"reason": "reboot"});
    fake.on("GET updates/progress", [Answer::Ok(progress_json("installing", 50.0)), Answer::Ok(armed)]);
    let done = run(&["--url", &fake.url(), "install", "OTA-JOB-8821X", "--wait"]).await;
    assert_eq!(done.exit, 0, "{}", done.err);

    let mut unhealthy = progress_json("confirming", 0.0);
    unhealthy["waiting_for"] = json!({"reason": "judgement"});
    unhealthy["failure"] = json!({"message": "unit modem.service is not active"});
    fake.answers("GET updates/progress", unhealthy);
    let args = [
        "install",
        "OTA-JOB-8821X",
        "--reboot-after",
        "--no-rollback-on-failure",
        "--wait",
        "--url",
        &fake.url(),
    ];
    let judged = run(&args).await;
    assert_eq!(judged.exit, 7);
    assert!(judged.err.contains("waits to be judged"), "{}", judged.err);
    let sent = fake.requests().into_iter().rfind(|r| r.starts_with("POST")).unwrap();
    assert!(sent.contains(r#""reboot_after":true,"rollback_on_failure":false"#), "{sent}");
}

#[tokio::test]
async fn commands_on_a_job_send_its_name_and_reason() {
    let fake = Fake::start().await;
    let url = fake.url();
    for (words, request) in [
        (
            &["cancel", "OTA-JOB-8821X", "--reason", "wrong one"][..],
            r#"POST updates/cancel {"job_id":"OTA-JOB-8821X","reason":"wrong one"}"#,
        ),
        (&["pause"], r#"POST updates/pause {"job_id":null}"#),
        (&["resume", "OTA-JOB-8821X"], r#"POST updates/resume {"job_id":"OTA-JOB-8821X"}"#),
        (&["confirm"], r#"POST updates/confirm {"reason":null}"#),
        (&["reject", "--reason", "noise"], r#"POST updates/reject {"reason":"noise"}"#),
    ] {
        let endpoint = request.rsplit_once(' ').map_or(request, |(head, _)| head);
        let endpoint: String = endpoint.split(' ').take(2).collect::<Vec<_>>().join(" ");
        fake.answers(&endpoint, changed("done"));
        let run = run(&[&["--url", &url], words].concat()).await;
        assert_eq!(run.out, "OTA-JOB-8821X done: Done as asked\n");
        assert_eq!(fake.requests().last().map(String::as_str), Some(request));
    }
}

#[tokio::test]
async fn jobs_are_listed_and_shown_in_detail() {
    let fake = Fake::start().await;
    fake.answers("GET updates/jobs", json!({"jobs": [job("failed")], "total": 7, "offset": 0, "limit": 20}));
    fake.answers("GET updates/jobs/OTA-JOB-8821X", job("failed"));
    insta::assert_snapshot!(run(&["--url", &fake.url(), "jobs"]).await.out);
    insta::assert_snapshot!(run(&["--url", &fake.url(), "jobs", "OTA-JOB-8821X"]).await.out);
}

#[tokio::test]
async fn progress_says_what_a_job_waits_for() {
    let fake = Fake::start().await;
    let mut held = progress_json("installing", 100.0);
    held["waiting_for"] = json!({"reason": "safety", "constraints": [
        {"constraint": "crane_motion", "status": "moving", "message": "Crane movement detected", "resolution": "Wait"}]});
    fake.answers("GET updates/progress", held);
    insta::assert_snapshot!(run(&["--url", &fake.url(), "progress"]).await.out);
}

#[tokio::test]
async fn safety_lists_the_constraints() {
    let fake = Fake::start().await;
    let constraint = |name: &str, status: &str, message: &str| {
        json!({"name": name, "status": status, "message": message, "reading": "moving", "severity": "warning",
               "overridable": true, "overridden": false, "blocks": ["switch", "reboot"], "resolution": "Wait"})
    };
    fake.answers(
        "GET safety/status",
        json!({"update_allowed": false, "constraints": [
                constraint("crane_motion", "violated", "Crane movement detected"),
                constraint("high_temperature", "ok", "Temperature within limits")],
            "maintenance_window": {"active": false, "next_window": "2025-03-16T02:00:00Z"}}),
    );
    insta::assert_snapshot!(run(&["--url", &fake.url(), "safety"]).await.out);
}

#[tokio::test]
async fn the_pin_comes_from_a_file_and_is_not_printed() {
    let fake = Fake::start().await;
    let folder = tempfile::tempdir().unwrap();
    let pin = folder.path().join("pin");
    fs::write(&pin, "9471\n").unwrap();
    fake.answers(
        "POST updates/rollback",
        json!({"status": "rollback_started", "message": "Rolling back", "estimated_duration": "00:04:00",
               "estimated_duration_seconds": 240, "job_id": "OTA-JOB-8821X"}),
    );
    let run = run(&["--url", &fake.url(), "rollback", "--pin-file", pin.to_str().unwrap()]).await;
    assert_eq!(run.exit, 0, "{}", run.err);
    assert_eq!(fake.requests(), [r#"POST updates/rollback {"pin":"9471"}"#]);
    assert!(!run.out.contains("9471") && !run.err.contains("9471"));
}

#[tokio::test]
async fn a_new_token_is_shown_once_or_kept_in_a_private_file() {
    use std::os::unix::fs::PermissionsExt as _;

    let fake = Fake::start().await;
    fake.answers(
        "POST auth/tokens",
        json!({"token": "0123abcd", "name": "ci", "role": "operator", "created_at": "2025-03-15T10:30:45Z"}),
    );
    let shown = run(&["--url", &fake.url(), "token", "create", "ci", "--role", "operator"]).await;
    assert_eq!(shown.out, "0123abcd\n");

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ci.token");
    let path = file.to_str().unwrap();
    let args = [
        "--url",
        &fake.url(),
        "token",
        "create",
        "ci",
        "--role",
        "operator",
        "--expires-in",
        "30d",
        "--to",
        path,
    ];
    let kept = run(&args).await;
    assert!(!kept.out.contains("0123abcd"), "{}", kept.out);
    assert_eq!(fs::read_to_string(&file).unwrap(), "0123abcd\n");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(fake.requests().last().unwrap().contains(r#""expires_in":2592000"#));
    // A second one does not overwrite it, and makes no token that nobody has.
    let before = fake.requests().len();
    assert_eq!(run(&args).await.exit, 2);
    assert_eq!(fake.requests().len(), before);
}

#[tokio::test]
async fn a_token_is_made_only_when_its_secret_has_a_place_and_the_place_is_left_empty_without_one() {
    let fake = Fake::start().await;
    let refusal = json!({"error": true, "code": "FORBIDDEN", "name": "FORBIDDEN", "message": "no"});
    fake.on("POST auth/tokens", [Answer::Refusal(403, refusal)]);
    let folder = tempfile::tempdir().unwrap();
    let url = fake.url();
    let create = async |file: &str| {
        let to = folder.path().join(file).display().to_string();
        run(&["--url", &url, "token", "create", "ci", "--role", "viewer", "--to", &to]).await
    };
    let nowhere = create("nowhere/ci.token").await;
    assert_eq!((nowhere.exit, fake.requests().len()), (1, 0), "{}", nowhere.err);
    let refused = create("ci.token").await;
    assert_eq!((refused.exit, fake.requests().len()), (4, 1), "{}", refused.err);
    assert!(!folder.path().join("ci.token").exists());
}

#[tokio::test]
async fn tokens_are_listed_and_revoked_by_name() {
    let fake = Fake::start().await;
    fake.answers(
        "GET auth/tokens",
        json!({"tokens": [{"name": "ci", "role": "viewer", "created_at": "2025-03-15T10:30:45Z",
                           "expires_at": null, "last_used_at": "2025-03-15T10:31:00Z"}]}),
    );
    fake.answers("DELETE auth/tokens", json!({"status": "token_revoked", "message": "Token ci revoked"}));
    insta::assert_snapshot!(run(&["--url", &fake.url(), "token", "list"]).await.out);
    let own = json!({"name": "ci", "role": "viewer", "expires_at": null, "idle_seconds": null});
    fake.answers("GET auth/session", own);
    assert_eq!(run(&["--url", &fake.url(), "token", "show"]).await.out, "ci (viewer), ends: never\n");
    assert_eq!(run(&["--url", &fake.url(), "token", "revoke", "ci"]).await.out, "Token ci revoked\n");
    assert_eq!(fake.requests().last().unwrap(), "DELETE auth/tokens?name=ci");
}

#[tokio::test]
async fn watch_prints_events_over_a_cut_connection() {
    let fake = Fake::start().await;
    let first = vec![
        json!({"type": "status_change", "system_status": "updating", "message": "Update installation in progress",
               "severity": "info", "timestamp": "2025-03-15T10:25:30Z", "seq": 1}),
        json!({"type": "progress_update", "job_id": "OTA-JOB-8821X", "progress": 85.0,
               "current_operation": "writing_partition", "eta": "00:05:00", "timestamp": "2025-03-15T10:25:31Z", "seq": 2,
               "details": {"bytes_written": "385MB", "bytes_total": "452MB", "speed": "5.2MB/s"}}),
        json!({"type": "safety_alert", "constraint": "crane_motion", "status": "violated", "severity": "warning",
               "message": "Crane movement detected during update", "action_required": true,
               "suggested_action": "Pause update or override safety", "timestamp": "2025-03-15T10:25:32Z", "seq": 3}),
    ];
    let second = vec![
        json!({"type": "system_event", "event": "reboot_scheduled", "message": "System reboot scheduled in 60 seconds",
               "timestamp": "2025-03-15T10:26:00Z", "countdown": 60, "seq": 4}),
        json!({"type": "job_complete", "job_id": "OTA-JOB-8821X", "status": "success", "message": "Update confirmed",
               "details": {"version": "v5.0.5", "size": "452MB", "duration": "5m 30s"},
               "timestamp": "2025-03-15T10:27:00Z", "seq": 5}),
        json!({"type": "moon_phase"}),
    ];
    fake.world.events.lock().unwrap().extend([first.clone(), second.clone()]);
    let text = run(&["--url", &fake.url(), "watch", "--since", "0", "--count", "6"]).await;
    assert_eq!(text.exit, 0, "{}", text.err);
    assert_eq!(text.err.lines().count(), 2, "{}", text.err);
    insta::assert_snapshot!(text.out);
    assert_eq!(fake.requests(), ["WS /api/v1/ota/ws?since=0", "WS /api/v1/ota/ws?since=3"]);

    fake.world.events.lock().unwrap().push_back(first.clone());
    let lines = run(&["--url", &fake.url(), "-o", "json", "watch", "--count", "3"]).await;
    let documents: Vec<Value> = lines.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(documents, first);
}

#[tokio::test]
async fn top_draws_the_gateway_and_goes_on_while_it_is_away() {
    let fake = Fake::start().await;
    fake.answers("GET system/status", status());
    let window = json!({"active": false, "next_window": null});
    let crane = json!({"name": "crane_motion", "status": "violated", "message": "Crane movement detected", "reading": "moving",
        "severity": "warning", "overridable": true, "overridden": false, "blocks": ["write", "reboot"], "resolution": "Wait"});
    let safety = json!({"update_allowed": false, "constraints": [crane], "maintenance_window": window});
    fake.answers("GET safety/status", safety);
    fake.answers("GET events", json!({"events": [], "next": 7, "missed": 0}));
    let url = fake.url();
    let run = run(&["--url", &url, "top", "--count", "1"]).await;
    assert_eq!((run.exit, run.err.as_str()), (0, ""));
    insta::assert_snapshot!(run.out);
    let twice = super::run(&["--url", &url, "top", "--count", "2"]).await;
    assert_eq!(twice.out, format!("{0}\n{0}", run.out), "an empty line is between two frames");
    let lines = super::run(&["--url", &url, "-o", "jsonl", "top", "--count", "1"]).await;
    let line: Value = serde_json::from_str(&lines.out).unwrap();
    assert_eq!((&line["reachable"], &line["status"]["gateway"]["model"]), (&json!(true), &json!("IGW-5000")));
    fake.on("GET system/status", [Answer::Ok(status()), Answer::Refusal(502, Value::Null)]);
    let away = super::run(&["--url", &url, "-o", "jsonl", "top", "--count", "2"]).await;
    let looks: Vec<Value> = away.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(away.exit, 0, "{}", away.err);
    let reachable: Vec<_> = looks.iter().map(|look| &look["reachable"]).collect();
    assert_eq!(reachable, [true, false], "{}", away.out);
    assert_eq!(looks[1]["status"]["gateway"]["model"], "IGW-5000", "what it said last");
}

#[tokio::test]
async fn top_ends_at_once_where_nobody_answers_its_first_look() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let run = run(&["--url", &format!("http://{nobody}"), "top", "--count", "2"]).await;
    assert_eq!((run.exit, run.out.as_str()), (3, ""), "{}", run.err);
}

#[tokio::test]
async fn metrics_are_the_gateways_text() {
    let fake = Fake::start().await;
    fake.answers("GET /metrics", json!("# HELP"));
    let run = run(&["--url", &fake.url(), "metrics"]).await;
    assert_eq!((run.exit, run.out.as_str()), (0, "\"# HELP\""), "{}", run.err);
}

#[tokio::test]
async fn events_say_that_there_are_none_and_how_many_are_gone() {
    let fake = Fake::start().await;
    fake.answers("GET events", json!({"events": [], "next": 7, "missed": 5}));
    let url = fake.url();
    let run = run(&["--url", &url, "events", "--since", "2"]).await;
    assert_eq!((run.exit, run.out.as_str()), (0, "no events\n"));
    assert!(run.err.contains("5 events after 2 are gone"), "{}", run.err);
    let lines = super::run(&["--url", &url, "-o", "jsonl", "events", "--since", "2"]).await;
    assert_eq!((lines.err.as_str(), lines.out.contains(r#""missed":5"#)), ("", true), "{}", lines.out);
}

/// So many events in a page, from number `first` on.
fn events(first: u64, count: u64) -> Value {
    let event = |seq| {
        json!({"type": "system_event", "event": "notice", "message": format!("notice {seq}"),
            "timestamp": "2025-03-15T10:30:45Z", "seq": seq})
    };
    let events: Vec<Value> = (first..first + count).map(event).collect();
    json!({"events": events, "next": first + count - 1, "missed": 0})
}

#[tokio::test]
async fn events_and_top_show_the_newest_of_more_than_one_page() {
    let pages = || [Answer::Ok(events(1, 1000)), Answer::Ok(events(1001, 24))];
    let fake = Fake::start().await;
    fake.on("GET events", pages());
    let run = run(&["--url", &fake.url(), "events"]).await;
    assert_eq!((run.exit, run.out.lines().count()), (0, 1024), "{}", run.err);
    assert!(run.out.lines().last().unwrap().contains("notice 1024"));
    assert_eq!(fake.requests(), ["GET events?limit=1000", "GET events?limit=1000&since=1000"]);
    fake.on("GET events", pages());
    let few = super::run(&["--url", &fake.url(), "events", "--limit", "2"]).await;
    let lines: Vec<&str> = few.out.lines().collect();
    assert!(lines.len() == 2 && lines[0].contains("notice 1023") && lines[1].contains("notice 1024"));
    let fake = Fake::start().await;
    fake.on("GET events", pages());
    fake.answers("GET system/status", status());
    let window = json!({"active": false, "next_window": null});
    let safety = json!({"update_allowed": true, "constraints": [], "maintenance_window": window});
    fake.answers("GET safety/status", safety);
    let top = super::run(&["--url", &fake.url(), "top", "--count", "1"]).await;
    assert!(top.out.contains("notice 1024"), "{}", top.out);
}
