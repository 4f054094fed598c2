//! The PIN where nobody can be asked for it. At a terminal: `tests/flows/scripts.rs`.

use serde_json::{Value, json};

use super::{
    fake::{Answer, Fake},
    run,
};

#[tokio::test]
async fn without_a_terminal_a_pin_that_is_always_wanted_is_missed_before_anything_is_sent() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "9471\n").unwrap();
    let file = file.path().to_str().unwrap();
    for (command, option) in [
        ("rollback", "--pin-file"),
        ("override on --reason why --duration 60 --acknowledge-risks", "--pin-file"),
        ("pin set", "--pin-file"),
        ("pin set --first", "--new-pin-file"),
        ("pin set --pin-file PIN", "--new-pin-file"),
    ] {
        let fake = Fake::start().await;
        let url = fake.url();
        let words = command.split(' ').map(|word| if word == "PIN" { file } else { word });
        let missed = run(&["--url", &url].into_iter().chain(words).collect::<Vec<_>>()).await;
        assert_eq!((missed.exit, fake.requests().len()), (2, 0), "{command}: {}", missed.err);
        assert!(missed.err.ends_with(&format!(": give {option}\n")), "{command}: {}", missed.err);
    }
}

#[test]
fn the_present_pin_of_a_gateway_without_one_is_refused_and_not_passed_over() {
    let words = ["ota-admin", "pin", "set", "--first", "--pin-file", "old", "--new-pin-file", "new"];
    let refused = crate::cli::Cli::read(words).unwrap_err();
    assert!(refused.to_string().contains("--pin-file"), "{refused}");
}

/// Commands whose PIN depends on the gateway, and what each sends.
const COMMANDS: [(&str, &str); 3] = [
    ("install OTA-JOB-8821X", "POST updates/install"),
    ("upload deploy image.bin", "POST upload/deploy"),
    ("snapshot restore s1 --yes", "POST snapshots/s1/restore"),
];

fn refusal() -> Answer {
    let envelope = json!({
        "error": true, "code": "OTA_010", "name": "INVALID_PIN", "message": "wrong PIN",
        "details": {"attempts_left": 5}, "suggested_actions": ["Enter the PIN again"], "request_id": "req_7"
    });
    Answer::Refusal(403, envelope)
}

#[tokio::test]
async fn without_a_terminal_a_pin_that_the_gateway_wants_is_not_asked_for_and_its_option_is_named() {
    for (command, request) in COMMANDS {
        let fake = Fake::start().await;
        fake.on(request, [refusal()]);
        let url = fake.url();
        let words: Vec<&str> = ["--url", &url].into_iter().chain(command.split(' ')).collect();
        let refused = run(&words).await;
        assert_eq!(refused.exit, 20, "{command}: {}", refused.err);
        assert!(refused.err.contains("- Give the PIN with --pin-file FILE"), "{command}: {}", refused.err);

        let refused = run(&[&["-o", "json"], words.as_slice()].concat()).await;
        let document: Value = serde_json::from_str(refused.err.lines().last().unwrap()).unwrap();
        let actions = document["suggested_actions"].as_array().unwrap();
        assert!(actions[0].as_str().unwrap().contains("--pin-file"), "{command}: {document}");
        assert_eq!((refused.exit, actions.len()), (20, 2), "{command}: {document}");
        assert_eq!(fake.tokens().len(), 2, "{command} is sent again without an answer");
    }
}

#[tokio::test]
async fn a_wrong_pin_of_a_file_is_sent_once_and_its_option_is_not_named_again() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "0815\n").unwrap();
    let pin = file.path().display().to_string();
    for (command, request) in COMMANDS {
        let fake = Fake::start().await;
        fake.on(request, [refusal()]);
        let url = fake.url();
        let words: Vec<&str> =
            ["--url", &url].into_iter().chain(command.split(' ')).chain(["--pin-file", &pin]).collect();
        let refused = run(&words).await;
        assert_eq!((refused.exit, fake.tokens().len()), (20, 1), "{command}: {}", refused.err);
        assert!(!refused.err.contains("--pin-file"), "{command}: {}", refused.err);
        assert!(fake.requests()[0].contains(r#""pin":"0815""#), "{command}: {:?}", fake.requests());
    }
}
