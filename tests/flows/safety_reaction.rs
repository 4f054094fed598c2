//! How soon a sample counts: from the sample to the decision that holds a job, through the real safety engine and the real
//! driver of jobs, on paused time, so that nothing but waiting takes any.

use std::{
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use ota_core::{
    ByteCount, Sha256Digest, Slot, Version,
    error::PortError,
    event::EventKind,
    job::{Held, InstallOptions, Job, JobState, Priority, Strategy},
    ports::{Clock, ImageExpectation, ImageReader, Observer, SlotWriter},
    release::{DetachedSignature, SignatureKind},
};
use ota_engine::{Actor, Delivery, DownloadRequest, Engine, EngineConfig, InstallRequest, JobRef, Ports};
use ota_safety::{
    SafetyEngine, SourceId,
    reading::{Fault, Sample, Value},
};
use ota_testkit::{
    FakeRebooter, MemJournal, MemSlots, MemStaging, ScriptedSource, samples, source::FetchScript,
};
use tokio::time::{Instant, sleep};

use crate::stack::{self, RunClock};

/// A sample that old counts in any case.
const BAR: Duration = Duration::from_millis(100);
/// Longer than the driver takes until it looks by itself: only being told at once is fast enough at all these instants.
const OFFSETS: [u64; 6] = [0, 47, 93, 141, 187, 233];

/// Slots that write only while they are given leave to.
struct Slow {
    inner: MemSlots,
    leave: Mutex<mpsc::Receiver<()>>,
}

impl SlotWriter for Slow {
    fn capacity(&self, slot: Slot) -> Result<ByteCount, PortError> {
        self.inner.capacity(slot)
    }

    fn write(
        &self,
        slot: Slot,
        image: &mut dyn ImageReader,
        expect: ImageExpectation,
        observer: Observer<'_>,
    ) -> Result<(), PortError> {
        // Until the test lets it, or has ended.
        let _ = self.leave.lock().unwrap().recv();
        self.inner.write(slot, image, expect, observer)
    }

    fn digest(&self, slot: Slot, size: ByteCount, observer: Observer<'_>) -> Result<Sha256Digest, PortError> {
        self.inner.digest(slot, size, observer)
    }
}

struct Gateway {
    engine: Engine,
    safety: Arc<SafetyEngine>,
    crane: SourceId,
    clock: Arc<RunClock>,
    source: Arc<ScriptedSource>,
    rebooter: Arc<FakeRebooter>,
    leave: mpsc::Sender<()>,
}

impl Gateway {
    /// The crane is at rest; `reaction`: `on_violation`. Samples are believed for as long as a test may take.
    async fn start(reaction: &str) -> Self {
        let config = format!(
            "on_violation = \"{reaction}\"\n[[sources]]\nname = \"crane\"\nfile = {{ path = \"/nowhere\" }}\n\
             [[constraints]]\nname = \"crane_motion\"\nsource = \"crane\"\ncondition = {{ equals = \"stopped\" }}\n\
             max_age = \"1000h\"\ndebounce = \"1s\"\nblocks = [\"download\", \"write\", \"switch\", \"reboot\"]\n"
        );
        let clock = RunClock::start();
        let safety = SafetyEngine::new(toml::from_str(&config).unwrap(), Arc::clone(&clock) as _).unwrap();
        let crane = safety.source("crane").unwrap();
        let staging = Arc::new(MemStaging::default());
        let source = Arc::new(ScriptedSource::new(Arc::clone(&staging)));
        let image = vec![7; 100_000];
        let signature = DetachedSignature { kind: SignatureKind::Cms, bytes: b"by a trusted key".to_vec() };
        source.offer(samples::release("v5.0.5", &image), &image, vec![signature]);
        let (leave, given) = mpsc::channel();
        let inner = MemSlots::new(1 << 20);
        inner.set_booted(Some(Slot::A));
        let rebooter = Arc::new(FakeRebooter::default());
        let ports = Ports {
            slots: Arc::new(Slow { inner, leave: Mutex::new(given) }),
            images: staging,
            sources: vec![Arc::clone(&source) as _],
            safety: Arc::clone(&safety) as _,
            safety_changes: safety.changes(),
            rebooter: Arc::clone(&rebooter) as _,
            clock: Arc::clone(&clock) as _,
            ..stack::ports(&Arc::new(MemJournal::default()))
        };
        let config = EngineConfig { reboot_countdown: 3600, ..stack::config() };
        let engine = Engine::start(ports, config).await.unwrap();
        let gateway = Self { engine, safety, crane, clock, source, rebooter, leave };
        gateway.says("stopped");
        // tidy: paused time
        sleep(Duration::from_secs(1)).await;
        gateway.says("stopped");
        assert!(
            gateway
                .engine
                .safety()
                .constraints
                .iter()
                .all(|c| c.state == ota_core::safety::ConstraintState::Ok)
        );
        gateway
    }

    fn says(&self, word: &str) {
        self.observe(Ok(Value::Text(word.into())));
    }

    fn observe(&self, outcome: Result<Value, Fault>) {
        let sample = Sample { outcome, taken_at: self.clock.monotonic() };
        self.safety.observe(self.crane, sample);
    }

    async fn until(&self, wanted: impl Fn(&JobState) -> bool) -> Job {
        let mut active = self.engine.active();
        let found = active.wait_for(|job| job.as_ref().is_some_and(|job| wanted(&job.state))).await;
        found.unwrap().clone().unwrap()
    }

    async fn download(&self) -> Job {
        let request = DownloadRequest {
            update_id: "rel-v5.0.5".parse().unwrap(),
            version: None::<Version>,
            target: None,
            priority: Priority::Normal,
            verify_signature: true,
        };
        self.engine.download(&Actor::gateway(), request).await.unwrap()
    }

    async fn install(&self) {
        let job = self.until(|state| matches!(state, JobState::Downloaded)).await;
        let options =
            InstallOptions { strategy: Strategy::Seamless, reboot_after: true, rollback_on_failure: true };
        let request = InstallRequest { job: JobRef::Job(job.id), options };
        self.engine.install(&Actor::gateway(), request).await.unwrap();
    }

    /// At each of the offsets: the crane moves, or is lost, and the job is held within the bar; then it goes on by itself.
    async fn check_held(&self, at_work: impl Fn(&JobState) -> bool + Copy) {
        for (round, offset) in OFFSETS.into_iter().enumerate() {
            self.until(|state| at_work(state) && state.held().is_none()).await;
            // tidy: paused time
            sleep(Duration::from_millis(offset)).await;
            let since = Instant::now();
            match round % 2 {
                0 => self.says("moving"),
                _ => self.observe(Err(Fault::TimedOut)),
            }
            let held =
                self.until(|state| at_work(state) && matches!(state.held(), Some(Held::Safety(_)))).await;
            assert!(since.elapsed() <= BAR, "{:?} until {:?}", since.elapsed(), held.state);
            self.says("stopped");
            // tidy: paused time
            sleep(Duration::from_secs(1)).await;
            self.says("stopped");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_download_stands_still_within_100_ms_of_the_sample() {
    let gateway = Gateway::start("pause_write").await;
    gateway.source.script((0..10).map(|_| FetchScript::HoldAt(40_960)));
    gateway.download().await;
    gateway.check_held(|state| matches!(state, JobState::Downloading { .. })).await;
}

#[tokio::test(start_paused = true)]
async fn the_write_of_a_slot_stands_still_within_100_ms_of_the_sample() {
    let gateway = Gateway::start("pause_write").await;
    gateway.download().await;
    gateway.install().await;
    gateway.check_held(|state| matches!(state, JobState::Writing { .. })).await;
}

#[tokio::test(start_paused = true)]
async fn the_countdown_to_a_reboot_ends_within_100_ms_of_the_sample() {
    let gateway = Gateway::start("hold_reboot").await;
    let mut events = gateway.engine.subscribe(None);
    gateway.leave.send(()).unwrap();
    gateway.download().await;
    gateway.install().await;
    loop {
        if let Delivery::Event(event) = events.next().await
            && matches!(&event.kind, EventKind::System { event, .. } if event == "reboot_scheduled")
        {
            break;
        }
    }
    gateway.check_held(|state| matches!(state, JobState::Armed { .. })).await;
    assert!(gateway.rebooter.reasons().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_job_that_is_to_be_aborted_has_failed_within_100_ms_of_the_sample() {
    let gateway = Gateway::start("abort").await;
    gateway.source.script([FetchScript::HoldAt(40_960)]);
    gateway.download().await;
    gateway.source.until_held().await;
    let since = Instant::now();
    gateway.says("moving");
    gateway.engine.active().wait_for(Option::is_none).await.unwrap();
    assert!(since.elapsed() <= BAR, "{:?}", since.elapsed());
}
