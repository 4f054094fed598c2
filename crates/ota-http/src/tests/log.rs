//! What is logged while a request is served carries its id, so that one word finds it all.

use std::{
    io,
    sync::{Arc, Mutex},
};

use ota_core::error::SignatureFault;
use serde_json::json;
use tracing::subscriber::DefaultGuard;

use super::harness::{API, Gateway, OPERATOR};

/// The log of this thread.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    /// What this thread logs from now on: the gateway of a test runs in it.
    fn kept() -> (Self, DefaultGuard) {
        let lines = Self::default();
        let writer = lines.clone();
        let log = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
        (lines, tracing::subscriber::set_default(log))
    }

    /// Those with `word`.
    fn with(&self, word: &str) -> Vec<String> {
        let log = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        log.lines().filter(|line| line.contains(word)).map(str::to_owned).collect()
    }
}

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn what_is_logged_on_the_way_of_a_request_carries_its_id() {
    let (lines, _kept) = Lines::kept();
    let gateway = Gateway::start().await;
    // A place that was first reached on the thread of another test, which has no log, is taken for one that nobody wants.
    gateway.get("/system/status").await;
    tracing::callsite::rebuild_interest_cache();
    // From the thirty-first on, refusals of strangers are logged instead of recorded, by the task that outlives its connection.
    for n in 1..=31 {
        let request = gateway.http.post(gateway.url(&format!("{API}/updates/cancel"))).json(&json!({}));
        request.header("x-request-id", format!("stranger-{n}")).send().await.unwrap();
    }
    let found = lines.with("too many refusals");
    assert_eq!(found.len(), 1, "{:#?}", lines.with(""));
    assert!(found[0].contains("request{request_id=\"stranger-31\"}"), "{found:?}");
}

#[tokio::test]
async fn what_is_logged_of_a_job_carries_the_id_of_the_request_that_asked_for_it_to_its_end() {
    let (lines, _kept) = Lines::kept();
    let gateway = Gateway::start().await;
    gateway.verifier.refuse(SignatureFault::Untrusted);
    // Each place once, for the same reason as above.
    gateway.download().await;
    gateway.until_idle().await;
    tracing::callsite::rebuild_interest_cache();
    let before = lines.with("job state").len();
    let request = gateway.http.post(gateway.url(&format!("{API}/updates/download"))).bearer_auth(OPERATOR);
    let request = request.json(&json!({"update_id": "rel-v5.0.5"})).header("x-request-id", "that-one");
    assert_eq!(request.send().await.unwrap().status(), 200);
    gateway.until_idle().await;
    let states = &lines.with("job state")[before..];
    assert!(states.len() > 2, "{states:#?}");
    assert!(states.iter().all(|line| line.contains("request_id=\"that-one\"")), "{states:#?}");
}
