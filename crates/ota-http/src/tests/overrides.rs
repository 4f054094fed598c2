//! `safety/override`: PIN and record before, announcements after, off at any time.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use http::{Method, StatusCode};
use ota_core::{
    error::PortErrorKind,
    event::EventKind,
    ports::{AuditOutcome, Clock, OverrideRefused, Settings},
    safety::OverrideReport,
};
use ota_engine::{Delivery, Subscription};
use serde_json::{Value, json};

use super::harness::{ADMIN, Gateway, OPERATOR, answer};
use crate::{hash_pin, pin};

/// The body of the spec's example, with this PIN.
fn enable(pin: &str) -> Value {
    json!({"enable": true, "pin": pin, "reason": "Emergency security update", "duration": 1800, "acknowledge_risks": true})
}

async fn with_pin() -> Gateway {
    let gateway = Gateway::start().await;
    let hash = serde_json::to_string(&hash_pin("7392", true).unwrap()).unwrap();
    gateway.store.set_value(pin::HASH, Some(&hash)).unwrap();
    gateway
}

async fn ask(gateway: &Gateway, body: Value) -> (StatusCode, Value) {
    gateway.post("/safety/override", ADMIN, body).await
}

#[tokio::test]
async fn the_spec_s_example_enables_it_and_anybody_with_the_role_ends_it_without_a_pin() {
    let gateway = with_pin().await;
    let (status, body) = ask(&gateway, enable("7392")).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    assert_eq!((&body["status"], &body["duration"]), (&json!("override_enabled"), &json!(1800)));
    assert_eq!(
        (&body["expires_at"], &body["constraints_overridden"]),
        (&json!("2026-01-15T12:30:00Z"), &json!(["crane_motion"]))
    );
    assert_eq!(body["warning"], "Safety constraints overridden. Proceed with caution.");
    let asked = gateway.overrides.asked.lock().unwrap().clone();
    assert_eq!(
        asked,
        [("admin".to_owned(), "Emergency security update".to_owned(), Duration::from_secs(1800))]
    );
    let actions = gateway.store.audited();
    assert!(actions.contains(&"safety.override.requested".to_owned()), "{actions:?}");
    for action in ["safety.override.requested", "safety.override"] {
        let kept = gateway.audited(action).await.reason;
        assert_eq!(kept.as_deref(), Some("Emergency security update (1800 s)"), "{action}");
    }
    gateway.store.audit_faults.fail_always(PortErrorKind::Io("full".into()));
    let (status, body) = ask(&gateway, json!({"enable": false})).await;
    assert_eq!((status, &body["status"]), (StatusCode::OK, &json!("override_disabled")));
    assert!(!gateway.overrides.on.load(Ordering::Relaxed));
    let (_, events) = gateway.get("/events").await;
    let said: Vec<_> =
        events["events"].as_array().unwrap().iter().map(|event| event["event"].clone()).collect();
    assert!(
        said.contains(&json!("override_enabled")) && said.contains(&json!("override_disabled")),
        "{said:?}"
    );
}

