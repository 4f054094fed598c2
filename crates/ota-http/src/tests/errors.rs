//! Every refusal is an envelope with the code, the status and the details of the contract.

use http::{Method, StatusCode, header};
use ota_core::{
    error::{OtaError, PortErrorKind, ServerFault, SignatureFault},
    job::JobStatus,
    ports::AuditOutcome,
};
use ota_testkit::source::FetchScript;
use serde_json::{Value, json};

use super::harness::{Gateway, OPERATOR, VIEWER, answer};

/// The envelope has all fields, and `code` and `name` are these.
#[track_caller]
fn check(got: &(StatusCode, Value), status: u16, code: &str, name: &str) {
    let (got_status, body) = got;
    assert_eq!(
        (got_status.as_u16(), &body["code"], &body["name"]),
        (status, &json!(code), &json!(name)),
        "{body}"
    );
    assert_eq!(body["error"], true);
    assert!(!body["message"].as_str().unwrap().is_empty());
    assert!(body["details"].is_object());
    assert!(!body["suggested_actions"].as_array().unwrap().is_empty());
    assert!(body["request_id"].as_str().unwrap().starts_with("req_"));
    assert_eq!(body["timestamp"], "2026-01-15T12:00:00Z");
}

#[tokio::test]
async fn a_second_download_names_the_first() {
    let gateway = Gateway::start().await;
    gateway.source.script([FetchScript::HoldAt(1000)]);
    let id = gateway.download().await;
    let got = gateway.post("/updates/download", OPERATOR, json!({"update_id": "rel-v5.0.5"})).await;
    check(&got, 409, "OTA_001", "UPDATE_IN_PROGRESS");
    assert_eq!(got.1["details"]["job_id"], id);
    assert_eq!(gateway.audited("updates.download").await.outcome, AuditOutcome::Refused);
}

#[tokio::test]
async fn a_violated_constraint_blocks_with_the_details_of_the_spec() {
    let gateway = Gateway::start().await;
    let id = gateway.downloaded().await;
    gateway.violate();
    let got = gateway.post("/updates/install", OPERATOR, json!({"job_id": id})).await;
    check(&got, 400, "OTA_002", "UPDATE_BLOCKED");
    assert_eq!(got.1["message"], "Update blocked by safety constraints");
    assert_eq!(
        (&got.1["details"]["constraint"], &got.1["details"]["status"]),
        (&json!("crane_motion"), &json!("moving"))
    );
    for key in ["detected_at", "resolution", "estimated_wait"] {
        assert!(got.1["details"].get(key).is_some(), "{key}");
    }
    assert_eq!(got.1["suggested_actions"][1], "Schedule update during maintenance window");
}

#[tokio::test]
async fn the_server_s_faults_keep_their_codes() {
    let gateway = Gateway::start().await;
    let fault = |error: OtaError| gateway.source.check_faults.fail_next(PortErrorKind::Ota(error));
    fault(OtaError::ServerUnreachable { reason: ServerFault::Tls, what: "bad certificate".into() });
    let got = gateway.get("/updates/check").await;
    check(&got, 503, "OTA_009", "SERVER_UNREACHABLE");
    assert_eq!(got.1["details"]["reason"], "tls");
    fault(OtaError::SignatureInvalid { reason: SignatureFault::MetadataExpired, what: "timestamp".into() });
    let got = gateway.get("/updates/check").await;
    check(&got, 422, "OTA_006", "SIGNATURE_INVALID");
    assert_eq!(got.1["details"]["reason"], "metadata_expired");
    fault(OtaError::Network { what: "reset".into() });
    check(&gateway.get("/updates/check").await, 503, "OTA_004", "NETWORK_ERROR");
}

#[tokio::test]
async fn partitions_jobs_and_policy_are_refused_by_their_codes() {
    let gateway = Gateway::start().await;
    for target in ["A", "C", ""] {
        let body = json!({"update_id": "rel-v5.0.5", "target_partition": target});
        check(&gateway.post("/updates/download", OPERATOR, body).await, 400, "OTA_008", "INVALID_PARTITION");
    }
    let body = json!({"update_id": "rel-v5.0.5", "verify_signature": false});
    check(&gateway.post("/updates/download", OPERATOR, body).await, 422, "OTA_006", "SIGNATURE_INVALID");
    for path in [
        "/updates/progress",
        "/updates/progress?job_id=OTA-JOB-00000",
        "/updates/jobs/DEP-99999",
        "/updates/jobs/..%2F",
    ] {
        check(&gateway.get(path).await, 404, "OTA_013", "JOB_NOT_FOUND");
    }
    let id = gateway.downloaded().await;
    gateway.post("/updates/cancel", OPERATOR, json!({"job_id": id})).await;
    check(
        &gateway.post("/updates/cancel", OPERATOR, json!({"job_id": id})).await,
        404,
        "OTA_013",
        "JOB_NOT_FOUND",
    );
    check(&gateway.post("/updates/confirm", OPERATOR, json!({})).await, 404, "OTA_013", "JOB_NOT_FOUND");
}

#[tokio::test]
async fn with_a_reboot_pending_the_gateway_is_busy() {
    let gateway = Gateway::start().await;
    let id = gateway.downloaded().await;
    gateway.post("/updates/install", OPERATOR, json!({"job_id": id})).await;
    gateway.until(JobStatus::Rebooting).await;
    let got = gateway.post("/updates/download", OPERATOR, json!({"update_id": "rel-v5.0.5"})).await;
    check(&got, 409, "OTA_014", "SYSTEM_BUSY");
    check(&gateway.post("/updates/pause", OPERATOR, json!({})).await, 409, "OTA_014", "SYSTEM_BUSY");
}

