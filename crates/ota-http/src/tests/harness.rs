//! A gateway on slot A at v5.0.4 with v5.0.5 on offer, served on loopback.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::{Method, StatusCode};
use ota_core::{
    Sha256Digest, Slot, Timestamp,
    job::{Job, JobStatus},
    ports::{Bandwidth, Clock, OverrideGranted, OverrideRefused, Role, SafetyOverrides, TokenRecord, Tokens},
    release::{DetachedSignature, SignatureKind},
    safety::OverrideReport,
};
use ota_engine::{Engine, EngineConfig, GatewayIdentity, Ports, SecurityFloor, UserData};
use ota_testkit::{
    FakeBootControl, FakeClock, FakeGate, FakeHealth, FakeInspector, FakeProbe, FakeRebooter, FakeReset,
    FakeSnapshots, FakeVerifier, MemJournal, MemSlots, MemStaging, MemUploads, ScriptedSource, samples,
};
use reqwest::RequestBuilder;
use serde_json::Value;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use crate::{AppState, HttpConfig, Server};

/// Secrets of the tokens that every test gateway has.
pub(super) const VIEWER: &str = "viewer-secret";
pub(super) const OPERATOR: &str = "operator-secret";
pub(super) const ADMIN: &str = "admin-secret";
pub(super) const EXPIRED: &str = "expired-secret";
pub(super) const API: &str = "/api/v1/ota";
pub(super) const IMAGE_BYTES: usize = 200_000;

pub(super) struct Gateway {
    pub(super) boot: Arc<FakeBootControl>,
    pub(super) source: Arc<ScriptedSource>,
    pub(super) store: Arc<MemJournal>,
    pub(super) gate: Arc<FakeGate>,
    pub(super) gate_changes: watch::Sender<u64>,
    pub(super) verifier: Arc<FakeVerifier>,
    pub(super) staging: Arc<MemStaging>,
    pub(super) slots: Arc<MemSlots>,
    pub(super) uploads: MemUploads,
    pub(super) clock: Arc<FakeClock>,
    pub(super) overrides: Arc<FakeOverrides>,
    pub(super) health: Arc<FakeHealth>,
    pub(super) rebooter: Arc<FakeRebooter>,
    pub(super) snapshots: Arc<FakeSnapshots>,
    pub(super) reset: Arc<FakeReset>,
    pub(super) diagnostics: Arc<FakeDiagnostics>,
    pub(super) engine: Engine,
    pub(super) address: SocketAddr,
    pub(super) http: reqwest::Client,
    stop: Option<oneshot::Sender<()>>,
    served: JoinHandle<()>,
    /// What a restart takes up again.
    again: Again,
}

struct Again {
    ports: Ports,
    engine: EngineConfig,
    state: AppState,
    http: HttpConfig,
}

impl Gateway {
    pub(super) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub(super) async fn with(change: impl FnOnce(&mut HttpConfig)) -> Self {
        Self::build(false, None, change).await
    }

    /// One whose downloads can be slowed down.
    pub(super) async fn with_bandwidth(port: Arc<dyn Bandwidth>) -> Self {
        Self::build(false, Some(port), |_| {}).await
    }

    /// One whose configuration lets images through that nobody signed.
    pub(super) async fn unsigned() -> Self {
        Self::build(true, None, |_| {}).await
    }

