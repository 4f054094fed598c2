//! Health checks against real programs and a real socket.

use super::*;

fn check(command: &[&str], timeout_seconds: u32) -> HealthCheck {
    HealthCheck {
        name: "probe".into(),
        unit: None,
        http: None,
        command: Some(command.iter().map(|word| (*word).into()).collect()),
        timeout_seconds,
    }
}

async fn verdict(checks: Vec<HealthCheck>) -> Result<(), String> {
    ota_fetch::install_crypto_provider();
    ConfiguredChecks::new(&HealthConfig { check: checks }).unwrap().run().await
}

#[tokio::test]
async fn a_command_that_succeeds_passes_and_one_that_fails_says_what_it_said() {
    assert_eq!(verdict(vec![check(&["true"], 5)]).await, Ok(()));
    let why = verdict(vec![check(&["sh", "-c", "echo no modem >&2; exit 3"], 2)]).await.unwrap_err();
    assert!(why.contains("probe") && why.contains("no modem"), "{why}");
}

#[tokio::test]
async fn a_command_that_hangs_ends_at_its_time_out() {
    let why = verdict(vec![check(&["sleep", "1000"], 1)]).await.unwrap_err();
    assert!(why.contains("did not pass in 1 s"), "{why}");
}

#[tokio::test]
async fn a_command_that_hangs_is_killed_with_all_that_it_has_started() {
    let dir = tempfile::tempdir().unwrap();
    let told = dir.path().join("pid");
    let script = format!("sleep 1000 & echo $! >{}; wait; exit 1", told.display());
    // Time enough to say who is to be killed.
    let why = verdict(vec![check(&["sh", "-c", &script], 5)]).await.unwrap_err();
    assert!(why.contains("did not pass in 5 s"), "{why}");
    let stat = format!("/proc/{}/stat", std::fs::read_to_string(told).unwrap().trim());
    // Who inherits it may not wait for it: a dead one counts as gone.
    let runs = || std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z "));
    let gone = async {
        while runs() {
            // tidy: waits for another process
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), gone).await.unwrap();
}

#[tokio::test]
async fn a_check_that_passes_later_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let script = format!("test -e {0}/up || {{ touch {0}/up; exit 1; }}", dir.path().display());
    assert_eq!(verdict(vec![check(&["sh", "-c", &script], 30)]).await, Ok(()));
}

#[tokio::test]
async fn an_http_probe_wants_a_good_status() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/healthz", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        for status in ["503 Service Unavailable", "200 OK"] {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut head = [0; 1024];
            let _ = socket.read(&mut head).await.unwrap();
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            socket.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    let mut probe = check(&[], 30);
    (probe.command, probe.http) = (None, Some(url));
    assert_eq!(verdict(vec![probe]).await, Ok(()));
    server.await.unwrap();
}

#[tokio::test]
async fn an_http_probe_that_is_never_answered_ends_at_its_time_out() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/healthz", listener.local_addr().unwrap());
    let silent = tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((socket, _)) = listener.accept().await {
            open.push(socket);
        }
    });
    let mut probe = check(&[], 1);
    (probe.command, probe.http) = (None, Some(url));
    let why = verdict(vec![probe]).await.unwrap_err();
    assert!(why.contains("probe did not pass in 1 s"), "{why}");
    silent.abort();
}

#[tokio::test]
async fn a_unit_that_does_not_become_active_is_waited_for_until_its_time_out() {
    let mut unit = check(&[], 5);
    (unit.command, unit.unit) = (None, Some("no-such-thing-here.service".into()));
    let began = Instant::now();
    let why = verdict(vec![unit]).await.unwrap_err();
    assert!(began.elapsed() >= Duration::from_secs(4), "given up before its time: {why}");
    assert!(
        why.contains("probe did not pass in 5 s: unit no-such-thing-here.service is not active (systemctl"),
        "{why}; Debian: systemd"
    );
}
