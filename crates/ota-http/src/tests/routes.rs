//! Happy paths of every route, and the envelope of what goes wrong on the way.

use http::{Method, StatusCode};
use ota_core::{
    JobId, Timestamp,
    job::JobStatus,
    ports::{AuditEntry, AuditLog as _, AuditOutcome, Role},
};
use ota_testkit::source::FetchScript;
use serde_json::{Value, json};

use super::harness::{ADMIN, Gateway, OPERATOR, VIEWER, answer};

#[tokio::test]
async fn check_lists_releases_with_the_fields_of_the_spec() {
    let gateway = Gateway::start().await;
    let (status, body) = gateway.get("/updates/check").await;
    assert_eq!((status, &body["available"], &body["sources"]), (StatusCode::OK, &json!(true), &json!(1)));
    let update = &body["updates"][0];
    assert_eq!(update["id"], "rel-v5.0.5");
    assert_eq!(update["release_date"], "2026-01-09T23:06:40Z");
    assert!(gateway.engine.active().borrow().is_none());
}

#[tokio::test]
async fn a_download_runs_can_be_watched_paused_resumed_and_cancelled() {
    let gateway = Gateway::start().await;
    gateway.source.script([FetchScript::HoldAt(100_000)]);
    let (_, body) = gateway
        .post(
            "/updates/download",
            OPERATOR,
            json!({"update_id": "rel-v5.0.5", "version": "v5.0.5", "target_partition": "B"}),
        )
        .await;
    assert_eq!((&body["status"], &body["estimated_duration"]), (&json!("started"), &json!("00:00:01")));
    let id = body["job_id"].as_str().unwrap().to_owned();
    gateway.source.until_held().await;
    let (status, progress) = gateway.get(&format!("/updates/progress?job_id={id}")).await;
    assert_eq!((status, &progress["status"]), (StatusCode::OK, &json!("downloading")));
    assert_eq!(progress["progress"]["bytes_total"], 200_000);
    let (status, body) = answer(gateway.ask(Method::POST, "/updates/pause", OPERATOR)).await;
    assert_eq!((status, &body["status"]), (StatusCode::OK, &json!("paused")));
    gateway.until(JobStatus::Paused).await;
    let (status, body) = gateway.post("/updates/resume", OPERATOR, json!({"job_id": id})).await;
    assert_eq!((status, &body["status"]), (StatusCode::OK, &json!("downloading")));
    let (status, body) =
        gateway.post("/updates/cancel", OPERATOR, json!({"job_id": id, "reason": "not today"})).await;
    assert_eq!(
        (status, &body["message"]),
        (StatusCode::OK, &json!("Update operation cancelled successfully"))
    );
    let record = gateway.audited("updates.cancel").await;
    assert_eq!((record.actor.as_str(), record.reason.as_deref()), ("operator", Some("not today")));
    assert_eq!(record.outcome, AuditOutcome::Ok);
    assert_eq!(record.job.unwrap().as_str(), id);
    let (status, job) = gateway.get(&format!("/updates/jobs/{id}")).await;
    assert_eq!(
        (status, &job["status"], &job["cancel_reason"]),
        (StatusCode::OK, &json!("cancelled"), &json!("not today"))
    );
    let (_, jobs) = gateway.get("/updates/jobs?limit=1").await;
    assert_eq!((&jobs["total"], &jobs["jobs"][0]["job_id"]), (&json!(1), &json!(id)));
}

#[tokio::test]
async fn a_downloaded_job_installs() {
    let gateway = Gateway::start().await;
    let id = gateway.downloaded().await;
    let (_, progress) = gateway.get("/updates/progress").await;
    assert_eq!(
        (&progress["status"], &progress["progress"]["percentage"]),
        (&json!("downloaded"), &json!(100.0))
    );
    let (status, body) =
        gateway.post("/updates/install", OPERATOR, json!({"job_id": id, "strategy": "seamless"})).await;
    assert_eq!((status, &body["status"]), (StatusCode::OK, &json!("installing")));
    assert_eq!(body["requires_reboot"], true);
    gateway.until(JobStatus::Rebooting).await;
    let (_, progress) = gateway.get("/updates/progress").await;
    assert_eq!(progress["waiting_for"]["reason"], "reboot");
    assert_eq!(gateway.boot.env().trial, Some(ota_core::Slot::B));
}

