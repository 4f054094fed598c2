//! Uploads, their verification and deployment, and rollback, over HTTP.

use std::time::Duration;

use http::{Method, StatusCode};
use ota_core::{
    ByteCount, Sha256Digest, Slot,
    error::{PortErrorKind, SignatureFault},
    job::{JobStatus, Strategy},
    ports::{AuditOutcome, ImageStore as _, SlotFacts as _, SlotRecord, SlotState},
};
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::harness::{ADMIN, API, Gateway, OPERATOR, VIEWER, answer};

pub(super) const NAME: &str = "custom-v5.1.0.img";
pub(super) const PIN: &str = "4711";

pub(super) fn image() -> Vec<u8> {
    (0..150_000_u32).map(|i| u8::try_from(i * 7 % 251).unwrap()).collect()
}

fn file(bytes: Vec<u8>) -> Part {
    Part::bytes(bytes).file_name(NAME)
}

/// As the spec's Python example sends it, with a signature that the fake verifier accepts.
fn form(bytes: Vec<u8>) -> Form {
    Form::new().part("file", file(bytes)).text("version", "v5.1.0-custom")
}

pub(super) fn signed(bytes: Vec<u8>) -> Form {
    form(bytes).part("signature", Part::bytes(b"0cms".to_vec()).file_name("x.p7s"))
}

pub(super) async fn send(gateway: &Gateway, path: &str, form: Form) -> (StatusCode, Value) {
    answer(gateway.ask(Method::POST, path, OPERATOR).multipart(form)).await
}

async fn refused(gateway: &Gateway, path: &str, form: Form, status: u16, code: &str, part: &str) {
    let (found, body) = send(gateway, path, form).await;
    assert_eq!((found.as_u16(), &body["code"]), (status, &json!(code)), "{body}");
    if !part.is_empty() {
        assert_eq!(body["details"]["path"], part, "{body}");
    }
    assert_eq!(gateway.uploads.arriving(), 0);
    assert!(gateway.staging.names().is_empty(), "{:?}", gateway.staging.names());
}

pub(super) async fn set_pin(gateway: &Gateway) {
    let (status, body) =
        answer(gateway.ask(Method::PUT, "/auth/pin", ADMIN).json(&json!({"new_pin": PIN}))).await;
    assert_eq!(status, StatusCode::OK, "{body}");
}

fn staged(gateway: &Gateway) -> Option<Vec<u8>> {
    gateway.staging.bytes(&NAME.parse().unwrap()).map(|bytes| bytes.to_vec())
}

#[tokio::test]
async fn an_upload_answers_as_in_the_spec_whatever_the_order_of_its_parts() {
    let gateway = Gateway::start().await;
    let digest = Sha256Digest::of(&image());
    let file_first = form(image()).text("description", "for the crane").text("unknown", "x");
    let file_last = Form::new()
        .text("sha256", digest.to_string().to_uppercase())
        .text("version", "v5.1.0-custom")
        .text("description", "for the crane")
        .part("file", file(image()));
    for form in [file_first, file_last] {
        let (status, body) = send(&gateway, "/upload", form).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        let expected = json!({
            "status": "uploaded",
            "file": {
                "name": NAME, "size": 150_000, "version": "v5.1.0-custom",
                "checksum": format!("sha256:{digest}"), "description": "for the crane",
            },
            "verification_required": true,
        });
        assert_eq!(body, expected);
    }
    assert_eq!(staged(&gateway), Some(image()));
    let record = gateway.audited("upload").await;
    assert_eq!((record.actor.as_str(), record.outcome), ("operator", AuditOutcome::Ok));
    assert!(record.reason.unwrap().starts_with("custom-v5.1.0.img v5.1.0-custom sha256:"));
    let (_, list) = gateway.get("/upload").await;
    assert_eq!(
        (&list["uploads"][0]["name"], &list["uploads"][0]["ready_for_deployment"]),
        (&json!(NAME), &json!(false))
    );
    let delete = || gateway.ask(Method::DELETE, &format!("/upload/{NAME}"), OPERATOR);
    assert_eq!(answer(delete()).await.0, StatusCode::OK);
    assert_eq!(answer(delete()).await.0, StatusCode::NOT_FOUND);
    assert_eq!(staged(&gateway), None);
}

