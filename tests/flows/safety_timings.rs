//! A crane that starts to move at any instant of an update, over and over again.
//!
//! Engine, safety, HTTP server, broker and PLC are the real ones, in this process; slots, boot environment and image are in
//! memory, so that hundreds of updates take seconds. When the crane moved is told by an independent subscriber of the
//! broker, or by the PLC itself; when a slot was switched or a reboot asked for, by the ports that were called for it.
#![allow(
    clippy::disallowed_methods,
    reason = "real peers on real time: what is measured is how fast a crane is heard"
)]

use std::{
    io::BufRead as _,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use ota_api::{
    updates::{DownloadRequest, InstallRequest},
    words::{ConstraintStatus, JobStatus},
    ws::Message,
};
use ota_client::{
    Client, Options, Token,
    ws::{EventStream, Happening, Patience},
};
use ota_core::{
    Sha256Digest, Slot, Timestamp, Version,
    error::PortError,
    ports::{
        BootControl, BootStatus, BoxFuture, Clock, FetchObserver, FetchOrder, ImageExpectation, ImageReader,
        Observer, RebootReason, Rebooter, Role, SlotWriter, TokenRecord, Tokens as _, UpdateSource,
    },
    release::{DetachedSignature, Release, SignatureKind, StagedImage},
};
use ota_engine::{Engine, EngineConfig, Ports};
use ota_http::{AppState, HttpConfig, NoDiagnostics, Server};
use ota_safety::SafetyEngine;
use ota_testkit::{
    FakeBootControl, FakeRebooter, MemJournal, MemSlots, MemStaging, MemUploads, ScriptedSource,
    peers::{Broker, Peer, Plc},
    samples,
};
use ota_tests::make::free_port;
use tokio::sync::oneshot;

use crate::{
    stack,
    stalls::{AGAIN, Stalls},
};

/// How many updates are tried, two thirds of them with a crane that begins to move at any instant; `OTA_SAFETY_TIMINGS` says another number.
const UPDATES: u64 = 300;
/// How many run at a time.
const LANES: usize = 8;
/// A sample that old counts in any case.
const OLD_ENOUGH: Duration = Duration::from_millis(100);
/// So long after an alert was heard it counts, too: what was judged just before has been begun by then.
const TOLD: Duration = Duration::from_millis(25);
/// An alert comes within this time.
const ALERT: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(60);
const IMAGE: usize = 100_000;
/// How often a PLC is asked.
const POLL: Duration = Duration::from_millis(20);

/// One broker, one PLC, and a crane for every lane.
struct Plant {
    stalls: Arc<Stalls>,
    broker: Broker,
    plc: Mutex<Plc>,
    cranes: Vec<Crane>,
    _dir: tempfile::TempDir,
    _listener: Peer,
}

/// A crane, and when it was seen to move by somebody else than the gateway.
struct Crane {
    lane: usize,
    /// Says its state over MQTT; without it the PLC does.
    gauge: Option<Mutex<Peer>>,
    state: Mutex<Motion>,
}

#[derive(Default)]
struct Motion {
    moving: bool,
    /// Begin of the present motion, as somebody else saw it.
    seen: Option<Instant>,
    /// The motions that are over: from when they were seen until just before the crane was told to stop.
    past: Vec<(Instant, Instant)>,
}

impl Plant {
    fn start() -> Arc<Self> {
        let dir = tempfile::tempdir().unwrap();
        let broker = Broker::start(dir.path(), free_port(0), "");
        let mut listener = broker.subscriber("crane/#");
        let heard = listener.take_output();
        let cranes = (0..LANES).map(|lane| Crane {
            lane,
            gauge: lane
                .is_multiple_of(2)
                .then(|| Mutex::new(broker.publisher(&["-t", &format!("crane/{lane}"), "-l"]))),
            state: Mutex::default(),
        });
        let cranes = cranes.collect();
        let plc = Mutex::new(Plc::start(free_port(0)));
        let plant =
            Arc::new(Self { stalls: Stalls::watch(), broker, plc, cranes, _dir: dir, _listener: listener });
        let listening = Arc::downgrade(&plant);
        thread::spawn(move || {
            for line in heard.lines().map_while(Result::ok) {
                let Some(plant) = listening.upgrade() else { return };
                // `moving 3`: the payload names the lane.
                if let Some(lane) = line.strip_prefix("moving ").and_then(|lane| lane.parse::<usize>().ok()) {
                    plant.cranes[lane].seen_moving();
                }
            }
        });
        let saying = Arc::downgrade(&plant);
        thread::spawn(move || {
            while let Some(plant) = saying.upgrade() {
                plant.cranes.iter().for_each(Crane::say);
                drop(plant);
                // tidy: waits for the next report of a gauge
                thread::sleep(Duration::from_millis(40));
            }
        });
        plant
    }

    /// The source of the crane of that lane.
    fn source(&self, lane: usize) -> String {
        if self.cranes[lane].gauge.is_some() {
            let port = self.broker.port;
            return format!("mqtt = {{ host = \"127.0.0.1\", port = {port}, topic = \"crane/{lane}\" }}");
        }
        let port = self.plc.lock().unwrap().port;
        format!(
            "modbus = {{ host = \"127.0.0.1\", port = {port}, table = \"holding_register\", address = {}, every = \"{}ms\" }}",
            lane + 1,
            POLL.as_millis()
        )
    }

    /// What it says at rest.
    fn at_rest(&self, lane: usize) -> String {
        if self.cranes[lane].gauge.is_some() { format!("stopped {lane}") } else { "0".into() }
    }

    /// Starts to move; back at rest after `lasts`, and not before somebody has seen it: else nothing could be measured.
    fn moves(self: &Arc<Self>, lane: usize, lasts: Duration) {
        self.set(lane, true);
        let plant = Arc::clone(self);
        thread::spawn(move || {
            // tidy: waits for a crane that moves for so long
            thread::sleep(lasts);
            let unseen = || {
                let state = plant.cranes[lane].state.lock().unwrap();
                state.moving && state.seen.is_none()
            };
            let deadline = Instant::now() + PATIENCE;
            while unseen() && Instant::now() < deadline {
                // tidy: waits for another process
                thread::sleep(POLL);
            }
            plant.set(lane, false);
        });
    }

    fn set(&self, lane: usize, moving: bool) {
        let crane = &self.cranes[lane];
        {
            let mut state = crane.state.lock().unwrap();
            if let (false, Some(seen)) = (moving, state.seen.take()) {
                state.past.push((seen, Instant::now()));
            }
            state.moving = moving;
        }
        if crane.gauge.is_some() {
            return crane.say();
        }
        let mut plc = self.plc.lock().unwrap();
        plc.set_register(u16::try_from(lane).unwrap() + 1, u16::from(moving));
        drop(plc);
        if moving {
            let crane = &self.cranes[lane];
            let mut state = crane.state.lock().unwrap();
            // The gateway's next question comes after at most this.
            state.seen = Some(Instant::now() + POLL);
        }
    }
}

impl Crane {
    fn say(&self) {
        let Some(gauge) = &self.gauge else { return };
        let mut gauge = gauge.lock().unwrap();
        let moving = self.state.lock().unwrap().moving;
        gauge.tell(&format!("{} {}", if moving { "moving" } else { "stopped" }, self.lane));
    }

    fn seen_moving(&self) {
        let mut state = self.state.lock().unwrap();
        if state.moving && state.seen.is_none() {
            state.seen = Some(Instant::now());
        }
    }

    /// The motions since the last time this was asked, once the crane is at rest.
    fn motions(&self) -> Option<Vec<(Instant, Instant)>> {
        let mut state = self.state.lock().unwrap();
        (!state.moving).then(|| std::mem::take(&mut state.past))
    }
}

/// What a crane is told at a certain point of the update.
type Hook = Box<dyn Fn() + Send + Sync>;

/// The ports, slowed down so that there are instants to choose from, and writing down when they were called.
struct Paced<T> {
    inner: Arc<T>,
    /// When a switch or a reboot was begun.
    acted: Arc<Mutex<Vec<(&'static str, Instant)>>>,
    /// 50 ms before the next step.
    hook: Option<Hook>,
}

impl<T> Paced<T> {
    fn note(&self, what: &'static str) {
        self.acted.lock().unwrap().push((what, Instant::now()));
    }

    fn before_the_next_step(&self) {
        if let Some(hook) = &self.hook {
            hook();
        }
        // tidy: waits for slow storage
        thread::sleep(Duration::from_millis(50));
    }
}

impl SlotWriter for Paced<MemSlots> {
    fn capacity(&self, slot: Slot) -> Result<ota_core::ByteCount, PortError> {
        self.inner.capacity(slot)
    }

    fn write(
        &self,
        slot: Slot,
        image: &mut dyn ImageReader,
        expect: ImageExpectation,
        observer: Observer<'_>,
    ) -> Result<(), PortError> {
        self.inner.write(slot, image, expect, &mut |progress| {
            // tidy: waits for slow storage
            thread::sleep(Duration::from_millis(2));
            observer(progress)
        })?;
        self.before_the_next_step();
        Ok(())
    }

    fn digest(
        &self,
        slot: Slot,
        size: ota_core::ByteCount,
        observer: Observer<'_>,
    ) -> Result<Sha256Digest, PortError> {
        self.inner.digest(slot, size, observer)
    }
}

impl BootControl for Paced<FakeBootControl> {
    fn booted(&self) -> Option<Slot> {
        self.inner.booted()
    }

    fn boot_id(&self) -> &str {
        self.inner.boot_id()
    }

    fn status(&self) -> Result<BootStatus, PortError> {
        self.inner.status()
    }

    fn fence(&self, slot: Slot) -> Result<(), PortError> {
        self.inner.fence(slot)
    }

    fn arm(&self, slot: Slot, tries: u8) -> Result<(), PortError> {
        self.note("switch");
        self.inner.arm(slot, tries)?;
        self.before_the_next_step();
        Ok(())
    }

    fn go_back(&self, keep: Slot) -> Result<(), PortError> {
        self.inner.go_back(keep)
    }

    fn confirm(&self, slot: Slot) -> Result<(), PortError> {
        self.inner.confirm(slot)
    }
}

impl Rebooter for Paced<FakeRebooter> {
    fn reboot(&self, reason: RebootReason) -> Result<(), PortError> {
        self.note("reboot");
        self.inner.reboot(reason)
    }
}

/// A source behind a slow link.
struct SlowLink(Arc<ScriptedSource>);

impl UpdateSource for SlowLink {
    fn check<'a>(&'a self, running: &'a Version) -> BoxFuture<'a, Result<Vec<Release>, PortError>> {
        self.0.check(running)
    }

    fn fetch<'a>(
        &'a self,
        order: &'a FetchOrder,
        observer: &'a dyn FetchObserver,
    ) -> BoxFuture<'a, Result<StagedImage, PortError>> {
        Box::pin(async {
            // tidy: waits for a slow link
            tokio::time::sleep(Duration::from_millis(60)).await;
            self.0.fetch(order, observer).await
        })
    }
}