#[tokio::test]
async fn status_has_the_fields_of_the_spec_and_ours_under_both_names() {
    let gateway = Gateway::start().await;
    for path in ["/system/status", "/gateway/status"] {
        let (status, body) = gateway.get(path).await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!(body["gateway"], json!({"name": "gw", "model": "IGW-5000", "serial": "SN1"}));
        assert_eq!(body["partitions"]["active"]["name"], "A");
        assert_eq!(body["partitions"]["inactive"]["name"], "B");
        assert_eq!(body["resources"]["cpu_load"], 0.25);
        assert_eq!((&body["system_status"], &body["allow_unsigned"]), (&json!("idle"), &json!(false)));
        assert_eq!(body["boot"]["first"], "A");
    }
}

#[tokio::test]
async fn safety_status_says_what_holds_an_update_back() {
    let gateway = Gateway::start().await;
    assert_eq!(gateway.get("/safety/status").await.1["update_allowed"], true);
    gateway.violate();
    let (_, body) = gateway.get("/safety/status").await;
    assert_eq!(body["update_allowed"], false);
    assert_eq!(
        (&body["constraints"][0]["name"], &body["constraints"][0]["status"]),
        (&json!("crane_motion"), &json!("violated"))
    );
    assert_eq!(body["maintenance_window"], json!({"active": false, "next_window": null}));
}

#[tokio::test]
async fn events_can_be_read_over_rest_from_a_position() {
    let gateway = Gateway::start().await;
    gateway.downloaded().await;
    let (_, all) = gateway.get("/events").await;
    let events = all["events"].as_array().unwrap();
    assert!(events.iter().any(|event| event["type"] == "job_complete"));
    let next = all["next"].as_u64().unwrap();
    assert_eq!(next, events.last().unwrap()["seq"].as_u64().unwrap());
    let (_, none) = gateway.get(&format!("/events?since={next}")).await;
    assert_eq!((&none["events"], &none["next"]), (&json!([]), &json!(next)));
}

#[tokio::test]
async fn probes_are_open_and_say_no_more_than_ok() {
    let gateway = Gateway::start().await;
    for path in ["/healthz", "/readyz"] {
        assert_eq!(
            answer(gateway.http.get(gateway.url(path))).await,
            (StatusCode::OK, json!({"status": "ok"}))
        );
    }
    gateway.boot.set_readable(false);
    let (status, body) = answer(gateway.http.get(gateway.url("/readyz"))).await;
    assert_eq!((status, &body["name"]), (StatusCode::SERVICE_UNAVAILABLE, &json!("UNAVAILABLE")));
    assert_eq!(answer(gateway.http.get(gateway.url("/healthz"))).await.0, StatusCode::OK);
}

#[tokio::test]
async fn pages_come_with_a_strict_policy_and_the_document_with_a_token() {
    let gateway = Gateway::start().await;
    let assets = crate::assets::tests::names().map(|name| format!("/ui/{name}"));
    for path in assets.chain(["/".into()]) {
        let response = gateway.http.get(gateway.url(&path)).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        assert!(
            response.headers()["content-security-policy"].to_str().unwrap().starts_with("default-src 'none'")
        );
        assert_eq!(response.headers()["x-content-type-options"], "nosniff");
    }
    assert_eq!(answer(gateway.http.get(gateway.url("/ui/nothing.js"))).await.0, StatusCode::NOT_FOUND);
    for path in ["/openapi.json", "/docs", "/metrics"] {
        assert_eq!(answer(gateway.http.get(gateway.url(path))).await.0, StatusCode::UNAUTHORIZED, "{path}");
        let request = gateway.http.get(gateway.url(path)).bearer_auth(VIEWER);
        assert_eq!(answer(request).await.0, StatusCode::OK, "{path}");
    }
    let open = Gateway::with(|config| (config.public_docs, config.public_metrics) = (true, true)).await;
    for path in ["/openapi.json", "/docs", "/metrics"] {
        assert_eq!(answer(open.http.get(open.url(path))).await.0, StatusCode::OK, "{path}");
    }
}

