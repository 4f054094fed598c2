//! The real daemon with a crane behind a real broker and a real PLC, which are killed and unplugged.

use std::{thread, time::Duration};

use ota_api::{
    jobs::JobInfo,
    safety::{Constraint, SafetyStatus},
    words::{ConstraintStatus, JobStatus},
    ws::{Message, SafetyAlert},
};
use ota_client::ws::{EventStream, Happening, Patience};
use ota_core::{ErrorCode, Slot};
use ota_testkit::peers::{Broker, Plc, stand_in};
use ota_tests::{config::Settings, make::free_port};
use tokio::time::{Instant, timeout};

use crate::{
    safety::{has_begun_to_write, held_by_the_crane, hold_the_switch, leave_it_to_the_crane},
    stalls::{AGAIN, Stalls},
    world::{Offer, PATIENCE, TestDevice, device_with, settings},
};

const TOPIC: &str = "harbour/crane";
/// Register of the PLC: 0 at rest.
const REGISTER: u16 = 120;
/// An alert comes within this time.
const ALERT: Duration = Duration::from_secs(1);
/// So slow that the image is on its way until nothing more is to be measured meanwhile, in bytes a second.
const SLOW: u32 = 3_000_000;

fn over_mqtt(broker: &Broker) -> String {
    format!(
        "mqtt = {{ host = \"127.0.0.1\", port = {}, topic = \"{TOPIC}\", accept_retained = true }}",
        broker.port
    )
}

fn over_modbus(port: u16) -> String {
    let at =
        format!("host = \"127.0.0.1\", port = {port}, table = \"holding_register\", address = {REGISTER}");
    format!("modbus = {{ {at}, every = \"20ms\", timeout = \"2s\" }}")
}

/// Says the state of the crane again and again, as a gauge does.
struct Gauge {
    say: std::sync::mpsc::Sender<&'static str>,
}

impl Gauge {
    fn on(broker: &Broker) -> Self {
        let mut publisher = broker.publisher(&["-t", TOPIC, "-l"]);
        let (say, said) = std::sync::mpsc::channel();
        thread::spawn(move || {
            let mut state = "stopped";
            loop {
                if !publisher.tell(state) {
                    return;
                }
                match said.recv_timeout(Duration::from_millis(50)) {
                    Ok(news) => state = news,
                    Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {}
                    Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => return,
                }
            }
        });
        Self { say }
    }

    fn says(&self, state: &'static str) {
        self.say.send(state).unwrap();
    }
}

