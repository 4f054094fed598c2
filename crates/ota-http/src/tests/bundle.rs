//! The debug bundle: what is in it, and that no secret is (A5).

use std::io::Read as _;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{Method, StatusCode, header};
use serde_json::json;

use super::harness::{ADMIN, Gateway, OPERATOR};

/// Fetches a bundle and unpacks it with tar: names and texts.
async fn bundle(gateway: &Gateway) -> Vec<(String, String)> {
    let response = gateway.ask(Method::POST, "/debug-bundle", ADMIN).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let named = response.headers()[header::CONTENT_DISPOSITION].to_str().unwrap().to_owned();
    assert!(named.starts_with("attachment; filename=\"debug-gw-"), "{named}");
    let bytes = response.bytes().await.unwrap();
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(bytes.as_ref()));
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().file_name().unwrap().to_string_lossy().into_owned();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        (name, text)
    });
    entries.collect()
}

/// A secret as it is, in base64, hexadecimal and percent encoding.
pub(super) fn four_encodings(secret: &str) -> [String; 4] {
    let percent = secret.bytes().map(|byte| format!("%{byte:02X}")).collect();
    [secret.into(), STANDARD.encode(secret), hex::encode(secret), percent]
}

#[tokio::test]
async fn a_bundle_has_what_the_api_and_the_daemon_know_and_says_what_is_missing() {
    let gateway = Gateway::start().await;
    gateway.downloaded().await;
    gateway.diagnostics.texts.lock().unwrap().push(("log.txt".into(), "a line\n".into()));
    let files = bundle(&gateway).await;
    let text =
        |name: &str| &files.iter().find(|(file, _)| file == name).unwrap_or_else(|| panic!("{name}")).1;
    assert!(text("status.json").contains("\"serial\": \"SN1\""));
    assert!(text("jobs.json").contains("\"status\": \"downloaded\""));
    assert!(text("audit.jsonl").contains("\"action\":\"updates.download\""));
    assert!(text("audit-verify.json").contains("\"intact\": true"));
    assert!(text("metrics.txt").contains("ota_up 1"));
    assert!(text("events.jsonl").contains("job_complete"));
    for name in ["safety.json", "uploads.json", "about.json"] {
        assert!(!text(name).is_empty());
    }
    assert_eq!(text("log.txt"), "a line\n");
    assert_eq!(text("absent.txt"), "not available: there is none\n");
    assert_eq!(gateway.audited("debug_bundle.create").await.actor, "admin");
    let refused = gateway.ask(Method::POST, "/debug-bundle", OPERATOR).send().await.unwrap();
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn twelve_canaries_in_four_encodings_are_in_no_bundle() {
    let token = format!("ota_{}", "c0ffee".repeat(8));
    let key = "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49canary\n-----END PRIVATE KEY-----".to_owned();
    // The name under which each is known, and the secret itself.
    let canaries: [(&str, String); 12] = [
        ("token", token),
        ("cookie", "f0e1d2c3".repeat(8)),
        ("pin", "48151623".into()),
        ("pin hash", "$argon2id$v=19$m=19456,t=2,p=1$Y2FuYXJ5c2FsdA$aGFzaG9mY2FuYXJ5".into()),
        ("TLS key", key),
        ("URL password", "url-c4n4ry!".into()),
        ("proxy password", "pröxy c4n4ry".into()),
        ("broker password", "mqtt~c4n4ry/+".into()),
        ("sensor token", "sensor.c4n4ry".into()),
        ("header of a source", "x-api-c4n4ry=".into()),
        ("token digest", hex::encode([0xA5; 32])),
        ("query of a source", "sig&c4n4ry?".into()),
    ];
    let gateway = Gateway::start().await;
    let mut log = String::new();
    for (name, secret) in &canaries {
        gateway.diagnostics.secrets.lock().unwrap().push(secret.clone());
        for form in four_encodings(secret) {
            log += &format!("{name}: {form} and \"{form}\", at https://user:{form}@host/?q={form}\n");
        }
        log += &format!("Authorization: Basic {}\n", STANDARD.encode(format!("user:{secret}")));
    }
    gateway.diagnostics.texts.lock().unwrap().push(("log.txt".into(), log));
    // What people write comes into the bundle through jobs and audit.
    let id = gateway.downloaded().await;
    let told = canaries.iter().map(|(_, secret)| secret.as_str()).collect::<Vec<_>>().join(" ");
    gateway.post("/updates/cancel", OPERATOR, json!({"job_id": id, "reason": told})).await;
    let files = bundle(&gateway).await;
    assert!(files.iter().any(|(name, text)| name == "log.txt" && text.contains("broker password: ***")));
    for (name, secret) in &canaries {
        for form in four_encodings(secret) {
            for (file, text) in &files {
                assert!(!text.contains(&form), "{name} is in {file} as {form}");
            }
        }
    }
}

#[tokio::test]
async fn what_looks_like_a_secret_is_left_out_though_nobody_knows_it() {
    let gateway = Gateway::start().await;
    let hash = crate::hash_pin("4711", false).unwrap();
    let log = format!("ota_{} {hash} ota_session={}", "ab".repeat(32), "cd".repeat(32));
    gateway.diagnostics.texts.lock().unwrap().push(("log.txt".into(), log));
    let files = bundle(&gateway).await;
    let log = &files.iter().find(|(name, _)| name == "log.txt").unwrap().1;
    assert_eq!(log, "ota_*** $argon2*** ota_session=***");
}

#[tokio::test]
async fn a_pin_or_token_of_the_wrong_type_is_repeated_nowhere() {
    let gateway = Gateway::start().await;
    let mut said = String::new();
    for (path, body) in [
        ("/updates/rollback", r#"{"pin": 48151623}"#),
        ("/updates/rollback", r#"{"pin": ["48151623"]}"#),
        ("/updates/install", r#"{"job_id": "OTA-JOB-00001", "pin": {"48151623": 1}}"#),
        ("/safety/override", r#"{"enable": true, "pin": 48151623}"#),
        ("/auth/session", r#"{"token": 48151623}"#),
    ] {
        let request = gateway.ask(Method::POST, path, ADMIN).header(header::CONTENT_TYPE, "application/json");
        let (status, answer) = super::harness::answer(request.body(body)).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{path} {answer}");
        said += &answer.to_string();
    }
    let (_, audit) = super::harness::answer(gateway.ask(Method::GET, "/audit", ADMIN)).await;
    said += &audit.to_string();
    assert!(!said.contains("48151623"), "{said}");
    assert!(said.contains("expected a string"), "{said}");
}

/// Asks for a bundle and does not read it: more than fits into sockets and channels, and nothing that gzip makes small.
async fn unread(gateway: &Gateway) -> reqwest::Response {
    let mut noise = String::new();
    let mut state = 1_u64;
    while noise.len() < 24 << 20 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        noise.push(char::from(b' ' + u8::try_from(state >> 58).unwrap()));
    }
    gateway.diagnostics.texts.lock().unwrap().push(("noise.txt".into(), noise));
    let unread = gateway.ask(Method::POST, "/debug-bundle", ADMIN).send().await.unwrap();
    assert_eq!(unread.status(), StatusCode::OK);
    unread
}

/// Waits until another bundle is made. Whoever may have none is told so, whatever else goes on.
async fn until_another(gateway: &Gateway) {
    loop {
        let (status, _) = super::harness::answer(gateway.ask(Method::POST, "/debug-bundle", OPERATOR)).await;
        assert_eq!(status, StatusCode::FORBIDDEN);
        let again = gateway.ask(Method::POST, "/debug-bundle", ADMIN).send().await.unwrap();
        if again.status() == StatusCode::OK {
            break;
        }
    }
}

#[tokio::test]
async fn two_bundles_at_a_time_are_too_many() {
    let gateway = Gateway::start().await;
    let unread = unread(&gateway).await;
    let (status, body) = super::harness::answer(gateway.ask(Method::POST, "/debug-bundle", ADMIN)).await;
    assert_eq!((status, &body["code"]), (StatusCode::CONFLICT, &json!("OTA_014")));
    drop(unread);
    until_another(&gateway).await;
}

#[tokio::test]
async fn a_bundle_that_is_not_read_ends() {
    let short = std::time::Duration::from_millis(200);
    let gateway = Gateway::with(|config| config.limits.body_time = short).await;
    let _unread = unread(&gateway).await;
    until_another(&gateway).await;
}
