//! Random requests of many clients against the real engine, judged by the reference machine [`ota_core::job::step`].
//!
//! Every record that the engine made durable must be what `step` makes of the one before, field by field, and every request
//! that was answered with success must stand among those changes exactly once. What the device meets meanwhile (a crane
//! that moves, a broken transfer, an unhealthy system, a power cut) is as random as the requests.

use std::collections::BTreeMap;

use fastrand::Rng;
use http::{Method, StatusCode};
use ota_core::{
    JobId,
    error::{OtaError, PortErrorKind, SignatureFault},
    job::{Effect, End, Input, Job, JobKind, JobState, step, table},
    ports::JobJournal as _,
    safety::SafetyStep,
};
use ota_testkit::source::FetchScript;
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};

use super::harness::{ADMIN, Gateway, OPERATOR, VIEWER, answer};

const CLIENTS: usize = 50;
/// Restarts between which all clients work.
const ROUNDS: usize = 10;
/// Requests of one client in a round: 50 × 10 × 20 are the 10,000 that issue 3 asks for.
const REQUESTS: usize = 20;

/// The image that is brought in a round: one of its own, because that of the round before may still be deployed.
fn upload_of(round: usize) -> String {
    format!("own-{round}.img")
}

/// A request: its name in the count, method, path, token, body.
type Request = (&'static str, Method, String, &'static str, Value);

fn request(random: &mut Rng, job: &str, upload: &str) -> Request {
    let post = |name, path: &str, body| (name, Method::POST, path.to_owned(), OPERATOR, body);
    let get = |name, path: &str| (name, Method::GET, path.to_owned(), VIEWER, Value::Null);
    // A reboot that is under way ends the round for everybody else.
    let reboot = random.u64(..12) == 0;
    let roll = random.u64(..4) != 0;
    match random.u64(..26) {
        0..=5 => {
            let priority = random.choice(["low", "normal", "high", "critical"]);
            post("download", "/updates/download", json!({"update_id": "rel-v5.0.5", "priority": priority}))
        }
        6..=11 => {
            let strategy = random.choice(["seamless", "immediate", "maintenance_window"]);
            let body = json!({"job_id": job, "strategy": strategy, "reboot_after": reboot, "rollback_on_failure": roll});
            post("install", "/updates/install", body)
        }
        12..=13 => post("cancel", "/updates/cancel", json!({"job_id": job, "reason": "by chance"})),
        14..=15 => post("pause", "/updates/pause", json!({})),
        16..=18 => post("resume", "/updates/resume", json!({"job_id": job})),
        19 => post("confirm", "/updates/confirm", json!({"reason": "looks well"})),
        20 => post("reject", "/updates/reject", json!({"reason": "looks ill"})),
        21..=22 => {
            let body = json!({"filename": upload, "reboot_after": reboot, "rollback_on_failure": roll});
            ("deploy", Method::POST, "/upload/deploy".into(), ADMIN, body)
        }
        23 => get("progress", &format!("/updates/progress?job_id={job}")),
        24 => get("jobs", "/updates/jobs?limit=3"),
        _ => get("status", "/system/status"),
    }
}

/// What else happens to the device.
fn mishap(gateway: &Gateway, random: &mut Rng) {
    let cut = || PortErrorKind::Ota(OtaError::Network { what: "the cable was pulled".into() });
    let io = |what: &str| PortErrorKind::Io(what.into());
    let rare = random.u64(..16) == 0;
    match random.u64(..20) {
        0 => gateway.gate.violate("crane_motion", &[SafetyStep::Switch, SafetyStep::Reboot]),
        1 => gateway.gate.violate("crane_motion", &SafetyStep::ALL),
        2..=4 => gateway.gate.clear("crane_motion"),
        5 => gateway.source.script([FetchScript::FailAt(random.u64(..200_000), cut())]),
        6..=8 => gateway.source.script([FetchScript::HoldAt(random.u64(..200_000))]),
        9 => gateway.verifier.refuse(SignatureFault::Untrusted),
        10..=11 => gateway.verifier.accept(),
        // Rare: one that is planned stays planned until somebody writes.
        12 if rare => gateway.slots.write_faults.fail_nth(1 + random.u64(..20), io("bad block")),
        13 if rare => gateway.boot.write_faults.fail_nth(1 + random.u64(..4), io("worn out")),
        14 => gateway.rebooter.faults.fail_next(io("inhibited")),
        15 => gateway.health.fail("the fieldbus is silent"),
        16 => gateway.health.pass(),
        _ => gateway.source.go_on(),
    }
    gateway.gate.set_window(random.u64(..2) == 0, None);
    gateway.gate_changes.send_modify(|n| *n += 1);
}

