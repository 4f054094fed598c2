//! MQTT against Debian's mosquitto: values, last will, retained messages, TLS, a broker that is killed.

use std::{path::Path, sync::Arc};

use ota_core::{
    ports::SafetyGate,
    safety::{ConstraintState, SafetyStep},
};
use ota_testkit::peers::{Broker, Peer, free_port};

use crate::{
    SafetyEngine,
    engine::tests::{TokioClock, until},
    reading::{Fault, Value},
    sources::test_feed::Followed,
};

/// A broker with a folder of its own.
struct Hub {
    broker: Broker,
    _dir: tempfile::TempDir,
}

impl Hub {
    fn on(port: u16) -> Self {
        Self::within(tempfile::tempdir().unwrap(), port, "")
    }

    fn within(dir: tempfile::TempDir, port: u16, more: &str) -> Self {
        Self { broker: Broker::start(dir.path(), port, more), _dir: dir }
    }

    /// Publishes until the test ends: nobody knows when the subscription is there.
    fn publish_again_and_again(&self, topic: &str, message: &str) -> Peer {
        self.client(&["-t", topic, "-m", message, "--repeat", "1000", "--repeat-delay", "0.02"])
    }

    fn client(&self, args: &[&str]) -> Peer {
        self.broker.publisher(args)
    }

    fn follow(&self, more: &str) -> Followed {
        let port = self.broker.port;
        Followed::new(&format!(
            "name = \"x\"\nmqtt = {{ host = \"127.0.0.1\", port = {port}, topic = \"plant/crane\"{more} }}"
        ))
    }
}

fn moving() -> Value {
    Value::Text("moving".into())
}

#[tokio::test]
async fn a_killed_broker_is_a_fault_and_heals_by_itself() {
    let broker = Hub::on(free_port());
    let mut source = broker.follow("");
    let talker = broker.publish_again_and_again("plant/crane", "moving");
    source.until_value(moving()).await;
    drop(talker);
    let port = broker.broker.port;
    drop(broker);
    source.until("disconnected", |o| matches!(o, Err(Fault::Disconnected(_)))).await;
    let broker = Hub::on(port);
    let _talker = broker.publish_again_and_again("plant/crane", "{\"a\":1}");
    source.until_value(Value::Text("{\"a\":1}".into())).await;
}

#[tokio::test]
async fn a_field_of_a_message_is_a_value() {
    let broker = Hub::on(free_port());
    let mut source = broker.follow(", json = { value = \"/wind/speed\" }");
    let _talker = broker.publish_again_and_again("plant/crane", "{\"wind\":{\"speed\":12.5}}");
    source.until_value(Value::Number(12.5)).await;
}

#[tokio::test]
async fn a_retained_message_says_nothing_about_now() {
    let broker = Hub::on(free_port());
    broker.client(&["-t", "plant/crane", "-m", "stopped", "-r"]).wait();
    let mut accepting = broker.follow(", accept_retained = true");
    accepting.until_value(Value::Text("stopped".into())).await;
    let mut source = broker.follow("");
    let _talker = broker.publish_again_and_again("plant/crane", "moving");
    source
        .until("moving, and nothing before it", |o| {
            assert_ne!(o.as_ref().ok(), Some(&Value::Text("stopped".into())));
            o.as_ref() == Ok(&moving())
        })
        .await;
}

#[tokio::test]
async fn the_last_will_of_a_sensor_is_a_fault() {
    let broker = Hub::on(free_port());
    let mut source = broker.follow(", availability = { topic = \"plant/status\" }");
    let _talker = broker.publish_again_and_again("plant/crane", "moving");
    let will = ["--will-topic", "plant/status", "--will-payload", "offline", "--will-retain"];
    let mut sensor = broker.client(&[["-t", "plant/status", "-r", "-l"].as_slice(), &will].concat());
    sensor.say("online");
    source.until_value(moving()).await;
    sensor.kill();
    source.until("off line", |o| matches!(o, Err(Fault::Disconnected(_)))).await;
    assert!(
        !source.says_a_value_within(std::time::Duration::from_millis(100)).await,
        "others may still talk"
    );
}

