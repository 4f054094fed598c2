//! What monitoring is given: `/metrics` as Prometheus' own tool and parser read it, the log by the id of a request, and the shipped
//! dashboard and rules, which may name nothing that the daemon does not serve.

use std::{
    collections::BTreeSet,
    fs,
    io::Write as _,
    process::{Command, Stdio},
};

use ota_api::{audit::AuditQuery, words::JobStatus};
use ota_tests::config::Settings;
use reqwest::Method;
use serde_json::Value;

use crate::{
    api::send,
    world::{Offer, TestDevice, device, device_with, root, settings},
};

/// Runs `program`, of `package`; what it said, both streams. It must be content.
fn said_by(program: &str, package: &str, args: &[&str], input: &str) -> String {
    #[expect(clippy::disallowed_methods, reason = "the tool is a program of its own")]
    let child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child
        .unwrap_or_else(|error| panic!("{program} ({package}; `cargo xtask test` installs it): {error}"));
    // One that has seen enough reads no further; what it says tells more than the broken pipe.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{program} ({package}) {args:?}: {said}");
    said
}

fn promtool(args: &[&str], input: &str) -> String {
    said_by("promtool", "Debian: prometheus", args, input)
}

/// Reads OpenMetrics with the parser of Prometheus' own client, which takes nothing that the format forbids. Prints each family with
/// its type.
const PARSE: &str = "
import sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families
for family in text_string_to_metric_families(sys.stdin.buffer.read().decode()):
    print(family.name, family.type)
";

/// The families of a text in OpenMetrics, by its strict parser.
fn open_families(text: &str) -> BTreeSet<String> {
    #[expect(clippy::disallowed_methods, reason = "cargo xtask test says where the interpreter is")]
    let python = std::env::var("OTA_PYTHON").unwrap_or_else(|_| "python3".into());
    let said = said_by(&python, "PyPI: prometheus-client", &["-c", PARSE], text);
    let counted = |line: &str| match line.split_once(' ').unwrap() {
        (family, "counter") => format!("{family}_total"),
        (family, _) => family.to_owned(),
    };
    said.lines().map(counted).collect()
}

async fn metrics(device: &TestDevice) -> String {
    String::from_utf8(device.client.metrics().await.unwrap()).unwrap()
}

/// The families of a text.
fn families(text: &str) -> BTreeSet<String> {
    let named = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    named.filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

/// The families that an expression names: words of ours, and those of the process.
fn named(expression: &str) -> BTreeSet<String> {
    let words = expression.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| word.starts_with("ota_") || word.starts_with("process_")).map(str::to_owned).collect()
}

/// Every expression of a Grafana dashboard, however deep.
fn expressions(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                match value {
                    Value::String(text) if key == "expr" || key == "query" => found.push(text.clone()),
                    value => expressions(value, found),
                }
            }
        }
        Value::Array(all) => all.iter().for_each(|value| expressions(value, found)),
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_metrics_are_lint_clean_and_have_all_that_dashboard_rules_and_page_name() {
    // So slow that the job is still at it when it is looked at.
    let slow = Settings { bytes_per_second: Some(256 << 10), ..settings() };
    let device = device_with(Offer::Good, slow).await;
    let idle = metrics(&device).await;
    device.client.check().await.unwrap();
    let job = device.start_download().await.unwrap();
    device.until(&job, |job| job.status == JobStatus::Downloading).await;
    let busy = metrics(&device).await;
    assert!(busy.contains("ota_active_job 1\n"), "{busy}");
    device.set_sensor("temperature", "71").unwrap();
    let done = metrics(&device).await;
    for text in [&idle, &busy, &done] {
        assert_eq!(promtool(&["check", "metrics"], text), "", "promtool has something to say");
    }
    assert!(
        done.contains("ota_safety_constraint_value{constraint=\"high_temperature\",unit=\"°C\"}"),
        "{done}"
    );
    assert!(done.lines().any(|line| line.starts_with("process_resident_memory_bytes ")), "{done}");

    let accept = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
    let open = send(device.api.request(Method::GET, "/metrics").header("accept", accept)).await;
    assert_eq!(open.content_type, "application/openmetrics-text; version=1.0.0; charset=utf-8");
    assert_eq!(open_families(open.ok().as_str().unwrap()), families(&done), "the same in both formats");

    let served = families(&idle);
    let dashboard = fs::read_to_string(root().join("dist/grafana/ota-gateway.json")).unwrap();
    let mut asked = Vec::new();
    expressions(&serde_json::from_str(&dashboard).unwrap(), &mut asked);
    assert!(asked.len() > 30, "the dashboard asks for little: {asked:?}");
    let rules = root().join("dist/prometheus/alerts.yml");
    let said = promtool(&["check", "rules", rules.to_str().unwrap()], "");
    assert!(said.contains("13 rules found"), "{said}");
    let text = fs::read_to_string(rules).unwrap();
    let alerts = text.lines().filter_map(|line| line.trim().strip_prefix("expr: ")).map(str::to_owned);
    let page = fs::read_to_string(root().join("docs/monitoring.md")).unwrap();
    let rows = page.lines().filter(|line| line.starts_with("| `ota_")).map(str::to_owned);
    let all: BTreeSet<String> =
        asked.iter().cloned().chain(alerts).chain(rows).flat_map(|text| named(&text)).collect();
    let unknown: Vec<_> = all.difference(&served).filter(|name| *name != "process_").collect();
    assert!(unknown.is_empty(), "named, and not served: {unknown:?}");
    let untold: Vec<_> = served.difference(&all).collect();
    assert!(untold.is_empty(), "served, and nobody shows it: {untold:?}");
}

