//! Configurations that mean something, and those that are refused.

use std::sync::Arc;

use ota_testkit::FakeClock;

use super::*;
use crate::SafetyEngine;

fn rules(text: &str) -> Result<Vec<Rule>, String> {
    let config: SafetyConfig = toml::from_str(text).map_err(|error| error.to_string())?;
    SafetyEngine::new(config.clone(), Arc::new(FakeClock::default())).map_err(|error| error.to_string())?;
    config.rules().map_err(|error| error.to_string())
}

const CRANE: &str = r#"
    [[sources]]
    name = "crane"
    file = { path = "/run/plc/crane", every = "20ms" }
    [[constraints]]
    name = "crane_motion"
    source = "crane"
    condition = { equals = "stopped" }
"#;

#[test]
fn defaults_hold_back_everything_but_the_download() {
    let rule = rules(CRANE).unwrap().remove(0);
    assert!(!rule.blocks.contains(&SafetyStep::Download));
    assert_eq!(rule.blocks.len(), 6);
    assert_eq!((rule.max_age, rule.debounce), (Duration::from_secs(5), Duration::from_secs(1)));
    assert!(rule.overridable);
}

#[test]
fn what_contradicts_itself_is_refused_with_the_place() {
    let refused = [
        (r#"equals = "stopped""#, r#"equals = 1, max = 2"#, "exactly one"),
        (r#"equals = "stopped""#, "", "exactly one"),
        (r#"equals = "stopped""#, "hysteresis = 2", "needs min or max"),
        (r#"equals = "stopped""#, "min = 1, max = 2, hysteresis = 1", "nothing lies between"),
        (r#"equals = "stopped""#, "max_change = 1", "rate of change"),
        (r#"equals = "stopped""#, "equal = 1", "unknown field `equal`"),
        (r#"source = "crane""#, r#"source = "cran""#, "not configured"),
        (r#"source = "crane""#, "source = \"crane\"\nblocks = []", "blocks nothing"),
        (r#"source = "crane""#, "source = \"crane\"\nblocks = [\"boot\"]", "unknown variant `boot`"),
        (r#"name = "crane_motion""#, r#"name = "Crane Motion""#, "not a name"),
        (r#"every = "20ms""#, r#"every = "1ms""#, "at least 10ms"),
        (r#"every = "20ms""#, r#"every = "4s""#, r#"longer than 5s: its source "crane" is asked every 4s"#),
        (r#"every = "20ms""#, r#"every = "20ms", timeout = "4980ms""#, "may take 4.98s to answer"),
        (r#"source = "crane""#, "source = \"crane\"\nmax_age = \"2s\"", "longer than 2s"),
        (
            r#"file = { path = "/run/plc/crane", every = "20ms" }"#,
            r#"hwmon = { chip = "a", channel = "b", every = "4s" }"#,
            "longer than 5s",
        ),
        (
            r#"file = { path = "/run/plc/crane", every = "20ms" }"#,
            r#"systemd = { unit = "a.service", every = "3s" }"#,
            "longer than 5s",
        ),
        (r#"file = {"#, r#"fil = {"#, "unknown field `fil`"),
    ];
    for (from, to, complaint) in refused {
        let error = rules(&CRANE.replace(from, to)).unwrap_err();
        assert!(error.contains(complaint), "{to}: {error}");
    }
}

#[test]
fn every_kind_of_source_suits_a_constraint_with_all_defaults() {
    let file = r#"file = { path = "/run/plc/crane", every = "20ms" }"#;
    for kind in [
        r#"file = { path = "/run/plc/crane" }"#,
        r#"command = { program = "/usr/bin/crane-state" }"#,
        r#"http = { url = "http://plc/state" }"#,
        r#"mqtt = { host = "broker", topic = "crane7" }"#,
        r#"modbus = { host = "plc", table = "coil", address = 1 }"#,
        r#"systemd = { unit = "crane-control.service" }"#,
        r#"system = { figure = "clock_trusted" }"#,
        r#"hwmon = { chip = "nct6775", channel = "temp1_input" }"#,
        r#"power = { supply = "mains", property = "online" }"#,
    ] {
        assert_eq!(rules(&CRANE.replace(file, kind)).map(|rules| rules.len()), Ok(1), "{kind}");
    }
}

#[test]
fn a_number_written_as_text_means_the_number() {
    let rule = rules(&CRANE.replace(r#""stopped""#, r#""0""#)).unwrap().remove(0);
    assert_eq!(rule.condition, Condition::Equals(Value::Number(0.0)));
}
