//! What monitoring is given: `/metrics` as Prometheus' own tool reads it, and the shipped dashboard and rules, which may name
//! nothing that the daemon does not serve.

use std::{
    collections::BTreeSet,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use ota_api::words::JobStatus;
use ota_tests::config::Settings;
use serde_json::Value;

use crate::world::{Offer, TestDevice, device_with, settings};

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Runs `promtool` (Debian: prometheus); what it said, both streams. It must be content.
fn promtool(args: &[&str], input: &str) -> String {
    #[expect(clippy::disallowed_methods, reason = "the tool is a program of its own")]
    let child = Command::new("promtool")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.expect("promtool (Debian: prometheus); `cargo xtask test` installs it");
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "promtool {args:?}: {said}");
    said
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

    let served = families(&idle);
    let dashboard = fs::read_to_string(root().join("dist/grafana/ota-gateway.json")).unwrap();
    let mut asked = Vec::new();
    expressions(&serde_json::from_str(&dashboard).unwrap(), &mut asked);
    assert!(asked.len() > 30, "the dashboard asks for little: {asked:?}");
    let rules = root().join("dist/prometheus/alerts.yml");
    let said = promtool(&["check", "rules", rules.to_str().unwrap()], "");
    assert!(said.contains("12 rules found"), "{said}");
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
