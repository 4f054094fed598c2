//! Every JSON example of the spec, field by field (name, type, format, wording), against what a device answers.
//!
//! A request is sent as it stands there, with this device's names; each of its fields is then sent again with another type,
//! which must be refused by the field's name. An answer or a message must have every field of the example, of its type and
//! format, and its very words unless [`FREE`] says why not. A block of the spec that nothing here accounts for is a failure.

mod shape;

use std::collections::BTreeMap;

use ota_api::words::JobStatus;
use ota_tests::{config::Settings, release::UPDATE_ID};
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};

use self::shape::differences;
use crate::{
    api::{Answer, Messages, PREFIX, send},
    spec::{API, Block, PAGES},
    world::{Offer, TestDevice, device_with_pin, settings},
};
use reqwest::Method;

/// A window that is not open today and opens once a year.
const WINDOW: &str = r#"
[[safety.windows]]
name = "new_year"
kind = "update"
zone = "UTC"
cron = "0 2 1 1 *"
duration = "1h"
"#;
/// So slow that progress can be asked for while bytes arrive.
const SLOW: u32 = 4_000_000;

/// What was answered, by the key of the example.
#[derive(Default)]
struct Seen {
    answers: BTreeMap<String, Value>,
    /// Routes and bodies of the requests, as they were sent.
    requests: Vec<(String, Value)>,
}

impl Seen {
    /// The request of the spec below `heading`, with this device's names put in.
    fn request(&mut self, heading: &str, ours: &Value) -> (String, Value) {
        let block = block(&format!("{heading} / Request"));
        let mut body: Value = serde_json::from_str(&block.code).unwrap();
        for (name, value) in ours.as_object().unwrap() {
            assert!(body.get(name).is_some(), "{} has no {name}", block.place());
            body[name] = value.clone();
        }
        let path = path(&block);
        self.answers.insert(block.key(), body.clone());
        self.requests.push((path.clone(), body.clone()));
        (path, body)
    }

    /// Sends it, and keeps the answer as the one of the example.
    async fn ask(&mut self, device: &TestDevice, heading: &str, ours: Value) -> Value {
        let (path, body) = self.request(heading, &ours);
        let answer = send(device.api.request(Method::POST, &path).json(&body)).await.ok();
        self.answer(&format!("{heading} / Response"), answer)
    }

    /// Reads what the example is read from.
    async fn read(&mut self, device: &TestDevice, heading: &str, query: &str) -> Value {
        let key = format!("{heading} / Response");
        let path = path(&block(&key)) + query;
        let answer = send(device.api.request(Method::GET, &path)).await.ok();
        self.answer(&key, answer)
    }

    fn answer(&mut self, key: &str, answer: Value) -> Value {
        self.answers.insert(key.into(), answer.clone());
        answer
    }
}

fn block(key: &str) -> Block {
    let found = API.blocks().into_iter().find(|block| block.key() == key);
    found.unwrap_or_else(|| panic!("the spec has no block {key:?}"))
}

/// The path of the block's route.
fn path(block: &Block) -> String {
    let route = block.route.as_deref().unwrap_or_else(|| panic!("{} has no route", block.place()));
    route.split_once(' ').unwrap().1.to_owned()
}

/// The path of the WebSocket, as the spec shows it.
fn socket_path() -> String {
    let block = API.blocks().into_iter().find(|block| block.language == "bash").unwrap();
    block.code.strip_prefix("ws://your-gateway").unwrap().to_owned()
}

/// Uploads the release on offer as the spec's file.
async fn upload(device: &TestDevice) -> Answer {
    let bytes = |path| std::fs::read(path).unwrap();
    let file = Part::bytes(bytes(&device.release.image)).file_name("custom-v5.1.0.img");
    let signature = Part::bytes(bytes(&device.release.signature())).file_name("custom-v5.1.0.img.p7s");
    let form = Form::new()
        .text("version", "v5.1.0-custom")
        .text("description", "as in the spec")
        .part("signature", signature)
        .part("file", file);
    let path = path(&block("Upload Custom Image / Response"));
    send(device.api.request(Method::POST, &path).multipart(form)).await
}

/// The crane moves from the first answer to the last but one.
async fn while_the_crane_moves(device: &TestDevice, seen: &mut Seen) {
    device.set_sensor("crane_motion", "moving").unwrap();
    device.safety_is(false).await;
    seen.read(device, "Safety Status", "").await;
    seen.ask(device, "Safety Override", json!({})).await;
    device.api.post("/safety/override", &json!({"enable": false})).await.ok();
    seen.read(device, "Check for Updates", "").await;
    device.server.slow_down(Some(SLOW));
    let job = seen.ask(device, "Download Update", json!({})).await["job_id"].clone();
    let id = job.as_str().unwrap();
    device.until(id, |job| job.status == JobStatus::Downloading).await;
    seen.read(device, "Monitor Progress", &format!("?job_id={id}")).await;
    seen.ask(device, "Cancel Update", json!({"job_id": job})).await;
    device.server.slow_down(None);
    device.set_sensor("crane_motion", "stopped").unwrap();
    device.safety_is(true).await;
}

