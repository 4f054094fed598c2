//! `factory-reset` and `snapshots`: the order of refusals, what is answered, what is audited.

use http::{Method, StatusCode};
use ota_core::{
    error::{OtaError, PortErrorKind},
    ports::{AuditLog as _, AuditOutcome, FactoryReset as _, Settings as _, Snapshots as _},
    safety::SafetyStep,
};
use serde_json::{Value, json};

use super::harness::{ADMIN, Gateway, OPERATOR, VIEWER, answer};
use crate::{hash_pin, pin};

const SENTENCE: &str = "I understand this will erase all data";

async fn with_pin() -> Gateway {
    let gateway = Gateway::start().await;
    let hash = serde_json::to_string(&hash_pin("7392", true).unwrap()).unwrap();
    gateway.store.set_value(pin::HASH, Some(&hash)).unwrap();
    gateway
}

fn request(pin: &str) -> Value {
    json!({"pin": pin, "backup_settings": true, "confirmation": SENTENCE})
}

#[tokio::test]
async fn the_reset_of_the_spec_is_scheduled_and_answered_as_the_spec_has_it() {
    let gateway = with_pin().await;
    let (status, body) = gateway.post("/factory-reset", ADMIN, request("7392")).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let body_of_the_reset = body.clone();
    assert_eq!(
        (&body["status"], &body["message"], &body["reboot_required"]),
        (&json!("reset_scheduled"), &json!("Factory reset scheduled for next boot"), &json!(true))
    );
    let order = gateway.reset.pending().unwrap().unwrap();
    assert_eq!(
        (order.by.as_str(), order.backup.unwrap().to_string()),
        ("admin", body["backup"].as_str().unwrap().to_owned())
    );
    assert!(order.request_id.unwrap().starts_with("req_"));
    // How far the audit went: the record that announced the reset.
    let (seq, hash) = order.audit_end.unwrap();
    let record = &gateway.store.records(seq - 1, 1).unwrap()[0];
    assert_eq!((record.entry.action.as_str(), &record.hash), ("factory-reset.requested", &hash));
    assert_eq!(gateway.audited("factory-reset").await.outcome, AuditOutcome::Ok);
    let (status, body) =
        gateway.post("/updates/download", OPERATOR, json!({"update_id": "rel-v5.0.5"})).await;
    assert_eq!((status, &body["code"]), (StatusCode::CONFLICT, &json!("OTA_014")));
    let (_, list) = gateway.get("/snapshots").await;
    assert_eq!(list["snapshots"][0]["cause"], "factory_reset");
    let (_, status) = gateway.get("/system/status").await;
    assert_eq!(
        status["factory_reset"],
        json!({
            "message": "a factory reset is scheduled for the next boot",
            "requested_by": "admin",
            "requested_at": "2026-01-15T12:00:00Z",
            "backup": body_of_the_reset["backup"],
        })
    );
}

#[tokio::test]
async fn a_reset_that_the_last_boot_did_not_carry_out_is_shown_as_such() {
    let mut gateway = with_pin().await;
    assert_eq!(gateway.get("/system/status").await.1["factory_reset"], Value::Null);
    let body = json!({"pin": "7392", "confirmation": SENTENCE});
    assert_eq!(gateway.post("/factory-reset", ADMIN, body).await.0, StatusCode::OK);
    gateway.restart(false).await;
    let shown = gateway.get("/system/status").await.1["factory_reset"].clone();
    assert_eq!(shown["message"], "a factory reset is scheduled for the next boot");
    gateway.restart(true).await;
    let shown = gateway.get("/system/status").await.1["factory_reset"].clone();
    assert!(shown["message"].as_str().unwrap().contains("the last boot did not carry it out"), "{shown}");
    assert_eq!(shown["requested_by"], "admin");
}

