//! Many clients at once.

use std::net::{Ipv4Addr, SocketAddr};

use ota_api::words::JobStatus;
use ota_core::ErrorCode;
use ota_tests::{config::Settings, process, release::UPDATE_ID};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};

use crate::{
    api::PREFIX,
    world::{Offer, TestDevice, device_with, settings},
};

/// How many ask for the same download, all at the same time.
const CALLS: usize = 1000;
/// How many of them from one address; it may have 64.
const FROM_ONE: usize = 50;
/// Room for all of them in the gateway, which takes 512 by default; and time until the last of them has connected.
const LIMITS: &str = "[http.limits]\nconnections = 1100\nbody_seconds = 300\n";

/// A request that is there but for its last byte.
struct Held {
    stream: TcpStream,
    last: u8,
}

impl Held {
    /// The `number`-th, from an address that it shares with few others.
    async fn ask(device: &TestDevice, number: usize) -> Self {
        let host = device.api.url.strip_prefix("http://").unwrap();
        let to: SocketAddr = host.parse().unwrap();
        let from = Ipv4Addr::new(127, 0, 1, u8::try_from(number / FROM_ONE).unwrap() + 1);
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((from, 0).into()).unwrap();
        let mut stream = socket.connect(to).await.unwrap();
        let body = json!({"update_id": UPDATE_ID}).to_string();
        let request = format!(
            "POST {PREFIX}/updates/download HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            device.api.token,
            body.len()
        );
        let (last, first) = request.as_bytes().split_last().unwrap();
        stream.write_all(first).await.unwrap();
        Self { stream, last: *last }
    }

    /// Sends the rest; status and body of the answer.
    async fn go(mut self) -> (u16, Value) {
        self.stream.write_all(&[self.last]).await.unwrap();
        let mut answer = String::new();
        self.stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}")))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_racing_downloads_start_exactly_one() {
    // The daemon inherits it; many systems give 1,024 unless they are asked.
    let own = std::process::id().to_string();
    process::read("prlimit", ["--pid", own.as_str(), "--nofile=4096:"]).unwrap();
    let device = device_with(Offer::Small, Settings { more: LIMITS, ..settings() }).await;
    // What is on offer is known: whoever comes first makes the job at once.
    device.client.check().await.unwrap();
    // Slower than all of the calls, so that each of them meets the job of the first.
    device.server.slow_down(Some(50_000));
    let mut held = Vec::new();
    for number in 0..CALLS {
        held.push(Held::ask(&device, number).await);
    }
    let answers = futures_util::future::join_all(held.into_iter().map(Held::go)).await;
    assert_eq!(answers.len(), CALLS);
    let (started, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(|(status, _)| *status == 200);
    assert_eq!(started.len(), 1, "{started:#?} {:#?}", refused.first());
    let job = &started[0].1["job_id"];
    let code = ErrorCode::UpdateInProgress.to_string();
    for (status, body) in refused {
        assert_eq!((status, &body["code"]), (409, &json!(code)), "{body:#}");
        assert_eq!(body["details"]["job_id"], *job);
    }
    let jobs = device.client.jobs(&ota_api::jobs::JobsQuery::default()).await.unwrap();
    assert_eq!((jobs.total, json!(jobs.jobs[0].job_id)), (1, job.clone()));
    device.server.slow_down(None);
    // The worker begins after the answer; at the end it is known how often anybody did.
    device.until(job.as_str().unwrap(), |job| job.status == JobStatus::Downloaded).await;
    // The image was begun once; its signature lies beside it under a longer name.
    let begun = |file: &str| device.server.starts(file).into_iter().filter(|start| *start == 0).count();
    assert_eq!(begun("rootfs.squashfs") - begun("rootfs.squashfs.p7s"), 1);
}
