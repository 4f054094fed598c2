//! `update`: the whole way, over a real closed port in the middle.

use serde_json::{Value, json};

use super::{
    fake::{Answer, Fake},
    progress_json, run,
};

fn partitions(active: &str, version: &str) -> Value {
    let slot = |name: &str, version: &str| json!({"name": name, "version": version, "boot_count": 1, "state": "good"});
    json!({
        "gateway": {"name": "g", "model": "m", "serial": "s"},
        "partitions": {"active": slot(active, version), "inactive": null},
        "resources": {"disk_free": 1, "memory_free": 1, "cpu_load": 0.0},
        "system_status": "idle", "allow_unsigned": false, "timestamp": "2025-03-15T10:30:45Z"
    })
}

fn offer(versions: &[&str]) -> Value {
    let update = |version: &&str| {
        json!({"id": format!("id-{version}"), "version": version, "description": "d", "size": 1,
               "critical": false, "requires_reboot": true})
    };
    json!({"available": !versions.is_empty(), "updates": versions.iter().map(update).collect::<Vec<_>>()})
}

pub(super) async fn gateway(versions: &[&str], walk: impl IntoIterator<Item = Answer>) -> Fake {
    let fake = Fake::start().await;
    fake.on(
        "GET system/status",
        [Answer::Ok(partitions("A", "v5.0.4")), Answer::Ok(partitions("B", "5.0.5"))],
    );
    fake.answers("GET updates/check", offer(versions));
    fake.answers(
        "POST updates/download",
        json!({"status": "started", "job_id": "OTA-JOB-8821X", "estimated_duration": "00:05:30",
               "estimated_duration_seconds": 330, "message": "Download started successfully"}),
    );
    fake.answers(
        "POST updates/install",
        json!({"status": "installing", "message": "Update installation in progress", "requires_reboot": true,
               "estimated_duration": "00:03:00", "estimated_duration_seconds": 180, "job_id": "OTA-JOB-8821X"}),
    );
    fake.on("GET updates/progress", walk);
    fake
}

fn walk(end: &str) -> Vec<Answer> {
    let step = |status: &str, percent| Answer::Ok(progress_json(status, percent));
    vec![
        step("downloading", 30.0),
        step("downloaded", 100.0),
        step("installing", 50.0),
        step("rebooting", 0.0),
        Answer::Off,
        step("confirming", 0.0),
        step(end, 100.0),
    ]
}

#[tokio::test]
async fn an_update_ends_well_only_when_it_is_confirmed_over_the_reboot() {
    let mut fake = gateway(&["v5.0.5"], walk("succeeded")).await;
    let url = fake.url();
    let args = ["--url", &url, "update", "--yes"];
    let (run, ()) = tokio::join!(run(&args), fake.reboot());
    assert_eq!(run.exit, 0, "{}", run.err);
    assert_eq!(run.out, "v5.0.5 runs from partition B and is confirmed\n");
    assert!(run.err.contains("the gateway does not answer"), "{}", run.err);
    assert!(run.err.contains("the gateway is back"), "{}", run.err);
    let changes: Vec<_> = fake.requests().into_iter().filter(|r| r.starts_with("POST")).collect();
    assert_eq!(
        changes,
        [
            r#"POST updates/download {"update_id":"id-v5.0.5","version":"v5.0.5","verify_signature":true}"#,
            r#"POST updates/install {"job_id":"OTA-JOB-8821X","strategy":"seamless","reboot_after":true,"rollback_on_failure":true}"#,
        ]
    );
}

#[tokio::test]
async fn a_rolled_back_update_has_its_own_exit_code_and_reason() {
    let mut steps = walk("rolled_back");
    let Some(Answer::Ok(last)) = steps.last_mut() else { panic!() };
    last["failure"] = json!({"message": "the new version never came up", "request_id": "req_4"});
    let mut fake = gateway(&["v5.0.5"], steps).await;
    let url = fake.url();
    let args = ["--url", &url, "-o", "json", "update", "--yes"];
    let (run, ()) = tokio::join!(run(&args), fake.reboot());
    assert_eq!((run.exit, run.out.as_str()), (8, ""));
    let last: Value = serde_json::from_str(run.err.lines().last().unwrap()).unwrap();
    assert_eq!(last["message"], "the new version never came up");
    assert_eq!(last["request_id"], "req_4");
    assert_eq!((&last["status"], &last["exit_code"]), (&json!("rolled_back"), &json!(8)));
}