/// A job that is downloaded and installed, up to the countdown of its reboot.
async fn install(device: &TestDevice, seen: &mut Seen, messages: &mut Messages) {
    let job = device.download().await;
    device.set_sensor("crane_motion", "moving").unwrap();
    device.safety_is(false).await;
    let blocked = device.api.post("/updates/install", &json!({"job_id": job})).await;
    assert_eq!((blocked.status, blocked.content_type.as_str()), (400, "application/json"));
    seen.answer("Error Response Format", blocked.body);
    device.set_sensor("crane_motion", "stopped").unwrap();
    device.safety_is(true).await;
    seen.ask(device, "Install Update", json!({"job_id": job})).await;
    let mut keep =
        |label: &str, message: Value| drop(seen.answer(&format!("Message Types / {label}"), message));
    keep("System Events", messages.first(|m| m["event"] == "reboot_scheduled").await);
    // What has happened until now has come before it.
    let writing = |m: &Value| m["type"] == "progress_update" && m["current_operation"] == "writing_partition";
    keep("Progress Updates", messages.first(writing).await);
    let updating = |m: &Value| m["type"] == "status_change" && m["system_status"] == "updating";
    keep("Status Changes", messages.first(updating).await);
    keep("Job Completion", messages.first(|m| m["type"] == "job_complete" && m["status"] == "success").await);
    device.set_sensor("crane_motion", "moving").unwrap();
    keep(
        "Safety Alerts",
        messages.first(|m| m["type"] == "safety_alert" && m["action_required"] == true).await,
    );
}

/// A device that reboots: after an update, back, with an image of its own, and to nothing.
async fn over_reboots(seen: &mut Seen) {
    let device = device_with_pin(Offer::Small, settings()).await;
    assert_eq!(device.update().await.status, JobStatus::Succeeded);
    seen.read(&device, "Get System Status", "").await;
    device.safety_is(true).await;
    let job = seen.ask(&device, "Rollback Update", json!({})).await["job_id"].clone();
    assert_eq!(device.ended(job.as_str().unwrap()).await.status, JobStatus::Succeeded);
    let uploaded = upload(&device).await.ok();
    seen.answer("Upload Custom Image / Response", uploaded);
    seen.ask(&device, "Verify Uploaded Image", json!({})).await;
    device.safety_is(true).await;
    let job = seen.ask(&device, "Deploy Custom Image", json!({})).await["job_id"].clone();
    assert_eq!(device.ended(job.as_str().unwrap()).await.status, JobStatus::Succeeded);
    device.ready().await.unwrap();
    device.safety_is(true).await;
    seen.ask(&device, "Factory Reset", json!({})).await;
}

/// Each field of each request, with a value of another type, is refused by its name and changes nothing.
async fn check_types(device: &TestDevice, seen: &Seen) -> usize {
    let mut refused = 0;
    for (path, body) in &seen.requests {
        for field in body.as_object().unwrap().keys() {
            for wrong in [json!({}), json!([1])] {
                let mut body = body.clone();
                body[field] = wrong.clone();
                let answer = send(device.api.request(Method::POST, path).json(&body)).await;
                let (name, place) = (&answer.body["name"], &answer.body["details"]["path"]);
                assert_eq!(
                    (answer.status, name),
                    (400, &json!("INVALID_REQUEST")),
                    "{path} {body}: {answer:#?}"
                );
                assert!(
                    place.as_str().unwrap().starts_with(&format!("$.{field}")),
                    "{path} {body}: {answer:#?}"
                );
                refused += 1;
            }
        }
    }
    refused
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_example_of_the_spec_is_what_a_device_takes_and_answers() {
    let mut seen = Seen::default();
    let settings = Settings { countdown_seconds: 60, more: WINDOW, ..settings() };
    let device = device_with_pin(Offer::Long(128), settings).await;
    assert!(socket_path().starts_with(PREFIX));
    let mut messages = device.api.listen(&socket_path()).await;
    while_the_crane_moves(&device, &mut seen).await;
    assert_eq!(seen.answers["Download Update / Request"]["update_id"], UPDATE_ID);
    install(&device, &mut seen, &mut messages).await;
    over_reboots(&mut seen).await;
    let refused = check_types(&device, &seen).await;
    let (mut wrong, mut examples, mut fields) = (Vec::new(), 0, 0);
    for block in PAGES.into_iter().flat_map(|page| page.blocks()) {
        let Some(example) = example(&block) else { continue };
        let Some(live) = seen.answers.get(&block.key()) else {
            wrong.push(format!("{}: nothing accounts for this example", block.place()));
            continue;
        };
        let (compared, found) = differences(&block.key(), &example, live);
        wrong.extend(found.into_iter().map(|what| format!("{}: {what}", block.place())));
        (examples, fields) = (examples + 1, fields + compared);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    println!(
        "{examples} examples of the spec, {fields} fields as there; {refused} fields of a wrong type refused"
    );
}

/// The JSON of a block; of an HTTP answer, its body.
fn example(block: &Block) -> Option<Value> {
    let json = match block.language.as_str() {
        "json" => block.code.as_str(),
        "http" => {
            let (head, body) = block.code.split_once("\n\n").unwrap();
            assert_eq!(head, "HTTP/1.1 400 Bad Request\nContent-Type: application/json", "{}", block.place());
            body
        }
        // Programs are run by `programs`, the address of the WebSocket is used above.
        "python" | "javascript" | "bash" => return None,
        other => panic!("{}: nothing accounts for {other}", block.place()),
    };
    Some(serde_json::from_str(json).unwrap())
}