#[tokio::test]
async fn a_reset_is_refused_in_the_order_of_the_contract() {
    let gateway = with_pin().await;
    let full = OtaError::InsufficientSpace {
        place: "keep".into(),
        required: ota_core::ByteCount(2),
        available: ota_core::ByteCount(1),
    };
    gateway.snapshots.faults.fail_next(PortErrorKind::Ota(full));
    gateway.gate.violate("crane_motion", &[SafetyStep::Reset]);
    let policy = OtaError::FactoryResetNotAllowed { why: "factory_reset.enabled is not set".into() };
    gateway.reset.policy.fail_always(PortErrorKind::Ota(policy));
    gateway.downloaded().await;
    let wrong_sentence = json!({"pin": "0000", "confirmation": "i understand this will erase all data"});
    let code = async |token, body| {
        let (status, body) = gateway.post("/factory-reset", token, body).await;
        (status.as_u16(), body["code"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(code(OPERATOR, request("7392")).await, (403, "FORBIDDEN".into()));
    assert_eq!(code(ADMIN, json!({"pin": 7392})).await, (400, "INVALID_REQUEST".into()));
    assert_eq!(code(ADMIN, wrong_sentence).await, (403, "OTA_011".into()));
    assert_eq!(code(ADMIN, json!({"confirmation": SENTENCE})).await, (403, "OTA_010".into()));
    assert_eq!(code(ADMIN, request("0000")).await, (403, "OTA_010".into()));
    assert_eq!(code(ADMIN, request("7392")).await, (403, "OTA_011".into()));
    gateway.reset.policy.clear();
    assert_eq!(code(ADMIN, request("7392")).await, (409, "OTA_014".into()));
    let job = gateway.engine.active().borrow().as_ref().unwrap().id.to_string();
    gateway.post("/updates/cancel", OPERATOR, json!({"job_id": job})).await;
    gateway.until_idle().await;
    assert_eq!(code(ADMIN, request("7392")).await, (400, "OTA_002".into()));
    gateway.gate.set_service(Some(ota_core::Timestamp::from_secs(4_000_000_000)));
    assert_eq!(code(ADMIN, request("7392")).await, (409, "OTA_015".into()));
    gateway.gate.set_service(None);
    gateway.gate.clear("crane_motion");
    assert_eq!(code(ADMIN, request("7392")).await, (507, "OTA_003".into()));
    assert!(gateway.reset.pending().unwrap().is_none());
    let refused = gateway.audited("factory-reset").await;
    assert_eq!(refused.outcome, AuditOutcome::Failed);
    assert_eq!(code(ADMIN, request("7392")).await, (200, String::new()));
}

#[tokio::test]
async fn an_audit_that_cannot_be_written_lets_no_reset_and_no_restore_through() {
    let gateway = with_pin().await;
    let (_, made) = gateway.post("/snapshots", ADMIN, json!({})).await;
    let unwritable = || PortErrorKind::Unavailable { reason: "audit_not_writable", what: "full".into() };
    gateway.store.audit_faults.fail_always(unwritable());
    let restore = format!("/snapshots/{}/restore", made["id"].as_str().unwrap());
    for (path, body) in
        [("/factory-reset", request("7392")), (restore.as_str(), json!({})), ("/snapshots", json!({}))]
    {
        let (status, body) = gateway.post(path, ADMIN, body).await;
        assert_eq!(
            (status.as_u16(), &body["details"]["reason"]),
            (503, &json!("audit_not_writable")),
            "{path}"
        );
    }
    assert!(gateway.reset.pending().unwrap().is_none());
    assert!(gateway.snapshots.restored().is_empty());
    assert_eq!(gateway.snapshots.list().unwrap().len(), 1);
}

#[tokio::test]
async fn snapshots_are_made_listed_and_put_back_under_every_prefix() {
    let gateway = Gateway::start().await;
    for (n, prefix) in crate::PREFIXES.into_iter().enumerate() {
        let ask = |method, path: &str, token: &str| {
            gateway.http.request(method, gateway.url(&format!("{prefix}{path}"))).bearer_auth(token)
        };
        let body = json!({"description": "before\nthe move"});
        let (status, made) = answer(ask(Method::POST, "/snapshots", ADMIN).json(&body)).await;
        assert_eq!(status, StatusCode::CREATED, "{made}");
        assert_eq!(
            (&made["cause"], &made["by"], &made["description"]),
            (&json!("manual"), &json!("admin"), &json!("before the move"))
        );
        assert_eq!(made["created_at"], "2026-01-15T12:00:00Z");
        let (_, list) = answer(ask(Method::GET, "/snapshots", VIEWER)).await;
        assert_eq!((list["snapshots"].as_array().unwrap().len(), &list["snapshots"][0]), (n + 1, &made));
        let path = format!("/snapshots/{}/restore", made["id"].as_str().unwrap());
        let (status, done) = answer(ask(Method::POST, &path, ADMIN)).await;
        assert_eq!(
            (status, &done["status"], &done["files"]),
            (StatusCode::OK, &json!("restored"), &json!(1))
        );
        let (status, _) = answer(ask(Method::POST, &path, OPERATOR)).await;
        assert_eq!(status, StatusCode::FORBIDDEN);
    }
    let note = gateway.audited("snapshots.restore.requested").await;
    assert!(note.reason.unwrap().starts_with("SNAP-"));
}

#[tokio::test]
async fn an_identity_reaches_the_restore_and_nothing_else() {
    let gateway = Gateway::start().await;
    let (_, made) = gateway.post("/snapshots", ADMIN, json!({})).await;
    gateway.snapshots.encrypt_newest();
    let path = format!("/snapshots/{}/restore", made["id"].as_str().unwrap());
    let (status, body) = gateway.post(&path, ADMIN, json!({})).await;
    assert_eq!((status.as_u16(), &body["name"]), (400, &json!("INVALID_REQUEST")));
    let (status, body) = gateway.post(&path, ADMIN, json!({"identity": "AGE-SECRET-KEY-1CANARY"})).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    assert_eq!(gateway.snapshots.restored()[0].1.as_deref(), Some("AGE-SECRET-KEY-1CANARY"));
    let audit = serde_json::to_string(&gateway.store.records(0, 1000).unwrap()).unwrap();
    assert!(!audit.contains("CANARY") && !body.to_string().contains("CANARY"));
    for unknown in ["SNAP-99", "SNAP-0", "nonsense"] {
        let (status, body) = gateway.post(&format!("/snapshots/{unknown}/restore"), ADMIN, json!({})).await;
        assert_eq!((status.as_u16(), &body["name"]), (404, &json!("NOT_FOUND")), "{unknown}");
    }
}