#[tokio::test]
async fn a_broker_that_wants_a_password_gets_that_of_the_file_and_a_wrong_one_is_a_fault() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let (users, right, wrong) = (path("users"), path("right"), path("wrong"));
    Peer::start("mosquitto_passwd", "mosquitto", &["-b", "-c", &users, "gateway", "s3cret"]).wait();
    std::fs::write(&right, "s3cret\n").unwrap();
    std::fs::write(&wrong, "secret\n").unwrap();
    let more = format!("allow_anonymous false\npassword_file {users}");
    let broker = Hub::within(dir, free_port(), &more);
    let follow = |file: &str| broker.follow(&format!(", username = \"gateway\", password_file = {file:?}"));
    let refused = |outcome: &Result<Value, Fault>| matches!(outcome, Err(Fault::Disconnected(_)));
    follow(&wrong).until("refused", refused).await;
    broker.follow("").until("refused without a name", refused).await;
    let mut without = follow("/nowhere/password");
    without.until("unreadable", |o| matches!(o, Err(Fault::Unreadable(_)))).await;
    let mut source = follow(&right);
    let talk = ["-u", "gateway", "-P", "s3cret", "-t", "plant/crane", "-m", "moving", "--repeat", "1000"];
    let _talker = broker.client(&[talk.as_slice(), &["--repeat-delay", "0.02"]].concat());
    source.until_value(moving()).await;
}

#[tokio::test]
async fn tls_trusts_the_configured_authority_only() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["plant", "other"] {
        certificate(dir.path(), name);
    }
    let path = |name: &str| dir.path().join(name).display().to_string();
    let (key, cert, ca, other) = (path("plant.key"), path("plant.pem"), path("plant.ca"), path("other.ca"));
    let broker = Hub::within(dir, free_port(), &format!("keyfile {key}\ncertfile {cert}"));
    let follow = |ca: &str| broker.follow(&format!(", tls = {{ ca = {ca:?} }}"));
    follow(&other).until("refused", |o| matches!(o, Err(Fault::Disconnected(_)))).await;
    let mut source = follow(&ca);
    let talk =
        ["--cafile", &ca, "-t", "plant/crane", "-m", "moving", "--repeat", "1000", "--repeat-delay", "0.02"];
    let _talker = broker.client(&talk);
    source.until_value(moving()).await;
}

/// The engine on top: what the plant says holds the reboot back, a broken chain does too, and it goes on by itself.
#[tokio::test]
async fn a_crane_over_mqtt_holds_the_reboot_back_and_lets_it_go() {
    let broker = Hub::on(free_port());
    let config = format!(
        "[[sources]]\nname = \"crane\"\nmqtt = {{ host = \"127.0.0.1\", port = {}, topic = \"plant/crane\" }}\n\
         [[constraints]]\nname = \"crane_motion\"\nsource = \"crane\"\ncondition = {{ equals = \"stopped\" }}\n\
         debounce = \"200ms\"\nmax_age = \"30s\"\n",
        broker.broker.port
    );
    let engine = SafetyEngine::new(toml::from_str(&config).unwrap(), TokioClock::started_now()).unwrap();
    tokio::spawn(Arc::clone(&engine).run(std::future::pending()));
    let status = || engine.judge(SafetyStep::Reboot).blocks.first().map(|block| block.status.clone());
    let talker = broker.publish_again_and_again("plant/crane", "stopped");
    until(&engine, ConstraintState::Ok).await;
    assert_eq!(status(), None);
    drop(talker);
    broker.client(&["-t", "plant/crane", "-m", "moving"]).wait();
    until(&engine, ConstraintState::Violated).await;
    assert_eq!(status().as_deref(), Some("moving"));
    let port = broker.broker.port;
    drop(broker);
    until(&engine, ConstraintState::Unknown).await;
    assert_eq!(status().as_deref(), Some("disconnected"));
    let broker = Hub::on(port);
    let _talker = broker.publish_again_and_again("plant/crane", "stopped");
    until(&engine, ConstraintState::Ok).await;
    assert_eq!(status(), None);
}

/// `name.ca`, an authority, and `name.pem` with `name.key`, its certificate for the loopback address.
fn certificate(dir: &Path, name: &str) {
    let path = |extension: &str| dir.join(format!("{name}.{extension}")).display().to_string();
    let (ca, ca_key, pem, key) = (path("ca"), path("ca.key"), path("pem"), path("key"));
    let openssl = |more: &[&str]| {
        let new = [
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
        ];
        Peer::start("openssl", "openssl", &[new.as_slice(), more].concat()).wait();
    };
    openssl(&["-subj", "/CN=authority", "-keyout", &ca_key, "-out", &ca]);
    let constraints =
        ["-addext", "basicConstraints=critical,CA:FALSE", "-addext", "subjectAltName=IP:127.0.0.1"];
    let names = ["-subj", "/CN=plant", "-CA", &ca, "-CAkey", &ca_key, "-keyout", &key, "-out", &pem];
    openssl(&[names.as_slice(), &constraints].concat());
}
