//! What is asked, what is written, and that it is read.

use super::*;

fn given(words: &[&str]) -> Args {
    Options::parse_from(std::iter::once(&"init").chain(words)).args
}

const BOARD: [&str; 8] =
    ["--model", "IGW-5000", "--serial", "SN1", "--slot-a", "/dev/a", "--slot-b", "/dev/b"];

fn unattended(args: Args) -> anyhow::Result<Args> {
    answer(args, None)
}

#[test]
fn the_shipped_configuration_is_the_text_without_answers() {
    let file = Path::new("../../dist/config/gateway.toml");
    let made = shipped();
    #[expect(clippy::disallowed_methods, reason = "who changes the text says so by the environment")]
    if std::env::var("OTA_BLESS").is_ok() {
        fs::write(file, &made).unwrap();
    }
    let found = fs::read_to_string(file).unwrap();
    assert!(found == made, "dist/config/gateway.toml is stale: `cargo xtask pages` writes it");
    Config::parse(&made).unwrap().check().unwrap();
}

#[test]
fn options_alone_make_a_file_that_is_read_and_says_what_was_given() {
    let more = [
        "--listen",
        "0.0.0.0:8443",
        "--host",
        "gw.example",
        "--source",
        "https://u.example/ota/",
        "--policy",
        "install_in_window",
        "--constraint",
        "crane=/run/crane=at \"rest\"",
        "--health-unit",
        "plc.service",
        "--certificate",
        "/c",
        "--key",
        "/k",
    ];
    let args = unattended(given(&[BOARD.as_slice(), &more].concat())).unwrap();
    let config = Config::parse(&text::render(&args)).unwrap();
    config.check().unwrap();
    assert_eq!(config.sources[0].metadata_url, "https://u.example/ota/metadata/");
    assert_eq!(config.sources[0].policy.critical, ota_core::policy::Initiative::InstallInWindow);
    assert_eq!(config.http.hosts, ["gw.example"]);
    assert_eq!(config.health.check[0].unit.as_deref(), Some("plc.service"));
    let equals = config.safety.constraints[0].condition.equals.clone();
    assert_eq!(equals, Some(ota_safety::reading::Value::Text("at \"rest\"".into())));
}

#[test]
fn every_policy_is_one_of_the_daemon() {
    for policy in Policy::value_variants() {
        let mut args = unattended(given(&BOARD)).unwrap();
        (args.policy, args.source) = (*policy, Some("https://u.example".into()));
        Config::parse(&text::render(&args)).unwrap().check().unwrap();
    }
}

#[test]
fn what_nobody_knows_and_nobody_can_be_asked_is_named_by_its_option() {
    let error = unattended(given(&["--model", "M"])).unwrap_err().to_string();
    assert!(error.contains("--slot-a, --slot-b") && !error.contains("--model"), "{error}");
}

#[test]
fn a_person_is_asked_for_what_is_missing_only_and_an_empty_answer_takes_what_is_known() {
    let mut input = "\nIGW-5000\n\n".as_bytes();
    let mut asked = Vec::new();
    let args = given(&[&BOARD[2..], &["--source", "https://u.example"]].concat());
    let args = answer(args, Some((&mut input, &mut asked))).unwrap();
    assert_eq!(
        (args.model.as_deref(), args.slot_a.as_deref()),
        (Some("IGW-5000"), Some(Path::new("/dev/a")))
    );
    let asked = String::from_utf8(asked).unwrap();
    assert!(asked.contains("Model") && asked.contains("API") && !asked.contains("Serial"), "{asked}");
    let cut = answer(given(&[]), Some((&mut "\n".as_bytes(), &mut std::io::sink())));
    assert!(cut.unwrap_err().to_string().contains("the answers ended"));
}

#[test]
fn a_file_that_is_there_is_not_replaced_unless_asked_and_nobody_else_reads_the_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("etc/gateway.toml");
    let go = |force: bool| {
        let mut args = given(&[BOARD.as_slice(), &["--no-questions"]].concat());
        args.force = force;
        run(args, &to)
    };
    let said = go(false).unwrap();
    assert!(said.contains("token create"), "{said}");
    assert_eq!(fs::metadata(&to).unwrap().permissions().mode() & 0o777, 0o640);
    assert!(go(false).unwrap_err().to_string().contains("--force"));
    go(true).unwrap();
    Config::load(&to).unwrap();
    assert_eq!(fs::read_dir(to.parent().unwrap()).unwrap().count(), 1);
}

#[test]
fn what_a_package_has_put_there_gives_way_until_somebody_has_changed_it() {
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("gateway.toml");
    let go = || run(given(&[BOARD.as_slice(), &["--no-questions"]].concat()), &to);
    fs::write(&to, shipped()).unwrap();
    go().unwrap();
    assert!(fs::read_to_string(&to).unwrap().contains("IGW-5000"));
    let changed = format!("{}# by hand\n", shipped());
    fs::write(&to, &changed).unwrap();
    assert!(go().unwrap_err().to_string().contains("--force"));
    assert_eq!(fs::read_to_string(&to).unwrap(), changed);
}

#[test]
fn the_group_of_the_folder_may_read_the_file() {
    let dir = tempfile::tempdir().unwrap();
    // Root alone can make it another group's; for everybody else it stays their own.
    let _ = std::os::unix::fs::chown(dir.path(), None, Some(4711));
    let to = dir.path().join("gateway.toml");
    run(given(&[BOARD.as_slice(), &["--no-questions"]].concat()), &to).unwrap();
    let (folder, file) = (fs::metadata(dir.path()).unwrap(), fs::metadata(&to).unwrap());
    assert_eq!((file.gid(), file.mode() & 0o777), (folder.gid(), 0o640));
}

#[test]
fn answers_that_do_not_fit_together_write_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("gateway.toml");
    let mut args = given(&[BOARD.as_slice(), &["--no-questions"]].concat());
    args.slot_b = args.slot_a.clone();
    assert!(format!("{:#}", run(args, &to).unwrap_err()).contains("slots.a"));
    assert!(!to.exists());
}
