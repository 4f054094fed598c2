//! Holding updates back, and what is told of windows, leases, forecasts and the speed limit.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};

use super::{
    NOW, Run, Seen,
    fake::{Answer, Fake},
    run, run_watched,
};
use crate::connect::Environment;

fn lease(id: u64) -> Value {
    json!({
        "id": id, "owner": "anna", "holder": "anna", "reason": "calibration", "scope": ["switch", "reboot"],
        "since": "2025-03-15T10:30:45Z", "expires_at": "2025-03-15T10:32:45Z", "remaining_seconds": 120
    })
}

fn done() -> Value {
    json!({"status": "released", "message": "Inhibitor 1 released"})
}

#[tokio::test]
async fn a_lease_is_held_while_a_command_runs_whose_exit_code_is_ours() {
    let fake = Fake::start().await;
    fake.answers("POST safety/inhibitors", lease(1)).answers("DELETE safety/inhibitors", done());
    for (script, code) in [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", 143)] {
        let url = fake.url();
        let scope = ["--scope", "switch,reboot", "--reason", "calibration", "--", "sh", "-c", script];
        let run = run(&[["--url", &url, "inhibit"].as_slice(), &scope].concat()).await;
        assert_eq!(run.exit, code, "{}", run.err);
    }
    assert_eq!(
        fake.requests()[..2],
        [
            r#"POST safety/inhibitors {"reason":"calibration","scope":["switch","reboot"],"ttl":120}"#,
            "DELETE safety/inhibitors?id=1"
        ]
    );
}

#[tokio::test]
async fn a_command_that_does_not_start_gives_the_lease_back() {
    let fake = Fake::start().await;
    fake.answers("POST safety/inhibitors", lease(1)).answers("DELETE safety/inhibitors", done());
    let run = run(&["--url", &fake.url(), "inhibit", "--", "/nowhere/at-all"]).await;
    assert_eq!(run.exit, 1);
    assert!(run.err.contains("/nowhere/at-all"), "{}", run.err);
    assert_eq!(fake.requests().last().unwrap(), "DELETE safety/inhibitors?id=1");
}

