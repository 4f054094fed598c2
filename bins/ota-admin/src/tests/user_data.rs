//! `snapshot` and `factory-reset`.

use std::fs;

use serde_json::json;

use super::{fake::Fake, run};

#[tokio::test]
async fn snapshots_are_listed_made_and_put_back() {
    let fake = Fake::start().await;
    let snapshot = json!({
        "id": "SNAP-1763765990000", "created_at": "2025-11-21T22:59:50Z", "cause": "manual", "by": "ada",
        "description": "before the move", "size": 812, "checksum": "sha256:ab", "encrypted": true, "files": 3,
        "content_bytes": 1200, "skipped": ["/etc/plant/link is a symbolic link"], "outlives_reset": false
    });
    fake.answers("GET snapshots", json!({"snapshots": [snapshot]}))
        .answers("POST snapshots", snapshot)
        .answers(
            "POST snapshots/SNAP-1763765990000/restore",
            json!({"status": "restored", "message": "3 file(s) put back from SNAP-1763765990000",
               "id": "SNAP-1763765990000", "files": 3, "content_bytes": 1200}),
        );
    let url = fake.url();
    let listed = run(&["--url", &url, "snapshot", "list"]).await;
    assert_eq!(listed.exit, 0, "{}", listed.err);
    for shown in ["SNAP-1763765990000", "manual", "before the move", "yes"] {
        assert!(listed.out.contains(shown), "{}", listed.out);
    }
    let made = run(&["--url", &url, "snapshot", "create", "--description", "before the move"]).await;
    assert!(made.out.contains("not in it: /etc/plant/link is a symbolic link"), "{}", made.out);
    let key = tempfile::NamedTempFile::new().unwrap();
    fs::write(key.path(), "AGE-SECRET-KEY-1X\n").unwrap();
    let key = key.path().to_str().unwrap();
    let pin = tempfile::NamedTempFile::new().unwrap();
    fs::write(pin.path(), "9471\n").unwrap();
    let pin = pin.path().to_str().unwrap();
    let args = ["--url", &url, "snapshot", "restore", "SNAP-1763765990000", "--yes"];
    let restored = run(&[args.as_slice(), &["--identity-file", key, "--pin-file", pin]].concat()).await;
    assert_eq!(
        (restored.exit, restored.out.trim()),
        (0, "restored: 3 file(s) put back from SNAP-1763765990000")
    );
    assert_eq!(
        fake.requests(),
        [
            "GET snapshots",
            r#"POST snapshots {"description":"before the move"}"#,
            r#"POST snapshots/SNAP-1763765990000/restore {"identity":"AGE-SECRET-KEY-1X\n","pin":"9471"}"#
        ]
    );
}

#[tokio::test]
async fn a_factory_reset_wants_the_sentence_and_the_pin_before_anything_is_sent() {
    let fake = Fake::start().await;
    fake.answers(
        "POST factory-reset",
        json!({"status": "reset_scheduled", "message": "Factory reset scheduled for next boot",
               "reboot_required": true, "backup": "SNAP-7"}),
    );
    let url = fake.url();
    let pin = tempfile::NamedTempFile::new().unwrap();
    fs::write(pin.path(), "9471\n").unwrap();
    let pin = pin.path().to_str().unwrap();
    let reset = ["--url", &url, "factory-reset", "--pin-file", pin, "--backup-settings"];
    // No terminal to ask at, and a sentence that is not exact.
    assert_eq!(run(&reset).await.exit, 2);
    assert_eq!(run(&[&reset[..], &["--confirmation", "yes"]].concat()).await.exit, 2);
    assert!(fake.requests().is_empty());
    let sentence = "I understand this will erase all data";
    let done = run(&[&reset[..], &["--confirmation", sentence]].concat()).await;
    assert_eq!((done.exit, done.out.contains("SNAP-7")), (0, true), "{}{}", done.out, done.err);
    let body =
        format!(r#"POST factory-reset {{"pin":"9471","backup_settings":true,"confirmation":"{sentence}"}}"#);
    assert_eq!(fake.requests(), [body]);
}
