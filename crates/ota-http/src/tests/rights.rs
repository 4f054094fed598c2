//! Route × prefix × credential, made from the document: a new route takes part without anybody writing a row.

use http::{Method, StatusCode};
use ota_core::{ErrorCode, ports::Role};
use serde_json::Value;

use super::harness::{ADMIN, API, EXPIRED, Gateway, OPERATOR, VIEWER};

struct Row {
    method: Method,
    path: String,
    /// `None`: open.
    role: Option<Role>,
    audited: bool,
}

fn rows() -> Vec<Row> {
    let doc = serde_json::to_value(crate::openapi()).unwrap();
    let mut rows = Vec::new();
    for (path, item) in doc["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let role =
                match operation["x-role"].as_str().unwrap_or_else(|| panic!("{method} {path} has no role")) {
                    "none" => None,
                    "viewer" => Some(Role::Viewer),
                    "operator" => Some(Role::Operator),
                    "admin" => Some(Role::Admin),
                    other => panic!("{other}"),
                };
            let method = method.to_uppercase().parse().unwrap();
            rows.push(Row { method, path: path.clone(), role, audited: operation.get("x-audit").is_some() });
        }
    }
    rows
}

#[test]
fn every_change_is_audited_and_every_refusal_is_documented() {
    for row in rows() {
        assert_eq!(row.method != Method::GET, row.audited, "{} {}", row.method, row.path);
    }
    let doc = serde_json::to_value(crate::openapi()).unwrap();
    assert_eq!(doc["openapi"], "3.1.0");
    for (path, item) in doc["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            for (status, response) in operation["responses"].as_object().unwrap() {
                if status.starts_with(['4', '5']) {
                    let schema = &response["content"]["application/json"]["schema"]["$ref"];
                    assert_eq!(schema, "#/components/schemas/ErrorEnvelope", "{method} {path} {status}");
                }
            }
        }
    }
}

#[test]
fn every_reference_in_the_document_leads_somewhere() {
    fn walk(value: &Value, doc: &Value) {
        match value {
            Value::Object(map) => {
                if let Some(Value::String(target)) = map.get("$ref") {
                    assert!(doc.pointer(target.trim_start_matches('#')).is_some(), "{target}");
                }
                map.values().for_each(|value| walk(value, doc));
            }
            Value::Array(items) => items.iter().for_each(|value| walk(value, doc)),
            _ => {}
        }
    }
    let doc = serde_json::to_value(crate::openapi()).unwrap();
    walk(&doc, &doc);
    let names: Vec<_> = doc["paths"]
        .as_object()
        .unwrap()
        .values()
        .flat_map(|item| item.as_object().unwrap().values())
        .map(|operation| operation["operationId"].as_str().unwrap().to_owned())
        .collect();
    let mut distinct = names.clone();
    distinct.sort();
    distinct.dedup();
    assert_eq!(distinct.len(), names.len(), "operation ids repeat");
}

/// What a credential must lead to: refused with this status, or not refused for lack of rights.
fn expected(row: &Row, role: Option<Role>, foreign: bool) -> Option<StatusCode> {
    let probe = row.path == "/healthz" || row.path == "/readyz";
    if foreign && !probe {
        return Some(StatusCode::FORBIDDEN);
    }
    match (row.role, role) {
        (None, _) => None,
        (Some(_), None) => Some(StatusCode::UNAUTHORIZED),
        (Some(needed), Some(has)) => (has < needed).then_some(StatusCode::FORBIDDEN),
    }
}

#[tokio::test]
async fn every_route_under_every_prefix_admits_exactly_its_roles() {
    let gateway = Gateway::start().await;
    let cookie = super::auth::log_in(&gateway, ADMIN).await;
    let mut checked = 0;
    for row in rows() {
        let tail = row.path.strip_prefix(API);
        let prefixes: &[&str] = if tail.is_some() { &crate::PREFIXES } else { &[""] };
        for prefix in prefixes {
            let path = format!("{prefix}{}", tail.unwrap_or(&row.path)).replace("{id}", "OTA-JOB-00000");
            for (credential, role) in [
                (None, None),
                (Some("not-a-token"), None),
                (Some(EXPIRED), None),
                (Some(VIEWER), Some(Role::Viewer)),
                (Some(OPERATOR), Some(Role::Operator)),
                (Some(ADMIN), Some(Role::Admin)),
            ] {
                let mut request = gateway.http.request(row.method.clone(), gateway.url(&path));
                if let Some(secret) = credential {
                    request = request.bearer_auth(secret);
                }
                judge(&row, request, &path, credential, expected(&row, role, false)).await;
                checked += 1;
            }
            let request = gateway.http.request(row.method.clone(), gateway.url(&path));
            let request = request.header("cookie", &cookie).header("origin", "http://evil.example");
            judge(&row, request, &path, Some("cookie"), expected(&row, Some(Role::Admin), true)).await;
            let request = gateway.http.request(row.method.clone(), gateway.url(&path)).bearer_auth(ADMIN);
            let request = request.header("host", "evil.example");
            judge(&row, request, &path, Some("host"), expected(&row, Some(Role::Admin), true)).await;
        }
    }
    assert!(checked > 400, "{checked}");
}

async fn judge(
    row: &Row,
    request: reqwest::RequestBuilder,
    path: &str,
    credential: Option<&str>,
    expected: Option<StatusCode>,
) {
    let response = request.send().await.unwrap();
    let status = response.status();
    let says = format!("{} {path} with {credential:?}: {status}", row.method);
    match expected {
        Some(expected) => {
            assert_eq!(status, expected, "{says}");
            if expected == StatusCode::UNAUTHORIZED {
                assert_eq!(response.headers()["www-authenticate"], "Bearer", "{says}");
            }
            let body: Value = response.json().await.unwrap();
            assert_eq!(body["error"], true, "{says}");
        }
        // Without a body most changes end there; what matters is that it was not for lack of rights.
        None => {
            let body: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap_or_default();
            let name = body["name"].as_str().unwrap_or_default();
            let other = name == ErrorCode::InvalidPin.name() || !matches!(name, "UNAUTHORIZED" | "FORBIDDEN");
            assert!(other && status != StatusCode::INTERNAL_SERVER_ERROR, "{says} {body}");
        }
    }
}