#[tokio::test]
async fn without_role_pin_reason_or_record_nothing_is_overridden() {
    let gateway = with_pin().await;
    assert_eq!(gateway.post("/safety/override", OPERATOR, enable("7392")).await.0, StatusCode::FORBIDDEN);
    for (field, path) in
        [("reason", "$.reason"), ("duration", "$.duration"), ("acknowledge_risks", "$.acknowledge_risks")]
    {
        let mut body = enable("7392");
        body.as_object_mut().unwrap().remove(field);
        let (status, answer) = ask(&gateway, body).await;
        assert_eq!((status, &answer["details"]["path"]), (StatusCode::BAD_REQUEST, &json!(path)));
    }
    let (status, body) = ask(&gateway, enable("0000")).await;
    assert_eq!(
        (status, &body["code"], &body["details"]["attempts_left"]),
        (StatusCode::FORBIDDEN, &json!("OTA_010"), &json!(4))
    );
    let record = gateway.audited("safety.override").await;
    assert_eq!(record.outcome, AuditOutcome::Refused);
    assert!(!format!("{record:?}").contains("0000"));
    gateway.store.audit_faults.fail_next(PortErrorKind::Io("full".into()));
    let (status, body) = ask(&gateway, enable("7392")).await;
    assert_eq!(
        (status, &body["details"]["reason"]),
        (StatusCode::SERVICE_UNAVAILABLE, &json!("audit_not_writable"))
    );
    assert!(gateway.overrides.asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_wrong_pin_says_nothing_of_the_rest() {
    let gateway = with_pin().await;
    *gateway.overrides.refuse.lock().unwrap() = Some(OverrideRefused::NothingViolated);
    assert_eq!(ask(&gateway, enable("0000")).await.1["code"], "OTA_010");
    assert_eq!(ask(&gateway, enable("7392")).await.1["code"], "INVALID_REQUEST");
    *gateway.overrides.refuse.lock().unwrap() =
        Some(OverrideRefused::BadDuration { max: Duration::from_secs(60) });
    assert_eq!(ask(&gateway, enable("7392")).await.1["details"]["path"], "$.duration");
    gateway.violate();
    let constraints = vec!["crane_motion".to_owned()];
    *gateway.overrides.refuse.lock().unwrap() = Some(OverrideRefused::NotOverridable { constraints });
    let (status, body) = ask(&gateway, enable("7392")).await;
    assert_eq!(
        (status, &body["code"], &body["details"]["constraint"]),
        (StatusCode::BAD_REQUEST, &json!("OTA_002"), &json!("crane_motion"))
    );
}

async fn compliance(gateway: &Gateway) -> Value {
    let path = "/reports/compliance?to=2026-12-31T00:00:00Z";
    answer(gateway.ask(Method::GET, path, ADMIN)).await.1
}

#[tokio::test]
async fn where_two_must_agree_the_first_only_proposes() {
    let gateway = with_pin().await;
    gateway.overrides.needs_two.store(true, Ordering::Relaxed);
    let mut events = gateway.engine.subscribe(None);
    let (status, body) = ask(&gateway, enable("7392")).await;
    until(&mut events, "override_proposed").await;
    assert_eq!(
        (status, &body["status"], &body["expires_at"]),
        (StatusCode::ACCEPTED, &json!("override_proposed"), &json!("2026-01-15T12:05:00Z"))
    );
    let kept = gateway.audited("safety.override").await.reason;
    assert_eq!(kept.as_deref(), Some("proposed: Emergency security update (1800 s)"));
    let report = compliance(&gateway).await;
    assert_eq!((&report["total"]["overrides"], &report["overrides"]), (&json!(0), &json!([])), "{report}");
    gateway.overrides.needs_two.store(false, Ordering::Relaxed);
    assert_eq!(ask(&gateway, enable("7392")).await.0, StatusCode::OK);
    let report = compliance(&gateway).await;
    assert_eq!(report["total"]["overrides"], 1, "{report}");
}

#[tokio::test]
async fn the_end_of_an_override_is_announced() {
    let gateway = with_pin().await;
    let mut events = gateway.engine.subscribe(None);
    let mut body = enable("7392");
    body["duration"] = json!(1);
    assert_eq!(ask(&gateway, body).await.0, StatusCode::OK);
    until(&mut events, "override_expired").await;
}

async fn until(events: &mut Subscription, wanted: &str) {
    let told = async {
        loop {
            let Delivery::Event(event) = events.next().await else { panic!("dropped") };
            if matches!(event.kind, EventKind::System { event, .. } if event == wanted) {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), told).await.expect("its end is not announced");
}

#[tokio::test]
async fn the_end_of_an_override_is_announced_and_recorded_however_long_its_beginning_took() {
    let gateway = with_pin().await;
    let mut events = gateway.engine.subscribe(None);
    *gateway.overrides.busy.lock().unwrap() = Some(Arc::clone(&gateway.clock));
    let start = gateway.clock.monotonic();
    let lasts = Duration::from_secs(1800);
    let mut active = OverrideReport {
        constraints: vec!["crane_motion".into()],
        reason: "Emergency security update".into(),
        remaining: lasts,
        expires_at: gateway.clock.wall() + lasts,
    };
    gateway.gate.set_override(Some(active.clone()));
    assert_eq!(ask(&gateway, enable("7392")).await.0, StatusCode::OK);
    // As the engine ends it: by the time at which it was asked for.
    active.remaining = Duration::ZERO;
    gateway.gate.set_override(Some(active));
    gateway.clock.set_monotonic(start + lasts);
    gateway.gate.set_override(None);
    until(&mut events, "override_expired").await;
    let kept = async {
        while !gateway.store.audited().contains(&"safety.override.expired".to_owned()) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), kept).await.expect("its end is not recorded");
}

#[tokio::test]
async fn a_handler_that_panics_leaves_an_envelope_and_a_record() {
    let gateway = with_pin().await;
    let asked = &gateway.overrides.asked;
    let held = || {
        let _held = asked.lock();
        panic!("what the handler needs is broken")
    };
    assert!(std::thread::scope(|scope| scope.spawn(held).join()).is_err());
    let (status, body) = ask(&gateway, enable("7392")).await;
    assert_eq!((status.as_u16(), &body["name"]), (500, &json!("INTERNAL")), "{body}");
    assert_eq!(gateway.audited("safety.override").await.outcome, AuditOutcome::Failed);
}