#[tokio::test]
async fn the_dashboard_is_sent_packed_below_its_budget_and_once() {
    let gateway = Gateway::start().await;
    let mut sent = 0;
    for name in crate::assets::tests::names() {
        let get = || gateway.http.get(gateway.url(&format!("/ui/{name}")));
        let response = get().header("accept-encoding", "gzip").send().await.unwrap();
        assert_eq!(response.headers()["content-encoding"], "gzip", "{name}");
        let tag = response.headers()["etag"].clone();
        sent += response.bytes().await.unwrap().len();
        let again = get().header("if-none-match", tag).send().await.unwrap();
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED, "{name}");
        assert!(again.headers().contains_key("content-security-policy"));
    }
    assert!(sent < 100 * 1024, "{sent} bytes");
}

#[tokio::test]
async fn metrics_are_prometheus_text() {
    let gateway = Gateway::start().await;
    gateway.violate();
    let request = gateway.http.get(gateway.url("/metrics")).bearer_auth(VIEWER);
    let Value::String(text) = answer(request).await.1 else { panic!("not text") };
    assert!(text.contains("ota_up 1\n"));
    assert!(text.contains("ota_safety_constraint_ok{constraint=\"crane_motion\"} 0\n"));
    assert!(text.contains("ota_pin_failures_total 0\n") && text.contains("ota_pin_locked 0\n"));
    assert!(text.contains("ota_recent_jobs{state=\"succeeded\"} 0\n") && text.contains("ota_active_job 0\n"));
    // It is cut off with the history.
    assert!(text.contains("# TYPE ota_jobs gauge\nota_jobs 0\n"), "{text}");
    let mut families: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
    let counters = families.iter().filter(|family| family.ends_with(" counter"));
    assert!(counters.clone().count() > 5 && counters.into_iter().all(|family| family.contains("_total ")));
    let all = families.len();
    families.sort_unstable();
    families.dedup();
    assert_eq!(families.len(), all, "a family twice");
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        assert!(line.rsplit_once(' ').unwrap().1.parse::<f64>().is_ok(), "{line}");
    }
}

#[tokio::test]
async fn the_audit_can_be_read_filtered_exported_and_checked() {
    let gateway = Gateway::start().await;
    gateway.downloaded().await;
    let ask = |path: &str| answer(gateway.ask(Method::GET, path, ADMIN));
    let (_, page) = ask("/audit?action=updates.").await;
    assert_eq!(
        (&page["records"][0]["action"], &page["records"][0]["actor"]),
        (&json!("updates.download"), &json!("operator"))
    );
    let (_, lines) = ask("/audit?action=updates.&format=jsonl").await;
    assert_eq!(lines["action"], "updates.download");
    let (_, Value::String(csv)) = ask("/audit?format=csv").await else { panic!("not text") };
    assert!(csv.starts_with("seq,timestamp,actor,") && csv.contains(",updates.download,ok,"));
    assert_eq!(ask("/audit/verify").await.1["intact"], true);
    gateway.store.tamper(|records| records[0].entry.actor = "nobody".into());
    assert_eq!(
        ask("/audit/verify").await.1,
        json!({"intact": false, "records": 0, "first": 1, "first_bad": 1})
    );
}

/// So many records of one action, by turns of two people, every third refused.
fn record(gateway: &Gateway, numbers: impl Iterator<Item = u32>) {
    for n in numbers {
        let entry = AuditEntry {
            actor: if n % 2 == 0 { "ada" } else { "bob" }.into(),
            role: Some(Role::Operator),
            address: Some("192.0.2.7".into()),
            action: "test.action".into(),
            outcome: if n % 3 == 0 { AuditOutcome::Refused } else { AuditOutcome::Ok },
            request_id: Some(format!("req_{n}")),
            job: (n % 100 == 0).then(|| JobId::from_number(n.into())),
            reason: Some(format!("Reason {n}.")),
        };
        gateway.store.append(Timestamp::from_secs(n.into()), &entry).unwrap();
    }
}

