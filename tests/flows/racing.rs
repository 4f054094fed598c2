//! Many clients at once.

use ota_api::words::JobStatus;
use ota_core::ErrorCode;
use ota_tests::release::UPDATE_ID;
use reqwest::Method;
use serde_json::json;

use crate::{
    api::{PREFIX, send},
    world::{Offer, device},
};

/// How many ask for the same download.
const CALLS: usize = 1000;
/// How many of them at the same time. A pool may open two connections for each, and one address may have 64.
const CONNECTIONS: usize = 32;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_racing_downloads_start_exactly_one() {
    let device = device(Offer::Small).await;
    // Slower than all of the calls, so that each of them meets the job of the first.
    device.server.slow_down(Some(50_000));
    let clients = (0..CONNECTIONS).map(|client| {
        let api = device.api.clone();
        async move {
            let calls = (client..CALLS).step_by(CONNECTIONS);
            let body = json!({"update_id": UPDATE_ID});
            let mut answers = Vec::new();
            for _ in calls {
                let path = format!("{PREFIX}/updates/download");
                answers.push(send(api.request(Method::POST, &path).json(&body)).await);
            }
            answers
        }
    });
    let answers = futures_util::future::join_all(clients).await.concat();
    assert_eq!(answers.len(), CALLS);
    let (started, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status == 200);
    assert_eq!(started.len(), 1, "{started:#?}");
    let job = &started[0].body["job_id"];
    let code = ErrorCode::UpdateInProgress.to_string();
    for answer in refused {
        assert_eq!((answer.status, &answer.body["code"]), (409, &json!(code)), "{answer:#?}");
        assert_eq!(answer.body["details"]["job_id"], *job);
    }
    let jobs = device.client.jobs(&ota_api::jobs::JobsQuery::default()).await.unwrap();
    assert_eq!((jobs.total, json!(jobs.jobs[0].job_id)), (1, job.clone()));
    // The image was asked for once; its signature lies beside it under a longer name.
    let asked = |file: &str| device.server.starts(file).len();
    assert_eq!(asked("rootfs.squashfs") - asked("rootfs.squashfs.p7s"), 1);
    device.server.slow_down(None);
    device.until(job.as_str().unwrap(), |job| job.status == JobStatus::Downloaded).await;
}
