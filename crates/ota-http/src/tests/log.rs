//! What is logged while a request is served carries its id, so that one word finds it all.

use std::{
    io,
    sync::{Arc, Mutex},
};

use serde_json::json;

use super::harness::{API, Gateway};

/// The log of this thread.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

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
    let lines = Lines::default();
    let writer = lines.clone();
    let log = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
    // Of this thread alone: the gateway of a test runs in it.
    let _kept = tracing::subscriber::set_default(log);
    let gateway = Gateway::start().await;
    // A place that was first reached on the thread of another test, which has no log, is taken for one that nobody wants.
    gateway.get("/system/status").await;
    tracing::callsite::rebuild_interest_cache();
    // From the thirty-first on, refusals of strangers are logged instead of recorded, by the task that outlives its connection.
    for n in 1..=31 {
        let request = gateway.http.post(gateway.url(&format!("{API}/updates/cancel"))).json(&json!({}));
        request.header("x-request-id", format!("stranger-{n}")).send().await.unwrap();
    }
    let log = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    let found: Vec<&str> = log.lines().filter(|line| line.contains("too many refusals")).collect();
    assert_eq!(found.len(), 1, "{log}");
    assert!(found[0].contains("request{request_id=\"stranger-31\"}"), "{found:?}");
}