#[tokio::test]
async fn the_newest_of_the_audit_are_found_whatever_the_filter_and_go_back_page_by_page() {
    let gateway = Gateway::start().await;
    // More than is read at a time.
    record(&gateway, 1..=1300);
    let ask = |query: String| {
        let request = gateway.ask(Method::GET, &format!("/audit?newest=true&action=test.&{query}"), ADMIN);
        async move { answer(request).await.1 }
    };
    let reasons = |page: &Value| -> Vec<String> {
        let rows = page["records"].as_array().unwrap();
        rows.iter().map(|row| row["reason"].as_str().unwrap().to_owned()).collect()
    };
    let page = ask("limit=3".into()).await;
    assert_eq!(reasons(&page), ["Reason 1298.", "Reason 1299.", "Reason 1300."]);
    let older = ask(format!("limit=2&before={}", page["previous"])).await;
    assert_eq!(reasons(&older), ["Reason 1296.", "Reason 1297."]);
    assert_eq!(reasons(&ask("limit=2&outcome=refused".into()).await), ["Reason 1296.", "Reason 1299."]);
    assert_eq!(reasons(&ask("limit=2&text=REASON%207.".into()).await), ["Reason 7."]);
    let job = JobId::from_number(100);
    assert_eq!(reasons(&ask(format!("job_id={job}")).await), ["Reason 100."]);

    // Back to the first one, nothing twice and nothing left out.
    let (mut found, mut before) = (Vec::new(), String::new());
    loop {
        let page = ask(format!("limit=400&actor=ada{before}")).await;
        found.splice(0..0, reasons(&page));
        match page.get("previous") {
            Some(previous) => before = format!("&before={previous}"),
            None => break,
        }
    }
    let wanted: Vec<String> = (1..=650).map(|n| format!("Reason {}.", n * 2)).collect();
    assert_eq!(found, wanted);
    let (status, _) = answer(gateway.ask(Method::GET, "/audit?outcome=maybe", ADMIN)).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn an_export_without_a_limit_is_the_whole_of_what_fits() {
    let gateway = Gateway::start().await;
    record(&gateway, 1..=2500);
    let text = |query: &str| {
        let request = gateway.ask(Method::GET, &format!("/audit?action=test.&{query}"), ADMIN);
        async move { request.send().await.unwrap().text().await.unwrap() }
    };
    let csv = text("format=csv").await;
    assert_eq!(csv.matches("seq,timestamp,").count(), 1);
    let last = csv.lines().last().unwrap();
    assert!(last.contains(",Reason 2500.,"), "{last}");
    assert_eq!(csv.lines().count(), 2501);
    assert_eq!(text("format=jsonl&outcome=refused").await.lines().count(), 833);
    assert_eq!(text("format=jsonl&limit=1000").await.lines().count(), 1000);
    assert_eq!(text("format=csv&actor=nobody").await.lines().count(), 1);
}

#[tokio::test]
async fn every_prefix_serves_the_same() {
    let gateway = Gateway::start().await;
    for prefix in crate::PREFIXES {
        for path in ["/updates/check", "/system/status", "/gateway/status", "/safety/status"] {
            let request = gateway.http.get(gateway.url(&format!("{prefix}{path}"))).bearer_auth(VIEWER);
            assert_eq!(answer(request).await.0, StatusCode::OK, "{prefix}{path}");
        }
    }
}

#[test]
fn the_committed_openapi_document_is_the_one_that_the_routes_make() {
    let path = "../../docs/api/openapi.json";
    let kept: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let made: Value = serde_json::from_str(&crate::openapi().to_json().unwrap()).unwrap();
    assert!(kept == made, "docs/api/openapi.json is stale: `cargo xtask pages` writes it");
}
