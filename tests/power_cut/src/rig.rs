//! A daemon on the device: the real engine over the real boot adapters, until it restarts the gateway or comes to rest.

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context as _;
use ota_boot::{
    BlockSlotWriter, BootConfig, Pipeline, UbootBootControl,
    device::Devices,
    uboot_env::{EnvSettings, EnvStore},
};
use ota_core::{
    ImageName, Slot,
    job::{Held, InstallOptions, Job, JobState, Priority, Strategy},
    ports::{BootControl, BoxFuture, HealthChecks},
    release::{DetachedSignature, SignatureKind},
};
use ota_engine::{
    Actor, CancelRequest, DownloadRequest, Engine, EngineConfig, EngineError, GatewayIdentity,
    InstallRequest, JobRef, Ports, RollbackRequest, SecurityFloor,
};
use ota_testkit::{
    FakeClock, FakeGate, FakeInspector, FakeProbe, FakeRebooter, FakeVerifier, MemStaging, ScriptedSource,
};

use crate::{
    disk::Place,
    fault::Operation,
    files,
    ledger::Ledger,
    medium::BLOCK,
    scenario::{Behaviour, Content, Kind},
    verdict,
    world::{Disks, World, path},
    wrong::{Mistaken, Wrong},
};

/// What a daemon that takes its restart for a reboot has for a boot id.
const OTHER_EACH_TIME: &str = "/proc/sys/kernel/random/uuid";
/// Boots that have a name.
const BOOTS: u32 = 64;
/// A session that takes longer than this, in real time, hangs.
const PATIENCE: Duration = Duration::from_secs(60);
/// Where something fails, time is moved by hand: so far each time that nothing happens, longer than the engine waits before
/// it tries again, and so often.
const LATER: Duration = Duration::from_secs(11);
const TRIES: u32 = 3;
/// Nothing happens when nothing was asked of the device for so long, in real time.
const QUIET: Duration = Duration::from_millis(3);

/// The files that the code under test reads of the system, and a runtime. One to a thread.
pub(crate) struct Rig {
    dir: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
    /// For runs in which something fails: its time stands still unless it is moved.
    by_hand: tokio::runtime::Runtime,
}

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The daemon asked for a restart.
    Restart,
    /// Nothing happens any more without somebody asking for it.
    Rest,
    /// Nothing happens although something should.
    Stuck,
}

/// Who asks for something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operator {
    /// Plays the scenario.
    Asks,
    /// Is away.
    Away,
}

