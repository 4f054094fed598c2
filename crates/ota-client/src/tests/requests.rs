//! Requests: where they go, what they carry, how refusals come back.

use std::{future::Future, path::Path, sync::Arc, time::Duration};

use ota_api::{
    audit::AuditQuery,
    auth::{CreateTokenRequest, SetPinRequest},
    jobs::JobsQuery,
    safety::OverrideRequest,
    updates::{DownloadRequest, FactoryResetRequest, InstallRequest, RollbackRequest},
    upload::{DeployRequest, VerifyRequest},
    words::{Priority, Role, Strategy},
    ws::EventsQuery,
};
use ota_core::ErrorCode;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    sync::Notify,
};

use super::fake::Fake;
use crate::{Client, ClientError, Options, UploadFile};

const REFUSAL: &str = r#"{"error":true,"code":"OTA_001","name":"UPDATE_IN_PROGRESS","message":"Update already in progress",
    "details":{"job_id":"OTA-JOB-8821X"},"suggested_actions":["Wait"],"request_id":"req_1","timestamp":"2025-03-15T10:30:45Z"}"#;

/// Every endpoint refuses; what was asked for is what counts.
async fn asked<T, F: Future<Output = Result<T, ClientError>>>(call: impl FnOnce(Client) -> F) -> String {
    let fake = Fake::start().await;
    fake.answers(409, REFUSAL);
    let error = call(fake.client()).await.err().expect("the stand-in refuses everything");
    assert_eq!(error.api().and_then(|e| e.ota_code()), Some(ErrorCode::UpdateInProgress), "{error:?}");
    fake.requests().pop().unwrap().replacen("/api/v1/ota/", "", 1)
}

#[tokio::test]
async fn reading_endpoints_are_asked_with_get_and_only_the_set_query_fields() {
    assert_eq!(asked(|c| async move { c.check().await }).await, "GET updates/check");
    assert_eq!(asked(|c| async move { c.status().await }).await, "GET system/status");
    assert_eq!(asked(|c| async move { c.safety().await }).await, "GET safety/status");
    assert_eq!(asked(|c| async move { c.progress(None).await }).await, "GET updates/progress");
    let job = Some("OTA-JOB-8821X");
    assert_eq!(
        asked(|c| async move { c.progress(job).await }).await,
        "GET updates/progress?job_id=OTA-JOB-8821X"
    );
    let query = JobsQuery { offset: Some(20), limit: None };
    assert_eq!(asked(|c| async move { c.jobs(&query).await }).await, "GET updates/jobs?offset=20");
    assert_eq!(asked(|c| async move { c.job("DEP-12345").await }).await, "GET updates/jobs/DEP-12345");
    let query = EventsQuery { since: Some(7), limit: None };
    assert_eq!(asked(|c| async move { c.events(&query).await }).await, "GET events?since=7");
    assert_eq!(asked(|c| async move { c.tokens().await }).await, "GET auth/tokens");
    assert_eq!(asked(|c| async move { c.session().await }).await, "GET auth/session");
    let query = AuditQuery { action: Some("updates.".into()), ..AuditQuery::default() };
    assert_eq!(asked(|c| async move { c.audit(&query).await }).await, "GET audit?action=updates.");
    assert_eq!(asked(|c| async move { c.audit_verify().await }).await, "GET audit/verify");
    assert_eq!(asked(|c| async move { c.alive().await }).await, "GET /healthz");
    assert_eq!(asked(|c| async move { c.ready().await }).await, "GET /readyz");
    assert_eq!(asked(|c| async move { c.openapi().await }).await, "GET /openapi.json");
}

