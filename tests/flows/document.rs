//! The `OpenAPI` document against the live daemon, by a tester that reads nothing but the document: schemathesis.

use std::{path::PathBuf, process::Stdio};

use ota_core::Slot;
use serde_json::json;
use tokio::process::Command;

use crate::world::{Offer, device_with_pin, settings};

/// What an answer is held against. Left out are `negative_data_rejection` and `positive_data_acceptance`: what a body means
/// (that an update is on offer, that a name is free) is decided by more than its shape, and unknown fields are accepted.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,\
                      response_schema_conformance,unsupported_method,ignored_auth,missing_required_header";

#[expect(
    clippy::disallowed_methods,
    reason = "cargo xtask test says where the tool is, a person how long to look"
)]
fn told(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The one operation that is tried last and with a token of its own: it takes names from answers, also that of the token
/// it works with, and revokes it.
const LAST: &str = "revoke_token";

/// The program, beside the interpreter that has it.
fn schemathesis() -> PathBuf {
    let beside = |python: String| PathBuf::from(python).with_file_name("st");
    told("OTA_PYTHON").map_or_else(|| "st".into(), beside)
}

struct Tester {
    program: PathBuf,
    folder: tempfile::TempDir,
    examples: String,
}

impl Tester {
    /// Tries the operations that `chosen` names; what it says of them.
    async fn run(&self, url: &str, token: &str, chosen: [&str; 2]) -> Result<String, String> {
        #[expect(clippy::disallowed_methods, reason = "the tool is a program of its own")]
        let output = Command::new(&self.program)
            .args(["run", &format!("{url}/openapi.json"), "--no-color"])
            .args(["--header", &format!("Authorization: Bearer {token}")])
            .args(["--checks", CHECKS, "--phases", "examples,coverage,fuzzing"])
            .args([
                "--seed",
                "1",
                "--max-examples",
                &self.examples,
                "--workers",
                "4",
                "--request-timeout",
                "20",
            ])
            .args(chosen)
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .output()
            .await;
        let output = output.unwrap_or_else(|error| {
            panic!("{} (PyPI: schemathesis): {error}; run `cargo xtask test`", self.program.display())
        });
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() { Ok(said) } else { Err(said + &String::from_utf8_lossy(&output.stderr)) }
    }
}

/// The counts at its end.
fn summary(said: &str) -> String {
    let wanted = |line: &&str| line.contains("generated") || line.contains("Tested:");
    said.lines().filter(wanted).map(str::trim).collect::<Vec<_>>().join(", ")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_of_the_daemon_is_one_that_the_document_promises() {
    let device = device_with_pin(Offer::Small, settings()).await;
    let examples = told("OTA_SCHEMATHESIS_EXAMPLES").unwrap_or_else(|| "6".into());
    let tester = Tester { program: schemathesis(), folder: tempfile::tempdir().unwrap(), examples };
    let (url, token) = (&device.api.url, &device.api.token);
    let all = tester.run(url, token, ["--exclude-operation-id", LAST]).await;
    let all = all.unwrap_or_else(|said| panic!("{said}\n{}", device.log_tail(40)));
    let last = json!({"name": "revoked-by-chance", "role": "admin"});
    let last = device.api.post("/auth/tokens", &last).await.ok()["token"].as_str().unwrap().to_owned();
    let last = tester.run(url, &last, ["--include-operation-id", LAST]).await;
    let last = last.unwrap_or_else(|said| panic!("{said}\n{}", device.log_tail(40)));
    println!("{}\n{}", summary(&all), summary(&last));
    // Nothing that it asked for restarted the gateway or wrote a slot.
    device.check_rests_on(Slot::A).await;
    assert_eq!(device.boots(), [Some(Slot::A)]);
}