    async fn build(
        allow_unsigned: bool,
        bandwidth: Option<Arc<dyn Bandwidth>>,
        change: impl FnOnce(&mut HttpConfig),
    ) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let staging = Arc::new(MemStaging::default());
        let image = vec![7; IMAGE_BYTES];
        let signature = DetachedSignature { kind: SignatureKind::Cms, bytes: b"signature".to_vec() };
        let source = Arc::new(ScriptedSource::new(Arc::clone(&staging)));
        source.offer(samples::release("v5.0.5", &image), &image, vec![signature]);
        let slots = Arc::new(MemSlots::new(1 << 20));
        let uploads = MemUploads::new(Arc::clone(&staging));
        slots.set_booted(Some(Slot::A));
        let boot = Arc::new(FakeBootControl::running(Slot::A));
        let store = Arc::new(MemJournal::default());
        let gate = Arc::new(FakeGate::default());
        let gate_changes = watch::Sender::new(0);
        let verifier = Arc::new(FakeVerifier::default());
        let clock = Arc::new(FakeClock::default());
        let (health, rebooter) = (Arc::new(FakeHealth::default()), Arc::new(FakeRebooter::default()));
        let (snapshots, reset) = (Arc::<FakeSnapshots>::default(), Arc::<FakeReset>::default());
        let ports = Ports {
            boot: Arc::clone(&boot) as _,
            slots: Arc::clone(&slots) as _,
            images: Arc::clone(&staging) as _,
            verifier: Arc::clone(&verifier) as _,
            sources: vec![Arc::clone(&source) as _],
            journal: Arc::clone(&store) as _,
            facts: Arc::clone(&store) as _,
            audit: Arc::clone(&store) as _,
            settings: Arc::clone(&store) as _,
            safety: Arc::clone(&gate) as _,
            health: Arc::clone(&health) as _,
            rebooter: Arc::clone(&rebooter) as _,
            probe: Arc::new(FakeProbe::default()),
            clock: Arc::clone(&clock) as _,
            safety_changes: gate_changes.subscribe(),
            inspector: Arc::new(FakeInspector),
            user_data: UserData {
                snapshots: Some(Arc::clone(&snapshots) as _),
                reset: Some(Arc::clone(&reset) as _),
                before_install: false,
                reboot_for_reset: false,
            },
        };
        let engine_config = EngineConfig {
            identity: GatewayIdentity { name: "gw".into(), model: "IGW-5000".into(), serial: "SN1".into() },
            running_version: Some("v5.0.4".parse().unwrap()),
            tries: 3,
            allow_unsigned,
            reboot_countdown: 0,
            security_floor: SecurityFloor::Fixed,
            lowest_version: None,
            verify_slot_digest: true,
            check_pause: Duration::ZERO,
        };
        let engine = Engine::start(ports.clone(), engine_config.clone()).await.unwrap();
        add_tokens(&store);
        let overrides = Arc::new(FakeOverrides::default());
        let diagnostics = Arc::new(FakeDiagnostics::default());
        let state = AppState {
            engine: engine.clone(),
            tokens: Arc::clone(&store) as _,
            settings: Arc::clone(&store) as _,
            audit: Arc::clone(&store) as _,
            clock: Arc::clone(&clock) as _,
            uploads: Arc::new(uploads.clone()),
            overrides: Some(Arc::clone(&overrides) as _),
            inhibitors: None,
            bandwidth,
            diagnostics: Arc::clone(&diagnostics) as _,
        };
        let mut config = HttpConfig::new(([127, 0, 0, 1], 0).into());
        change(&mut config);
        let again = Again { ports, engine: engine_config, state: state.clone(), http: config.clone() };
        let (address, stop, served) = serve(config, state).await;
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self {
            boot,
            source,
            store,
            gate,
            gate_changes,
            verifier,
            staging,
            slots,
            uploads,
            clock,
            overrides,
            health,
            rebooter,
            snapshots,
            reset,
            diagnostics,
            engine,
            address,
            http,
            stop: Some(stop),
            served,
            again,
        }
    }

    /// Ends server and engine and starts them again on what survives; with `reboot` the boot loader chooses a slot
    /// between.
    pub(super) async fn restart(&mut self, reboot: bool) {
        let _ = self.stop.take().unwrap().send(());
        (&mut self.served).await.unwrap();
        self.engine.shutdown().await;
        if reboot {
            let slot = self.boot.reboot();
            assert!(slot.is_some(), "nothing boots any more: {:?}", self.boot.env());
            self.slots.set_booted(slot);
        }
        let Again { ports, engine, state, http } = &self.again;
        self.engine = Engine::start(ports.clone(), engine.clone()).await.unwrap();
        let state = AppState { engine: self.engine.clone(), ..state.clone() };
        let (address, stop, served) = serve(http.clone(), state).await;
        (self.address, self.stop, self.served) = (address, Some(stop), served);
    }

    pub(super) async fn stop(mut self) {
        let _ = self.stop.take().unwrap().send(());
        self.served.await.unwrap();
    }

    /// A request to a path under the canonical prefix.
    pub(super) fn ask(&self, method: Method, path: &str, token: &str) -> RequestBuilder {
        self.http.request(method, self.url(&format!("{API}{path}"))).bearer_auth(token)
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(super) async fn get(&self, path: &str) -> (StatusCode, Value) {
        answer(self.ask(Method::GET, path, VIEWER)).await
    }

    pub(super) async fn post(&self, path: &str, token: &str, body: Value) -> (StatusCode, Value) {
        answer(self.ask(Method::POST, path, token).json(&body)).await
    }

    /// Starts the download of the release on offer and gives the job's id.
    pub(super) async fn download(&self) -> String {
        let (status, body) =
            self.post("/updates/download", OPERATOR, serde_json::json!({"update_id": "rel-v5.0.5"})).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        body["job_id"].as_str().unwrap().to_owned()
    }

    /// Waits until the active job has this status.
    pub(super) async fn until(&self, status: JobStatus) {
        let mut active = self.engine.active();
        let is = |job: &Option<Job>| job.as_ref().is_none_or(|job| job.state.status() == status);
        let ended = active.wait_for(is).await.unwrap().is_none();
        assert!(!ended, "ended instead: {:?}", self.engine.jobs(0, 1).await.unwrap().jobs);
    }

    /// Waits until no job is active.
    pub(super) async fn until_idle(&self) {
        self.engine.active().wait_for(Option::is_none).await.unwrap();
    }

    pub(super) async fn downloaded(&self) -> String {
        let id = self.download().await;
        self.until(JobStatus::Downloaded).await;
        id
    }

    /// A constraint is violated from now on, for the steps of an install.
    pub(super) fn violate(&self) {
        use ota_core::safety::SafetyStep;
        self.gate.violate("crane_motion", &SafetyStep::ALL);
        self.gate_changes.send_modify(|n| *n += 1);
    }

    /// Waits until the audit has a record of `action`, and gives it.
    pub(super) async fn audited(&self, action: &str) -> ota_core::ports::AuditEntry {
        use ota_core::ports::AuditLog;
        // The record is written before the answer leaves, so that it is there when a test asks.
        let found = self.store.records(0, 1000).unwrap().into_iter().rev().find(|r| r.entry.action == action);
        found.unwrap_or_else(|| panic!("{action} is not in {:?}", self.store.audited())).entry
    }
}