#[tokio::test]
async fn changing_endpoints_send_the_documented_bodies() {
    let download = DownloadRequest {
        update_id: "update_12345".into(),
        version: None,
        target_partition: Some("B".into()),
        priority: Some(Priority::High),
        verify_signature: true,
    };
    assert_eq!(
        asked(|c| async move { c.download(&download).await }).await,
        r#"POST updates/download {"update_id":"update_12345","target_partition":"B","priority":"high","verify_signature":true}"#
    );
    let install = InstallRequest {
        job_id: "OTA-JOB-8821X".into(),
        strategy: Some(Strategy::Seamless),
        reboot_after: true,
        rollback_on_failure: true,
        pin: None,
    };
    assert_eq!(
        asked(|c| async move { c.install(&install).await }).await,
        r#"POST updates/install {"job_id":"OTA-JOB-8821X","strategy":"seamless","reboot_after":true,"rollback_on_failure":true}"#
    );
    assert_eq!(
        asked(|c| async move { c.cancel("OTA-JOB-8821X", Some("no")).await }).await,
        r#"POST updates/cancel {"job_id":"OTA-JOB-8821X","reason":"no"}"#
    );
    assert_eq!(asked(|c| async move { c.pause(None).await }).await, r#"POST updates/pause {"job_id":null}"#);
    assert_eq!(
        asked(|c| async move { c.resume(None).await }).await,
        r#"POST updates/resume {"job_id":null}"#
    );
    assert_eq!(
        asked(|c| async move { c.confirm(None).await }).await,
        r#"POST updates/confirm {"reason":null}"#
    );
    assert_eq!(
        asked(|c| async move { c.reject(Some("x")).await }).await,
        r#"POST updates/reject {"reason":"x"}"#
    );
}

#[tokio::test]
async fn endpoints_behind_the_pin_send_it_in_the_body_only() {
    let rollback = RollbackRequest { target_version: None, reason: None, pin: Some("9471".into()) };
    assert_eq!(
        asked(|c| async move { c.rollback(&rollback).await }).await,
        r#"POST updates/rollback {"pin":"9471"}"#
    );
    let reset = FactoryResetRequest { pin: None, backup_settings: true, confirmation: "yes".into() };
    assert_eq!(
        asked(|c| async move { c.factory_reset(&reset).await }).await,
        r#"POST factory-reset {"backup_settings":true,"confirmation":"yes"}"#
    );
    let off =
        OverrideRequest { enable: false, pin: None, reason: None, duration: None, acknowledge_risks: false };
    assert_eq!(
        asked(|c| async move { c.safety_override(&off).await }).await,
        r#"POST safety/override {"enable":false,"acknowledge_risks":false}"#
    );
    let pin = SetPinRequest { new_pin: "9471".into(), pin: None };
    assert_eq!(asked(|c| async move { c.set_pin(&pin).await }).await, r#"PUT auth/pin {"new_pin":"9471"}"#);
}

#[tokio::test]
async fn tokens_and_staged_images_are_asked_for_by_name() {
    let create = CreateTokenRequest { name: "ci".into(), role: Role::Viewer, expires_in: Some(60) };
    assert_eq!(
        asked(|c| async move { c.create_token(&create).await }).await,
        r#"POST auth/tokens {"name":"ci","role":"viewer","expires_in":60}"#
    );
    assert_eq!(asked(|c| async move { c.revoke_token("a&b").await }).await, "DELETE auth/tokens?name=a%26b");
    let verify =
        VerifyRequest { filename: "x.img".into(), verify_signature: true, check_compatibility: true };
    assert_eq!(
        asked(|c| async move { c.verify(&verify).await }).await,
        r#"POST upload/verify {"filename":"x.img","verify_signature":true,"check_compatibility":true}"#
    );
    let deploy = DeployRequest {
        filename: "x.img".into(),
        version: None,
        target_partition: None,
        strategy: None,
        pin: None,
        reboot_after: false,
        rollback_on_failure: true,
    };
    assert_eq!(
        asked(|c| async move { c.deploy(&deploy).await }).await,
        r#"POST upload/deploy {"filename":"x.img","reboot_after":false,"rollback_on_failure":true}"#
    );
}

#[tokio::test]
async fn an_upload_streams_the_file_after_its_labels() {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("custom-v5.1.0.img");
    std::fs::write(&image, "IMAGE BYTES").unwrap();
    let file = UploadFile {
        image: image.clone(),
        version: "v5.1.0-custom".into(),
        description: Some("by hand".into()),
        signature: Vec::new(),
        checksums: None,
        checksums_signature: Vec::new(),
        sha256: None,
    };
    let sent = asked(|c| async move { c.upload(&file).await }).await;
    assert!(sent.starts_with("POST upload "), "{sent}");
    let place = |text: &str| sent.find(text).unwrap_or_else(|| panic!("{text} is not in {sent}"));
    assert!(place("v5.1.0-custom") < place("filename=\"custom-v5.1.0.img\""));
    assert!(place("by hand") < place("IMAGE BYTES"));

    std::fs::remove_file(&image).unwrap();
    let missing = UploadFile { image, ..self::image(folder.path(), 0) };
    let error = Fake::start().await.client().upload(&missing).await.unwrap_err();
    assert!(matches!(error, ClientError::File { .. }), "{error:?}");
}

/// An image of so many bytes, without anything beside it.
fn image(folder: &Path, bytes: u64) -> UploadFile {
    let image = folder.join("image.bin");
    std::fs::File::create(&image).unwrap().set_len(bytes).unwrap();
    UploadFile {
        image,
        version: "v1.0.0".into(),
        description: None,
        signature: Vec::new(),
        checksums: None,
        checksums_signature: Vec::new(),
        sha256: None,
    }
}

#[tokio::test]
async fn who_watches_an_upload_hears_of_more_and_more_bytes_until_all_have_gone() {
    let fake = Fake::start().await;
    fake.answers(409, REFUSAL);
    let folder = tempfile::tempdir().unwrap();
    let size = 3 << 20;
    let mut heard = Vec::new();
    let mut watch = |sent: u64, total: u64| heard.push((sent, total));
    let refused = fake.client().upload_watched(&image(folder.path(), size), &mut watch).await;
    assert!(matches!(refused, Err(ClientError::Api(_))), "{refused:?}");
    assert!(heard.is_sorted() && heard.last() == Some(&(size, size)), "{heard:?}");
}

#[tokio::test]
async fn what_is_no_file_and_a_file_that_ends_early_are_told_as_such_and_not_as_a_gateway_that_is_away() {
    let fake = Fake::start().await;
    let folder = tempfile::tempdir().unwrap();
    let whole = image(folder.path(), 11);
    let nowhere = UploadFile { image: folder.path().into(), ..whole.clone() };
    let unsigned = UploadFile { signature: vec![folder.path().into()], ..whole };
    for file in [nowhere, unsigned] {
        let error = fake.client().upload(&file).await.unwrap_err();
        assert!(matches!(error, ClientError::File { .. }), "{error:?}");
    }
    assert!(fake.requests().is_empty());

    // More than goes into the buffers of a connection; the peer takes none of it before the file is cut.
    let long = image(folder.path(), 64 << 20);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client =
        Client::new(Options::new(format!("http://{}", listener.local_addr().unwrap()).parse().unwrap()));
    let cut = Arc::new(Notify::new());
    let begins = Arc::clone(&cut);
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        begins.notified().await;
        let mut taken = vec![0; 1 << 20];
        while stream.read(&mut taken).await.is_ok_and(|read| read > 0) {}
    });
    let mut watch = |_: u64, _: u64| {
        std::fs::OpenOptions::new().write(true).open(&long.image).unwrap().set_len(0).unwrap();
        cut.notify_one();
    };
    let error = client.unwrap().upload_watched(&long, &mut watch).await.unwrap_err();
    let ClientError::File { source, .. } = error else { panic!("{error:?}") };
    assert_eq!(source.kind(), std::io::ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn an_upload_to_a_peer_that_takes_nothing_or_never_answers_is_given_up() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut options = Options::new(format!("http://{}", silent.local_addr().unwrap()).parse().unwrap());
    options.timeout = Duration::from_millis(200);
    let client = Client::new(options).unwrap();
    let folder = tempfile::tempdir().unwrap();
    // The short one goes into the buffers of the connection as a whole, the long one does not.
    for size in [11, 64 << 20] {
        let file = image(folder.path(), size);
        let upload = tokio::time::timeout(Duration::from_secs(20), client.upload(&file)).await;
        let error = upload.expect("it waits for ever").unwrap_err();
        assert!(matches!(error, ClientError::TimedOut { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn the_token_goes_into_the_header_and_nowhere_else() {
    let fake = Fake::start().await;
    fake.answers(200, r#"{"available":false,"updates":[]}"#);
    let client = fake.client();
    assert!(!client.check().await.unwrap().available);
    assert_eq!(fake.world.headers.lock().unwrap()[0]["authorization"], "Bearer s3cret");
    assert!(!format!("{client:?}").contains("s3cret"));
}

#[tokio::test]
async fn a_redirect_does_not_carry_the_token_elsewhere() {
    let (fake, other) = (Fake::start().await, Fake::start().await);
    fake.answers(307, "");
    fake.world.answer.lock().unwrap().as_mut().unwrap().1 =
        vec![("location", format!("http://{}/api/v1/ota/updates/check", other.address))];
    let error = fake.client().check().await.unwrap_err();
    assert!(matches!(error, ClientError::NotAGateway { status: 307, .. }), "{error:?}");
    assert!(other.requests().is_empty());
}

#[tokio::test]
async fn an_answer_of_another_shape_is_told_from_a_refusal() {
    let fake = Fake::start().await;
    fake.answers(200, "<html>");
    let error = fake.client().check().await.unwrap_err();
    assert!(matches!(error, ClientError::Answer { .. }), "{error:?}");
    assert!(!error.may_pass());
}

#[tokio::test]
async fn too_many_requests_say_when_to_come_back() {
    let fake = Fake::start().await;
    fake.answers(
        429,
        r#"{"error":true,"code":"TOO_MANY_REQUESTS","name":"TOO_MANY_REQUESTS","message":"locked"}"#,
    );
    fake.world.answer.lock().unwrap().as_mut().unwrap().1 = vec![("retry-after", "30".into())];
    let error = fake.client().check().await.unwrap_err();
    assert_eq!(error.api().unwrap().retry_after, Some(Duration::from_secs(30)));
}

#[tokio::test]
async fn a_closed_port_is_unreachable_and_may_pass() {
    let fake = Fake::start().await;
    let client = fake.client();
    fake.stop().await;
    let error = client.check().await.unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { .. }), "{error:?}");
    assert!(error.may_pass());
    assert!(error.chain().contains("efused"), "{}", error.chain());
}

#[tokio::test]
async fn a_gateway_that_does_not_answer_times_out() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut options = Options::new(format!("http://{}", silent.local_addr().unwrap()).parse().unwrap());
    options.timeout = Duration::from_millis(50);
    let error = Client::new(options).unwrap().check().await.unwrap_err();
    assert!(matches!(error, ClientError::TimedOut { .. }), "{error:?}");
}

/// A client, patient for two seconds, of a gateway that begins an answer and falls silent.
async fn of_a_silent_gateway() -> Client {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = [0; 4096];
            let _ = stream.read(&mut head).await;
            let begun = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nota_up 1\n";
            let _ = stream.write_all(begun).await;
            held.push(stream);
        }
    });
    let mut options = Options::new(format!("http://{address}").parse().unwrap());
    options.timeout = Duration::from_secs(2);
    Client::new(options).unwrap()
}

#[tokio::test]
async fn an_answer_that_stops_in_the_middle_is_given_up_whether_it_is_read_or_poured() {
    let client = of_a_silent_gateway().await;
    let patient = Duration::from_secs(20);
    let read = tokio::time::timeout(patient, client.metrics()).await.expect("it waits for ever");
    assert!(matches!(read, Err(ClientError::TimedOut { .. })), "{read:?}");
    let mut taken = 0;
    let mut sink = |bytes: &[u8]| {
        taken += bytes.len();
        Ok(())
    };
    let poured = tokio::time::timeout(patient, client.debug_bundle(&mut sink)).await;
    let poured = poured.expect("it waits for ever");
    assert!(matches!(poured, Err(ClientError::TimedOut { .. })), "{poured:?}");
    assert_eq!(taken, "ota_up 1\n".len());
}

#[tokio::test]
async fn metrics_without_end_do_not_fill_the_memory() {
    let fake = Fake::start().await;
    fake.answers(200, &"x".repeat(17 << 20));
    let read = fake.client().metrics().await;
    assert!(matches!(read, Err(ClientError::TooLarge { .. })));
    fake.answers(200, "ota_up 1\n");
    assert_eq!(fake.client().metrics().await.unwrap(), b"ota_up 1\n");
}