/// One client's requests; how often which had success, and every refusal's code.
async fn client(
    gateway: &Gateway,
    round: usize,
    number: usize,
) -> (BTreeMap<&'static str, u64>, BTreeMap<String, u64>) {
    let mut random = Rng::with_seed((round * CLIENTS + number) as u64);
    let upload = upload_of(round);
    let (mut successes, mut refusals) = (BTreeMap::new(), BTreeMap::new());
    for _ in 0..REQUESTS {
        if random.u64(..4) == 0 {
            mishap(gateway, &mut random);
        }
        // Mostly the active job, sometimes one that ended, rarely one that never was.
        let active = gateway.engine.active().borrow().as_ref().map(|job| job.id.to_string());
        let job = match random.u64(..10) {
            0 => "OTA-JOB-ZZZZZ".to_owned(),
            1 => JobId::from_number(1).to_string(),
            _ => active.unwrap_or_else(|| "OTA-JOB-00000".into()),
        };
        let idle = job == "OTA-JOB-00000";
        let mut asks = request(&mut random, &job, &upload);
        // Most of the time somebody wants something of an idle gateway.
        while idle && !["download", "deploy", "status"].contains(&asks.0) && random.u64(..4) != 0 {
            asks = request(&mut random, &job, &upload);
        }
        let (name, method, path, token, body) = asks;
        let mut asked = gateway.ask(method, &path, token);
        if !body.is_null() {
            asked = asked.json(&body);
        }
        let (status, body) = answer(asked).await;
        if status == StatusCode::OK {
            *successes.entry(name).or_default() += 1;
        } else {
            let code = body["code"].as_str().unwrap_or_else(|| panic!("{name}: {status} {body}"));
            assert!(status != StatusCode::INTERNAL_SERVER_ERROR, "{name}: {body}");
            *refusals.entry(format!("{status} {code}", status = status.as_u16())).or_default() += 1;
        }
    }
    (successes, refusals)
}

/// Inputs that could lead to `after`: one of every kind, with what `after` holds in them.
fn inputs_towards(after: &Job) -> Vec<Input> {
    let failure = match &after.state {
        JobState::Failed { why }
        | JobState::RolledBack { why }
        | JobState::Confirming { unhealthy: Some(why) } => Some(why),
        JobState::FallingBack { end } | JobState::Undoing { end } => match end {
            End::RolledBack { why } | End::Failed { why } => Some(why),
            End::Cancelled { .. } => None,
        },
        _ => None,
    };
    let given = match &after.state {
        JobState::Cancelled { reason }
        | JobState::Undoing { end: End::Cancelled { reason } }
        | JobState::FallingBack { end: End::Cancelled { reason } } => reason.clone(),
        _ => failure.map_or_else(String::new, |why| why.message.clone()),
    };
    let mut all = Vec::new();
    for input in table::inputs() {
        let why = |old: ota_core::job::Failure| failure.cloned().unwrap_or(old);
        let have = |state: &JobState| match state {
            JobState::Downloading { have, .. } | JobState::Paused { have } => Some(*have),
            _ => None,
        };
        let filled = match input {
            Input::FetchProgress { have: old } => {
                Input::FetchProgress { have: have(&after.state).unwrap_or(old) }
            }
            Input::Fetched(old) => Input::Fetched(after.image.clone().unwrap_or(old)),
            Input::Verified(old) => Input::Verified(after.vouched.clone().unwrap_or(old)),
            Input::Install(old) => Input::Install(after.install.unwrap_or(old)),
            Input::Cancel { .. } => Input::Cancel { reason: given.clone() },
            Input::RejectByHand { .. } => Input::RejectByHand { reason: given.clone() },
            Input::FetchFailed(old) => Input::FetchFailed(why(old)),
            Input::VerifyFailed(old) => Input::VerifyFailed(why(old)),
            Input::FenceFailed(old) => Input::FenceFailed(why(old)),
            Input::WriteFailed(old) => Input::WriteFailed(why(old)),
            Input::ArmFailed(old) => Input::ArmFailed(why(old)),
            Input::RebootFailed(old) => Input::RebootFailed(why(old)),
            Input::HealthFailed(old) => Input::HealthFailed(why(old)),
            Input::ConfirmFailed(old) => Input::ConfirmFailed(why(old)),
            Input::GoBackFailed(old) => Input::GoBackFailed(why(old)),
            Input::Recovered { situation, .. } => {
                all.push(Input::Recovered { situation, new_boot: false });
                Input::Recovered { situation, new_boot: true }
            }
            other => other,
        };
        all.push(filled);
    }
    all
}

/// The input with which the reference machine leads from one record to the next; changes that it does not make durable
/// may lie between.
fn explained(before: &Job, after: &Job, depth: usize) -> Option<Vec<&'static str>> {
    let same = |job: &Job| Job { boot_id: after.boot_id.clone(), ..job.clone() } == *after;
    let mut live = Vec::new();
    for input in inputs_towards(after) {
        let name = input.name();
        let Ok(next) = step(before, input, after.updated) else { continue };
        if next.effects.first() == Some(&Effect::Persist) {
            if same(&next.job) {
                return Some(vec![name]);
            }
        } else if next.job.state != before.state {
            live.push((name, next.job));
        }
    }
    if depth == 0 {
        return None;
    }
    live.into_iter().find_map(|(name, job)| {
        let mut rest = explained(&job, after, depth - 1)?;
        rest.insert(0, name);
        Some(rest)
    })
}

