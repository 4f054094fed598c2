//! What scripts rely on: the real `ota-admin` on a real gateway, with profiles, and with the JSON lines that docs/cli.md promises.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Output, Stdio},
};

use ota_api::snapshots::CreateSnapshotRequest;
use ota_core::Slot;
use ota_tests::{config::Settings, make::PIN};
use serde_json::Value;

use crate::{
    terminal::python,
    uploads::{upload, verify},
    world::{Offer, TestDevice, binary, device, device_with_pin, root, settings},
};

/// Runs a program at a terminal of its own. For each word of `argv[1]` it waits for the question, then until what is typed is not
/// shown any more, and types it; prints what the terminal shows.
const AT_A_TERMINAL: &str = r#"
child, end, before = start(sys.argv[2:])
shown = b""
for answer in sys.argv[1].split():
    shown += until(end, b"PIN")
    hidden(end)
    os.write(end, answer.encode() + b"\n")
shown += rest(end)
sys.stdout.write(shown.decode())
sys.exit(code(child))
"#;

/// Presses Ctrl-C where a PIN is asked for; ends well when the program was interrupted and the terminal is as it was.
const CTRL_C_AT_THE_PIN: &str = r#"
child, end, before = start(sys.argv[1:])
until(end, b"PIN")
hidden(end)
os.write(end, b"\x03")
ended = code(child)
sys.exit(0 if (ended, termios.tcgetattr(end)) == (-signal.SIGINT, before) else f"ended with {ended}")
"#;