#[test]
fn each_rule_fires_on_series_that_were_made_up_for_it_and_on_no_others() {
    let folder = root().join("dist/prometheus");
    let cases = folder.join("alerts.test.yml");
    promtool(&["test", "rules", cases.to_str().unwrap()], "");
    let cases = fs::read_to_string(cases).unwrap();
    let rules = fs::read_to_string(folder.join("alerts.yml")).unwrap();
    let untried: Vec<_> = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
        .filter(|rule| !cases.contains(&format!("alertname=\"{rule}\"")))
        .collect();
    assert!(untried.is_empty(), "no case lets them fire: {untried:?}");
}

#[test]
fn a_single_number_is_that_of_now_and_has_a_colour_only_by_what_it_means() {
    let dashboard = fs::read_to_string(root().join("dist/grafana/ota-gateway.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&dashboard).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let stats: Vec<_> = panels.iter().filter(|panel| panel["type"] == "stat").collect();
    assert!(stats.len() > 5, "{stats:#?}");
    for panel in stats {
        let title = &panel["title"];
        let defaults = &panel["fieldConfig"]["defaults"];
        let coloured = panel["options"]["colorMode"] == "background";
        let meant = defaults["thresholds"].is_object() || defaults["mappings"].is_array();
        assert!(!coloured || meant, "{title} is coloured by Grafana's own thresholds: red from 80 on");
        // A range would show the last number of a gateway that has been gone for hours.
        let now = |target: &Value| target["instant"] == true && target["range"] == false;
        assert!(panel["targets"].as_array().unwrap().iter().all(now), "{title} looks back");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_id_of_a_request_finds_all_that_was_logged_and_recorded_of_the_job_that_it_asked_for() {
    let device = device(Offer::Stranger).await;
    device.client.check().await.unwrap();
    let job = device.start_download().await.unwrap();
    let failed = device.ended(&job).await;
    let id = failed.failure.and_then(|why| why.request_id).expect("somebody asked for it");
    let log = fs::read_to_string(device.layout.gateway_log()).unwrap();
    let (found, others): (Vec<&str>, Vec<&str>) = log.lines().partition(|line| line.contains(&id));
    // The verifier works on a thread of its own.
    for said in ["job made", "job state", "ota_verify"] {
        assert!(found.iter().any(|line| line.contains(said)), "{said:?} is not among {found:#?}");
    }
    let lost: Vec<_> = others.iter().filter(|line| line.contains("job state")).collect();
    assert!(lost.is_empty(), "{lost:#?}");
    let query = AuditQuery { job_id: Some(job), ..AuditQuery::default() };
    let records = device.client.audit(&query).await.unwrap().records;
    assert!(records.iter().any(|record| record.action == "job.failed"), "{records:#?}");
    assert!(records.iter().all(|record| record.request_id.as_ref() == Some(&id)), "{records:#?}");
}