#[tokio::test]
async fn a_job_that_failed_while_it_was_waited_for_says_which_request_asked_for_it() {
    let fake = Fake::start().await;
    let mut failed = progress_json("failed", 100.0);
    failed["failure"] = json!({
        "message": "image signature was not accepted", "code": "OTA_006",
        "suggested_actions": ["Sign the image with a trusted key"], "request_id": "req_9"
    });
    fake.answers("GET updates/progress", failed);
    let run = run(&["--url", &fake.url(), "progress", "OTA-JOB-8821X", "--wait"]).await;
    assert_eq!(run.exit, 16, "{}", run.err);
    let advice: Vec<&str> = run.err.lines().map(str::trim).collect();
    assert!(advice.ends_with(&["- Sign the image with a trusted key", "request id: req_9"]), "{}", run.err);
}

#[tokio::test]
async fn a_pin_that_cannot_be_read_is_told_before_anything_is_asked_for() {
    let fake = gateway(&["v5.0.5"], []).await;
    let run = run(&["--url", &fake.url(), "update", "--yes", "--pin-file", "/nowhere/pin"]).await;
    assert_eq!((run.exit, run.err.contains("/nowhere/pin")), (1, true), "{}", run.err);
    assert!(fake.requests().is_empty(), "{:?}", fake.requests());
}

#[tokio::test]
async fn an_update_whose_installation_wants_a_pin_says_how_to_give_it_and_how_to_go_on() {
    let fake = gateway(&["v5.0.5"], [Answer::Ok(progress_json("downloaded", 100.0))]).await;
    let refusal = json!({"error": true, "code": "OTA_010", "name": "INVALID_PIN", "message": "wrong PIN"});
    fake.on("POST updates/install", [Answer::Refusal(403, refusal)]);
    let run = run(&["--url", &fake.url(), "update", "--yes"]).await;
    assert_eq!(run.exit, 20, "{}", run.err);
    assert!(run.err.contains("ota-admin install OTA-JOB-8821X --reboot-after --wait"), "{}", run.err);
    assert!(run.err.contains("--pin-file"), "{}", run.err);
}

#[tokio::test]
async fn an_update_that_is_left_during_its_download_says_what_nobody_does_any_more() {
    let fake = gateway(&["v5.0.5"], [Answer::Ok(progress_json("downloading", 30.0))]).await;
    let url = fake.url();
    let words =
        ["--url", &url, "-o", "json", "update", "--yes", "--strategy", "immediate", "--wait-timeout", "1"];
    let run = run(&words).await;
    assert_eq!(run.exit, 124, "{}", run.err);
    let document: Value = serde_json::from_str(run.err.lines().last().unwrap()).unwrap();
    assert_eq!(document["job_id"], "OTA-JOB-8821X");
    let next = document["suggested_actions"][0].as_str().unwrap();
    let install = "ota-admin install OTA-JOB-8821X --reboot-after --wait --strategy immediate";
    assert!(next.contains(install), "{next}");
    assert!(!fake.requests().iter().any(|request| request.contains("updates/install")));
}

#[tokio::test]
async fn an_installation_that_was_accepted_is_not_to_be_asked_for_again() {
    let no = json!({"error": true, "code": "FORBIDDEN", "name": "FORBIDDEN", "message": "token revoked"});
    let steps = [Answer::Ok(progress_json("downloaded", 100.0)), Answer::Refusal(403, no)];
    let fake = gateway(&["v5.0.5"], steps).await;
    let run = run(&["--url", &fake.url(), "update", "--yes"]).await;
    assert_eq!(run.exit, 4, "{}", run.err);
    assert!(!run.err.contains("ota-admin install"), "{}", run.err);
}

#[tokio::test]
async fn an_installation_whose_answer_is_lost_is_neither_promised_nor_denied() {
    // The second is what a proxy says whose gateway went away with the request.
    for lost in [Answer::Never, Answer::Refusal(502, Value::Null)] {
        let fake = gateway(&["v5.0.5"], [Answer::Ok(progress_json("downloaded", 100.0))]).await;
        fake.on("POST updates/install", [lost]);
        let run = run(&["--url", &fake.url(), "--timeout", "1", "update", "--yes"]).await;
        assert_eq!(run.exit, 3, "{}", run.err);
        let open =
            "whether the installation was accepted is not known: `ota-admin progress OTA-JOB-8821X` tells";
        assert!(run.err.contains(open) && !run.err.contains("does not install"), "{}", run.err);
    }
}

