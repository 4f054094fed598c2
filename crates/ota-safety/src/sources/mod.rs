//! Where values come from: one module per kind. What talks with others is a task of its own, started again with growing pauses;
//! what only blocks a thread (files, the gateway's own figures) is read in [`rounds`].
//!
//! A source only reads and delivers; what a value means is left to [`crate::rules`].

mod command;
mod dial;
mod file;
mod http;
mod hwmon;
mod modbus;
mod mqtt;
mod payload;
#[cfg(test)]
mod peers;
mod power;
mod rounds;
mod system;
mod systemd;
#[cfg(test)]
mod test_feed;

use std::{sync::Arc, time::Duration};

use backon::BackoffBuilder;
use ota_core::{
    Timestamp,
    ports::{BoxFuture, Clock, SystemProbe},
};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

pub use command::CommandConfig;
pub use file::FileConfig;
pub use http::HttpConfig;
pub use hwmon::HwmonConfig;
pub use modbus::{ModbusConfig, Number, Table, WordOrder};
pub use mqtt::{Availability, MqttConfig, MqttTls};
pub use payload::JsonConfig;
pub use power::PowerConfig;
pub use system::{Figure, SystemConfig};
pub use systemd::UnitConfig;

use self::rounds::{Reading, Rounds};
use crate::{
    config::SafetyConfigError,
    reading::{Fault, Sample, Value},
};

/// One source: its name, exactly one kind, and how its numbers are to be read.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SourceConfig {
    /// Its name, unique, `[a-z0-9_.-]{1,64}`.
    pub name: String,
    /// A number is multiplied by this …
    pub scale: Option<f64>,
    /// … and then this is added.
    pub offset: Option<f64>,
    /// A small file, also of sysfs.
    pub file: Option<FileConfig>,
    /// A program that prints the value.
    pub command: Option<CommandConfig>,
    /// An HTTP GET.
    pub http: Option<HttpConfig>,
    /// A topic of an MQTT broker.
    pub mqtt: Option<MqttConfig>,
    /// A coil or register over Modbus/TCP.
    pub modbus: Option<ModbusConfig>,
    /// The state of a systemd unit.
    pub systemd: Option<UnitConfig>,
    /// A figure of the gateway itself.
    pub system: Option<SystemConfig>,
    /// A channel of a hwmon chip.
    pub hwmon: Option<HwmonConfig>,
    /// A power supply or battery.
    pub power: Option<PowerConfig>,
}

/// What sources may use of the gateway.
#[derive(Clone)]
pub(crate) struct Env {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) system: Option<Arc<dyn SystemProbe>>,
}

impl SourceConfig {
    /// What is wrong with it, if anything.
    pub(crate) fn check(&self, env: &Env) -> Result<(), SafetyConfigError> {
        let bad =
            |why: &str| SafetyConfigError::BadSource { source_name: self.name.clone(), why: why.to_owned() };
        if [self.scale, self.offset].into_iter().flatten().any(|n| !n.is_finite()) {
            return Err(bad("scale and offset must be finite"));
        }
        self.open(env).map(|_| ()).map_err(|why| bad(&why))
    }

    /// How often it is asked, and the longest time that an answer may take. `None` for one that speaks when it likes.
    pub(crate) fn pace(&self) -> Option<(Duration, Duration)> {
        let kinds = [
            self.file.as_ref().map(|file| (file.every, file.timeout)),
            self.command.as_ref().map(|command| (command.every, command.timeout)),
            self.http.as_ref().map(|http| (http.every, http.timeout)),
            self.modbus.as_ref().map(|modbus| (modbus.every, modbus.timeout)),
            self.systemd.as_ref().map(|unit| (unit.every, systemd::TIMEOUT)),
            self.system.as_ref().map(|system| (system.every, system::TIMEOUT)),
            self.hwmon.as_ref().map(|hwmon| (hwmon.every, system::TIMEOUT)),
            self.power.as_ref().map(|power| (power.every, system::TIMEOUT)),
        ];
        kinds.into_iter().flatten().next()
    }