async fn serve(config: HttpConfig, state: AppState) -> (SocketAddr, oneshot::Sender<()>, JoinHandle<()>) {
    let server = Server::bind(config, state).await.unwrap();
    let address = server.local_addr();
    let (stop, stopped) = oneshot::channel::<()>();
    let served = tokio::spawn(server.run(async {
        let _ = stopped.await;
    }));
    (address, stop, served)
}

pub(super) async fn answer(request: RequestBuilder) -> (StatusCode, Value) {
    let response = request.send().await.unwrap();
    let status = response.status();
    let text = response.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

fn add_tokens(store: &MemJournal) {
    let expired = Some(Timestamp::from_secs(1_000_000));
    for (name, secret, role, expires) in [
        ("viewer", VIEWER, Role::Viewer, None),
        ("operator", OPERATOR, Role::Operator, None),
        ("admin", ADMIN, Role::Admin, None),
        ("expired", EXPIRED, Role::Admin, expired),
    ] {
        let created = Timestamp::from_secs(1);
        let record = TokenRecord { name: name.into(), role, created, expires, last_used: None };
        store.add(&Sha256Digest::of(secret.as_bytes()), &record).unwrap();
    }
}

/// What the daemon would add to a debug bundle.
#[derive(Default)]
pub(super) struct FakeDiagnostics {
    pub(super) texts: Mutex<Vec<(String, String)>>,
    pub(super) secrets: Mutex<Vec<String>>,
}

impl crate::Diagnostics for FakeDiagnostics {
    fn collect(&self, put: &mut dyn FnMut(&str, Result<String, String>) -> bool) {
        for (name, text) in self.texts.lock().unwrap().iter() {
            put(name, Ok(text.clone()));
        }
        put("absent.txt", Err("there is none".into()));
    }

    fn secrets(&self) -> Vec<ota_api::auth::Secret> {
        self.secrets.lock().unwrap().iter().map(|secret| secret.as_str().into()).collect()
    }
}

/// Overrides that answer what the test says, and hold nothing back by themselves.
#[derive(Default)]
pub(super) struct FakeOverrides {
    pub(super) refuse: Mutex<Option<OverrideRefused>>,
    pub(super) needs_two: AtomicBool,
    pub(super) asked: Mutex<Vec<(String, String, Duration)>>,
    pub(super) on: AtomicBool,
    /// Goes on by a second as soon as one was enabled: what a busy gateway needs until it announces it.
    pub(super) busy: Mutex<Option<Arc<FakeClock>>>,
}

impl SafetyOverrides for FakeOverrides {
    fn request(
        &self,
        by: &str,
        reason: &str,
        duration: Duration,
    ) -> Result<OverrideGranted, OverrideRefused> {
        if let Some(refused) = self.refuse.lock().unwrap().clone() {
            return Err(refused);
        }
        self.asked.lock().unwrap().push((by.into(), reason.into(), duration));
        let constraints = vec!["crane_motion".to_owned()];
        if self.needs_two.load(Ordering::Relaxed) {
            return Ok(OverrideGranted::Proposed { constraints, expires_in: Duration::from_secs(300) });
        }
        self.on.store(true, Ordering::Relaxed);
        let expires_at = FakeClock::default().wall() + duration;
        // No time left: its end is announced at the first look.
        let remaining = if duration == Duration::from_secs(1) { Duration::ZERO } else { duration };
        if let Some(clock) = &*self.busy.lock().unwrap() {
            clock.advance(Duration::from_secs(1));
        }
        Ok(OverrideGranted::Enabled(OverrideReport {
            constraints,
            reason: reason.into(),
            remaining,
            expires_at,
        }))
    }

    fn disable(&self) -> bool {
        self.on.swap(false, Ordering::Relaxed)
    }
}