#[tokio::test]
async fn a_job_that_cannot_be_followed_any_further_keeps_its_name() {
    let broken = json!({"error": true, "code": "INTERNAL", "name": "INTERNAL", "message": "failed inside",
        "request_id": "req_3"});
    for (answer, exit, message) in [
        (Answer::Refusal(500, broken), 5, "failed inside"),
        (Answer::Refusal(404, Value::Null), 3, "job OTA-JOB-8821X cannot be followed any further"),
    ] {
        let fake = gateway(&["v5.0.5"], [answer]).await;
        let run = run(&["--url", &fake.url(), "-o", "json", "download", "id-v5.0.5", "--wait"]).await;
        assert_eq!(run.exit, exit, "{}", run.err);
        let document: Value = serde_json::from_str(run.err.lines().last().unwrap()).unwrap();
        assert!(document["message"].as_str().unwrap().starts_with(message), "{document}");
        assert_eq!((&document["job_id"], &document["exit_code"]), (&json!("OTA-JOB-8821X"), &json!(exit)));
        let advice = document["suggested_actions"].to_string();
        assert!(advice.contains("`ota-admin progress OTA-JOB-8821X`"), "{document}");
    }
}

#[tokio::test]
async fn a_gateway_that_stays_away_is_told_with_what_becomes_of_it_and_how_to_look() {
    let steps = [("downloaded", 100.0), ("rebooting", 0.0)].map(|(s, p)| Answer::Ok(progress_json(s, p)));
    let fake = gateway(&["v5.0.5"], steps.into_iter().chain([Answer::Off])).await;
    let run = run(&["--url", &fake.url(), "update", "--yes", "--reboot-timeout", "1"]).await;
    assert_eq!(run.exit, 3, "{}", run.err);
    for told in ["the gateway stayed away for", "boot loader", "`ota-admin progress OTA-JOB-8821X`"] {
        assert!(run.err.contains(told), "{told}: {}", run.err);
    }
}

#[tokio::test]
async fn a_limit_holds_from_the_first_request_on() {
    // It takes connections and never answers.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    for command in ["update --yes --wait-timeout 1", "progress OTA-JOB-8821X --wait --wait-timeout 1"] {
        let words: Vec<&str> = ["--url", &url].into_iter().chain(command.split(' ')).collect();
        let run = run(&words).await;
        assert_eq!(run.exit, 124, "{command}: {}", run.err);
        assert!(run.err.contains("not done after 1 s"), "{command}: {}", run.err);
    }
}

#[tokio::test]
async fn json_lines_give_every_step_and_the_result() {
    let steps = [("downloaded", 100.0), ("installing", 50.0), ("succeeded", 100.0)];
    let fake = gateway(&["v5.0.5"], steps.map(|(s, p)| Answer::Ok(progress_json(s, p)))).await;
    let run = run(&["--url", &fake.url(), "-o", "jsonl", "update", "--yes"]).await;
    let documents: Vec<Value> = run.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let states: Vec<_> = documents.iter().map(|d| d["status"].as_str().unwrap()).collect();
    assert_eq!(states, ["downloaded", "installing", "succeeded", "confirmed"]);
    assert_eq!(documents[3]["previous_version"], "v5.0.4");
}

#[tokio::test]
async fn nothing_on_offer_and_too_much_on_offer_start_nothing() {
    let none = gateway(&[], []).await;
    assert_eq!(run(&["--url", &none.url(), "update", "--yes"]).await.exit, 10);
    assert_eq!(run(&["--url", &none.url(), "update", "id-v5.0.5", "--yes"]).await.exit, 10);

    let many = gateway(&["v5.0.9", "v5.0.10"], []).await;
    let refused = run(&["--url", &many.url(), "update", "--yes"]).await;
    assert_eq!(refused.exit, 2);
    assert!(refused.err.contains("--latest") && refused.err.contains("id-v5.0.10"), "{}", refused.err);
    assert_eq!(run(&["--url", &many.url(), "update", "other", "--yes"]).await.exit, 2);
    assert!(many.requests().iter().all(|request| request.starts_with("GET")));
}

#[tokio::test]
async fn the_latest_is_the_highest_version_and_not_the_longest_word() {
    let fake =
        gateway(&["v5.0.9", "v5.0.10", "v5.0.2"], [Answer::Ok(progress_json("succeeded", 100.0))]).await;
    let run = run(&["--url", &fake.url(), "update", "--latest", "--yes"]).await;
    assert_eq!(run.exit, 0, "{}", run.err);
    assert!(fake.requests().iter().any(|request| request.contains("id-v5.0.10")));
}

#[tokio::test]
async fn an_install_that_is_refused_says_how_to_go_on_with_the_download() {
    let fake = gateway(&["v5.0.5"], [Answer::Ok(progress_json("downloaded", 100.0))]).await;
    let refusal = json!({"error": true, "code": "OTA_002", "name": "UPDATE_BLOCKED", "message": "blocked"});
    fake.on("POST updates/install", [Answer::Refusal(400, refusal)]);
    let run = run(&["--url", &fake.url(), "update", "--yes"]).await;
    assert_eq!(run.exit, 12);
    assert!(run.err.contains("ota-admin install OTA-JOB-8821X --reboot-after --wait"), "{}", run.err);
}
