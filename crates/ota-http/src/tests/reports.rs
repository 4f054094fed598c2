//! `reports/compliance` over real records of jobs and audit.

use http::{Method, StatusCode, header};
use serde_json::{Value, json};

use super::harness::{ADMIN, Gateway, OPERATOR, answer};
use crate::{hash_pin, pin};
use ota_core::ports::Settings as _;

#[tokio::test]
async fn updates_overrides_and_pin_failures_are_in_the_report_in_three_formats() {
    let gateway = Gateway::start().await;
    let hash = serde_json::to_string(&hash_pin("4711", false).unwrap()).unwrap();
    gateway.store.set_value(pin::HASH, Some(&hash)).unwrap();
    let id = gateway.downloaded().await;
    gateway.post("/updates/cancel", OPERATOR, json!({"job_id": id, "reason": "<not> today"})).await;
    gateway.post("/updates/rollback", ADMIN, json!({"pin": "0815"})).await;
    let enable = |pin: &str| json!({"enable": true, "pin": pin, "reason": "sensor broken", "duration": 60, "acknowledge_risks": true});
    assert_eq!(gateway.post("/safety/override", ADMIN, enable("0815")).await.0, StatusCode::FORBIDDEN);
    assert_eq!(gateway.post("/safety/override", ADMIN, enable("4711")).await.0, StatusCode::OK);
    let disable = json!({"enable": false, "reason": "sensor mended"});
    assert_eq!(gateway.post("/safety/override", ADMIN, disable).await.0, StatusCode::OK);
    let ask = |query: &str| gateway.ask(Method::GET, &format!("/reports/compliance{query}"), ADMIN);
    // Up to now, but without now: the clock of the test stands still.
    let (status, report) = answer(ask("?to=2027-01-01T00:00:00Z")).await;
    assert_eq!(status, StatusCode::OK, "{report}");
    let total = &report["total"];
    assert_eq!(
        (&total["tried"], &total["cancelled"], &total["pin_failures"]),
        (&json!(1), &json!(1), &json!(2))
    );
    assert_eq!(report["overrides"][0]["reason"], "sensor broken (60 s)");
    assert_eq!((report["overrides"].as_array().unwrap().len(), &report["audit_intact"]), (1, &json!(true)));
    assert_eq!((&report["gateway"], &report["periods"][0]["begins"]), (&json!("gw"), &json!("2026-01-01")));
    assert_eq!(report["updates"][0]["reason"], "<not> today");
    let (_, Value::String(csv)) = answer(ask("?to=2027-01-01T00:00:00Z&format=csv")).await else { panic!() };
    assert!(csv.starts_with("begins,tried,") && csv.contains("\r\n2026-01-01,1,0,0,0,1,"), "{csv}");
    let page = ask("?to=2027-01-01T00:00:00Z&format=html").send().await.unwrap();
    let policy = page.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap().to_owned();
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
    let page = page.text().await.unwrap();
    assert!(page.contains("&lt;not&gt; today") && !page.contains("<not>"), "{page}");
    let (_, none) = answer(ask("?from=2020-01-01T00:00:00Z&to=2021-01-01T00:00:00Z&period=week")).await;
    assert_eq!((&none["total"]["tried"], &none["periods"]), (&json!(0), &json!([])));
    for bad in ["?from=yesterday", "?period=fortnight", "?from=2027-01-01T00:00:00Z&to=2026-01-01T00:00:00Z"]
    {
        let (status, body) = answer(ask(bad)).await;
        assert_eq!((status, &body["name"]), (StatusCode::BAD_REQUEST, &json!("INVALID_REQUEST")), "{bad}");
    }
}