impl Rig {
    pub(crate) fn make() -> anyhow::Result<Self> {
        let dir = files::scratch()?;
        let env = path(Place::Env);
        let size = crate::disk::ENV_BYTES;
        let put = |name: &str, text: String| fs::write(dir.path().join(name), text).context(name.to_owned());
        put("fw_env.config", format!("{env} 0x0 {size:#x}\n{env} {size:#x} {size:#x}\n"))?;
        put("fw_env.single", format!("{env} 0x0 {size:#x}\n"))?;
        put("fw_printenv.lock", String::new())?;
        for slot in Slot::ALL {
            put(&format!("cmdline-{slot}"), format!("console=ttyS0 ota.slot={slot}\n"))?;
        }
        for boot in 0..BOOTS {
            put(&format!("boot-{boot}"), format!("boot-{boot}\n"))?;
        }
        let runtime =
            |paused| tokio::runtime::Builder::new_current_thread().enable_time().start_paused(paused).build();
        Ok(Self { dir, runtime: runtime(false)?, by_hand: runtime(true)? })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn boot_config(&self, slot: Slot, boot: u32, single: bool) -> BootConfig {
        let place = |slot| path(Place::Slot(slot));
        let mut config = BootConfig::new(place(Slot::A), place(Slot::B));
        config.fw_env_config = self.file(if single { "fw_env.single" } else { "fw_env.config" });
        config.lock = self.file("fw_printenv.lock");
        config.cmdline = self.file(&format!("cmdline-{slot}"));
        config.boot_id = self.file(&format!("boot-{}", boot % BOOTS));
        config.allow_single_copy = single;
        config
    }

    fn boot_control(
        &self,
        world: &Arc<World>,
        ledger: &Arc<Ledger>,
        slot: Slot,
        boot: u32,
    ) -> anyhow::Result<Arc<dyn BootControl>> {
        let wrong = world.play.wrong;
        let mut config = self.boot_config(slot, boot, wrong == Some(Wrong::OneCopy));
        if wrong == Some(Wrong::RestartIsReboot) {
            config.boot_id = OTHER_EACH_TIME.into();
        }
        let devices: Arc<dyn Devices> = Arc::new(Disks(Arc::clone(world)));
        let settings = EnvSettings {
            fw_env_config: config.fw_env_config.clone(),
            lock: config.lock.clone(),
            allow_single_copy: config.allow_single_copy,
        };
        let right = UbootBootControl::with_devices(config, Arc::clone(&devices))?;
        Ok(match wrong {
            None => Arc::new(right),
            Some(wrong) => {
                let env = EnvStore::new(settings, devices);
                Arc::new(Mistaken { right, env, ledger: Arc::clone(ledger), wrong })
            }
        })
    }

    /// Runs a daemon on `slot` in the `boot`-th boot.
    pub(crate) fn session(
        &self,
        world: &Arc<World>,
        slot: Slot,
        boot: u32,
        operator: Operator,
    ) -> anyhow::Result<End> {
        world.daemon_starts(slot, boot);
        let ledger = Ledger::open(world);
        let rebooter = Arc::new(FakeRebooter::default());
        let safety = tokio::sync::watch::Sender::new(0);
        let mut ports = self.ports(world, &ledger, &rebooter, slot, boot)?;
        ports.safety_changes = safety.subscribe();
        let config = engine_config(world, slot);
        let runtime = if world.is_faulty() { &self.by_hand } else { &self.runtime };
        runtime.block_on(async {
            let engine = match Engine::start(ports, config).await {
                Ok(engine) => engine,
                Err(error) => {
                    // The daemon says why and ends; it is started again.
                    refused(world, "the engine does not start", &error);
                    return Ok(End::Stuck);
                }
            };
            let end = drive(&engine, world, &rebooter, operator).await;
            engine.shutdown().await;
            world.daemon_ends();
            Ok(end)
        })
    }

    fn ports(
        &self,
        world: &Arc<World>,
        ledger: &Arc<Ledger>,
        rebooter: &Arc<FakeRebooter>,
        slot: Slot,
        boot: u32,
    ) -> anyhow::Result<Ports> {
        let boot = self.boot_control(world, ledger, slot, boot)?;
        let writer =
            BlockSlotWriter::new(path(Place::Slot(Slot::A)), path(Place::Slot(Slot::B)), boot.booted())
                .with_devices(
                    Arc::new(Disks(Arc::clone(world))),
                    Pipeline { chunk: BLOCK, buffers: 4, writers: 1, sync_every: u64::MAX },
                );
        let staging = Arc::new(MemStaging::default());
        let source = Arc::new(ScriptedSource::new(Arc::clone(&staging)));
        let image = world.play.images.of(Content::New);
        source.offer(world.play.images.release(Content::New).clone(), image, vec![signature()]);
        if let Some(name) = staged_name(ledger) {
            staging.put(&name, image);
            staging.sign(&name, signature());
        }
        Ok(Ports {
            boot,
            slots: Arc::new(writer),
            images: staging,
            verifier: Arc::new(FakeVerifier::default()),
            inspector: Arc::new(FakeInspector),
            sources: vec![source],
            journal: Arc::clone(ledger) as _,
            facts: Arc::clone(ledger) as _,
            audit: Arc::clone(ledger) as _,
            settings: Arc::clone(ledger) as _,
            safety: Arc::new(FakeGate::default()),
            health: Arc::new(Health(Arc::clone(world))),
            rebooter: Arc::clone(rebooter) as _,
            probe: Arc::new(FakeProbe::default()),
            clock: Arc::new(FakeClock::default()),
            safety_changes: tokio::sync::watch::Sender::new(0).subscribe(),
            user_data: ota_engine::UserData::default(),
        })
    }
}

/// The staged image of the job that has not ended, once it is whole: staging outlives the cut like the records.
fn staged_name(ledger: &Ledger) -> Option<ImageName> {
    use ota_core::ports::JobJournal as _;
    ledger.active().ok().flatten()?.image.map(|image| image.name)
}

fn signature() -> DetachedSignature {
    DetachedSignature { kind: SignatureKind::Cms, bytes: b"signed".to_vec() }
}

fn engine_config(world: &World, slot: Slot) -> EngineConfig {
    let running = world.behaviour(slot).map(|(content, _)| content.version());
    EngineConfig {
        identity: GatewayIdentity { name: "gw".into(), model: "IGW-5000".into(), serial: "SN1".into() },
        running_version: running.and_then(|version| version.parse().ok()),
        tries: world.play.scenario.tries,
        allow_unsigned: false,
        reboot_countdown: 0,
        security_floor: SecurityFloor::FollowConfirmed,
        lowest_version: None,
        verify_slot_digest: true,
        check_pause: Duration::ZERO,
    }
}

struct Health(Arc<World>);

impl HealthChecks for Health {
    fn run(&self) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async { self.0.health() })
    }
}

