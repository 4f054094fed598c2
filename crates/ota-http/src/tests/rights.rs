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

/// How a request proves itself, and what the guard has to make of it.
enum Proof {
    /// `None`: nothing at all.
    Bearer(Option<&'static str>, Option<Role>),
    /// The admin's session, with the `Origin` of this page.
    Cookie { origin: String, foreign: bool },
    /// The admin's token, to a host that is not ours.
    ForeignHost,
}

/// The seven credentials of issue 3, then what tells that it is the foreign page and host that are refused.
fn proofs(gateway: &Gateway) -> Vec<(&'static str, Proof)> {
    vec![
        ("none", Proof::Bearer(None, None)),
        ("bad", Proof::Bearer(Some("not-a-token"), None)),
        ("expired", Proof::Bearer(Some(EXPIRED), None)),
        ("viewer", Proof::Bearer(Some(VIEWER), Some(Role::Viewer))),
        ("operator", Proof::Bearer(Some(OPERATOR), Some(Role::Operator))),
        ("admin", Proof::Bearer(Some(ADMIN), Some(Role::Admin))),
        ("cookie, foreign origin", Proof::Cookie { origin: "http://evil.example".into(), foreign: true }),
        ("cookie, own origin", Proof::Cookie { origin: gateway.url(""), foreign: false }),
        ("foreign host", Proof::ForeignHost),
    ]
}

/// The path with something in the place of each parameter.
fn filled(path: &str) -> String {
    let parts = path.split('/').map(|part| if part.starts_with('{') { "OTA-JOB-00000" } else { part });
    parts.collect::<Vec<_>>().join("/")
}

#[tokio::test]
async fn every_route_under_every_prefix_admits_exactly_its_roles() {
    let gateway = Gateway::start().await;
    let (rows, proofs) = (rows(), proofs(&gateway));
    let (mut checked, mut paths) = (0, 0);
    for row in &rows {
        let tail = row.path.strip_prefix(API);
        let prefixes: &[&str] = if tail.is_some() { &crate::PREFIXES } else { &[""] };
        for prefix in prefixes {
            let path = filled(&format!("{prefix}{}", tail.unwrap_or(&row.path)));
            paths += 1;
            for (name, proof) in &proofs {
                let request = gateway.http.request(row.method.clone(), gateway.url(&path));
                let (request, expected) = match proof {
                    Proof::Bearer(None, role) => (request, expected(row, *role, false)),
                    Proof::Bearer(Some(secret), role) => {
                        (request.bearer_auth(secret), expected(row, *role, false))
                    }
                    Proof::Cookie { origin, foreign } => {
                        // One of its own each time: a route may end the session.
                        let cookie = super::auth::log_in(&gateway, ADMIN).await;
                        let request = request.header("cookie", cookie).header("origin", origin);
                        (request, expected(row, Some(Role::Admin), *foreign))
                    }
                    Proof::ForeignHost => {
                        let request = request.bearer_auth(ADMIN).header("host", "evil.example");
                        (request, expected(row, Some(Role::Admin), true))
                    }
                };
                judge(row, request, &path, Some(name), expected).await;
                checked += 1;
            }
        }
    }
    let (inside, outside) = (rows.iter().filter(|row| row.path.starts_with(API)).count(), rows.len());
    assert_eq!(paths, inside * crate::PREFIXES.len() + (outside - inside));
    assert_eq!(checked, paths * proofs.len());
    println!(
        "{} routes, {paths} with their prefixes, {} credentials: {checked} cells",
        rows.len(),
        proofs.len()
    );
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
