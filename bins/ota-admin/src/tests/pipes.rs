//! Who reads goes away: what the exit code says then.

use std::fs;

use serde_json::{Value, json};

use super::{
    NOW, Run, Seen,
    fake::{Answer, Fake},
    progress_json, run_watched,
    update::gateway,
};
use crate::connect::Environment;

async fn closed(args: &[&str], close: impl FnOnce(Seen)) -> Run {
    let environment = Environment { token: Some("s3cret".into()), ..Environment::default() };
    run_watched(args, environment, NOW, close).await
}

#[tokio::test]
async fn the_verdict_on_an_image_counts_when_nobody_reads_the_table() {
    let folder = tempfile::tempdir().unwrap();
    let (image, keys) = (folder.path().join("image.bin"), folder.path().join("keys"));
    fs::write(&image, [7; 4096]).unwrap();
    fs::create_dir(&keys).unwrap();
    let args = ["verify", image.to_str().unwrap(), "--keys", keys.to_str().unwrap()];
    let refused = closed(&args, |seen| seen.results.close()).await;
    assert_eq!(refused.exit, 16, "{}", refused.err);
}

#[tokio::test]
async fn an_audit_that_was_tampered_with_is_no_success_when_nobody_reads_the_line() {
    let fake = Fake::start().await;
    for (verdict, exit) in [
        (json!({"intact": false, "records": 9, "first": 1, "first_bad": 4}), 1),
        (json!({"intact": true, "records": 9, "first": 1}), 0),
    ] {
        fake.answers("GET audit/verify", verdict);
        let run = closed(&["--url", &fake.url(), "audit", "verify"], |seen| seen.results.close()).await;
        assert_eq!(run.exit, exit, "{}", run.err);
    }
}

#[tokio::test]
async fn a_finished_result_that_nobody_reads_is_no_failure() {
    let fake = Fake::start().await;
    fake.answers("GET updates/check", json!({"available": false, "updates": []}));
    let run = closed(&["--url", &fake.url(), "check"], |seen| seen.results.close()).await;
    assert_eq!((run.exit, run.err.as_str()), (0, ""));
}

#[tokio::test]
async fn an_update_whose_lines_nobody_reads_is_not_told_as_done() {
    let fake = gateway(&["v5.0.5"], [Answer::Ok(progress_json("downloading", 30.0))]).await;
    let args = ["--url", &fake.url(), "-o", "jsonl", "update", "--yes"];
    let run = closed(&args, |seen| seen.results.close()).await;
    assert_eq!(run.exit, 141, "{}", run.err);
    let document: Value = serde_json::from_str(&run.err).unwrap();
    assert_eq!((&document["exit_code"], &document["job_id"]), (&json!(141), &json!("OTA-JOB-8821X")));
}

#[tokio::test]
async fn an_update_whose_messages_nobody_reads_goes_on_to_its_end() {
    let steps = [("downloading", 30.0), ("downloaded", 100.0), ("installing", 50.0), ("succeeded", 100.0)];
    let fake = gateway(&["v5.0.5"], steps.map(|(s, p)| Answer::Ok(progress_json(s, p)))).await;
    let args = ["--url", &fake.url(), "update", "--yes"];
    let run = closed(&args, |seen| seen.messages.close()).await;
    assert_eq!((run.exit, run.out.as_str()), (0, "v5.0.5 runs from partition B and is confirmed\n"));
}

#[tokio::test]
async fn a_token_whose_secret_nobody_reads_is_no_success_and_is_to_be_taken_away() {
    let fake = Fake::start().await;
    let made =
        json!({"token": "0123abcd", "name": "ci", "role": "viewer", "created_at": "2025-03-15T10:30:45Z"});
    fake.answers("POST auth/tokens", made);
    let args = ["--url", &fake.url(), "token", "create", "ci", "--role", "viewer"];
    let run = closed(&args, |seen| seen.results.close()).await;
    assert_eq!(run.exit, 1, "{}", run.err);
    assert!(run.err.contains("nobody has the secret now: `ota-admin token revoke ci`"), "{}", run.err);
    assert!(!run.err.contains("0123abcd"), "{}", run.err);
}