/// Holds updates back with a lease of nine seconds while a command runs that ends once `said` was told; it fails without.
async fn inhibit_until(fake: &Fake, said: &'static str) -> Run {
    let folder = tempfile::tempdir().unwrap();
    let told = folder.path().join("told");
    let script =
        format!("for _ in $(seq 3000); do [ ! -e '{}' ] || exit 0; sleep 0.02; done; exit 1", told.display());
    let watch = |seen: Seen| {
        tokio::spawn(async move {
            while !seen.messages().contains(said) {
                // tidy: waits for what is told, which is written down and wakes nobody
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            std::fs::write(told, "").unwrap();
        });
    };
    let environment = Environment { token: Some("s3cret".into()), ..Environment::default() };
    let url = fake.url();
    let args = ["--url", &url, "inhibit", "--ttl", "9", "--", "sh", "-c", &script];
    run_watched(&args, environment, NOW, watch).await
}

#[tokio::test]
async fn a_gateway_that_forgot_the_lease_is_asked_for_a_new_one() {
    let fake = Fake::start().await;
    let gone = Answer::Refusal(
        404,
        json!({"error": true, "code": "NOT_FOUND", "name": "NOT_FOUND", "message": "inhibitor 1 is not held"}),
    );
    let answers = [Answer::Ok(lease(1)), gone, Answer::Ok(lease(2))];
    fake.on("POST safety/inhibitors", answers).answers("DELETE safety/inhibitors", done());
    let run = inhibit_until(&fake, "held back again").await;
    assert_eq!(run.exit, 0, "{}", run.err);
    assert!(run.err.contains("held back again"), "{}", run.err);
    assert_eq!(fake.requests().last().unwrap(), "DELETE safety/inhibitors?id=2");
}

#[tokio::test]
async fn a_renewal_that_is_lost_is_made_again_before_the_lease_runs_out() {
    let fake = Fake::start().await;
    let busy = json!({"error": true, "code": "INTERNAL", "name": "INTERNAL", "message": "the store is busy"});
    let answers = [Answer::Ok(lease(1)), Answer::Refusal(500, busy), Answer::Ok(lease(1))];
    fake.on("POST safety/inhibitors", answers).answers("DELETE safety/inhibitors", done());
    // Renewed after three seconds, again after one more, and then not for three: by then the command has ended.
    let run = inhibit_until(&fake, "still held back").await;
    assert_eq!(run.exit, 0, "{}", run.err);
    assert_eq!(run.err.matches("may not be held back any more").count(), 1, "{}", run.err);
    assert!(run.err.contains("the store is busy") && run.err.contains("still held back"), "{}", run.err);
    assert_eq!(fake.tokens().len(), 4, "taken, renewed twice, given back: {:?}", fake.requests());
}

#[tokio::test]
async fn a_command_goes_on_when_nobody_hears_that_its_lease_may_be_lost() {
    let fake = Arc::new(Fake::start().await);
    let busy = json!({"error": true, "code": "INTERNAL", "name": "INTERNAL", "message": "the store is busy"});
    fake.on("POST safety/inhibitors", [Answer::Ok(lease(1)), Answer::Refusal(500, busy)])
        .answers("DELETE safety/inhibitors", done());
    let folder = tempfile::tempdir().unwrap();
    let tried = folder.path().join("tried");
    let script = format!(
        "for _ in $(seq 3000); do [ ! -e '{}' ] || exit 7; sleep 0.02; done; exit 1",
        tried.display()
    );
    let gateway = Arc::clone(&fake);
    let watch = |seen: Seen| {
        seen.messages.close();
        tokio::spawn(async move {
            // Taken, and renewed in vain twice: in between it was said.
            while gateway.tokens().len() < 3 {
                // tidy: waits for requests, which are written down and wake nobody
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            std::fs::write(tried, "").unwrap();
        });
    };
    let environment = Environment { token: Some("s3cret".into()), ..Environment::default() };
    let url = fake.url();
    let args = ["--url", &url, "inhibit", "--ttl", "2", "--", "sh", "-c", &script];
    let run = run_watched(&args, environment, NOW, watch).await;
    assert_eq!(run.exit, 7);
}

#[tokio::test]
async fn a_refused_lease_runs_nothing() {
    let fake = Fake::start().await;
    let refusal = json!({"error": true, "code": "FORBIDDEN", "name": "FORBIDDEN", "message": "no"});
    fake.on("POST safety/inhibitors", [Answer::Refusal(403, refusal)]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ran").display().to_string();
    let run = run(&["--url", &fake.url(), "inhibit", "--", "touch", &file]).await;
    assert_eq!(run.exit, 4);
    assert!(!folder.path().join("ran").exists());
}

#[tokio::test]
async fn leases_windows_and_the_speed_limit_are_shown_and_changed() {
    let fake = Fake::start().await;
    fake.answers("GET safety/inhibitors", json!({"inhibitors": [lease(1)]}))
        .answers("DELETE safety/inhibitors", done())
        .answers(
            "GET safety/windows",
            json!({"clock_trusted": false, "windows": [{
                "name": "night", "kind": "update", "opens_at": "2025-03-15T22:00:00Z",
                "closes_at": "2025-03-16T05:00:00Z", "duration_seconds": 25200
            }]}),
        )
        .answers("GET settings/bandwidth", json!({"bytes_per_second": null}))
        .answers("PUT settings/bandwidth", json!({"bytes_per_second": 500_000}));
    let url = fake.url();
    let shown = async |args: &[&str]| run(&[["--url", url.as_str()].as_slice(), args].concat()).await;
    let leases = shown(&["inhibitors"]).await;
    assert!(leases.out.contains("anna") && leases.out.contains("switch,reboot"), "{}", leases.out);
    assert_eq!(shown(&["inhibitors", "--release", "1"]).await.out, "Inhibitor 1 released\n");
    let windows = shown(&["windows", "--limit", "5"]).await;
    assert!(windows.out.contains("night") && windows.out.contains("07:00:00"), "{}", windows.out);
    assert!(windows.err.contains("not trusted"), "{}", windows.err);
    assert_eq!(shown(&["bandwidth", "get"]).await.out, "no limit\n");
    assert_eq!(shown(&["bandwidth", "set", "500k"]).await.out, "0.5MB/s (500000 bytes a second)\n");
    let requests = fake.requests();
    assert!(requests.contains(&"GET safety/windows?limit=5".to_owned()), "{requests:?}");
    assert!(
        requests.contains(&r#"PUT settings/bandwidth {"bytes_per_second":500000}"#.to_owned()),
        "{requests:?}"
    );
}

#[tokio::test]
async fn a_dry_run_tells_what_holds_an_update_back_and_what_to_do() {
    let fake = Fake::start().await;
    let crane = json!({
        "constraint": "crane_motion", "status": "moving", "message": "Crane movement detected",
        "resolution": "Wait for crane to stop", "estimated_wait": "00:02:30", "estimated_wait_seconds": 150
    });
    fake.answers(
        "POST updates/explain",
        json!({
            "forecast": "start_then_wait", "message": "Job OTA-JOB-8821X would start now and then wait.",
            "job_id": "OTA-JOB-8821X", "status": "downloaded", "strategy": "seamless",
            "steps": [
                {"step": "write", "outcome": "allow", "reasons": []},
                {"step": "switch", "outcome": "wait", "reasons": [crane]},
                {"step": "reboot", "outcome": "deny", "not_before": "2025-03-15T12:00:00Z", "reasons": []}
            ],
            "estimated_duration": "00:04:10", "estimated_duration_seconds": 250,
            "window": {"needed": false, "fits": false, "clock_trusted": true},
            "obstacles": [], "suggested_actions": ["Wait for crane to stop"]
        }),
    );
    let run = run(&["--url", &fake.url(), "explain", "OTA-JOB-8821X", "--strategy", "seamless"]).await;
    assert_eq!(run.exit, 0, "{}", run.err);
    insta::assert_snapshot!(run.out);
    assert_eq!(fake.requests(), [r#"POST updates/explain {"job_id":"OTA-JOB-8821X","strategy":"seamless"}"#]);
}