/// Waits for the end, while the operator asks.
async fn drive(engine: &Engine, world: &World, rebooter: &FakeRebooter, operator: Operator) -> End {
    let asked = async {
        if operator == Operator::Asks
            && let Err(error) = ask(engine, world).await
        {
            refused(world, "the operator is refused", &error);
        }
        rest(engine).await;
        if let Err(error) = judge_trial(engine, world).await {
            refused(world, "the judgement is refused", &error);
        }
    };
    let end = tokio::select! {
        biased;
        _ = rebooter.until_reboots(1) => End::Restart,
        () = asked => End::Rest,
        () = patience(world) => End::Stuck,
    };
    if end == End::Restart && !world.is_faulty() {
        // A daemon is stopped in order: that the restart has begun is recorded. The cuts before that are made all the same.
        until(engine, |job| job.is_none_or(|job| !matches!(job.state, JobState::Armed { .. }))).await;
    }
    if world.is_faulty() || end == End::Rest {
        read_all(engine, world).await;
    }
    if end == End::Rest {
        show_end(engine, world).await;
    }
    end
}

/// Until nothing is to be expected any more.
async fn patience(world: &World) {
    if !world.is_faulty() {
        // tidy: waits for a session that hangs
        return tokio::time::sleep(PATIENCE).await;
    }
    for _ in 0..TRIES {
        quiet(world).await;
        tokio::time::advance(LATER).await;
    }
    quiet(world).await;
}

/// Until nothing happens by itself. Paused time stands still while a blocking thread is at work, such as this one.
async fn quiet(world: &World) {
    loop {
        let before = world.activity();
        // tidy: waits for nothing to happen
        let _ = tokio::task::spawn_blocking(|| std::thread::sleep(QUIET)).await;
        if world.activity() == before {
            return;
        }
    }
}

/// A refusal is right only where something fails, and only with the cause in it.
fn refused(world: &World, what: &str, error: &EngineError) {
    let named = match error {
        EngineError::Ota(_) | EngineError::Unavailable { .. } => verdict::is_sentence(&error.to_string()),
        EngineError::Internal { log } => log.contains("cannot be written") || log.contains("cannot be read"),
        EngineError::Invalid { .. } | EngineError::NotFound { .. } => false,
    };
    if world.faults_hit() == 0 || !named {
        world.complain(format!("{what}: {error:?}"));
    }
}

