//! HTTP peers: one that answers, and those that do not as they should.

use ota_testkit::peers::{babbler, free_port};

use crate::{
    reading::{Fault, Value},
    sources::test_feed::Followed,
};

async fn follow(answer: &'static [u8], more: &str) -> Followed {
    // Without a provider no client can be made; another test may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let address = babbler(0, answer);
    let config = format!(
        "name = \"x\"\nhttp = {{ url = \"http://{address}/crane\", every = \"20ms\", timeout = \"200ms\"{more} }}"
    );
    Followed::new(&config)
}

#[tokio::test]
async fn a_field_of_a_document_is_a_value() {
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{\"crane\":[\"moving\"]}";
    follow(answer, ", json = { value = \"/crane/0\" }").await.until_value(Value::Text("moving".into())).await;
    follow(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n7.5", "")
        .await
        .until_value(Value::Number(7.5))
        .await;
}

#[tokio::test]
async fn a_server_that_fails_is_silent_or_talks_too_much_is_a_fault() {
    let mut failing = follow(b"HTTP/1.1 500 Oops\r\nContent-Length: 1\r\n\r\n1", "").await;
    failing.until("status", |o| matches!(o, Err(Fault::Unreadable(_)))).await;
    let mut moved =
        follow(b"HTTP/1.1 302 Found\r\nLocation: http://example.com/\r\nContent-Length: 1\r\n\r\n1", "")
            .await;
    moved.until("redirect", |o| matches!(o, Err(Fault::Unreadable(_)))).await;
    let mut silent = follow(b"", "").await;
    silent.until("time-out", |o| *o == Err(Fault::TimedOut)).await;
    let mut garbage = follow(b"hello\r\n\r\n", "").await;
    garbage.until("garbage", |o| matches!(o, Err(Fault::Disconnected(_)))).await;
    let mut long = follow(b"HTTP/1.1 200 OK\r\nContent-Length: 300\r\n\r\n\
        00000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000\
        00000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000\
        00000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000", "").await;
    long.until("too large", |o| *o == Err(Fault::TooLarge)).await;
}

#[tokio::test]
async fn nobody_at_the_address_is_a_fault() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let config = format!("name = \"x\"\nhttp = {{ url = \"http://127.0.0.1:{}/\" }}", free_port());
    Followed::new(&config).until("refused", |o| matches!(o, Err(Fault::Disconnected(_)))).await;
}
