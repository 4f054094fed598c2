//! Every operation of docs/api/openapi.json has a command that sends it, and every field of a request an option.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use serde_json::{Value, json};

use super::{
    Run,
    fake::{Answer, Fake},
    run,
};

/// What belongs to browsers: pages, their files, and the cookie that stands for a token there. `ota-admin` sends the token itself.
const BROWSER: [&str; 5] = ["dashboard", "asset", "docs", "create_session", "end_session"];

/// Other names of the same thing in the specification, and whose.
const ALIASES: [(&str, &str); 2] = [("gateway_status", "system_status"), ("updates_socket", "socket")];

/// The command of each operation. `PIN`, `NEW` and `IMAGE` stand for files.
const COMMANDS: &[(&str, &str)] = &[
    ("records", "audit list"),
    ("audit_verify", "audit verify"),
    ("set_pin", "pin set --first --new-pin-file PIN"),
    ("tokens", "token list"),
    ("session", "token show"),
    ("create_token", "token create wall --role viewer"),
    ("revoke_token", "token revoke wall"),
    ("debug_bundle", "debug-bundle --file NEW"),
    ("events", "events --since 1"),
    ("factory_reset", "factory-reset --confirmation SENTENCE --pin-file PIN"),
    ("compliance_report", "report"),
    ("list_inhibitors", "inhibitors"),
    ("inhibit", "inhibit -- true"),
    ("release", "inhibitors --release 7"),
    ("switch_override", "override off"),
    ("safety_status", "safety"),
    ("windows", "windows"),
    ("bandwidth", "bandwidth get"),
    ("set_bandwidth", "bandwidth set 2M"),
    ("snapshots", "snapshot list"),
    ("create_snapshot", "snapshot create"),
    ("restore_snapshot", "snapshot restore s1 --yes"),
    ("system_status", "status"),
    ("cancel", "cancel OTA-JOB-8821X"),
    ("check", "check"),
    ("confirm", "confirm"),
    ("download", "download update_12345"),
    ("explain", "explain"),
    ("install", "install OTA-JOB-8821X"),
    ("jobs", "jobs"),
    ("job", "jobs OTA-JOB-8821X"),
    ("pause", "pause"),
    ("progress", "progress"),
    ("reject", "reject"),
    ("resume", "resume"),
    ("rollback", "rollback --pin-file PIN"),
    ("uploads", "upload list"),
    ("upload", "upload send IMAGE --release-version v5.0.5"),
    ("deploy_upload", "upload deploy image.bin"),
    ("verify_upload", "upload verify image.bin"),
    ("remove_upload", "upload remove image.bin"),
    ("socket", "watch --count 1"),
    ("healthz", "health"),
    ("metrics", "metrics"),
    ("document", "openapi"),
    ("readyz", "health"),
];

/// The command that says all that the request of an operation can say.
const WHOLE: &[(&str, &str)] = &[
    ("set_pin", "pin set --pin-file PIN --new-pin-file PIN"),
    ("create_token", "token create wall --role viewer --expires-in 30d"),
    ("factory_reset", "factory-reset --backup-settings --confirmation SENTENCE --pin-file PIN"),
    ("inhibit", "inhibit --scope switch --reason why --owner me --ttl 60 -- true"),
    ("switch_override", "override on --reason why --duration 60 --acknowledge-risks --pin-file PIN"),
    ("set_bandwidth", "bandwidth set 2M"),
    ("create_snapshot", "snapshot create --description text"),
    ("restore_snapshot", "snapshot restore s1 --identity-file PIN --pin-file PIN --yes"),
    ("cancel", "cancel OTA-JOB-8821X --reason why"),
    ("confirm", "confirm --reason why"),
    ("reject", "reject --reason why"),
    ("download", "download update_12345 --target B --priority low"),
    ("explain", "explain OTA-JOB-8821X --strategy immediate"),
    (
        "install",
        "install OTA-JOB-8821X --strategy immediate --reboot-after --no-rollback-on-failure --pin-file PIN",
    ),
    ("pause", "pause OTA-JOB-8821X"),
    ("resume", "resume OTA-JOB-8821X"),
    ("rollback", "rollback --target-version v5.0.4 --reason why --pin-file PIN"),
    (
        "deploy_upload",
        "upload deploy image.bin --release-version v5.0.5 --target B --strategy immediate --no-reboot \
         --no-rollback-on-failure --pin-file PIN",
    ),
    ("verify_upload", "upload verify image.bin"),
];

/// Fields without an option: `inhibit` names its lease when it renews it; a release is downloaded by its id. Whoever types a command
/// wants every check that there is, so those are always asked for.
const NO_OPTION: [(&str, &str); 5] = [
    ("inhibit", "id"),
    ("download", "version"),
    ("download", "verify_signature"),
    ("verify_upload", "verify_signature"),
    ("verify_upload", "check_compatibility"),
];

fn document() -> Value {
    serde_json::from_str(include_str!("../../../../docs/api/openapi.json")).unwrap()
}