/// Reads are answered at the end of every session whatever happens to writes; and where it is reads that fail, the answer
/// names it, and the next one is right if only one failed.
async fn read_all(engine: &Engine, world: &World) {
    for again in [false, true] {
        let status = engine.status().await.err().map(|error| ("status", error));
        let jobs = engine.jobs(0, 10).await.err().map(|error| ("jobs", error));
        let Some((what, error)) = status.or(jobs) else { return };
        let what = format!("R7: {what} is not answered");
        match world.fault() {
            Some(fault) if fault.on == Operation::Read && (fault.for_ever || !again) => {
                refused(world, &what, &error);
            }
            _ => world.complain(format!("{what}: {error:?}")),
        }
    }
}

/// Plays the scenario up to the point where the gateway acts by itself.
async fn ask(engine: &Engine, world: &World) -> Result<(), EngineError> {
    let by = Actor::gateway();
    if world.play.scenario.kind == Kind::Rollback {
        engine.rollback(&by, RollbackRequest { target_version: None }).await?;
        world.answer(|answered| (answered.created, answered.installed) = (true, true));
        return Ok(());
    }
    let request = DownloadRequest {
        update_id: world.play.images.release(Content::New).id.clone(),
        version: None,
        target: None,
        priority: Priority::Normal,
        verify_signature: true,
    };
    let job = engine.download(&by, request).await?;
    world.answer(|answered| answered.created = true);
    until(engine, |job| job.is_none_or(|job| job.state == JobState::Downloaded)).await;
    let cancel = world.play.scenario.kind == Kind::Cancel;
    let name = JobRef::Job(job.id.clone());
    let rollback_on_failure = world.play.scenario.kind != Kind::Confirm;
    let options = InstallOptions { strategy: Strategy::Seamless, reboot_after: !cancel, rollback_on_failure };
    engine.install(&by, InstallRequest { job: name.clone(), options }).await?;
    world.answer(|answered| answered.installed = true);
    if cancel {
        until(engine, at_rest).await;
        engine.cancel(&by, CancelRequest { job: name, reason: "not today".into() }).await?;
        world.answer(|answered| answered.cancelled = true);
    }
    Ok(())
}

/// Somebody looks at a trial that waits for people, unless that was done before.
async fn judge_trial(engine: &Engine, world: &World) -> Result<(), EngineError> {
    let waits = |job: Option<&Job>| {
        job.is_some_and(|job| matches!(job.state, JobState::Confirming { unhealthy: Some(_) }))
    };
    if !waits(engine.active().borrow().as_ref()) || world.look(|disk| disk.answered.judged) {
        return Ok(());
    }
    let good = world.play.scenario.image == Behaviour::Unhealthy;
    world.answer(|answered| answered.confirming = good);
    engine.judge_trial(&Actor::gateway(), good, "seen on the machine".into()).await?;
    world.answer(|answered| answered.judged = true);
    rest(engine).await;
    Ok(())
}

async fn until(engine: &Engine, holds: impl Fn(Option<&Job>) -> bool) {
    let mut active = engine.active();
    let _ = active.wait_for(|job| holds(job.as_ref())).await;
}

async fn rest(engine: &Engine) {
    until(engine, at_rest).await;
}

/// Whether nothing happens any more without somebody asking for it.
fn at_rest(job: Option<&Job>) -> bool {
    job.is_none_or(|job| {
        matches!(
            job.state,
            JobState::Downloaded
                | JobState::Armed { held: Some(Held::ExternalReboot) }
                | JobState::Confirming { unhealthy: Some(_) }
        )
    })
}

/// Somebody looks, and sees how the job ended.
async fn show_end(engine: &Engine, world: &World) {
    if let Ok(page) = engine.jobs(0, 1).await
        && let Some(job) = page.jobs.first()
        && job.state.is_end()
        && page.total > 1
    {
        let status = job.state.status();
        world.answer(|answered| answered.ended = Some(status));
    }
}