/// When the crane of an update starts to move.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// So long after the download was asked for: during the download, the write, or whatever comes then.
    After(Duration),
    /// 50 ms before the switch.
    BeforeTheSwitch,
    /// 50 ms before the reboot.
    BeforeTheReboot,
}

/// Numbers that look random and are the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }
}

/// One gateway, as it stands between two starts of its daemon.
struct Gateway {
    slots: Arc<Paced<MemSlots>>,
    boot: Arc<Paced<FakeBootControl>>,
    rebooter: Arc<Paced<FakeRebooter>>,
    source: Arc<ScriptedSource>,
    staging: Arc<MemStaging>,
    store: Arc<MemJournal>,
    acted: Arc<Mutex<Vec<(&'static str, Instant)>>>,
}

impl Gateway {
    fn new(switch: Option<Hook>, reboot: Option<Hook>) -> Self {
        let acted = Arc::default();
        let staging = Arc::new(MemStaging::default());
        let image: Vec<u8> = (0..IMAGE).map(|n| u8::try_from(n % 251).unwrap()).collect();
        let source = Arc::new(ScriptedSource::new(Arc::clone(&staging)));
        let signature = DetachedSignature { kind: SignatureKind::Cms, bytes: b"by a trusted key".to_vec() };
        source.offer(samples::release("v5.0.5", &image), &image, vec![signature]);
        let slots = Arc::new(MemSlots::new(1 << 20));
        slots.set_booted(Some(Slot::A));
        let boot = Arc::new(FakeBootControl::running(Slot::A));
        let store = Arc::new(MemJournal::default());
        let created = Timestamp::from_secs(1);
        let admin =
            TokenRecord { name: "admin".into(), role: Role::Admin, created, expires: None, last_used: None };
        store.add(&Sha256Digest::of(b"admin-secret"), &admin).unwrap();
        Self {
            slots: Arc::new(Paced { inner: slots, acted: Arc::clone(&acted), hook: switch }),
            boot: Arc::new(Paced { inner: boot, acted: Arc::clone(&acted), hook: reboot }),
            rebooter: Arc::new(Paced { inner: Arc::default(), acted: Arc::clone(&acted), hook: None }),
            source,
            staging,
            store,
            acted,
        }
    }

