//! Tokens, sessions and the PIN over HTTP.

use std::time::Duration;

use http::{Method, StatusCode, header};
use ota_core::{error::PortErrorKind, ports::AuditOutcome};
use serde_json::{Value, json};

use super::harness::{ADMIN, API, Gateway, OPERATOR, VIEWER, answer};

/// Logs in and gives the cookie as a browser sends it.
pub(super) async fn log_in(gateway: &Gateway, token: &str) -> String {
    let request =
        gateway.http.post(gateway.url(&format!("{API}/auth/session"))).json(&json!({"token": token}));
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let cookie = response.headers()[header::SET_COOKIE].to_str().unwrap().to_owned();
    for part in ["HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=43200"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    cookie.split(';').next().unwrap().to_owned()
}

async fn with_cookie(gateway: &Gateway, cookie: &str, path: &str) -> (StatusCode, Value) {
    answer(gateway.http.get(gateway.url(&format!("{API}{path}"))).header("cookie", cookie)).await
}

#[tokio::test]
async fn a_browser_logs_in_reads_changes_from_our_own_page_and_logs_out() {
    let gateway = Gateway::start().await;
    let cookie = log_in(&gateway, OPERATOR).await;
    let (status, body) = with_cookie(&gateway, &cookie, "/auth/session").await;
    assert_eq!(
        (status, &body["name"], &body["role"]),
        (StatusCode::OK, &json!("operator"), &json!("operator"))
    );
    let change = |origin: Option<String>| {
        let request =
            gateway.http.post(gateway.url(&format!("{API}/updates/download"))).header("cookie", &cookie);
        let request = request.json(&json!({"update_id": "rel-v5.0.5"}));
        answer(match origin {
            Some(origin) => request.header("origin", origin),
            None => request,
        })
    };
    assert_eq!(change(None).await.0, StatusCode::FORBIDDEN);
    assert_eq!(change(Some("http://evil.example".into())).await.0, StatusCode::FORBIDDEN);
    assert!(gateway.engine.active().borrow().is_none());
    assert_eq!(change(Some(format!("http://{}", gateway.address))).await.0, StatusCode::OK);
    assert_eq!(gateway.audited("updates.download").await.actor, "session:operator");
    let out = gateway.http.delete(gateway.url(&format!("{API}/auth/session")));
    let out = out.header("cookie", &cookie).header("origin", format!("http://{}", gateway.address));
    assert_eq!(answer(out).await.0, StatusCode::OK);
    assert_eq!(with_cookie(&gateway, &cookie, "/system/status").await.0, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_session_ends_when_it_is_idle_and_with_its_token() {
    let gateway = Gateway::start().await;
    let cookie = log_in(&gateway, VIEWER).await;
    gateway.clock.advance(Duration::from_secs(29 * 60));
    assert_eq!(with_cookie(&gateway, &cookie, "/system/status").await.0, StatusCode::OK);
    gateway.clock.advance(Duration::from_secs(30 * 60));
    assert_eq!(with_cookie(&gateway, &cookie, "/system/status").await.0, StatusCode::UNAUTHORIZED);
    let cookie = log_in(&gateway, VIEWER).await;
    let revoke = gateway.ask(Method::DELETE, "/auth/tokens?name=viewer", ADMIN);
    assert_eq!(answer(revoke).await.0, StatusCode::OK);
    assert_eq!(with_cookie(&gateway, &cookie, "/system/status").await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(gateway.get("/system/status").await.0, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_browser_is_told_the_end_of_its_session_or_of_its_token_whichever_comes_first() {
    let gateway = Gateway::start().await;
    let told =
        async |cookie: &str| with_cookie(&gateway, cookie, "/auth/session").await.1["expires_at"].clone();
    let cookie = log_in(&gateway, VIEWER).await;
    gateway.clock.advance(Duration::from_secs(600));
    assert_eq!(told(&cookie).await, json!("2026-01-16T00:00:00Z"), "the token has no end");
    let body = json!({"name": "brief", "role": "viewer", "expires_in": 3600});
    let (_, made) = gateway.post("/auth/tokens", ADMIN, body).await;
    let cookie = log_in(&gateway, made["token"].as_str().unwrap()).await;
    assert_eq!(told(&cookie).await, made["expires_at"]);
}

#[tokio::test]
async fn a_wrong_token_does_not_log_in() {
    let gateway = Gateway::start().await;
    let request =
        gateway.http.post(gateway.url(&format!("{API}/auth/session"))).json(&json!({"token": "nope"}));
    assert_eq!(answer(request).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(gateway.audited("auth.session.create").await.outcome, AuditOutcome::Refused);
}

#[tokio::test]
async fn a_token_is_made_listed_used_and_ends() {
    let gateway = Gateway::start().await;
    let body = json!({"name": "site-7", "role": "operator", "expires_in": 3600});
    let (status, made) = gateway.post("/auth/tokens", ADMIN, body.clone()).await;
    assert_eq!((status, &made["expires_at"]), (StatusCode::CREATED, &json!("2026-01-15T13:00:00Z")));
    let secret = made["token"].as_str().unwrap();
    assert_eq!(
        gateway.ask(Method::GET, "/system/status", secret).send().await.unwrap().status(),
        StatusCode::OK
    );
    let (_, list) = answer(gateway.ask(Method::GET, "/auth/tokens", ADMIN)).await;
    assert!(list["tokens"].as_array().unwrap().iter().any(|token| token["name"] == "site-7"));
    assert!(!list.to_string().contains(secret));
    let (status, taken) = gateway.post("/auth/tokens", ADMIN, body).await;
    assert_eq!((status, &taken["code"]), (StatusCode::CONFLICT, &json!("OTA_014")));
    let (status, _) = gateway.post("/auth/tokens", ADMIN, json!({"name": "a b", "role": "viewer"})).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    gateway.clock.advance(Duration::from_secs(3600));
    let late = gateway.ask(Method::GET, "/system/status", secret).send().await.unwrap();
    assert_eq!(late.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn the_last_admin_token_that_holds_cannot_be_revoked_by_itself_its_session_or_another_at_once() {
    let gateway = Gateway::start().await;
    let revoke = |name: &str, token: &str| {
        answer(gateway.ask(Method::DELETE, &format!("/auth/tokens?name={name}"), token))
    };
    // There is another admin's, which has expired.
    let (status, body) = revoke("admin", ADMIN).await;
    assert_eq!((status.as_u16(), &body["details"]["path"]), (400, &json!("query.name")), "{body}");
    assert!(body["message"].as_str().unwrap().contains("admin is the last admin token that holds"), "{body}");
    let cookie = log_in(&gateway, ADMIN).await;
    let path = format!("http://{}{}/auth/tokens?name=admin", gateway.address, API);
    let by_session = gateway
        .http
        .delete(path)
        .header(header::COOKIE, &cookie)
        .header(header::ORIGIN, format!("http://{}", gateway.address));
    assert_eq!(answer(by_session).await.0.as_u16(), 400);
    let (_, made) = gateway.post("/auth/tokens", ADMIN, json!({"name": "second", "role": "admin"})).await;
    let second = made["token"].as_str().unwrap();
    // Both at once: one stays.
    let (a, b) = tokio::join!(revoke("admin", ADMIN), revoke("second", second));
    let mut answers = [a.0.as_u16(), b.0.as_u16()];
    answers.sort_unstable();
    assert!(answers[0] == 200 && [400, 401].contains(&answers[1]), "{answers:?}");
    let left = if a.0.as_u16() == 200 { second } else { ADMIN };
    assert_eq!(answer(gateway.ask(Method::GET, "/auth/tokens", left)).await.0.as_u16(), 200);
}

#[tokio::test]
async fn without_a_writable_audit_no_token_is_made() {
    let gateway = Gateway::start().await;
    gateway.store.audit_faults.fail_next(PortErrorKind::Io("full".into()));
    let (status, body) = gateway.post("/auth/tokens", ADMIN, json!({"name": "x", "role": "admin"})).await;
    assert_eq!(
        (status, &body["details"]["reason"]),
        (StatusCode::SERVICE_UNAVAILABLE, &json!("audit_not_writable"))
    );
    let (_, list) = answer(gateway.ask(Method::GET, "/auth/tokens", ADMIN)).await;
    assert!(!list.to_string().contains("\"x\""));
}

#[tokio::test]
async fn the_pin_is_set_once_freely_and_then_only_with_the_present_one() {
    let gateway = Gateway::start().await;
    let set = |body: Value| answer(gateway.ask(Method::PUT, "/auth/pin", ADMIN).json(&body));
    assert_eq!(set(json!({"new_pin": "7392"})).await.1["details"]["path"], "$.new_pin");
    assert_eq!(set(json!({"new_pin": "4711"})).await.0, StatusCode::OK);
    let (status, body) = set(json!({"new_pin": "8532"})).await;
    assert_eq!(
        (status, &body["code"], &body["details"]["attempts_left"]),
        (StatusCode::FORBIDDEN, &json!("OTA_010"), &json!(5))
    );
    for left in [4, 3, 2, 1, 0] {
        let (_, body) = set(json!({"new_pin": "8532", "pin": "9999"})).await;
        assert_eq!(body["details"]["attempts_left"], left);
    }
    let locked =
        gateway.ask(Method::PUT, "/auth/pin", ADMIN).json(&json!({"new_pin": "8532", "pin": "4711"}));
    let locked = locked.send().await.unwrap();
    assert_eq!(
        (locked.status(), &locked.headers()["retry-after"]),
        (StatusCode::TOO_MANY_REQUESTS, &"300".parse().unwrap())
    );
    gateway.clock.advance(Duration::from_secs(300));
    assert_eq!(set(json!({"new_pin": "8532", "pin": "4711"})).await.0, StatusCode::OK);
    let record = gateway.audited("auth.pin.set").await;
    assert_eq!(record.outcome, AuditOutcome::Ok);
    assert!(!format!("{record:?}").contains("8532"));
}