#[tokio::test]
async fn a_label_with_a_nul_a_line_break_or_an_equals_sign_is_refused_and_says_which() {
    let gateway = Gateway::start().await;
    for part in ["version", "description"] {
        for (bad, said) in [
            ("v5.1.0\0", "NUL"),
            ("v5.1.0\r\nroot_slot=B", "line break"),
            ("v5.1.0\n", "line break"),
            ("v5.1.0\r", "line break"),
            ("v5.1.0=x", "equals sign"),
            ("v5.1.0\u{7}", "U+0007"),
            ("v5.1.0\t", "U+0009"),
        ] {
            let form = match part {
                "version" => Form::new().part("file", file(image())).text("version", bad),
                _ => form(image()).text("description", bad),
            };
            let (status, body) = send(&gateway, "/upload", form).await;
            assert_eq!((status.as_u16(), &body["details"]["path"]), (400, &json!(part)), "{bad:?}: {body}");
            assert!(body["message"].as_str().unwrap().contains(said), "{bad:?}: {body}");
            assert_eq!((staged(&gateway), gateway.uploads.arriving()), (None, 0));
        }
    }
}

#[tokio::test]
async fn a_checksum_file_and_its_signature_are_kept_beside_the_image() {
    let gateway = Gateway::start().await;
    let text = format!("{}  {NAME}\n", Sha256Digest::of(&image()));
    let listed =
        |form: Form| form.part("checksums", Part::bytes(text.clone().into_bytes()).file_name("SHA256SUMS"));
    let signature = || Part::bytes(b"0cms".to_vec()).file_name("SHA256SUMS.p7s");
    let both = listed(form(image())).part("checksums_signature", signature());
    let (status, body) = send(&gateway, "/upload", both).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let evidence = gateway.staging.evidence(&NAME.parse().unwrap()).unwrap();
    let checksums = evidence.checksums.unwrap();
    assert_eq!((checksums.name.as_str(), checksums.text), (NAME, text.clone().into_bytes()));
    assert_eq!((checksums.signatures.len(), evidence.signatures.len()), (1, 0));
    // The next one brings none.
    send(&gateway, "/upload", form(image())).await;
    assert!(gateway.staging.evidence(&NAME.parse().unwrap()).unwrap().is_empty());
    let delete = gateway.ask(Method::DELETE, &format!("/upload/{NAME}"), OPERATOR);
    assert_eq!(answer(delete).await.0, StatusCode::OK);
    let alone = form(image()).part("checksums_signature", signature());
    refused(&gateway, "/upload", alone, 400, "INVALID_REQUEST", "checksums_signature").await;
    let twice = listed(listed(form(image())));
    refused(&gateway, "/upload", twice, 400, "INVALID_REQUEST", "checksums").await;
    let sums = |length: usize| {
        form(image()).part("checksums", Part::bytes(vec![b'0'; length]).file_name("SHA256SUMS"))
    };
    let (status, body) = send(&gateway, "/upload", sums(1 << 20)).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let delete = gateway.ask(Method::DELETE, &format!("/upload/{NAME}"), OPERATOR);
    assert_eq!(answer(delete).await.0, StatusCode::OK);
    refused(&gateway, "/upload", sums((1 << 20) + 1), 400, "INVALID_REQUEST", "checksums").await;
}

