//! Clients that go away before their answer: what they asked for is done and recorded all the same.

use std::{
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use ota_core::{
    error::PortError,
    ports::{AuditEntry, AuditLog, AuditOutcome, Bandwidth},
};
use ota_testkit::MemJournal;
use tokio::{io::AsyncWriteExt, net::TcpStream, sync::Notify};

use super::harness::{API, Gateway, OPERATOR};

/// A cap whose change takes as long as the test says.
struct SlowBandwidth {
    entered: Notify,
    go: Mutex<mpsc::Receiver<()>>,
}

impl SlowBandwidth {
    fn new() -> (Arc<Self>, mpsc::Sender<()>) {
        let (go, wait) = mpsc::channel();
        (Arc::new(Self { entered: Notify::new(), go: Mutex::new(wait) }), go)
    }
}

impl Bandwidth for SlowBandwidth {
    fn limit(&self) -> Option<u64> {
        Some(4096)
    }

    fn set_limit(&self, _: Option<u64>) -> Result<(), PortError> {
        self.entered.notify_one();
        let _ = self.go.lock().unwrap().recv();
        Ok(())
    }
}

/// Asks for another cap, hangs up while it is being set, and waits until the server knows.
async fn hang_up(gateway: &Gateway, port: &SlowBandwidth) {
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    let body = r#"{"bytes_per_second": 4096}"#;
    let head = format!(
        "PUT {API}/settings/bandwidth HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {OPERATOR}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    port.entered.notified().await;
    drop(stream);
    // The one that asks is the one that is left.
    within(async || {
        let text = gateway.http.get(gateway.url("/metrics")).bearer_auth(OPERATOR).send().await.unwrap();
        text.text().await.unwrap().contains("ota_http_connections 1\n").then_some(())
    })
    .await;
}

async fn within<T>(mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let found = async {
        loop {
            match look().await {
                Some(found) => return found,
                None => tokio::task::yield_now().await,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), found).await.expect("what is waited for does not happen")
}

fn record(store: &MemJournal) -> Option<AuditEntry> {
    let records = store.records(0, 1000).unwrap().into_iter();
    records.map(|record| record.entry).find(|entry| entry.action == "settings.bandwidth")
}

#[tokio::test]
async fn a_client_that_hangs_up_does_not_take_the_record_of_its_change_with_it() {
    let (port, go) = SlowBandwidth::new();
    let gateway = Gateway::with_bandwidth(Arc::clone(&port) as _).await;
    hang_up(&gateway, &port).await;
    assert_eq!(record(&gateway.store), None);
    go.send(()).unwrap();
    let entry = within(async || record(&gateway.store)).await;
    assert_eq!((entry.actor.as_str(), entry.outcome), ("operator", AuditOutcome::Ok));
    assert_eq!(entry.reason.as_deref(), Some("4096 bytes a second"));
}

#[tokio::test]
async fn a_stop_waits_for_the_record_of_a_change_whose_client_hung_up() {
    let (port, go) = SlowBandwidth::new();
    let gateway = Gateway::with_bandwidth(Arc::clone(&port) as _).await;
    hang_up(&gateway, &port).await;
    let store = Arc::clone(&gateway.store);
    let stopping = tokio::spawn(gateway.stop());
    go.send(()).unwrap();
    stopping.await.unwrap();
    assert!(record(&store).is_some(), "{:?}", store.audited());
}