/// `METHOD path` of every operation, by its name; parameters as the commands above fill them.
fn operations() -> BTreeMap<String, (String, String)> {
    let document = document();
    let mut all = BTreeMap::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        let filled = path.replace("/snapshots/{id}", "/snapshots/s1").replace("{filename}", "image.bin");
        let filled = filled.replace("{id}", "OTA-JOB-8821X").replace("/api/v1/ota/", "");
        for (method, operation) in methods.as_object().unwrap() {
            let name = operation["operationId"].as_str().unwrap().to_owned();
            all.insert(name, (method.to_uppercase(), filled.clone()));
        }
    }
    all
}

/// Runs a command against a gateway that refuses this request; what was sent to it.
async fn requests_of(command: &str, request: &str, dir: &Path) -> (Vec<String>, Run) {
    let at = |name: &str| dir.join(name).display().to_string();
    std::fs::write(at("PIN"), "9471\n").unwrap();
    std::fs::write(at("image.bin"), [1; 100]).unwrap();
    let fake = Fake::start().await;
    let refused = Answer::Refusal(404, json!({"error": true, "code": "OTA_013", "message": "no"}));
    fake.on(request, [refused]);
    // What is asked on the way there.
    if request == "GET /readyz" {
        fake.answers("GET /healthz", json!({"status": "ok"}));
    }
    fake.world.events.lock().unwrap().push_back(vec![json!({"type": "later"})]);
    let words = command.split(' ').map(|word| match word {
        "PIN" | "NEW" => at(word),
        "IMAGE" => at("image.bin"),
        "SENTENCE" => "I understand this will erase all data".into(),
        word => word.to_owned(),
    });
    let words: Vec<String> = ["--url".into(), fake.url()].into_iter().chain(words).collect();
    let run = run(&words.iter().map(String::as_str).collect::<Vec<_>>()).await;
    (fake.requests(), run)
}

#[tokio::test]
async fn every_field_of_a_request_can_be_said_with_an_option() {
    let dir = tempfile::tempdir().unwrap();
    let document = document();
    let operations = operations();
    let whole: BTreeMap<&str, &str> = WHOLE.iter().copied().collect();
    for operation in
        document["paths"].as_object().unwrap().values().flat_map(|path| path.as_object().unwrap())
    {
        let body = operation.1["requestBody"]["content"]["application/json"].to_string();
        let Some((_, schema)) = body.split_once("#/components/schemas/") else { continue };
        let name = operation.1["operationId"].as_str().unwrap();
        if BROWSER.contains(&name) {
            continue;
        }
        let schema = schema.split('"').next().unwrap();
        let properties = document["components"]["schemas"][schema]["properties"].as_object().unwrap();
        let has_option = |field: &&str| !NO_OPTION.contains(&(name, *field));
        let fields: BTreeSet<&str> = properties.keys().map(String::as_str).filter(has_option).collect();
        let command = whole.get(name).unwrap_or_else(|| panic!("no whole command for {name}"));
        let (method, path) = &operations[name];
        let request = format!("{method} {path}");
        let (sent, run) = requests_of(command, &request, dir.path()).await;
        let body = sent.iter().find_map(|sent| sent.strip_prefix(&request));
        let body = body.unwrap_or_else(|| panic!("`{command}` sent {sent:?} ({}, {})", run.exit, run.err));
        let body: Value = serde_json::from_str(body).unwrap();
        let said = body.as_object().unwrap().keys().map(String::as_str).filter(has_option);
        let said: BTreeSet<&str> = said.collect();
        assert_eq!(said, fields, "`{command}` against {schema}");
    }
}

#[tokio::test]
async fn every_operation_of_the_document_has_a_command_that_sends_it() {
    let dir = tempfile::tempdir().unwrap();
    let operations = operations();
    let commands: BTreeMap<&str, &str> = COMMANDS.iter().copied().collect();
    for (name, (method, path)) in &operations {
        let alias = ALIASES.iter().find(|(alias, _)| alias == name);
        if BROWSER.contains(&name.as_str()) || alias.is_some_and(|(_, of)| commands.contains_key(of)) {
            continue;
        }
        let command =
            commands.get(name.as_str()).unwrap_or_else(|| panic!("{name} ({method} {path}) has no command"));
        let (sent, run) = requests_of(command, &format!("{method} {path}"), dir.path()).await;
        let wanted = if name == "socket" { "WS /api/v1/ota/ws".into() } else { format!("{method} {path}") };
        let found = sent.iter().any(|request| {
            let target = request.strip_prefix(&wanted);
            target.is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '?']))
        });
        assert!(found, "`{command}` sent {sent:?} instead of {wanted} ({}, {})", run.exit, run.err);
    }
    let gone: Vec<_> = commands.keys().filter(|name| !operations.contains_key(**name)).collect();
    assert!(gone.is_empty(), "the document has no {gone:?}");
}
