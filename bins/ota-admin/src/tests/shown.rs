//! What people are shown by the commands that ask once and print once, as a transcript.

use serde_json::{Value, json};

use super::{
    fake::{Answer, Fake},
    run,
};

fn upload() -> Value {
    json!({"name": "pump.img", "size": 452_000_000, "version": "v5.1.0", "checksum": "sha256:abc123",
        "uploaded_at": "2025-03-15T10:30:45Z", "signature_valid": true, "ready_for_deployment": false})
}

fn verified() -> Value {
    let file = json!({"name": "pump.img", "version": "v5.1.0", "signature_valid": true, "assurance": "signed",
        "compatible": false, "partition_layout": "ext4", "checksum": "sha256:abc123", "size": 452_000_000});
    json!({"status": "verified", "file": file, "ready_for_deployment": false})
}

fn snapshot() -> Value {
    json!({"id": "SNAP-7", "created_at": "2025-11-21T22:59:50Z", "cause": "manual", "by": "ada",
        "description": "before the move", "size": 812, "checksum": "sha256:ab", "encrypted": true, "files": 3,
        "content_bytes": 1200, "skipped": ["/etc/plant/link is a symbolic link"], "outlives_reset": false})
}

fn report() -> Value {
    let sums = |begins: Option<&str>| {
        json!({"begins": begins, "tried": 4, "succeeded": 2, "rolled_back": 1, "failed": 1, "cancelled": 0, "unfinished": 0,
            "rollbacks_by_hand": 0, "shortest_seconds": 200, "median_seconds": 330, "longest_seconds": 400,
            "overrides": 1, "pin_failures": 2, "pin_locked": 1})
    };
    json!({"gateway": "iot-gateway-01", "model": "IGW-5000", "serial": "SN123456789",
        "generated_at": "2025-03-15T10:30:45Z", "from": "2025-03-01T00:00:00Z", "to": "2025-03-15T10:30:45Z",
        "period": "month", "audit_since": "2025-01-01T00:00:00Z", "audit_intact": false, "total": sums(None),
        "periods": [sums(Some("2025-03-01"))], "updates": [],
        "overrides": [{"at": "2025-03-10T08:00:00Z", "actor": "ada", "address": null, "reason": "the crane is locked",
            "audit_seq": 41}]})
}

fn windows() -> Value {
    json!({"clock_trusted": false, "windows": [{"name": "night", "kind": "update", "opens_at": "2025-03-15T22:00:00Z",
        "closes_at": "2025-03-16T05:00:00Z", "duration_seconds": 25200}]})
}

fn lease() -> Value {
    json!({"id": 7, "owner": "anna", "holder": "anna", "reason": "calibration", "scope": ["switch", "reboot"],
        "since": "2025-03-15T10:30:45Z", "expires_at": "2025-03-15T10:32:45Z", "remaining_seconds": 120})
}

fn refusal() -> Answer {
    let envelope = json!({"error": true, "code": "OTA_011", "name": "FACTORY_RESET_FAILED",
        "message": "The factory reset cannot be scheduled", "details": {"reason": "no space for the backup"},
        "suggested_actions": ["Remove a snapshot"], "request_id": "req_9"});
    Answer::Refusal(500, envelope)
}

#[tokio::test]
async fn what_people_are_shown_stays_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(at("pin"), "9471\n").unwrap();
    std::fs::write(at("image.bin"), [1; 100]).unwrap();
    let started = json!({"status": "deploying", "deployment_id": "DEP-12345", "job_id": "OTA-JOB-8821X",
        "message": "Deployment started"});
    let back = json!({"status": "rollback_started", "message": "Going back to v5.0.3", "estimated_duration": "00:02:00",
        "estimated_duration_seconds": 120, "job_id": "OTA-JOB-8822X"});
    let covered = json!({"status": "override_enabled", "duration": 600, "expires_at": "2025-03-15T10:40:45Z",
        "constraints_overridden": ["crane_motion"], "warning": "People answer for safety now"});
    let fake = Fake::start().await;
    fake.answers("GET upload", json!({"uploads": [upload()]}))
        .answers("POST upload/verify", verified())
        .answers("POST upload/deploy", started)
        .answers("GET snapshots", json!({"snapshots": [snapshot()]}))
        .answers("POST snapshots", snapshot())
        .answers("GET reports/compliance", report())
        .answers("GET safety/windows", windows())
        .answers("GET safety/inhibitors", json!({"inhibitors": [lease()]}))
        .answers("POST safety/override", covered)
        .answers("POST updates/rollback", back)
        .answers("GET /healthz", json!({"status": "ok"}))
        .answers("GET /readyz", json!({"status": "ready"}))
        .on("POST factory-reset", [refusal()]);
    let mut shown = String::new();
    for command in [
        "upload list",
        "upload verify pump.img",
        "upload deploy pump.img",
        "snapshot list",
        "snapshot create",
        "report",
        "windows",
        "inhibitors",
        "override on --reason locked --duration 600 --acknowledge-risks --pin-file PIN",
        "rollback --pin-file PIN",
        "factory-reset --confirmation SENTENCE --pin-file PIN",
        "health",
        "inspect IMAGE",
    ] {
        let words = command.split(' ').map(|word| match word {
            "PIN" => at("pin"),
            "IMAGE" => at("image.bin"),
            "SENTENCE" => "I understand this will erase all data".into(),
            word => word.to_owned(),
        });
        let words: Vec<String> = ["--url".into(), fake.url()].into_iter().chain(words).collect();
        let run = run(&words.iter().map(String::as_str).collect::<Vec<_>>()).await;
        shown.push_str(&format!("$ ota-admin {command}\n{}{}[{}]\n", run.out, run.err, run.exit));
    }
    insta::assert_snapshot!(shown.replace(&folder.path().display().to_string(), "DIR"));
}