    /// The source it describes. Touches nothing of the outside yet.
    fn open(&self, env: &Env) -> Result<Opened, String> {
        let kinds = [
            self.file.as_ref().map(FileConfig::source),
            self.command.as_ref().map(|command| command.source(env)),
            self.http.as_ref().map(|http| http.source(env)),
            self.mqtt.as_ref().map(MqttConfig::source),
            self.modbus.as_ref().map(ModbusConfig::source),
            self.systemd.as_ref().map(UnitConfig::source),
            self.system.as_ref().map(|system| system.source(env)),
            self.hwmon.as_ref().map(HwmonConfig::source),
            self.power.as_ref().map(PowerConfig::source),
        ];
        let mut given = kinds.into_iter().flatten();
        match (given.next(), given.next()) {
            (Some(kind), None) => kind,
            _ => Err("needs exactly one kind of source, such as file = { path = … }".into()),
        }
    }
}

/// How often the kernel's files and systemd are asked where nothing else is said.
pub(super) fn second() -> Duration {
    Duration::from_secs(1)
}

/// Reads what a connection needs from files, away from the threads that others wait on.
async fn apart<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| Err(Fault::Unreadable("the reading panicked".into())))
}

/// How a source gets its values.
pub(crate) enum Opened {
    /// By itself: it waits for others, never for a disk.
    Task(Box<dyn Source>),
    /// By a call that blocks its thread.
    Blocking(Reading),
}

/// A way to get values that is a task of its own.
pub(crate) trait Source: Send {
    /// Delivers values into `feed` for as long as it can, and then says why it cannot go on.
    fn follow<'a>(&'a mut self, feed: &'a Feed) -> BoxFuture<'a, Fault>;
}

/// Where a source delivers to.
pub(crate) struct Feed {
    clock: Arc<dyn Clock>,
    sink: Box<dyn Fn(Sample) + Send + Sync>,
    scale: f64,
    offset: f64,
}

impl Feed {
    /// Every sample goes to `sink`.
    pub(crate) fn new(clock: Arc<dyn Clock>, sink: impl Fn(Sample) + Send + Sync + 'static) -> Self {
        Self { clock, sink: Box::new(sink), scale: 1.0, offset: 0.0 }
    }

    /// The monotonic clock that samples are stamped with.
    pub(crate) fn now(&self) -> Duration {
        self.clock.monotonic()
    }

    /// The wall clock, to tell the age of what carries a stamp.
    pub(crate) fn wall(&self) -> Timestamp {
        self.clock.wall()
    }

    /// Delivers what was so at `taken_at`.
    pub(crate) fn deliver(&self, outcome: Result<Value, Fault>, taken_at: Duration) {
        let outcome = outcome.map(|value| match value {
            Value::Number(number) => Value::Number(number.mul_add(self.scale, self.offset)),
            other => other,
        });
        (self.sink)(Sample { outcome, taken_at });
    }

    /// Delivers what was read at `started` and was of some age then. What is from before the start of the monotonic clock
    /// cannot be stamped with it, and must not pass for younger than it is.
    pub(crate) fn deliver_aged(&self, Taken { value, age }: Taken, started: Duration) {
        match started.checked_sub(age) {
            Some(taken_at) => self.deliver(Ok(value), taken_at),
            None => self.deliver(Err(Fault::Old), self.now()),
        }
    }
}

/// Starts every source. They end when what is returned is dropped.
pub(crate) fn start<'a>(
    sources: impl IntoIterator<Item = (&'a SourceConfig, Feed)>,
    env: &Env,
) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let mut rounds = Rounds::default();
    for (config, mut feed) in sources {
        feed.scale = config.scale.unwrap_or(1.0);
        feed.offset = config.offset.unwrap_or(0.0);
        match config.open(env) {
            Ok(Opened::Task(source)) => drop(tasks.spawn(supervise(config.name.clone(), source, feed))),
            Ok(Opened::Blocking(reading)) => rounds.add(reading, feed),
            // Was checked before: `SourceConfig::check`. Without samples its constraints count as violated.
            Err(why) => tracing::error!(source = config.name, why, "no such sensor"),
        }
    }
    tasks.spawn(rounds.run());
    tasks
}

/// Keeps one source going for ever, with growing, jittered pauses while it fails.
async fn supervise(name: String, mut source: Box<dyn Source>, feed: Feed) {
    let mut pauses = pauses();
    loop {
        let began = feed.now();
        let fault = source.follow(&feed).await;
        tracing::warn!(source = name, fault = %fault, detail = fault.detail(), "sensor lost");
        feed.deliver(Err(fault), feed.now());
        if feed.now().saturating_sub(began) > LONGEST_PAUSE {
            pauses = self::pauses();
        }
        tokio::time::sleep(pauses.next().unwrap_or(LONGEST_PAUSE)).await;
    }
}

/// No sensor is left alone for longer than this.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

