//! The configuration: its schema by an independent validator, and what `init` writes.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use ota_tests::config::gateway_toml;

use crate::world::{Offer, binary, device, root, settings};

/// Reads TOML files with Python's own parser and holds them against the schema (PyPI: jsonschema). Prints each file that does not
/// fit with the first reason.
const VALIDATE: &str = r#"
import json, sys, tomllib
from jsonschema import Draft202012Validator
schema = json.load(open(sys.argv[1]))
Draft202012Validator.check_schema(schema)
validator = Draft202012Validator(schema)
for name in sys.argv[2:]:
    with open(name, "rb") as file:
        errors = sorted(validator.iter_errors(tomllib.load(file)), key=lambda error: error.json_path)
    for error in errors[:1]:
        print(f"{name}: {error.json_path}: {error.message}")
"#;

/// What the validator says of the files; empty when all of them fit.
fn validate(files: &[PathBuf]) -> String {
    #[expect(clippy::disallowed_methods, reason = "cargo xtask test says where the interpreter is")]
    let python = std::env::var("OTA_PYTHON").unwrap_or_else(|_| "python3".into());
    #[expect(clippy::disallowed_methods, reason = "the validator is a program of its own")]
    let output = Command::new(&python)
        .args(["-c", VALIDATE])
        .arg(root().join("docs/reference/gateway.schema.json"))
        .args(files)
        .output()
        .unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{python} (PyPI: jsonschema, `cargo xtask test` installs it): {complaint}"
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Every block of the documentation that is a whole configuration, as a file of `folder`.
fn examples(folder: &Path) -> Vec<PathBuf> {
    let page = fs::read_to_string(root().join("docs/operations.md")).unwrap();
    let blocks = page.split("```toml\n").skip(1).filter_map(|rest| rest.split("\n```").next());
    let whole = blocks.filter(|block| block.contains("[gateway]"));
    let written = whole.enumerate().map(|(number, block)| {
        let path = folder.join(format!("operations-{number}.toml"));
        fs::write(&path, block).unwrap();
        path
    });
    written.collect()
}

fn gatewayd(args: &[&str]) -> Result<String, String> {
    #[expect(clippy::disallowed_methods, reason = "the daemon is a program of its own")]
    let output =
        Command::new(binary("ota-gatewayd")).args(args).env_remove("OTA_GATEWAYD_CONFIG").output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_shipped_shown_and_written_by_init_fits_the_schema_and_is_good() {
    let device = device(Offer::Small).await;
    let folder = tempfile::tempdir().unwrap();
    let written = folder.path().join("etc/gateway.toml");
    let (to, keys) = (written.display().to_string(), device.layout.trusted_keys().display().to_string());
    let first = device.layout.initial_root().display().to_string();
    let (a, b) = (device.layout.slot(ota_core::Slot::A), device.layout.slot(ota_core::Slot::B));
    let (a, b) = (a.display().to_string(), b.display().to_string());
    let environment = device.layout.fw_env_config().display().to_string();
    let init = [
        "init",
        "--to",
        &to,
        "--name",
        "gw-17",
        "--model",
        "IGW-5000",
        "--serial",
        "SN1",
        "--slot-a",
        &a,
        "--slot-b",
        &b,
        "--fw-env-config",
        &environment,
        "--keys",
        &keys,
        "--source",
        "https://updates.example/igw",
        "--initial-root",
        &first,
        "--policy",
        "download",
        "--listen",
        "[::]:8443",
        "--host",
        "gw-17.example",
        "--constraint",
        "crane=/run/plc/crane=stopped",
        "--health-unit",
        "plc-link.service",
    ];
    let said = gatewayd(&init).unwrap();
    assert!(said.contains("token create") && !said.contains("to mend"), "{said}");
    assert!(gatewayd(&init).unwrap_err().contains("--force"), "it replaced a configuration");
    let checked = gatewayd(&["check-config", "--config", &to]).unwrap();
    assert!(checked.contains("is good") && !checked.contains("warning"), "{checked}");
    // Nobody can be asked here, and half a configuration is none.
    let other = folder.path().join("other.toml").display().to_string();
    let refused = gatewayd(&["init", "--to", &other, "--model", "M"]).unwrap_err();
    assert!(refused.contains("--slot-a") && !Path::new(&other).exists(), "{refused}");

    let mut files = vec![root().join("dist/config/gateway.toml"), written, device.layout.gateway_toml()];
    let demo = folder.path().join("demo.toml");
    fs::write(&demo, gateway_toml(&device.layout, &settings())).unwrap();
    files.push(demo);
    let shown = examples(folder.path());
    assert!(!shown.is_empty(), "docs/operations.md shows no configuration");
    files.extend(shown);
    assert_eq!(validate(&files), "", "the schema refuses what the daemon takes");
}

#[test]
fn what_the_daemon_refuses_by_its_shape_the_schema_refuses_too() {
    let folder = tempfile::tempdir().unwrap();
    let minimal = "gateway = {name='g', model='M', serial='S'}\nslots = {a='/dev/a', b='/dev/b'}\n";
    let wrong = [
        "boot = {tries = 4}",
        "boot = {trys = 3}",
        "http = {listen = 8080}",
        "http = {limits = {connections = 0}}",
        "http = {client_ca = 'x', certificate = 'c', key = 'k', client = [{role = 'viewer'}]}",
        "health = {check = [{name = 'x', unit = 'u', http = 'h'}]}",
        "log = {format = 'xml'}",
        "auto = {interval_seconds = -1}",
        "source = [{name = 'x'}]",
        "safety = {constraints = [{name = 'c', source = 's', condition = {equals = [1]}}]}",
        "safety = {windows = [{name = 'w', kind = 'party', zone = 'UTC'}]}",
    ];
    let mut files = Vec::new();
    for (number, more) in wrong.iter().enumerate() {
        let path = folder.path().join(format!("{number}.toml"));
        fs::write(&path, format!("{minimal}{more}\n")).unwrap();
        assert!(
            gatewayd(&["check-config", "--config", path.to_str().unwrap()]).is_err(),
            "the daemon takes {more}"
        );
        files.push(path);
    }
    let refused = validate(&files).lines().count();
    assert_eq!(refused, wrong.len(), "{}", validate(&files));
}