    async fn power_on(&self, config: &str) -> Running {
        let clock: Arc<dyn Clock> = stack::RunClock::start();
        let safety = SafetyEngine::new(toml::from_str(config).unwrap(), Arc::clone(&clock)).unwrap();
        let ports = Ports {
            boot: Arc::clone(&self.boot) as _,
            slots: Arc::clone(&self.slots) as _,
            images: Arc::clone(&self.staging) as _,
            sources: vec![Arc::new(SlowLink(Arc::clone(&self.source)))],
            safety: Arc::clone(&safety) as _,
            rebooter: Arc::clone(&self.rebooter) as _,
            clock: Arc::clone(&clock),
            safety_changes: safety.changes(),
            ..stack::ports(&self.store)
        };
        let version = if self.boot.booted() == Some(Slot::A) { "v5.0.4" } else { "v5.0.5" };
        let config = EngineConfig { running_version: Some(version.parse().unwrap()), ..stack::config() };
        let (stop_sensors, stopped) = oneshot::channel::<()>();
        tokio::spawn(Arc::clone(&safety).run(async {
            let _ = stopped.await;
        }));
        let engine = Engine::start(ports, config).await.unwrap();
        let state = AppState {
            engine: engine.clone(),
            tokens: Arc::clone(&self.store) as _,
            settings: Arc::clone(&self.store) as _,
            audit: Arc::clone(&self.store) as _,
            clock,
            uploads: Arc::new(MemUploads::new(Arc::clone(&self.staging))),
            overrides: None,
            inhibitors: None,
            bandwidth: None,
            diagnostics: Arc::new(NoDiagnostics),
        };
        let server = Server::bind(HttpConfig::new(([127, 0, 0, 1], 0).into()), state).await.unwrap();
        let mut options = Options::new(format!("http://{}", server.local_addr()).parse().unwrap());
        options.token = Some(Token::parse("admin-secret").unwrap());
        let (stop_server, stopped) = oneshot::channel::<()>();
        tokio::spawn(server.run(async {
            let _ = stopped.await;
        }));
        Running { engine, client: Client::new(options).unwrap(), _stop: (stop_sensors, stop_server) }
    }
}

/// A daemon that runs until it is dropped.
struct Running {
    engine: Engine,
    client: Client,
    _stop: (oneshot::Sender<()>, oneshot::Sender<()>),
}

/// Waits until `look` is true.
async fn until(what: &str, mut look: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !look().await {
        assert!(Instant::now() < deadline, "never: {what}");
        // tidy: waits for another process
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The alerts of the crane with the instants at which they came.
async fn listen(mut events: EventStream, heard: Arc<Mutex<Vec<Instant>>>) {
    while let Ok(happening) = events.next().await {
        if let Happening::Message { message, .. } = happening
            && let Message::SafetyAlert(alert) = *message
            && alert.status == ConstraintStatus::Violated
        {
            assert_eq!((alert.constraint.as_str(), alert.severity.as_str()), ("crane_motion", "warning"));
            assert_eq!(alert.message, "Crane movement detected");
            assert!(!alert.suggested_action.is_empty());
            heard.lock().unwrap().push(Instant::now());
        }
    }
}

/// What one update showed.
struct Shown {
    /// Switches and reboots while the crane was known to move.
    unsafe_acts: Vec<String>,
    /// Whether the step 50 ms after the begin of the motion came after its end; none where there was no such step.
    waited: Option<bool>,
    /// From the motion to its alert.
    alerts: Vec<Option<Duration>>,
}

async fn update(plant: &Arc<Plant>, lane: usize, moment: Moment, lasts: Duration) -> Shown {
    let hook = |wanted: bool| {
        let plant = Arc::clone(plant);
        wanted.then(|| Box::new(move || plant.moves(lane, lasts)) as Hook)
    };
    let gateway = Gateway::new(
        hook(matches!(moment, Moment::BeforeTheSwitch)),
        hook(matches!(moment, Moment::BeforeTheReboot)),
    );
    let config = format!(
        "[[sources]]\nname = \"crane\"\n{}\n[[constraints]]\nname = \"crane_motion\"\nsource = \"crane\"\n\
         condition = {{ equals = \"{}\" }}\nmax_age = \"3s\"\ndebounce = \"50ms\"\n\
         message_violated = \"Crane movement detected\"\nresolution = \"Wait\"\n",
        plant.source(lane),
        plant.at_rest(lane)
    );
    let running = gateway.power_on(&config).await;
    let client = &running.client;
    until("safety allows it", async || client.safety().await.unwrap().update_allowed).await;
    let heard = Arc::default();
    let events = EventStream::open(client, None, Patience::default()).await.unwrap();
    let listener = tokio::spawn(listen(events, Arc::clone(&heard)));
    client.check().await.unwrap();
    let request = DownloadRequest {
        update_id: "rel-v5.0.5".into(),
        version: None,
        target_partition: None,
        priority: None,
        verify_signature: true,
    };
    let job = client.download(&request).await.unwrap().job_id;
    if let Moment::After(pause) = moment {
        let plant = Arc::clone(plant);
        tokio::spawn(async move {
            // tidy: waits for the chosen instant
            tokio::time::sleep(pause).await;
            tokio::task::spawn_blocking(move || plant.moves(lane, lasts)).await.unwrap();
        });
    }
    until("downloaded", async || client.job(&job).await.unwrap().status == JobStatus::Downloaded).await;
    let request = InstallRequest {
        job_id: job.clone(),
        strategy: None,
        reboot_after: true,
        rollback_on_failure: true,
        pin: None,
    };
    // While the crane moves it is refused; the operator asks again.
    until("taken", async || client.install(&request).await.is_ok()).await;
    until("reboot", async || !gateway.rebooter.inner.reasons().is_empty()).await;
    let mut motions = Vec::new();
    until("the crane is at rest again", async || {
        motions.extend(plant.cranes[lane].motions().unwrap_or_default());
        !motions.is_empty()
    })
    .await;
    let alert = |from: &Instant| {
        let heard: &Mutex<Vec<Instant>> = &heard;
        let first = heard.lock().unwrap().iter().copied().find(|at| *at + OLD_ENOUGH >= *from);
        first.map(|at| at.saturating_duration_since(*from))
    };
    until("alerts", async || {
        motions.iter().all(|(from, _)| alert(from).is_some() || from.elapsed() > 3 * ALERT)
    })
    .await;
    let alerts = motions.iter().map(|(from, _)| alert(from)).collect();
    listener.abort();
    running.engine.shutdown().await;
    drop(running);
    // The boot loader's turn, then the new slot is confirmed.
    assert_eq!(gateway.boot.inner.reboot(), Some(Slot::B));
    gateway.slots.inner.set_booted(Some(Slot::B));
    let running = gateway.power_on(&config).await;
    until("confirmed", async || running.client.job(&job).await.unwrap().status == JobStatus::Succeeded).await;
    running.engine.shutdown().await;
    let acted = gateway.acted.lock().unwrap();
    // Nobody can act upon what has not arrived; once the gateway has told of it, it knows.
    let known = |from: &Instant| {
        let told = alert(from).map(|after| *from + after + TOLD);
        told.map_or(*from + OLD_ENOUGH, |told| told.min(*from + OLD_ENOUGH))
    };
    let under = |at: &Instant| motions.iter().any(|(from, to)| known(from) <= *at && at < to);
    let unsafe_acts = acted.iter().filter(|(_, at)| under(at));
    let wanted = match moment {
        Moment::BeforeTheSwitch => Some("switch"),
        Moment::BeforeTheReboot => Some("reboot"),
        Moment::After(_) => None,
    };
    let rested = motions.iter().map(|(_, to)| *to).min();
    let waited = wanted.map(|wanted| {
        let first = acted.iter().find(|(what, _)| *what == wanted);
        first.is_some_and(|(_, at)| rested.is_some_and(|rested| *at >= rested))
    });
    Shown {
        unsafe_acts: unsafe_acts.map(|(what, _)| format!("{what}, {moment:?}")).collect(),
        alerts,
        waited,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whenever_a_crane_starts_to_move_nothing_is_switched_or_restarted_under_it_and_the_job_ends_well() {
    #[expect(clippy::disallowed_methods, reason = "a longer run is asked for by environment")]
    let count = std::env::var("OTA_SAFETY_TIMINGS").ok().and_then(|n| n.parse().ok()).unwrap_or(UPDATES);
    let plant = tokio::task::spawn_blocking(Plant::start).await.unwrap();
    let (next, held) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicUsize::new(0)));
    let again = Arc::new(AtomicUsize::new(0));
    let waited = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
    let lanes = (0..LANES).map(|lane| {
        let (plant, next, held) = (Arc::clone(&plant), Arc::clone(&next), Arc::clone(&held));
        let (again, waited) = (Arc::clone(&again), Arc::clone(&waited));
        async move {
            let (mut unsafe_acts, mut alerts) = (Vec::new(), Vec::new());
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return (unsafe_acts, alerts);
                }
                let mut dice = Dice(number.wrapping_add(17));
                let moment = match number % 6 {
                    0 => Moment::BeforeTheSwitch,
                    1 => Moment::BeforeTheReboot,
                    _ => Moment::After(Duration::from_millis(dice.below(400))),
                };
                let lasts = Duration::from_millis(150 + dice.below(250));
                let mut tries = 0;
                let shown = loop {
                    let began = Instant::now();
                    let shown = update(&plant, lane, moment, lasts).await;
                    tries += 1;
                    if tries > AGAIN || !plant.stalls.any_since(began).await {
                        break shown;
                    }
                    again.fetch_add(1, Ordering::Relaxed);
                };
                held.fetch_add(shown.alerts.len(), Ordering::Relaxed);
                if let Some(it) = shown.waited {
                    waited[usize::from(it)].fetch_add(1, Ordering::Relaxed);
                }
                unsafe_acts.extend(shown.unsafe_acts);
                alerts.extend(shown.alerts);
            }
        }
    });
    let (mut unsafe_acts, mut alerts) = (Vec::new(), Vec::new());
    for (acts, told) in futures_util::future::join_all(lanes).await {
        unsafe_acts.extend(acts);
        alerts.extend(told);
    }
    let slowest = alerts.iter().map(|alert| alert.unwrap_or(Duration::MAX)).max().unwrap();
    let [went, waited] = &*waited;
    let (went, waited) = (went.load(Ordering::Relaxed), waited.load(Ordering::Relaxed));
    println!(
        "{count} updates ({} made again), {} motions, slowest alert {slowest:?}, of the steps 50 ms after the begin of a motion \
         {waited} waited and {went} came before its sample, {} unsafe acts",
        again.load(Ordering::Relaxed),
        alerts.len(),
        unsafe_acts.len()
    );
    assert_eq!(unsafe_acts, [""; 0]);
    assert!(alerts.len() as u64 >= count, "every update has seen the crane move");
    assert!(slowest <= ALERT, "{slowest:?}");
    // A sample takes a fraction of the 50 ms: the steps that it holds back are not the exception.
    assert!(waited > went, "{waited} waited, {went} did not");
}