#[tokio::test]
async fn a_failed_job_shows_its_code() {
    let gateway = Gateway::start().await;
    gateway.verifier.refuse(SignatureFault::Untrusted);
    let id = gateway.download().await;
    gateway.until_idle().await;
    let (_, progress) = gateway.get(&format!("/updates/progress?job_id={id}")).await;
    assert_eq!((&progress["status"], &progress["failure"]["code"]), (&json!("failed"), &json!("OTA_006")));
    assert_eq!(progress["failure"]["reason"], "untrusted");
    let request = progress["failure"]["request_id"].as_str().unwrap();
    let record = gateway.audited("updates.download").await;
    assert_eq!(record.request_id.as_deref(), Some(request), "the request that asked for it");
    assert_eq!(progress["failure"]["suggested_actions"][0], "Sign the image with a trusted key");
}

#[tokio::test]
async fn bodies_that_do_not_fit_name_the_place() {
    let gateway = Gateway::start().await;
    let long = format!("{{\"update_id\": \"{}\"}}", "x".repeat(70_000));
    for (body, path) in [
        ("", "$"),
        ("{", "$"),
        ("[]", "$"),
        ("{}", "$"),
        (r#"{"update_id": 1}"#, "$.update_id"),
        (r#"{"update_id": "a b"}"#, "$.update_id"),
        (r#"{"update_id": "x", "version": "five"}"#, "$.version"),
        (r#"{"update_id": "x", "priority": "urgent"}"#, "$.priority"),
        (r#"{"update_id": "x", "update_id": "x"}"#, "$"),
    ] {
        let request = gateway.ask(Method::POST, "/updates/download", OPERATOR);
        let got = answer(request.header(header::CONTENT_TYPE, "application/json").body(body)).await;
        check(&got, 400, "INVALID_REQUEST", "INVALID_REQUEST");
        assert!(got.1["details"]["path"].as_str().unwrap().starts_with(path), "{body}: {}", got.1);
    }
    let request = gateway.ask(Method::POST, "/updates/download", OPERATOR);
    let got = answer(request.header(header::CONTENT_TYPE, "application/json").body(long)).await;
    check(&got, 413, "PAYLOAD_TOO_LARGE", "PAYLOAD_TOO_LARGE");
    for kind in ["text/plain", "application/x-www-form-urlencoded", ""] {
        let request = gateway.ask(Method::POST, "/updates/download", OPERATOR);
        let got = answer(request.header(header::CONTENT_TYPE, kind).body("{}")).await;
        check(&got, 415, "UNSUPPORTED_MEDIA_TYPE", "UNSUPPORTED_MEDIA_TYPE");
    }
    let got = gateway.get("/updates/jobs?limit=many").await;
    check(&got, 400, "INVALID_REQUEST", "INVALID_REQUEST");
    check(&gateway.get("/updates/jobs?limit=0").await, 400, "INVALID_REQUEST", "INVALID_REQUEST");
    check(&gateway.get("/updates/jobs?limit=1&limit=2").await, 400, "INVALID_REQUEST", "INVALID_REQUEST");
}

#[tokio::test]
async fn unknown_paths_and_methods_are_envelopes() {
    let gateway = Gateway::start().await;
    for path in ["", "/", "/nothing", "/updates/check/"] {
        check(&gateway.get(path).await, 404, "NOT_FOUND", "NOT_FOUND");
    }
    check(&answer(gateway.http.get(gateway.url("/nothing"))).await, 404, "NOT_FOUND", "NOT_FOUND");
    let response = gateway.ask(Method::DELETE, "/updates/check", VIEWER).send().await.unwrap();
    assert_eq!(response.headers()[header::ALLOW], "GET,HEAD");
    let status = response.status();
    check(&(status, response.json().await.unwrap()), 405, "METHOD_NOT_ALLOWED", "METHOD_NOT_ALLOWED");
    let response = gateway.ask(Method::GET, "/auth/pin", VIEWER).send().await.unwrap();
    assert_eq!(response.headers()[header::ALLOW], "PUT");
    let got = answer(gateway.post_raw("/updates/download", json!({"update_id": "unknown"}))).await;
    check(&got, 404, "NOT_FOUND", "NOT_FOUND");
}

#[tokio::test]
async fn the_request_id_of_the_client_is_kept_when_it_is_well_formed() {
    let gateway = Gateway::start().await;
    let with = |id: &'static str| {
        let request = gateway.http.get(gateway.url("/nothing")).header("x-request-id", id);
        async move {
            let response = request.send().await.unwrap();
            let echoed = response.headers()["x-request-id"].to_str().unwrap().to_owned();
            let body: Value = response.json().await.unwrap();
            assert_eq!(body["request_id"], echoed);
            echoed
        }
    };
    assert_eq!(with("my-id_7").await, "my-id_7");
    for bad in ["with space", "quote\"", ""] {
        assert!(with(bad).await.starts_with("req_"));
    }
}

#[tokio::test]
async fn what_the_store_says_goes_to_the_log_and_not_to_the_client() {
    let gateway = Gateway::start().await;
    gateway.store.write_faults.fail_next(PortErrorKind::Io("/var/lib/ota/secret.db: EIO".into()));
    let got = gateway.post("/updates/download", OPERATOR, json!({"update_id": "rel-v5.0.5"})).await;
    if got.0.is_server_error() {
        check(&got, 500, "INTERNAL", "INTERNAL");
    }
    assert!(!got.1.to_string().contains("secret.db"));
}

impl Gateway {
    fn post_raw(&self, path: &str, body: Value) -> reqwest::RequestBuilder {
        self.ask(Method::POST, path, OPERATOR).json(&body)
    }
}