/// The inputs that were taken, by name.
#[derive(Default)]
struct Judged {
    taken: BTreeMap<&'static str, u64>,
    /// How many jobs were made, by the request that makes them.
    jobs: BTreeMap<&'static str, u64>,
}

/// The request that makes a job of this kind.
const fn maker(kind: JobKind) -> &'static str {
    match kind {
        JobKind::Update => "download",
        JobKind::Deployment => "deploy",
        JobKind::Rollback => "rollback",
    }
}

fn judge(saves: &[Job]) -> Judged {
    let mut last: BTreeMap<String, Job> = BTreeMap::new();
    let mut judged = Judged::default();
    for save in saves {
        let open = last.values().filter(|job| !job.state.is_end() && job.id != save.id).count();
        assert_eq!(open, 0, "two jobs are active: {save:#?}");
        match last.insert(save.id.to_string(), save.clone()) {
            None => {
                // A trial that was left behind by a job whose undoing failed is taken up as one of its own.
                let foreign = save.kind == JobKind::Rollback && save.release.id.as_str() == "foreign-switch";
                let first = if foreign { JobState::Rebooting } else { JobState::Queued };
                assert_eq!(save.state, first, "a job begins in the middle");
                assert_eq!(save.counters, ota_core::job::Counters::default());
                *judged.jobs.entry(maker(save.kind)).or_default() += 1;
            }
            Some(before) => {
                // Who asked last is put on record with the state that it led to, and is nothing to the machine.
                let before = Job { request_id: save.request_id.clone(), ..before };
                let path = explained(&before, save, 3);
                let path =
                    path.unwrap_or_else(|| panic!("not by the machine:\n{before:#?}\nthen\n{save:#?}"));
                path.into_iter().for_each(|input| *judged.taken.entry(input).or_default() += 1);
            }
        }
    }
    judged
}

/// An image of the operator's own, verified and ready to be deployed.
async fn bring_an_image(gateway: &Gateway, name: &str) {
    let part = |bytes: Vec<u8>, name: String| Part::bytes(bytes).file_name(name);
    let form = Form::new()
        .text("version", "v5.1.0-custom")
        .part("signature", part(b"0cms".to_vec(), format!("{name}.p7s")))
        .part("file", part(vec![9; 50_000], name.to_owned()));
    let (status, body) = answer(gateway.ask(Method::POST, "/upload/verify", OPERATOR).multipart(form)).await;
    // Also while a job of the round before still runs: that is no second download, install or deployment.
    assert_eq!(status, StatusCode::OK, "{body}");
}

fn add<K: Ord>(into: &mut BTreeMap<K, u64>, more: BTreeMap<K, u64>) {
    more.into_iter().for_each(|(key, count)| *into.entry(key).or_default() += count);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_random_requests_of_fifty_clients_never_leave_the_reference_machine() {
    // A pool of connections may hold more of them than clients, for a moment.
    let mut gateway = Gateway::with(|config| config.limits.connections_per_address = 512).await;
    let (mut successes, mut refusals) = (BTreeMap::new(), BTreeMap::new());
    for round in 0..ROUNDS {
        gateway.verifier.accept();
        // In every other round the gateway cannot restart, and goes on working.
        match round % 2 {
            0 => gateway.rebooter.faults.fail_always(PortErrorKind::Io("inhibited".into())),
            _ => gateway.rebooter.faults.clear(),
        }
        bring_an_image(&gateway, &upload_of(round)).await;
        let clients = (0..CLIENTS).map(|number| client(&gateway, round, number));
        for (well, badly) in futures_util::future::join_all(clients).await {
            add(&mut successes, well);
            add(&mut refusals, badly);
        }
        gateway.restart(round % 3 != 2).await;
    }
    let saves = gateway.store.saves();
    let judged = judge(&saves);
    println!("{} records of {} jobs", saves.len(), gateway.store.page(0, 1).unwrap().total);
    println!("requests with success: {successes:?}");
    println!("refused: {refusals:?}");
    println!("inputs of the machine: {:?}", judged.taken);
    let had = |name: &str| successes.get(name).copied().unwrap_or(0);
    let took = |name: &str| judged.taken.get(name).copied().unwrap_or(0);
    for (request, input) in [
        ("pause", "Pause"),
        ("resume", "Resume"),
        ("cancel", "Cancel"),
        ("confirm", "ConfirmByHand"),
        ("reject", "RejectByHand"),
    ] {
        assert_eq!(had(request), took(input), "{request}");
    }
    for made in ["download", "deploy"] {
        assert_eq!(had(made), judged.jobs.get(made).copied().unwrap_or(0), "{made}");
    }
    // A deployment is installed by the request that makes it.
    assert_eq!(had("install") + had("deploy"), took("Install"));
    let all: u64 = successes.values().sum::<u64>() + refusals.values().sum::<u64>();
    assert_eq!(all, (CLIENTS * ROUNDS * REQUESTS) as u64);
    for name in ["download", "install", "cancel", "pause", "resume", "deploy"] {
        assert!(had(name) > 0, "no {name} had success");
    }
    let ways = judged.taken.len();
    assert!(ways >= 15, "only {ways} kinds of inputs were met: {:?}", judged.taken);
}