#[tokio::test]
async fn a_form_that_does_not_fit_is_refused_by_the_name_of_the_part_and_leaves_nothing() {
    let gateway = Gateway::start().await;
    for label in ["5", "v5.1.0\0", "v5.1.0\r\nx", "v5.1.0=1", "", "latest", &"1".repeat(5000)] {
        let form = Form::new().part("file", file(image())).text("version", label.to_owned());
        refused(&gateway, "/upload", form, 400, "INVALID_REQUEST", "version").await;
    }
    for name in ["../etc/passwd", "a/b.img", "a\\b.img", ".hidden", "a b.img", "", "ü.img"] {
        let part = Part::bytes(image()).file_name(name);
        let form = Form::new().text("version", "v5.1.0").part("file", part);
        refused(&gateway, "/upload", form, 400, "INVALID_REQUEST", "file").await;
    }
    let no_version = Form::new().part("file", file(image()));
    refused(&gateway, "/upload", no_version, 400, "INVALID_REQUEST", "version").await;
    let no_file = Form::new().text("version", "v5.1.0");
    refused(&gateway, "/upload", no_file, 400, "INVALID_REQUEST", "file").await;
    refused(&gateway, "/upload", Form::new().text("file", "x"), 400, "INVALID_REQUEST", "file").await;
    refused(&gateway, "/upload", form(Vec::new()), 400, "INVALID_REQUEST", "file").await;
    refused(&gateway, "/upload", form(image()).part("file", file(image())), 400, "INVALID_REQUEST", "file")
        .await;
    refused(&gateway, "/upload", form(image()).text("version", "v1.0.0"), 400, "INVALID_REQUEST", "version")
        .await;
    refused(&gateway, "/upload", form(image()).text("sha256", "xyz"), 400, "INVALID_REQUEST", "sha256").await;
    refused(
        &gateway,
        "/upload",
        form(image()).text("description", "\u{7}"),
        400,
        "INVALID_REQUEST",
        "description",
    )
    .await;
    let long = form(image()).part("signature", Part::bytes(vec![b'0'; 70_000]).file_name("x.sig"));
    refused(&gateway, "/upload", long, 400, "INVALID_REQUEST", "signature").await;
    let other = form(image()).text("sha256", Sha256Digest::of(b"other").to_string());
    refused(&gateway, "/upload", other, 422, "OTA_007", "").await;
    let (status, body) = gateway.post("/upload", OPERATOR, json!({})).await;
    assert_eq!(
        (status, &body["code"]),
        (StatusCode::UNSUPPORTED_MEDIA_TYPE, &json!("UNSUPPORTED_MEDIA_TYPE"))
    );
}

#[tokio::test]
async fn what_is_too_large_is_refused_as_such_before_and_while_it_arrives() {
    let gateway = Gateway::with(|config| config.limits.upload_bytes = Some(100_000)).await;
    refused(&gateway, "/upload", form(image()), 413, "PAYLOAD_TOO_LARGE", "").await;
    gateway.stop().await;
    let gateway = Gateway::start().await;
    // The slot of the fake has 1 MiB; a trailer may be longer than nothing.
    refused(&gateway, "/upload", form(vec![1; 4 << 20]), 507, "OTA_003", "").await;
    let pieces = futures_util::stream::iter((0..64).map(|_| Ok::<_, std::io::Error>(vec![1_u8; 65_536])));
    let part = Part::stream(reqwest::Body::wrap_stream(pieces)).file_name(NAME);
    let chunked = Form::new().text("version", "v5.1.0").part("file", part);
    refused(&gateway, "/upload", chunked, 507, "OTA_003", "").await;
    gateway.staging.set_free(ByteCount(1000));
    let pieces = futures_util::stream::iter((0..64).map(|_| Ok::<_, std::io::Error>(vec![1_u8; 1024])));
    let part = Part::stream(reqwest::Body::wrap_stream(pieces)).file_name(NAME);
    let chunked = Form::new().text("version", "v5.1.0").part("file", part);
    let (status, body) = send(&gateway, "/upload", chunked).await;
    assert_eq!((status.as_u16(), &body["details"]["where"]), (507, &json!("staging")), "{body}");
    assert_eq!(gateway.uploads.arriving(), 0);
}

#[tokio::test]
async fn a_failing_store_is_an_internal_failure_and_leaves_nothing() {
    let gateway = Gateway::start().await;
    gateway.uploads.append_faults().fail_next(PortErrorKind::Io("/secret/path".into()));
    let (status, body) = send(&gateway, "/upload", form(image())).await;
    assert_eq!((status.as_u16(), body.to_string().contains("secret")), (500, false));
    gateway.uploads.commit_faults().fail_next(PortErrorKind::Io("broken".into()));
    refused(&gateway, "/upload", form(image()), 500, "INTERNAL", "").await;
}

