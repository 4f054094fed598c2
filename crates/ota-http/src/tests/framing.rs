//! Raw sockets: contradictory framing, slow and silent clients, limits.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::harness::{API, Gateway, OPERATOR};

/// Sends `bytes` and reads until the server closes.
async fn talk(gateway: &Gateway, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

fn post(headers: &str, body: &str) -> Vec<u8> {
    format!(
        "POST {API}/updates/pause HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {OPERATOR}\r\n{headers}\r\n{body}"
    )
    .into_bytes()
}

#[tokio::test]
async fn contradictory_framing_gets_400_and_a_closed_connection() {
    let gateway = Gateway::start().await;
    for headers in [
        "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 2\r\n",
        "Content-Length: 2\r\nContent-Length: 3\r\n",
        "Content-Length: 2, 3\r\n",
        "Content-Length: -2\r\n",
        "Transfer-Encoding: identity\r\n",
    ] {
        let answer = talk(&gateway, &post(headers, "2\r\n{}\r\n0\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{headers}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{headers}: {answer}");
    }
}

#[tokio::test]
async fn nothing_is_read_behind_a_chunked_body() {
    let gateway = Gateway::start().await;
    let smuggled = format!("GET {API}/system/status HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let body = format!("2\r\n{{}}\r\n0\r\n\r\n{smuggled}");
    let answer =
        talk(&gateway, &post("Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n", &body))
            .await;
    assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
    assert!(answer.to_lowercase().contains("connection: close"));
}

#[tokio::test]
async fn a_head_over_the_limit_is_refused() {
    let gateway = Gateway::start().await;
    let answer =
        talk(&gateway, &post(&format!("X-Long: {}\r\nConnection: close\r\n", "a".repeat(17_000)), "")).await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    // Longer than what the parser below us takes: it answers by itself, without a body.
    for long in [70_000, 100_000, 900_000] {
        let answer = talk(&gateway, &post(&format!("X-Long: {}\r\n", "a".repeat(long)), "")).await;
        envelope(&answer, "longer than 16384 bytes");
    }
}

fn envelope(answer: &str, says: &str) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer}"));
    assert!(head.starts_with("HTTP/1.1 400 "), "{answer}");
    let body: serde_json::Value = serde_json::from_str(body).unwrap_or_else(|_| panic!("{answer}"));
    assert_eq!(body["name"], "INVALID_REQUEST");
    assert!(head.to_lowercase().contains(body["request_id"].as_str().unwrap()), "{answer}");
    assert!(body["message"].as_str().unwrap().contains(says), "{answer}");
}

#[tokio::test]
async fn a_head_that_cannot_be_read_gets_the_envelope() {
    let gateway = Gateway::start().await;
    for head in [
        "GET / HTTP/1.1\r\nHost: a\r\nb\u{1}ad: x\r\n\r\n",
        "GET\r\n\r\n",
        "GET / HTTP/1.1\r\nContent-Length: 2, 3\r\n\r\n",
    ] {
        let answer = talk(&gateway, head.as_bytes()).await;
        envelope(&answer, "cannot be read");
    }
}

#[tokio::test]
async fn garbage_is_refused_and_the_server_goes_on() {
    let gateway = Gateway::with(|config| config.limits.head_time = Duration::from_millis(60)).await;
    for garbage in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"\0\0\0\0\r\n\r\n",
        b"GET\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        let answer = talk(&gateway, garbage).await;
        assert!(!answer.contains(" 200 ") && !answer.contains(" 500 "), "{answer}");
    }
    assert_eq!(gateway.get("/system/status").await.0.as_u16(), 200);
}

#[tokio::test]
async fn silent_slow_head_and_slow_body_connections_end() {
    let short = Duration::from_millis(60);
    // One limit each: the others do not end what they are not about.
    let gateway = Gateway::with(|config| config.limits.silent_time = short).await;
    assert_eq!(talk(&gateway, b"").await, "");
    let gateway = Gateway::with(|config| config.limits.head_time = short).await;
    assert_eq!(talk(&gateway, b"GET / HTTP/1.1\r\nHost: loc").await, "");
    let gateway = Gateway::with(|config| config.limits.body_time = short).await;
    let answer =
        talk(&gateway, &post("Content-Type: application/json\r\nContent-Length: 100\r\n", "{")).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("REQUEST_TIMEOUT"));
}

#[tokio::test]
async fn silent_connections_make_room_for_honest_ones() {
    let gateway = Gateway::with(|config| config.limits.connections_per_address = 4).await;
    let mut hostile = Vec::new();
    for _ in 0..20 {
        hostile.push(TcpStream::connect(gateway.address).await.unwrap());
    }
    assert_eq!(gateway.get("/system/status").await.0.as_u16(), 200);
    let mut first = hostile.remove(0);
    assert_eq!(first.read(&mut [0; 8]).await.unwrap_or(0), 0);
}

#[tokio::test]
async fn a_shutdown_lets_the_running_request_end_and_refuses_new_connections() {
    let gateway = Gateway::start().await;
    let address = gateway.address;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let body = post("Content-Type: application/json\r\nContent-Length: 2\r\n", "");
    stream.write_all(&body).await.unwrap();
    // A second request on another connection is answered: the first one's head has been read by then.
    assert_eq!(gateway.get("/system/status").await.0.as_u16(), 200);
    let stopping = tokio::spawn(gateway.stop());
    while TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    stream.write_all(b"{}").await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert!(
        String::from_utf8_lossy(&answer).starts_with("HTTP/1.1 404 "),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    stopping.await.unwrap();
}