/// Runs `ota-admin WORDS` in a home of its own, with nothing else in its environment.
async fn admin(home: &Path, variables: &[(&str, &str)], words: &[&str]) -> Output {
    #[expect(clippy::disallowed_methods, reason = "what scripts run is run as they do")]
    let mut command = Command::new(binary("ota-admin"));
    command.args(words).current_dir(home).env_clear().env("HOME", home).envs(variables.iter().copied());
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

fn said(output: &Output) -> String {
    let text = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    text.concat()
}

/// Runs a program as a person does who looks after the device `crane`.
async fn person(home: &Path, program: &str, words: &[&str]) -> Output {
    #[expect(clippy::disallowed_methods, reason = "what people type is run as they do")]
    let mut command = Command::new(program);
    command.args(words).stdin(Stdio::null());
    of_person(home, command).await
}

/// The same at a terminal, where the person answers questions for a PIN with the words of `typed`.
async fn typing(home: &Path, typed: &str, words: &[&str]) -> Output {
    let mut command = python(AT_A_TERMINAL);
    command.arg(typed).args(words);
    of_person(home, command).await
}

async fn of_person(home: &Path, mut command: Command) -> Output {
    command.env("HOME", home).env("OTA_PROFILE", "crane");
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

/// The device under the name `crane`.
async fn crane(device: &TestDevice, home: &Path) {
    let token = device.layout.admin_token().display().to_string();
    let add = ["profile", "add", "crane", "--url", &device.api.url, "--token-file", &token];
    let done = admin(home, &[], &add).await;
    assert!(done.status.success(), "{}", said(&done));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_profile_names_a_gateway_and_option_and_environment_win_over_it() {
    let device = device(Offer::Small).await;
    let home = tempfile::tempdir().unwrap();
    let nowhere = "http://127.0.0.1:9";
    crane(&device, home.path()).await;
    let status = ["status", "-o", "json"];
    let code = |output: &Output| output.status.code();

    let unnamed = admin(home.path(), &[], &status).await;
    assert_ne!(code(&unnamed), Some(0), "a profile that nobody named is used");
    for (variables, words) in [
        (&[("OTA_PROFILE", "crane")][..], &[][..]),
        (&[], &["--profile", "crane"]),
        // What is typed wins over a variable left over from yesterday.
        (&[("OTA_PROFILE", "crane"), ("OTA_URL", nowhere)], &["--url", &device.api.url]),
        (&[("OTA_PROFILE", "nobody")], &["--profile", "crane"]),
    ] {
        let told = admin(home.path(), variables, &[words, &status].concat()).await;
        let answer: Value =
            serde_json::from_slice(&told.stdout).unwrap_or_else(|_| panic!("{}", said(&told)));
        assert_eq!(answer["gateway"]["name"], "iot-gateway-01", "{variables:?} {words:?}");
    }
    let environment = [("OTA_PROFILE", "crane"), ("OTA_URL", nowhere)];
    assert_eq!(code(&admin(home.path(), &environment, &status).await), Some(3));
    let contradiction = admin(home.path(), &[("OTA_URL", nowhere)], &["--profile", "crane", "status"]).await;
    assert_eq!(code(&contradiction), Some(2), "{}", said(&contradiction));
    assert!(said(&contradiction).contains("is another gateway than that of profile crane"));
    let unknown = admin(home.path(), &[("OTA_PROFILE", "pump")], &["status"]).await;
    assert_eq!((code(&unknown), said(&unknown).contains("no profile pump; it has crane")), (Some(2), true));

    assert_eq!(code(&admin(home.path(), &[], &["profile", "use", "crane"]).await), Some(0));
    assert_eq!(code(&admin(home.path(), &[], &status).await), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_stands_in_the_file_of_profiles_only_where_nobody_else_reads_it() {
    let device = device(Offer::Small).await;
    let config = tempfile::tempdir().unwrap();
    let file = config.path().join("ota-admin/profiles.toml");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    let (url, token) = (&device.api.url, &device.api.token);
    let text = format!("default = \"crane\"\n[profile.crane]\nurl = \"{url}\"\ntoken = \"{token}\"\n");
    fs::write(&file, text).unwrap();
    let variables = [("XDG_CONFIG_HOME", config.path().to_str().unwrap())];
    for (mode, code) in [(0o600, Some(0)), (0o644, Some(2))] {
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        let told = admin(config.path(), &variables, &["token", "list"]).await;
        assert_eq!(told.status.code(), code, "{}", said(&told));
        assert!(!said(&told).contains(token), "{}", said(&told));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pin_is_typed_without_being_shown_or_comes_through_a_descriptor_and_is_no_argument() {
    let device = device_with_pin(Offer::Small, settings()).await;
    device.set_sensor("crane_motion", "moving").unwrap();
    device.safety_is(false).await;
    let home = tempfile::tempdir().unwrap();
    crane(&device, home.path()).await;
    let admin_program = binary("ota-admin").display().to_string();
    let on = "override on --reason people-are-away --duration 600 --acknowledge-risks";
    let run = async |program: &str, words: &[&str]| person(home.path(), program, words).await;
    let words: Vec<&str> = [admin_program.as_str()].into_iter().chain(on.split(' ')).collect();
    let by_descriptor = format!("'{admin_program}' {on} --pin-file /dev/fd/7 7< <(echo {PIN})");
    for is_typed in [true, false] {
        let done = if is_typed {
            typing(home.path(), PIN, &words).await
        } else {
            run("bash", &["-c", &by_descriptor]).await
        };
        assert!(done.status.success() && !said(&done).contains(PIN), "{is_typed}: {}", said(&done));
        device.safety_is(true).await;
        let off = run(&admin_program, &["override", "off"]).await;
        assert!(off.status.success(), "{}", said(&off));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pin_that_is_set_on_the_device_is_typed_twice_unseen_or_is_a_line_of_standard_input() {
    let device = device(Offer::Small).await;
    let home = tempfile::tempdir().unwrap();
    crane(&device, home.path()).await;
    let program = binary("ota-gatewayd").display().to_string();
    let config = device.layout.gateway_toml().display().to_string();
    let set = [program.as_str(), "--config", &config, "pin", "set"];
    for (typed, ends_well) in [("480163 480164", false), ("480163 480163", true)] {
        let done = typing(home.path(), typed, &set).await;
        assert_eq!(done.status.success(), ends_well, "{typed}: {}", said(&done));
        assert!(!said(&done).contains("48016"), "{}", said(&done));
    }
    let file = |name: &str| home.path().join(name).display().to_string();
    let (first, second, third, line) = (file("first"), file("second"), file("third"), file("line"));
    for (path, pin) in [(&first, "480163"), (&second, "590274"), (&third, "617385")] {
        fs::write(path, format!("{pin}\n")).unwrap();
    }
    let variables = [("OTA_PROFILE", "crane")];
    let change = ["pin", "set", "--pin-file", &first, "--new-pin-file", &third];
    let done = admin(home.path(), &variables, &change).await;
    assert!(done.status.success(), "it is another PIN than the typed one: {}", said(&done));
    // Standard input stays open behind the line.
    let script =
        format!("mkfifo {line}; exec 3<>{line}; cat {second} >&3; timeout 60 {} <{line}", set.join(" "));
    let done = person(home.path(), "bash", &["-euc", &script]).await;
    assert!(done.status.success(), "{}", said(&done));
    let change = ["pin", "set", "--pin-file", &second, "--new-pin-file", &third];
    let done = admin(home.path(), &variables, &change).await;
    assert!(done.status.success(), "it is another PIN than that of the line: {}", said(&done));
}

/// Runs a command whose PIN the gateway wants: without a terminal it is refused and names the option.
async fn names_the_option(home: &Path, command: &str) {
    let program = binary("ota-admin").display().to_string();
    let words: Vec<&str> = ["-o", "json"].into_iter().chain(command.split(' ')).collect();
    let refused = person(home, &program, &words).await;
    let text = said(&refused);
    let document: Value = serde_json::from_str(text.lines().last().unwrap_or_default()).unwrap();
    assert_eq!(refused.status.code(), Some(20), "{command}: {document}");
    let named = document["suggested_actions"][0].as_str().unwrap_or_default();
    assert!(named.contains("--pin-file"), "{command}: {document}");
}

/// The same at a terminal: the PIN is asked for, is not shown, and the request goes through.
async fn asks_for_the_pin(home: &Path, command: &str) {
    let program = binary("ota-admin").display().to_string();
    let words: Vec<&str> = [program.as_str()].into_iter().chain(command.split(' ')).collect();
    let done = typing(home, PIN, &words).await;
    let text = said(&done);
    assert!(done.status.success() && !text.contains(PIN), "{command}: {text}");
    assert!(text.contains("The gateway wants the PIN"), "{command}: {text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pin_that_the_gateway_wants_is_asked_for_at_a_terminal_and_its_option_named_without() {
    let more = "[pin]\nrequire_for = [\"install\", \"deploy\", \"restore\"]\n";
    let device = device_with_pin(Offer::Small, Settings { more, ..settings() }).await;
    let home = tempfile::tempdir().unwrap();
    crane(&device, home.path()).await;
    let saved = device.client.create_snapshot(&CreateSnapshotRequest { description: None }).await.unwrap().id;
    let restore = format!("snapshot restore {saved} --yes");
    names_the_option(home.path(), &restore).await;
    asks_for_the_pin(home.path(), &restore).await;

    let image = device.client.upload(&upload(&device)).await.unwrap().file.name;
    device.client.verify(&verify(&image)).await.unwrap();
    let deploy = format!("upload deploy {image} --no-reboot --wait");
    names_the_option(home.path(), &deploy).await;
    device.safety_is(true).await;
    asks_for_the_pin(home.path(), &deploy).await;
    let deployed = device.newest().await.unwrap().unwrap().job_id;
    device.client.cancel(&deployed, None).await.unwrap();
    device.ended(&deployed).await;

    let install = format!("install {} --wait", device.download().await);
    names_the_option(home.path(), &install).await;
    device.safety_is(true).await;
    asks_for_the_pin(home.path(), &install).await;
    let installed = device.newest().await.unwrap().unwrap().job_id;
    device.client.cancel(&installed, None).await.unwrap();
    device.ended(&installed).await;

    device.safety_is(true).await;
    asks_for_the_pin(home.path(), "update --yes").await;
    device.check_rests_on(Slot::B).await;
}

#[test]
fn ctrl_c_at_the_pin_ends_the_command_and_gives_the_terminal_back() {
    let home = tempfile::tempdir().unwrap();
    let program = binary("ota-admin").display().to_string();
    // It is asked for before anything is sent.
    let words = [program.as_str(), "--url", "http://127.0.0.1:9", "pin", "set", "--first"];
    let done = python(CTRL_C_AT_THE_PIN).args(words).env("HOME", home.path()).output().unwrap();
    assert!(done.status.success(), "{}", said(&done));
}

#[test]
fn a_verdict_stays_when_nobody_reads_it_and_what_is_printed_whole_may_be_left() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("image.bin"), [7; 4096]).unwrap();
    fs::create_dir(home.path().join("keys")).unwrap();
    for (command, code) in [("verify image.bin --keys keys", 16), ("completions bash", 0)] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        #[expect(clippy::disallowed_methods, reason = "what scripts run is run as they do")]
        let mut admin = Command::new(binary("ota-admin"));
        admin.args(command.split(' ')).current_dir(home.path()).env_clear().stdout(writer);
        let ended = admin.output().unwrap();
        assert_eq!(ended.status.code(), Some(code), "{command}: {}", said(&ended));
    }
}

#[tokio::test]
async fn a_command_line_that_cannot_be_read_is_a_failure_like_others() {
    let home = tempfile::tempdir().unwrap();
    for (variables, words) in
        [(&[][..], &["-o", "json", "download"][..]), (&[("OTA_OUTPUT", "jsonl")], &["statuss"])]
    {
        let refused = admin(home.path(), variables, words).await;
        let document: Value = serde_json::from_slice(&refused.stderr).unwrap();
        assert_eq!((refused.status.code(), &document["exit_code"]), (Some(2), &Value::from(2)), "{document}");
        assert!(refused.stdout.is_empty(), "{}", said(&refused));
    }
    let table = admin(home.path(), &[], &["download"]).await;
    assert!(table.status.code() == Some(2) && said(&table).contains("Usage: ota-admin download"));
}

/// A row of the table in docs/cli.md: its commands, whether one line is printed, and the keys. Rows without a document are left out.
fn promises() -> Vec<(Vec<String>, bool, Vec<String>)> {
    let page = fs::read_to_string(root().join("docs/cli.md")).unwrap();
    let (_, table) = page.split_once("| with `-o jsonl` | lines | keys |\n|---|---|---|\n").unwrap();
    let rows = table.lines().take_while(|line| line.starts_with('|'));
    let row = |line: &str| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let ["", commands, lines, keys, ""] = cells[..] else { panic!("{line}") };
        let code = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
        // Behind a semicolon stands what is there only sometimes.
        let always = |cell: &str| cell.split(';').next().unwrap_or_default().to_owned();
        let printed = !lines.starts_with("none");
        printed.then(|| (code(commands), always(lines) == "one", code(&always(keys))))
    };
    rows.filter_map(row).collect()
}

/// Commands that this device is not brought into the state for: their answer is that of an operation.
const AS_DOCUMENTED: [(&str, &str); 14] = [
    ("download ID", "download"),
    ("inhibitors --release ID", "release"),
    ("install JOB", "install"),
    ("pause", "pause"),
    ("resume", "resume"),
    ("confirm", "confirm"),
    ("reject", "reject"),
    ("rollback", "rollback"),
    ("factory-reset", "factory_reset"),
    ("override on", "switch_override"),
    ("override off", "switch_override"),
    ("pin set", "set_pin"),
    ("upload deploy NAME", "deploy_upload"),
    ("snapshot restore ID", "restore_snapshot"),
];

/// What cannot be done twice.
const ONCE: [&str; 12] = [
    "cancel",
    "token create",
    "token revoke",
    "upload remove",
    "audit export",
    "report --file",
    "debug-bundle",
    "profile add",
    "profile remove",
    "keygen",
    "sign",
    "repo",
];

/// Fields of the answer of an operation.
fn fields(document: &Value, operation: &str) -> Vec<String> {
    let paths = document["paths"].as_object().unwrap().values();
    let mut all = paths.flat_map(|path| path.as_object().unwrap().values());
    let found = all.find(|found| found["operationId"] == operation).unwrap();
    let mut answers = found["responses"].as_object().unwrap().iter();
    let (_, answer) = answers.find(|(status, _)| status.starts_with('2')).unwrap();
    let body = answer["content"]["application/json"].to_string();
    let (_, schema) = body.split_once("#/components/schemas/").unwrap();
    let schema = schema.split('"').next().unwrap();
    document["components"]["schemas"][schema]["properties"].as_object().unwrap().keys().cloned().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_command_prints_the_json_lines_that_the_page_promises() {
    let device = device(Offer::Small).await;
    let home = tempfile::tempdir().unwrap();
    crane(&device, home.path()).await;
    let at = |name: &str| home.path().join(name);
    for (from, to) in [
        (&device.release.image, "rootfs.squashfs"),
        (&device.release.image, "own.squashfs"),
        (&device.release.signature(), "own.squashfs.p7s"),
    ] {
        fs::copy(from, at(to)).unwrap();
    }
    fs::create_dir(at("trusted")).unwrap();
    let variables = [("OTA_PROFILE", "crane"), ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")];
    let openapi = fs::read_to_string(root().join("docs/api/openapi.json")).unwrap();
    let openapi: Value = serde_json::from_str(&openapi).unwrap();
    for (commands, one, keys) in promises() {
        for command in commands {
            if let Some((_, operation)) = AS_DOCUMENTED.iter().find(|(documented, _)| *documented == command)
            {
                let fields = fields(&openapi, operation);
                let unknown: Vec<_> = keys.iter().filter(|key| !fields.contains(key)).collect();
                assert!(unknown.is_empty() && !keys.is_empty(), "{command} has no {unknown:?}");
                continue;
            }
            let job = device.newest().await.unwrap().map(|job| job.job_id).unwrap_or_default();
            let filled = command.split(' ').map(|word| match word {
                "JOB" => job.as_str(),
                "OURS" => "crane",
                "NEW" => "spare",
                "URL" => device.api.url.as_str(),
                word => word,
            });
            let typed: Vec<&str> = filled.collect();
            let told = admin(home.path(), &variables, &[&["-o", "jsonl"], typed.as_slice()].concat()).await;
            assert!(told.status.success(), "{command}: {}", said(&told));
            if command.starts_with("keygen code-signing") {
                fs::copy(at("ca/ca.pem"), at("trusted/ca.pem")).unwrap();
            }
            let text = String::from_utf8(told.stdout.clone()).unwrap();
            let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            assert!(lines.len() == 1 || (!one && !lines.is_empty()), "{command}: {text}");
            assert!(!keys.is_empty(), "{command}");
            for key in &keys {
                assert!(lines[lines.len() - 1].get(key).is_some(), "{command} has no {key}: {text}");
            }
            if one && !ONCE.iter().any(|once| command.starts_with(once)) {
                let told =
                    admin(home.path(), &variables, &[&["-o", "json"], typed.as_slice()].concat()).await;
                let document: Value = serde_json::from_slice(&told.stdout).unwrap();
                let names = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
                assert_eq!(names(&document), names(&lines[0]), "{command}");
            }
        }
    }
}