/// Asks for the installation until it is taken: behind a machine that stood still nothing is known of the crane for a moment.
async fn install(device: &TestDevice, job: &str) {
    let deadline = Instant::now() + PATIENCE;
    while let Err(refused) = device.install(job).await {
        let code = refused.api().and_then(ota_client::ApiError::ota_code);
        assert_eq!(code, Some(ErrorCode::UpdateBlocked), "{}", refused.chain());
        assert!(Instant::now() < deadline, "{}", refused.chain());
        // tidy: waits for another process
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn alerts(device: &TestDevice) -> EventStream {
    EventStream::open(&device.client, None, Patience::default()).await.unwrap()
}

/// The next alert of the crane with this status.
async fn alert(events: &mut EventStream, status: ConstraintStatus) -> SafetyAlert {
    let found = async {
        loop {
            if let Happening::Message { message, .. } = events.next().await.unwrap()
                && let Message::SafetyAlert(alert) = *message
                && alert.constraint == "crane_motion"
                && alert.status == status
            {
                return alert;
            }
        }
    };
    timeout(Duration::from_secs(30), found).await.expect("no alert")
}

async fn comes_to_rest(device: &TestDevice, gauge: &Gauge, events: &mut EventStream) {
    gauge.says("stopped");
    alert(events, ConstraintStatus::Ok).await;
    device.safety_is(true).await;
}

/// The alert of a crane that starts to move, which comes in time. What was measured while the machine stood still is nobody's
/// reaction: then the crane moves once more.
async fn alert_in_time(device: &TestDevice, gauge: &Gauge, events: &mut EventStream) -> SafetyAlert {
    let stalls = Stalls::watch();
    let mut again = 0;
    loop {
        let began = Instant::now();
        gauge.says("moving");
        let told = alert(events, ConstraintStatus::Violated).await;
        let took = began.elapsed();
        if took <= ALERT {
            return told;
        }
        let stood_still = stalls.any_since(began.into_std()).await;
        assert!(again < AGAIN && stood_still, "{took:?}, made again {again} times");
        again += 1;
        comes_to_rest(device, gauge, events).await;
    }
}

async fn nothing_was_switched(device: &TestDevice) {
    let variables = device.environment().printed().unwrap();
    assert_eq!(variables.get("ota_trial"), None, "{variables:?}");
    assert_eq!(device.boots(), [Some(Slot::A)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crane_behind_a_broker_holds_an_update_through_moves_and_a_killed_broker() {
    let (dir, port) = (tempfile::tempdir().unwrap(), free_port(0));
    let broker = Broker::start(dir.path(), port, "");
    let gauge = Gauge::on(&broker);
    let crane = Some(over_mqtt(&broker));
    let device = device_with(Offer::Long(256), Settings { crane, ..settings() }).await;
    device.safety_is(true).await;
    let mut events = alerts(&device).await;
    // During the download: it goes on, the alert comes, an install is refused.
    device.client.check().await.unwrap();
    device.server.slow_down(Some(SLOW));
    let job = device.start_download().await.unwrap();
    let told = alert_in_time(&device, &gauge, &mut events).await;
    assert_eq!((told.message.as_str(), told.severity.as_str()), ("Crane movement detected", "warning"));
    assert_eq!(told.suggested_action, "Wait for crane to stop or use force override with PIN");
    assert!(!told.action_required, "nothing waits for it yet");
    device.server.slow_down(None);
    device.until(&job, |job| job.status == JobStatus::Downloaded).await;
    let refused = device.install(&job).await.unwrap_err();
    assert_eq!(refused.api().unwrap().ota_code(), Some(ErrorCode::UpdateBlocked));
    comes_to_rest(&device, &gauge, &mut events).await;
    // During the write: the bytes go on, the switch waits.
    let lease = hold_the_switch(&device).await;
    install(&device, &job).await;
    device.until(&job, has_begun_to_write).await;
    // What was told before the install is not meant.
    events = alerts(&device).await;
    gauge.says("moving");
    assert!(alert(&mut events, ConstraintStatus::Violated).await.action_required);
    device.until(&job, held_by_the_crane).await;
    leave_it_to_the_crane(&device, &job, lease).await;
    nothing_was_switched(&device).await;
    // The broker is killed while the job waits: what is not known holds it, too.
    drop(broker);
    alert(&mut events, ConstraintStatus::Unknown).await;
    device.until(&job, held_by_the_crane).await;
    nothing_was_switched(&device).await;
    drop(gauge);
    let broker = Broker::start(dir.path(), port, "");
    let _gauge = Gauge::on(&broker);
    assert_eq!(device.ended(&job).await.status, JobStatus::Succeeded);
    device.check_rests_on(Slot::B).await;
}

fn crane_of(safety: &SafetyStatus) -> &Constraint {
    safety.constraints.iter().find(|constraint| constraint.name == "crane_motion").unwrap()
}

/// Waits until the crane's reading is that word, which is not one of a value.
async fn reads(device: &TestDevice, wanted: &str) {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let safety = device.client.safety().await.unwrap();
        let crane = crane_of(&safety);
        if crane.reading == wanted {
            assert_eq!((crane.status, safety.update_allowed), (ConstraintStatus::Unknown, false));
            return;
        }
        assert!(Instant::now() < deadline, "{wanted}: {crane:?}");
        // tidy: waits for another process
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unplugged_silent_or_babbling_plc_holds_the_reboot_until_it_is_back() {
    let port = free_port(0);
    let mut plc = Plc::start(port);
    let crane = Some(over_modbus(port));
    // The crane of the other tests is a word; this one is a number.
    let settings = Settings { crane, crane_at_rest: "0", countdown_seconds: 15, ..settings() };
    let device = device_with(Offer::Small, settings).await;
    let job = device.download().await;
    device.safety_is(true).await;
    install(&device, &job).await;
    let switched = |_: &JobInfo| device.environment().variables().unwrap().contains_key("ota_trial");
    device.until(&job, switched).await;
    // In the countdown, right before the reboot.
    plc.set_register(REGISTER, 3);
    device.until(&job, held_by_the_crane).await;
    plc.kill();
    reads(&device, "disconnected").await;
    // Others take its place: one that is silent, and one that does not speak Modbus.
    let silent = stand_in(port, b"");
    reads(&device, "no answer").await;
    drop(silent);
    let mut babbling = stand_in(port, b"HTTP/1.1 400 Bad Request\r\n\r\n");
    for _ in 0..3 {
        assert_eq!(tokio::task::block_in_place(|| babbling.hear()), "asked\n");
    }
    let safety = device.client.safety().await.unwrap();
    assert!(!safety.update_allowed && crane_of(&safety).status == ConstraintStatus::Unknown, "{safety:?}");
    assert!(held_by_the_crane(&device.client.job(&job).await.unwrap()));
    assert_eq!(device.boots(), [Some(Slot::A)]);
    drop(babbling);
    let mut plc = Plc::start(port);
    plc.set_register(REGISTER, 0);
    assert_eq!(device.ended(&job).await.status, JobStatus::Succeeded);
    device.check_rests_on(Slot::B).await;
}