/// Starts an upload by hand, so that it can stop in the middle.
async fn half(gateway: &Gateway) -> TcpStream {
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    let head = format!(
        "POST {API}/upload HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {OPERATOR}\r\n\
         content-type: multipart/form-data; boundary=xx\r\ncontent-length: 100000\r\n\r\n\
         --xx\r\ncontent-disposition: form-data; name=\"file\"; filename=\"{NAME}\"\r\n\r\nsome bytes"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    arriving(gateway, 1).await;
    stream
}

async fn arriving(gateway: &Gateway, count: usize) {
    tokio::time::timeout(Duration::from_secs(20), async {
        while gateway.uploads.arriving() != count {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the number of arriving uploads does not become what it should");
}

#[tokio::test]
async fn a_client_that_disconnects_leaves_nothing_and_the_earlier_image_stays() {
    let gateway = Gateway::start().await;
    send(&gateway, "/upload", form(b"first".to_vec())).await;
    drop(half(&gateway).await);
    arriving(&gateway, 0).await;
    assert_eq!(staged(&gateway).as_deref(), Some(&b"first"[..]));
}

#[tokio::test]
async fn only_so_many_may_upload_at_once_and_a_place_comes_back() {
    let gateway = Gateway::with(|config| config.limits.uploads = 1).await;
    let stalled = half(&gateway).await;
    let (status, body) = send(&gateway, "/upload", form(image())).await;
    assert_eq!((status.as_u16(), &body["code"]), (429, &json!("TOO_MANY_REQUESTS")), "{body}");
    drop(stalled);
    arriving(&gateway, 0).await;
    // The place comes back a moment after the bytes have gone.
    let placed = async {
        loop {
            match send(&gateway, "/upload", form(image())).await.0 {
                StatusCode::TOO_MANY_REQUESTS => {}
                status => return status,
            }
        }
    };
    let status = tokio::time::timeout(Duration::from_secs(20), placed).await.expect("no place comes back");
    assert_eq!(status, StatusCode::OK);
}

#[tokio::test]
async fn a_client_that_stalls_is_given_up() {
    let gateway = Gateway::with(|config| config.limits.upload_window = Duration::from_secs(1)).await;
    let mut stalled = half(&gateway).await;
    let mut text = String::new();
    stalled.read_to_string(&mut text).await.unwrap();
    assert!(text.starts_with("HTTP/1.1 408") && text.contains("REQUEST_TIMEOUT"), "{text}");
    assert_eq!(gateway.uploads.arriving(), 0);
}

#[tokio::test]
async fn the_head_of_a_part_cannot_fill_the_memory() {
    let gateway = Gateway::start().await;
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    let head = format!(
        "POST {API}/upload HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {OPERATOR}\r\n\
         content-type: multipart/form-data; boundary=xx\r\ntransfer-encoding: chunked\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let start = b"--xx\r\ncontent-disposition: form-data; name=\"file\"; x=\"";
    stream.write_all(format!("{:x}\r\n", start.len()).as_bytes()).await.unwrap();
    stream.write_all(start).await.unwrap();
    let (mut reader, mut writer) = stream.into_split();
    let flood = tokio::spawn(async move {
        let piece = vec![b'a'; 65_536];
        for _ in 0..1024 {
            let sent = async {
                writer.write_all(b"\r\n10000\r\n").await?;
                writer.write_all(&piece).await
            };
            if sent.await.is_err() {
                break;
            }
        }
        writer
    });
    let mut answer = vec![0; 12];
    reader.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, b"HTTP/1.1 400");
    flood.abort();
}

#[tokio::test]
async fn upload_and_verify_in_one_is_ready_for_deployment() {
    let gateway = Gateway::start().await;
    let (status, body) = send(&gateway, "/upload/verify", signed(image())).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let file = json!({
        "name": NAME, "version": "v5.1.0-custom", "signature_valid": true, "assurance": "authenticity",
        "compatible": true, "partition_layout": "standard", "checksum": format!("sha256:{}", Sha256Digest::of(&image())), "size": 150_000,
    });
    assert_eq!(body, json!({"status": "verified", "file": file, "ready_for_deployment": true}));
    // The same by its name.
    let (status, again) = gateway.post("/upload/verify", OPERATOR, json!({"filename": NAME})).await;
    assert_eq!((status, again), (StatusCode::OK, body));
    assert!(gateway.audited("upload.verify").await.reason.unwrap().starts_with(NAME));
}

#[tokio::test]
async fn what_does_not_verify_is_refused_with_its_code_and_replaces_nothing() {
    let gateway = Gateway::start().await;
    refused(&gateway, "/upload/verify", form(image()), 422, "OTA_006", "").await;
    refused(&gateway, "/upload/verify", signed(b"?what".to_vec()), 422, "OTA_005", "").await;
    refused(&gateway, "/upload/verify", signed(b"tar".to_vec()), 422, "OTA_005", "").await;
    gateway.verifier.refuse(SignatureFault::Untrusted);
    refused(&gateway, "/upload/verify", signed(image()), 422, "OTA_006", "").await;
    gateway.verifier.accept();
    send(&gateway, "/upload/verify", signed(image())).await;
    let (status, _) = send(&gateway, "/upload/verify", form(b"unsigned".to_vec())).await;
    assert_eq!((status.as_u16(), staged(&gateway)), (422, Some(image())));
    let (status, body) =
        gateway.post("/upload/verify", OPERATOR, json!({"filename": NAME, "verify_signature": false})).await;
    assert_eq!((status.as_u16(), &body["details"]["reason"]), (422, &json!("policy_requires_signature")));
    let (status, body) = gateway.post("/upload/verify", OPERATOR, json!({"filename": "other.img"})).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert!(body["message"].as_str().unwrap().contains("other.img"), "{body}");
    for bad in ["../x", "", "a b"] {
        let (status, body) = gateway.post("/upload/verify", OPERATOR, json!({"filename": bad})).await;
        assert_eq!((status.as_u16(), &body["details"]["path"]), (400, &json!("$.filename")));
    }
    gateway.uploads.exchange(&NAME.parse().unwrap(), b"exchanged");
    let (status, body) = gateway.post("/upload/verify", OPERATOR, json!({"filename": NAME})).await;
    assert_eq!((status.as_u16(), &body["code"]), (422, &json!("OTA_007")), "{body}");
}

#[tokio::test]
async fn an_unfit_image_can_be_looked_at_without_being_fit_for_deployment() {
    let gateway = Gateway::start().await;
    send(&gateway, "/upload", signed(b"?what".to_vec())).await;
    let ask = json!({"filename": NAME, "check_compatibility": false});
    let (status, body) = gateway.post("/upload/verify", OPERATOR, ask).await;
    assert_eq!((status, &body["file"]["compatible"]), (StatusCode::OK, &json!(false)), "{body}");
    assert_eq!(
        (&body["file"]["partition_layout"], &body["ready_for_deployment"]),
        (&json!("unknown"), &json!(false))
    );
    let (status, body) = gateway.post("/upload/deploy", ADMIN, json!({"filename": NAME})).await;
    assert_eq!((status.as_u16(), &body["details"]["path"]), (400, &json!("$.filename")), "{body}");
}

#[tokio::test]
async fn a_deployment_writes_the_verified_bytes_without_a_pin_and_restarts_by_itself() {
    let gateway = Gateway::start().await;
    send(&gateway, "/upload/verify", signed(image())).await;
    let request = json!({"filename": NAME, "version": "v5.1.0-custom", "target_partition": "B"});
    let (status, body) = gateway.post("/upload/deploy", OPERATOR, request.clone()).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "{body}");
    let (status, body) = gateway.post("/upload/deploy", ADMIN, request.clone()).await;
    assert_eq!((status, &body["status"]), (StatusCode::OK, &json!("deployment_started")), "{body}");
    assert_eq!(body["message"], "Custom image deployment in progress");
    let deployment = body["deployment_id"].as_str().unwrap().to_owned();
    assert!(deployment.starts_with("DEP-"));
    gateway.until(JobStatus::Rebooting).await;
    assert_eq!(gateway.slots.content(Slot::B, 150_000), image());
    let job = gateway.engine.active().borrow().clone().unwrap();
    assert!(job.install.is_some_and(|how| how.reboot_after && how.strategy == Strategy::Seamless));
    let (status, progress) = gateway.get(&format!("/updates/progress?job_id={deployment}")).await;
    assert_eq!((status, &progress["deployment_id"]), (StatusCode::OK, &json!(deployment)));
    let record = gateway.audited("upload.deploy").await;
    assert_eq!(record.job, Some(job.id));
    // While it runs, its image is neither replaced nor removed, and nothing else starts.
    for path in ["/upload", "/upload/verify"] {
        refused_in_use(&gateway, send(&gateway, path, signed(b"x".to_vec())).await);
    }
    let delete = gateway.ask(Method::DELETE, &format!("/upload/{NAME}"), OPERATOR);
    refused_in_use(&gateway, answer(delete).await);
    let (status, _) = gateway.post("/upload/deploy", ADMIN, request).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(gateway.audited("upload.deploy.requested").await.reason.unwrap().starts_with(NAME));
}

fn refused_in_use(gateway: &Gateway, (status, body): (StatusCode, Value)) {
    assert_eq!((status.as_u16(), &body["code"]), (409, &json!("OTA_014")), "{body}");
    let job = gateway.engine.active().borrow().as_ref().unwrap().id.to_string();
    assert_eq!(body["details"]["with"], format!("job {job}, which deploys {NAME}"));
    assert_eq!(staged(gateway), Some(image()));
}

#[tokio::test]
async fn a_verification_with_other_keys_than_the_gateway_has_now_is_none() {
    let gateway = Gateway::start().await;
    let deploy = async || gateway.post("/upload/deploy", ADMIN, json!({"filename": NAME})).await;
    let verified_at = async || gateway.get("/upload").await.1["uploads"][0]["verified_at"].clone();
    send(&gateway, "/upload/verify", signed(image())).await;
    assert!(verified_at().await.is_string());
    gateway.verifier.set_trust("a newer revocation list");
    assert_eq!(verified_at().await, Value::Null);
    let (status, body) = deploy().await;
    assert_eq!((status.as_u16(), &body["details"]["path"]), (400, &json!("$.filename")), "{body}");
    assert!(body["message"].as_str().unwrap().contains("call upload/verify first"), "{body}");
    gateway.post("/upload/verify", OPERATOR, json!({"filename": NAME})).await;
    assert_eq!(deploy().await.0, StatusCode::OK);
}

#[tokio::test]
async fn only_what_was_verified_as_it_lies_there_is_deployed() {
    let gateway = Gateway::start().await;
    let deploy = async |body: Value| gateway.post("/upload/deploy", ADMIN, body).await;
    let (status, body) = deploy(json!({"filename": "none.img"})).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert!(body["message"].as_str().unwrap().contains("none.img"), "{body}");
    send(&gateway, "/upload", signed(image())).await;
    let (status, body) = deploy(json!({"filename": NAME})).await;
    assert_eq!((status.as_u16(), &body["details"]["path"]), (400, &json!("$.filename")), "{body}");
    gateway.post("/upload/verify", OPERATOR, json!({"filename": NAME})).await;
    // Another upload of the name takes the verification away.
    send(&gateway, "/upload", signed(image())).await;
    assert_eq!(deploy(json!({"filename": NAME})).await.0, StatusCode::BAD_REQUEST);
    gateway.post("/upload/verify", OPERATOR, json!({"filename": NAME})).await;
    let (status, body) = deploy(json!({"filename": NAME, "version": "v9.0.0"})).await;
    assert_eq!((status.as_u16(), &body["details"]["path"]), (400, &json!("$.version")));
    let (status, body) = deploy(json!({"filename": NAME, "target_partition": "A"})).await;
    assert_eq!((status.as_u16(), &body["code"]), (400, &json!("OTA_008")));
    assert!(gateway.engine.active().borrow().is_none());
    // What is exchanged later than that is noticed by the digest as it is written, and nothing is switched.
    gateway.uploads.exchange(&NAME.parse().unwrap(), &vec![9; 150_000]);
    let (status, body) = deploy(json!({"filename": NAME})).await;
    assert_eq!(status, StatusCode::OK);
    let ended = gateway.store.until_ended(&body["job_id"].as_str().unwrap().parse().unwrap()).await;
    assert_eq!(ended.state.failure().unwrap().code, Some(ota_core::ErrorCode::ChecksumMismatch));
    assert_eq!(gateway.boot.env().trial, None);
}

#[tokio::test]
async fn a_pin_that_is_given_is_checked_first_and_tells_nothing_else() {
    let gateway = Gateway::start().await;
    set_pin(&gateway).await;
    for (filename, pin) in [("none.img", "0000"), (NAME, "1111")] {
        let (status, body) =
            gateway.post("/upload/deploy", ADMIN, json!({"filename": filename, "pin": pin})).await;
        assert_eq!((status.as_u16(), &body["code"]), (403, &json!("OTA_010")), "{body}");
    }
    send(&gateway, "/upload/verify", signed(image())).await;
    let request = json!({"filename": NAME, "pin": PIN, "strategy": "immediate", "reboot_after": false});
    assert_eq!(gateway.post("/upload/deploy", ADMIN, request).await.0, StatusCode::OK);
}

#[tokio::test]
async fn an_image_that_nobody_signed_needs_a_device_that_allows_it_and_the_pin() {
    let gateway = Gateway::unsigned().await;
    set_pin(&gateway).await;
    let (status, body) = send(&gateway, "/upload/verify", form(image())).await;
    assert_eq!((status, &body["file"]["signature_valid"]), (StatusCode::OK, &json!(false)), "{body}");
    assert_eq!(body["ready_for_deployment"], true);
    let (status, body) = gateway.post("/upload/deploy", ADMIN, json!({"filename": NAME})).await;
    assert_eq!((status.as_u16(), &body["code"]), (403, &json!("OTA_010")), "{body}");
    let (status, body) = gateway.post("/upload/deploy", ADMIN, json!({"filename": NAME, "pin": PIN})).await;
    assert_eq!(status, StatusCode::OK, "{body}");
}

#[tokio::test]
async fn a_deployment_that_cannot_be_audited_or_is_not_safe_does_not_start() {
    let gateway = Gateway::start().await;
    send(&gateway, "/upload/verify", signed(image())).await;
    gateway.violate();
    let (status, body) = gateway.post("/upload/deploy", ADMIN, json!({"filename": NAME})).await;
    assert_eq!((status.as_u16(), &body["code"]), (400, &json!("OTA_002")), "{body}");
    let unwritable = PortErrorKind::Unavailable { reason: "audit_not_writable", what: "full".into() };
    gateway.store.audit_faults.fail_always(unwritable);
    let (status, body) = gateway.post("/upload/deploy", ADMIN, json!({"filename": NAME})).await;
    assert_eq!((status.as_u16(), &body["details"]["reason"]), (503, &json!("audit_not_writable")), "{body}");
    assert!(gateway.engine.active().borrow().is_none());
}

pub(super) fn other_slot(gateway: &Gateway, state: SlotState) {
    let version = Some("v5.0.3".parse().unwrap());
    let sha256 = Some(Sha256Digest::of(&gateway.slots.content(Slot::B, 4096)));
    let record = SlotRecord { version, state, size: Some(ByteCount(4096)), sha256, ..SlotRecord::default() };
    gateway.store.set_slot(Slot::B, &record).unwrap();
}

#[tokio::test]
async fn a_rollback_needs_admin_pin_and_a_good_version_in_the_other_slot() {
    let gateway = Gateway::start().await;
    set_pin(&gateway).await;
    let ask = |version: &str| json!({"target_version": version, "reason": "does not fit", "pin": PIN});
    assert_eq!(gateway.post("/updates/rollback", OPERATOR, ask("v5.0.3")).await.0, StatusCode::FORBIDDEN);
    assert_eq!(gateway.post("/updates/rollback", VIEWER, ask("v5.0.3")).await.0, StatusCode::FORBIDDEN);
    let code = async |body: Value| {
        let (status, body) = gateway.post("/updates/rollback", ADMIN, body).await;
        format!("{} {}", status.as_u16(), body["code"].as_str().unwrap_or_default())
    };
    assert_eq!(code(json!({"target_version": "v5.0.3", "pin": "9999"})).await, "403 OTA_010");
    assert_eq!(code(json!({"target_version": "v5.0.3"})).await, "403 OTA_010");
    assert_eq!(code(json!({"target_version": "x", "pin": PIN})).await, "400 INVALID_REQUEST");
    assert_eq!(code(ask("v5.0.3")).await, "409 OTA_012");
    other_slot(&gateway, SlotState::Bad);
    assert_eq!(code(ask("v5.0.3")).await, "409 OTA_012");
    other_slot(&gateway, SlotState::Good);
    assert_eq!(code(ask("v5.0.2")).await, "409 OTA_012");
    assert!(gateway.engine.active().borrow().is_none());
    let (status, body) = gateway.post("/updates/rollback", ADMIN, ask("v5.0.3")).await;
    assert_eq!((status, &body["status"]), (StatusCode::OK, &json!("rollback_started")), "{body}");
    assert_eq!(body["message"], "Rolling back to version v5.0.3");
    let told = body["estimated_duration"].as_str().unwrap();
    assert_eq!((told.len(), told.matches(':').count()), (8, 2));
    assert_eq!(gateway.audited("updates.rollback").await.reason.as_deref(), Some("does not fit"));
    gateway.until(JobStatus::Rebooting).await;
    assert_eq!(gateway.boot.env().trial, Some(Slot::B));
}