fn pauses() -> impl Iterator<Item = Duration> + Send {
    let growing = backon::ExponentialBuilder::default().with_min_delay(Duration::from_millis(100));
    // The jitter comes on top, and may double a pause.
    growing.with_max_delay(LONGEST_PAUSE / 2).with_jitter().without_max_times().build()
}

/// One reading on request, for sources that have to be asked.
pub(crate) trait Probe: Send {
    /// Reads once. May be dropped half way.
    fn read(&mut self) -> BoxFuture<'_, Result<Taken, Fault>>;
}

/// A value, and how old it was when it was read.
pub(crate) struct Taken {
    pub(crate) value: Value,
    pub(crate) age: Duration,
}

impl From<Value> for Taken {
    fn from(value: Value) -> Self {
        Self { value, age: Duration::ZERO }
    }
}

/// A probe that is asked again and again.
pub(crate) struct Polled<P> {
    pub(crate) probe: P,
    /// Pause between two readings.
    pub(crate) every: Duration,
    /// Longest time for one reading.
    pub(crate) timeout: Duration,
    /// Whether a fault ends it, so that it is started again after a pause; else it is just asked again.
    pub(crate) back_off: bool,
}

impl<P: Probe> Source for Polled<P> {
    fn follow<'a>(&'a mut self, feed: &'a Feed) -> BoxFuture<'a, Fault> {
        Box::pin(async move {
            let mut ticks = tokio::time::interval(self.every);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                // Stamped with the start: the value is no older than that.
                let started = feed.now();
                let read = tokio::time::timeout(self.timeout, self.probe.read()).await;
                match read.unwrap_or(Err(Fault::TimedOut)) {
                    Ok(taken) => feed.deliver_aged(taken, started),
                    Err(fault) if self.back_off => return fault,
                    Err(fault) => feed.deliver(Err(fault), feed.now()),
                }
            }
        })
    }
}

impl<P: Probe + 'static> From<Polled<P>> for Opened {
    fn from(polled: Polled<P>) -> Self {
        Self::Task(Box::new(polled))
    }
}

/// Checks the period of a polled source.
fn check_period(every: Duration, timeout: Duration) -> Result<(), String> {
    if every < Duration::from_millis(10) || timeout.is_zero() {
        return Err("every must be at least 10ms and timeout longer than zero".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use super::{
        test_feed::{env_at, one_sample_in},
        *,
    };

    #[test]
    fn no_pause_is_longer_than_it_may_be() {
        let pauses: Vec<Duration> = pauses().take(1000).collect();
        assert!(pauses[0] < Duration::from_millis(201), "{:?}", pauses[0]);
        assert!(pauses.iter().all(|pause| *pause <= LONGEST_PAUSE), "{:?}", pauses.iter().max());
        assert!(
            pauses[10..].iter().all(|pause| *pause >= LONGEST_PAUSE / 2),
            "{:?}",
            pauses[10..].iter().min()
        );
    }

    /// A clock that begins at zero, five seconds after the start: an hour ago is before that.
    #[tokio::test]
    async fn a_value_from_before_the_clock_began_is_stale_however_it_was_read() {
        let env = env_at(Duration::from_secs(5));
        let printed = async |time: &str| {
            let print = format!("echo '{{\"v\": 1, \"t\": \"{time}\"}}'");
            let text = format!(
                "program = \"/bin/sh\"\nargs = [\"-c\", {print:?}]\njson = {{ value = \"/v\", time = \"/t\" }}"
            );
            let config: CommandConfig = toml::from_str(&text).unwrap();
            one_sample_in(&env, |env| config.source(env)).await
        };
        assert_eq!(printed("2026-01-15T11:00:00Z").await, Err(Fault::Old));
        assert_eq!(printed("2026-01-15T11:59:57Z").await, Ok(Value::Number(1.0)));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("crane_motion");
        fs::write(&path, "1\n").unwrap();
        let [every, timeout] = [Duration::from_millis(50), Duration::from_secs(1)];
        let config = FileConfig { path: path.clone(), every, timeout, stamp_by_mtime: true };
        assert_eq!(one_sample_in(&env, |_| config.source()).await, Ok(Value::Number(1.0)));
        let ago = fs::metadata(&path).unwrap().modified().unwrap() - Duration::from_secs(3600);
        File::options().write(true).open(&path).unwrap().set_modified(ago).unwrap();
        assert_eq!(one_sample_in(&env, |_| config.source()).await, Err(Fault::Old));
        assert_eq!(Fault::Old.to_string(), "stale");
    }
}
