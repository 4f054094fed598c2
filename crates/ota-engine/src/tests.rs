//! The engine over fakes, through whole updates, refusals and restarts.

mod auto;
mod floor;
mod records;
mod safety;
mod totals;
mod trust;
mod user_data;

use std::{sync::Arc, time::Duration};

use ota_core::{
    ByteCount, ErrorCode, JobId, Slot, Timestamp, Version,
    error::{OtaError, PortErrorKind},
    event::{EventKind, Outcome, Phase},
    job::{InstallOptions, Job, JobState, JobStatus, Priority, Strategy},
    ports::{
        BootControl, JobJournal, LastUpdate, RebootReason, Settings as _, SlotFacts, SlotRecord, SlotState,
    },
    release::{DetachedSignature, SignatureKind, Signer, Vouched},
    safety::SafetyStep,
};
use ota_testkit::{
    FakeBootControl, FakeClock, FakeGate, FakeHealth, FakeInspector, FakeProbe, FakeRebooter, FakeReset,
    FakeSnapshots, FakeVerifier, MemJournal, MemSlots, MemStaging, ScriptedSource, samples,
    source::FetchScript,
};
use tokio::sync::watch;

use crate::{
    Actor, CancelRequest, Delivery, DeployRequest, DownloadRequest, Engine, EngineConfig, EngineError,
    GatewayIdentity, InstallRequest, JobRef, Ports, RollbackRequest, SecurityFloor, UserData,
};

const IMAGE_BYTES: usize = 200_000;

/// A gateway on slot A at v5.0.4 with v5.0.5 on offer, whose parts outlive the engine.
struct Gateway {
    boot: Arc<FakeBootControl>,
    slots: Arc<MemSlots>,
    staging: Arc<MemStaging>,
    verifier: Arc<FakeVerifier>,
    source: Arc<ScriptedSource>,
    journal: Arc<MemJournal>,
    gate: Arc<FakeGate>,
    gate_changes: watch::Sender<u64>,
    health: Arc<FakeHealth>,
    rebooter: Arc<FakeRebooter>,
    snapshots: Arc<FakeSnapshots>,
    reset: Arc<FakeReset>,
    clock: Arc<FakeClock>,
    before_install: bool,
    check_pause: Duration,
    countdown: u32,
    security_floor: SecurityFloor,
    lowest_version: Option<Version>,
    image: Vec<u8>,
    engine: Option<Engine>,
}

/// Somebody who asks; what the gateway asks of itself it may undo, too.
fn operator() -> Actor {
    Actor { name: "ada".into(), ..Actor::gateway() }
}

impl Gateway {
    async fn start() -> Self {
        let staging = Arc::new(MemStaging::default());
        let image: Vec<u8> = (0..IMAGE_BYTES).map(|i| u8::try_from(i * 7 % 251).unwrap()).collect();
        let source = Arc::new(ScriptedSource::new(Arc::clone(&staging)));
        source.offer(samples::release("v5.0.5", &image), &image, vec![signature()]);
        let slots = Arc::new(MemSlots::new(1 << 20));
        slots.set_booted(Some(Slot::A));
        let mut gateway = Self {
            boot: Arc::new(FakeBootControl::running(Slot::A)),
            slots,
            staging,
            verifier: Arc::new(FakeVerifier::default()),
            source,
            journal: Arc::new(MemJournal::default()),
            gate: Arc::new(FakeGate::default()),
            gate_changes: watch::Sender::new(0),
            health: Arc::new(FakeHealth::default()),
            rebooter: Arc::new(FakeRebooter::default()),
            snapshots: Arc::default(),
            reset: Arc::default(),
            clock: Arc::default(),
            before_install: false,
            check_pause: Duration::ZERO,
            countdown: 0,
            security_floor: SecurityFloor::Fixed,
            lowest_version: None,
            image,
            engine: None,
        };
        gateway.restart_daemon().await;
        gateway
    }

    fn engine(&self) -> &Engine {
        self.engine.as_ref().unwrap()
    }

    /// Ends the daemon and starts it again on the same device.
    async fn restart_daemon(&mut self) {
        if let Some(engine) = self.engine.take() {
            engine.shutdown().await;
        }
        let ports = Ports {
            boot: Arc::clone(&self.boot) as _,
            slots: Arc::clone(&self.slots) as _,
            images: Arc::clone(&self.staging) as _,
            verifier: Arc::clone(&self.verifier) as _,
            inspector: Arc::new(FakeInspector),
            sources: vec![Arc::clone(&self.source) as _],
            journal: Arc::clone(&self.journal) as _,
            facts: Arc::clone(&self.journal) as _,
            audit: Arc::clone(&self.journal) as _,
            settings: Arc::clone(&self.journal) as _,
            safety: Arc::clone(&self.gate) as _,
            health: Arc::clone(&self.health) as _,
            rebooter: Arc::clone(&self.rebooter) as _,
            probe: Arc::new(FakeProbe::default()),
            clock: Arc::clone(&self.clock) as _,
            safety_changes: self.gate_changes.subscribe(),
            user_data: UserData {
                snapshots: Some(Arc::clone(&self.snapshots) as _),
                reset: Some(Arc::clone(&self.reset) as _),
                before_install: self.before_install,
                reboot_for_reset: true,
            },
        };
        let config = EngineConfig {
            identity: GatewayIdentity { name: "gw".into(), model: "IGW-5000".into(), serial: "SN1".into() },
            running_version: Some(
                if self.boot.booted() == Some(Slot::A) { "v5.0.4" } else { "v5.0.5" }.parse().unwrap(),
            ),
            tries: 3,
            allow_unsigned: false,
            reboot_countdown: self.countdown,
            security_floor: self.security_floor,
            lowest_version: self.lowest_version.clone(),
            verify_slot_digest: true,
            check_pause: self.check_pause,
        };
        self.engine = Some(Engine::start(ports, config).await.unwrap());
    }

    /// Reboots by the boot loader's rules and starts the daemon on the slot that came up.
    async fn reboot(&mut self) -> Slot {
        let slot = self.boot.reboot().expect("a slot comes up");
        self.slots.set_booted(Some(slot));
        self.restart_daemon().await;
        slot
    }

    /// Records that the front of `slot` is as the factory wrote it; gives it.
    fn provision(&self, slot: Slot, length: usize) -> Vec<u8> {
        let content = self.slots.content(slot, length);
        let record = self.journal.slot(slot).unwrap();
        let sha256 = Some(ota_core::Sha256Digest::of(&content));
        let record = SlotRecord { size: Some(ByteCount(length as u64)), sha256, ..record };
        self.journal.set_slot(slot, &record).unwrap();
        content
    }

    async fn download(&self) -> Result<Job, EngineError> {
        let request = DownloadRequest {
            update_id: "rel-v5.0.5".parse().unwrap(),
            version: None,
            target: Some(Slot::B),
            priority: Priority::Normal,
            verify_signature: true,
        };
        self.engine().download(&operator(), request).await
    }

    async fn install(&self, job: &Job, options: InstallOptions) -> Result<Job, EngineError> {
        self.engine()
            .install(&Actor::gateway(), InstallRequest { job: JobRef::Job(job.id.clone()), options })
            .await
    }

    async fn cancel(&self, job: &Job) -> Result<Job, EngineError> {
        let request = CancelRequest { job: JobRef::Job(job.id.clone()), reason: "changed my mind".into() };
        self.engine().cancel(&Actor::gateway(), request).await
    }

    /// Waits until the job has this status, also when it ends with it.
    async fn until(&self, job: &Job, status: JobStatus) -> Job {
        let mut active = self.engine().active();
        loop {
            active.borrow_and_update();
            let now = self.journal.job(&job.id).unwrap().unwrap();
            let live = active.borrow().clone().filter(|live| live.id == job.id);
            let found = live.unwrap_or(now);
            if found.state.status() == status {
                return found;
            }
            assert!(!found.state.is_end(), "ended as {:?} instead of {status:?}", found.state);
            active.changed().await.unwrap();
        }
    }

    async fn downloaded(&self) -> Job {
        let job = self.download().await.unwrap();
        self.until(&job, JobStatus::Downloaded).await
    }

    /// Downloads and installs up to the reboot into the trial.
    async fn rebooting(&self) -> Job {
        let job = self.downloaded().await;
        self.install(&job, SEAMLESS).await.unwrap();
        self.rebooter.until_reboots(1).await;
        // The reboot is asked for first and recorded then; cut in between, it is another story.
        let mut active = self.engine().active();
        while self.journal.job(&job.id).unwrap().unwrap().state != JobState::Rebooting {
            active.changed().await.unwrap();
        }
        job
    }
}

const SEAMLESS: InstallOptions =
    InstallOptions { strategy: Strategy::Seamless, reboot_after: true, rollback_on_failure: true };

fn signature() -> DetachedSignature {
    DetachedSignature { kind: SignatureKind::Cms, bytes: b"by a trusted key".to_vec() }
}

fn code(error: EngineError) -> ErrorCode {
    match error {
        EngineError::Ota(ota) => ota.code(),
        other => panic!("not a domain condition: {other:?}"),
    }
}

#[tokio::test]
async fn a_whole_update_ends_confirmed_on_the_other_slot() {
    let mut gateway = Gateway::start().await;
    let mut events = gateway.engine().subscribe(None);
    let job = gateway.rebooting().await;
    assert_eq!(gateway.slots.content(Slot::B, IMAGE_BYTES), gateway.image);
    assert_eq!(gateway.reboot().await, Slot::B);
    gateway.until(&job, JobStatus::Succeeded).await;
    assert_eq!(gateway.boot.env().trial, None);
    let status = gateway.engine().status().await.unwrap();
    let active = status.active.unwrap();
    assert_eq!((active.slot, active.state, active.record.boot_count), (Slot::B, SlotState::Good, 1));
    assert_eq!(status.last_update.unwrap().status, "success");
    let mut ends = Vec::new();
    while let Ok(Delivery::Event(event)) =
        tokio::time::timeout(Duration::from_millis(50), events.next()).await
    {
        if let EventKind::JobComplete { phase, outcome, .. } = event.kind {
            ends.push((phase, outcome));
        }
    }
    assert_eq!(ends, [(Phase::Download, Outcome::Success)]);
    assert!(gateway.staging.names().is_empty());
}

#[tokio::test]
async fn the_slot_record_is_good_only_after_the_confirmed_boot() {
    let mut gateway = Gateway::start().await;
    let job = gateway.rebooting().await;
    assert_eq!(gateway.journal.slot(Slot::B).unwrap().state, SlotState::Trial);
    gateway.reboot().await;
    gateway.until(&job, JobStatus::Succeeded).await;
    let record = gateway.journal.slot(Slot::B).unwrap();
    assert_eq!((record.state, record.version), (SlotState::Good, Some("v5.0.5".parse::<Version>().unwrap())));
}

/// As a cut right behind the record of the end leaves it: nothing beside it was noted.
fn forget_the_end(gateway: &Gateway, job: &Job) {
    let record = gateway.journal.slot(job.target).unwrap();
    gateway.journal.set_slot(job.target, &SlotRecord { state: SlotState::Trial, ..record }).unwrap();
    let last = LastUpdate {
        version: "v5.0.4".parse().unwrap(),
        at: Timestamp::from_secs(1_700_000_000),
        status: "success".into(),
        job: None,
    };
    gateway.journal.set_last_update(&last).unwrap();
    for setting in [crate::facts::FLOOR, crate::facts::ROLLED_BACK] {
        gateway.journal.set_value(setting, None).unwrap();
    }
    gateway.journal.tamper(|records| drop(records.pop().unwrap()));
    gateway.staging.put(&job.image.as_ref().unwrap().name, &gateway.image);
}

#[tokio::test]
async fn a_cut_right_behind_the_record_of_a_success_loses_nothing_that_is_noted_with_it() {
    let mut gateway = Gateway::start().await;
    gateway.security_floor = SecurityFloor::FollowConfirmed;
    let job = gateway.rebooting().await;
    gateway.reboot().await;
    let job = gateway.until(&job, JobStatus::Succeeded).await;
    gateway.engine().active().wait_for(Option::is_none).await.unwrap();
    forget_the_end(&gateway, &job);
    gateway.restart_daemon().await;
    assert_eq!(gateway.journal.slot(Slot::B).unwrap().state, SlotState::Good);
    let last = gateway.journal.last_update().unwrap().unwrap();
    assert_eq!((last.status.as_str(), last.at, last.version), ("success", job.updated, job.release.version));
    assert_eq!(gateway.journal.value(crate::facts::FLOOR).unwrap().as_deref(), Some("v5.0.5"));
    assert!(gateway.staging.names().is_empty());
    let told = |gateway: &Gateway| {
        gateway.journal.audited().iter().filter(|action| *action == "job.succeeded").count()
    };
    assert_eq!(told(&gateway), 1);
    // Once: what is put there later under that name, and what the factory says of the slot, stays.
    let record = gateway.journal.slot(Slot::B).unwrap();
    gateway.journal.set_slot(Slot::B, &SlotRecord { state: SlotState::Bad, ..record }).unwrap();
    gateway.staging.put(&job.image.unwrap().name, &gateway.image);
    gateway.restart_daemon().await;
    assert_eq!(gateway.journal.slot(Slot::B).unwrap().state, SlotState::Bad);
    assert_eq!(gateway.staging.names().len(), 1);
    assert_eq!(told(&gateway), 1);
}

#[tokio::test]
async fn a_clock_that_is_not_set_after_the_cut_does_not_hide_what_was_not_noted() {
    let mut gateway = Gateway::start().await;
    let job = gateway.rebooting().await;
    gateway.reboot().await;
    let job = gateway.until(&job, JobStatus::Succeeded).await;
    gateway.engine().active().wait_for(Option::is_none).await.unwrap();
    forget_the_end(&gateway, &job);
    let earlier = LastUpdate {
        version: "v5.0.4".parse().unwrap(),
        at: job.updated + Duration::from_secs(1),
        status: "success".into(),
        job: Some(JobId::from_number(0)),
    };
    gateway.journal.set_last_update(&earlier).unwrap();
    gateway.restart_daemon().await;
    assert_eq!(gateway.journal.last_update().unwrap().unwrap().job, Some(job.id));
}

#[tokio::test]
async fn a_cut_right_behind_the_record_of_a_rollback_does_not_forget_the_version_that_was_given_up() {
    let mut gateway = Gateway::start().await;
    gateway.boot.set_hangs(Slot::B, true);
    let job = gateway.rebooting().await;
    gateway.reboot().await;
    let job = gateway.until(&job, JobStatus::RolledBack).await;
    gateway.engine().active().wait_for(Option::is_none).await.unwrap();
    forget_the_end(&gateway, &job);
    gateway.restart_daemon().await;
    assert_eq!(gateway.journal.slot(Slot::B).unwrap().state, SlotState::Bad);
    assert_eq!(gateway.journal.last_update().unwrap().unwrap().status, "rolled_back");
    assert_eq!(gateway.journal.value(crate::facts::ROLLED_BACK).unwrap().as_deref(), Some("5.0.5\n"));
    assert!(gateway.staging.names().is_empty());
}

#[tokio::test]
async fn an_image_that_hangs_ends_rolled_back_on_the_old_slot() {
    let mut gateway = Gateway::start().await;
    gateway.boot.set_hangs(Slot::B, true);
    let job = gateway.rebooting().await;
    assert_eq!(gateway.reboot().await, Slot::A);
    let end = gateway.until(&job, JobStatus::RolledBack).await;
    assert_eq!(end.state.failure().unwrap().reason.as_deref(), Some("did_not_boot"));
    assert!(!gateway.boot.env().b.bootable);
    assert_eq!(gateway.boot.env().trial, None);
}

#[tokio::test]
async fn an_unhealthy_image_is_left_in_one_reboot() {
    let mut gateway = Gateway::start().await;
    gateway.health.fail("modem does not answer");
    let job = gateway.rebooting().await;
    assert_eq!(gateway.reboot().await, Slot::B);
    let reasons = gateway.rebooter.until_reboots(2).await;
    assert_eq!(reasons, [RebootReason::Trial, RebootReason::GoBack]);
    assert_eq!(gateway.reboot().await, Slot::A);
    let end = gateway.until(&job, JobStatus::RolledBack).await;
    let why = end.state.failure().unwrap();
    assert_eq!(
        (why.reason.as_deref(), why.message.as_str()),
        (Some("health_check"), "modem does not answer")
    );
}

#[tokio::test]
async fn a_slot_that_does_not_read_back_on_its_trial_is_not_confirmed() {
    let mut gateway = Gateway::start().await;
    let job = gateway.rebooting().await;
    gateway.slots.corrupt(Slot::B, 4711);
    gateway.reboot().await;
    gateway.rebooter.until_reboots(2).await;
    assert_eq!(gateway.health.runs(), 0, "health is not asked of a slot that is not what was written");
    gateway.reboot().await;
    let end = gateway.until(&job, JobStatus::RolledBack).await;
    assert_eq!(end.state.failure().unwrap().code, Some(ErrorCode::ChecksumMismatch));
}

#[tokio::test]
async fn a_refused_signature_leaves_the_environment_alone() {
    let gateway = Gateway::start().await;
    gateway.verifier.refuse(ota_core::error::SignatureFault::Untrusted);
    let job = gateway.download().await.unwrap();
    let end = gateway.until(&job, JobStatus::Failed).await;
    assert_eq!(end.state.failure().unwrap().code, Some(ErrorCode::SignatureInvalid));
    assert_eq!(gateway.boot.writes(), 0);
    assert_eq!(gateway.slots.writes(), 0);
}

#[tokio::test]
async fn a_thousand_racing_downloads_start_exactly_one() {
    let gateway = Gateway::start().await;
    gateway.source.script([FetchScript::HoldAt(0)]);
    let calls = (0..1000).map(|_| gateway.download());
    let answers = futures_util::future::join_all(calls).await;
    let started = answers.iter().filter(|answer| answer.is_ok()).count();
    assert_eq!(started, 1);
    for refused in answers.into_iter().filter_map(Result::err) {
        assert_eq!(code(refused), ErrorCode::UpdateInProgress);
    }
}

#[tokio::test]
async fn what_a_download_has_already_is_room_for_it_and_what_another_one_left_is_given_back() {
    let gateway = Gateway::start().await;
    let size = ByteCount(IMAGE_BYTES as u64);
    let name = crate::effects::staged_name(&samples::release("v5.0.5", &gateway.image));
    gateway.staging.set_free(size + ByteCount(100));
    gateway.staging.set_unfinished(&name, size);
    let job = gateway.downloaded().await;
    gateway.cancel(&job).await.unwrap();
    gateway.engine().active().wait_for(Option::is_none).await.unwrap();
    gateway.staging.set_free(size);
    gateway.staging.set_unfinished(&"update-older.img".parse().unwrap(), ByteCount(1));
    let job = gateway.downloaded().await;
    gateway.cancel(&job).await.unwrap();
    gateway.engine().active().wait_for(Option::is_none).await.unwrap();
    gateway.staging.set_free(ByteCount(IMAGE_BYTES as u64 - 1));
    gateway.staging.set_unfinished(&name, ByteCount::ZERO);
    assert_eq!(code(gateway.download().await.unwrap_err()), ErrorCode::InsufficientSpace);
}

#[tokio::test]
async fn pause_keeps_what_is_durable_and_resume_goes_on_there() {
    let gateway = Gateway::start().await;
    gateway.source.script([FetchScript::HoldAt(40_960)]);
    let job = gateway.download().await.unwrap();
    gateway.source.until_held().await;
    gateway.engine().pause(&Actor::gateway(), None).await.unwrap();
    assert_eq!(gateway.until(&job, JobStatus::Paused).await.id, job.id);
    gateway.engine().resume(&Actor::gateway(), None).await.unwrap();
    gateway.until(&job, JobStatus::Downloaded).await;
    assert_eq!(gateway.source.fetches(), [0, 40_960]);
}

#[tokio::test]
async fn a_download_goes_on_after_a_restart_of_the_daemon() {
    let mut gateway = Gateway::start().await;
    gateway.source.script([FetchScript::HoldAt(81_920)]);
    let job = gateway.download().await.unwrap();
    gateway.source.until_held().await;
    gateway.restart_daemon().await;
    gateway.until(&job, JobStatus::Downloaded).await;
    assert_eq!(gateway.source.fetches(), [0, 81_920]);
}

#[tokio::test]
async fn a_crane_that_moves_holds_the_switch_until_it_stops() {
    let gateway = Gateway::start().await;
    let job = gateway.downloaded().await;
    gateway.gate.violate("crane_motion", &[SafetyStep::Switch, SafetyStep::Reboot]);
    gateway.install(&job, SEAMLESS).await.unwrap();
    gateway.gate.until_judged(SafetyStep::Switch, 1).await;
    assert_eq!(gateway.boot.env().trial, None, "written, but not switched");
    gateway.gate.clear("crane_motion");
    gateway.gate_changes.send_modify(|n| *n += 1);
    gateway.rebooter.until_reboots(1).await;
    assert_eq!(gateway.boot.env().trial, Some(Slot::B));
}

#[tokio::test]
async fn a_crane_that_starts_between_switch_and_reboot_holds_the_reboot() {
    let gateway = Gateway::start().await;
    let job = gateway.downloaded().await;
    gateway.gate.violate("crane_motion", &[SafetyStep::Reboot]);
    gateway.install(&job, SEAMLESS).await.unwrap();
    gateway.gate.until_judged(SafetyStep::Reboot, 3).await;
    assert!(gateway.rebooter.reasons().is_empty());
    gateway.gate.clear("crane_motion");
    gateway.gate_changes.send_modify(|n| *n += 1);
    gateway.rebooter.until_reboots(1).await;
}

#[tokio::test]
async fn an_install_is_refused_while_the_crane_moves() {
    let gateway = Gateway::start().await;
    let job = gateway.downloaded().await;
    gateway.gate.violate("crane_motion", &[SafetyStep::Write]);
    let refused = gateway.install(&job, SEAMLESS).await.unwrap_err();
    let EngineError::Ota(OtaError::UpdateBlocked(blocks)) = refused else { panic!("{refused:?}") };
    assert_eq!(blocks[0].constraint, "crane_motion");
    assert_eq!(gateway.until(&job, JobStatus::Downloaded).await.counters.installs, 0);
}

#[tokio::test]
async fn what_a_downloaded_job_does_not_take_is_told_in_the_words_of_people() {
    let gateway = Gateway::start().await;
    let job = gateway.downloaded().await;
    let (engine, by) = (gateway.engine(), operator());
    for (refused, done) in [
        (engine.pause(&by, None).await, "paused"),
        (engine.resume(&by, None).await, "resumed"),
        (engine.judge_trial(&by, true, "all is well".into()).await, "confirmed"),
        (engine.judge_trial(&by, false, "the crane stands still".into()).await, "rejected"),
    ] {
        let refused = refused.unwrap_err();
        let EngineError::Ota(OtaError::SystemBusy { with }) = refused else { panic!("{refused:?}") };
        assert_eq!(with, format!("job {} is downloaded: it cannot be {done}", job.id));
    }
}

#[tokio::test]
async fn cancel_after_the_switch_sets_the_old_slot_back() {
    let gateway = Gateway::start().await;
    let job = gateway.downloaded().await;
    gateway.install(&job, InstallOptions { reboot_after: false, ..SEAMLESS }).await.unwrap();
    gateway.until(&job, JobStatus::Rebooting).await;
    assert_eq!(gateway.boot.env().trial, Some(Slot::B));
    gateway.cancel(&job).await.unwrap();
    gateway.until(&job, JobStatus::Cancelled).await;
    let env = gateway.boot.env();
    assert_eq!((env.trial, env.first, env.b.bootable), (None, Slot::A, false));
    assert_eq!(code(gateway.cancel(&job).await.unwrap_err()), ErrorCode::JobNotFound);
}

#[tokio::test]
async fn an_install_without_reboot_waits_and_takes_a_later_reboot() {
    let gateway = Gateway::start().await;
    let job = gateway.downloaded().await;
    gateway.install(&job, InstallOptions { reboot_after: false, ..SEAMLESS }).await.unwrap();
    gateway.until(&job, JobStatus::Rebooting).await;
    assert!(gateway.rebooter.reasons().is_empty());
    assert_eq!(code(gateway.download().await.unwrap_err()), ErrorCode::SystemBusy);
    gateway.install(&job, SEAMLESS).await.unwrap();
    gateway.rebooter.until_reboots(1).await;
}

#[tokio::test]
async fn a_restart_of_the_daemon_during_the_trial_decides_nothing() {
    let mut gateway = Gateway::start().await;
    gateway.health.hold(true);
    let job = gateway.rebooting().await;
    gateway.reboot().await;
    gateway.health.until_runs(1).await;
    gateway.restart_daemon().await;
    gateway.health.hold(false);
    let end = gateway.until(&job, JobStatus::Succeeded).await;
    assert_eq!(end.counters.trials, 1);
    assert_eq!(gateway.journal.slot(Slot::B).unwrap().boot_count, 1, "one boot, two starts of the daemon");
}

#[tokio::test]
async fn a_device_without_a_readable_environment_reports_and_refuses() {
    let gateway = Gateway::start().await;
    let job = gateway.downloaded().await;
    gateway.boot.set_readable(false);
    let refused = gateway.install(&job, SEAMLESS).await.unwrap_err();
    assert!(matches!(refused, EngineError::Unavailable { reason: "env_unreadable", .. }), "{refused:?}");
    let status = gateway.engine().status().await.unwrap();
    assert_eq!(status.degraded[0].0, "env_unreadable");
}

#[tokio::test(start_paused = true)]
async fn a_cancel_whose_undo_fails_is_tried_again_and_ends_only_when_the_switch_is_undone() {
    let gateway = Gateway::start().await;
    let job = gateway.downloaded().await;
    let options = InstallOptions { reboot_after: false, ..SEAMLESS };
    gateway.install(&job, options).await.unwrap();
    gateway.until(&job, JobStatus::Rebooting).await;
    gateway.boot.write_faults.fail_next_times(3, &PortErrorKind::Io("a failing medium".into()));
    gateway.cancel(&job).await.unwrap();
    gateway.until(&job, JobStatus::Cancelled).await;
    let env = gateway.boot.env();
    assert_eq!((env.first, env.trial), (Slot::A, None));
}

#[tokio::test]
async fn an_image_larger_than_the_slot_is_refused_before_a_byte_moves() {
    let gateway = Gateway::start().await;
    let mut release = samples::release("v5.0.5", &gateway.image);
    release.size = ByteCount(u64::MAX / 2);
    gateway.source.offer(release, &gateway.image, Vec::new());
    assert_eq!(code(gateway.download().await.unwrap_err()), ErrorCode::InsufficientSpace);
    assert!(gateway.source.fetches().is_empty());
}

#[tokio::test]
async fn the_running_slot_is_never_a_target() {
    let gateway = Gateway::start().await;
    let request = DownloadRequest {
        update_id: "rel-v5.0.5".parse().unwrap(),
        version: None,
        target: Some(Slot::A),
        priority: Priority::Normal,
        verify_signature: true,
    };
    let refused = gateway.engine().download(&Actor::gateway(), request).await.unwrap_err();
    assert_eq!(code(refused), ErrorCode::InvalidPartition);
}

#[tokio::test]
async fn a_transfer_that_fails_for_good_ends_the_job_with_its_code() {
    let gateway = Gateway::start().await;
    let error = PortErrorKind::Ota(OtaError::Network { what: "connection reset".into() });
    gateway.source.script([FetchScript::FailAt(8192, error)]);
    let job = gateway.download().await.unwrap();
    let end = gateway.until(&job, JobStatus::Failed).await;
    assert_eq!(end.state.failure().unwrap().code, Some(ErrorCode::NetworkError));
}

#[tokio::test]
async fn a_trial_that_nobody_here_started_is_judged_like_one_of_ours() {
    let mut gateway = Gateway::start().await;
    gateway.boot.edit(|env| {
        env.trial = Some(Slot::B);
        env.first = Slot::B;
    });
    assert_eq!(gateway.reboot().await, Slot::B);
    let job = gateway.journal.page(0, 1).unwrap().jobs.remove(0);
    gateway.until(&job, JobStatus::Succeeded).await;
    assert_eq!(gateway.boot.env().trial, None);
}

#[tokio::test]
async fn a_rollback_goes_back_through_a_trial_of_the_old_slot() {
    let mut gateway = Gateway::start().await;
    let job = gateway.rebooting().await;
    gateway.reboot().await;
    gateway.until(&job, JobStatus::Succeeded).await;
    let unknown =
        gateway.engine().rollback(&Actor::gateway(), RollbackRequest { target_version: None }).await;
    match unknown.unwrap_err() {
        EngineError::Ota(OtaError::RollbackNotAvailable { why }) => {
            assert!(why.contains("ota-gatewayd provision"), "{why}");
        }
        other => panic!("nothing is recorded of slot A: {other:?}"),
    }
    gateway.provision(Slot::A, 8192);
    let wrong = RollbackRequest { target_version: Some("v4.0.0".parse().unwrap()) };
    let refused = gateway.engine().rollback(&Actor::gateway(), wrong).await.unwrap_err();
    assert_eq!(code(refused), ErrorCode::RollbackNotAvailable);
    let right = RollbackRequest { target_version: Some("v5.0.4".parse().unwrap()) };
    let back = gateway.engine().rollback(&Actor::gateway(), right).await.unwrap();
    gateway.rebooter.until_reboots(2).await;
    assert_eq!(gateway.boot.env().trial, Some(Slot::A));
    assert_eq!(gateway.reboot().await, Slot::A);
    gateway.until(&back, JobStatus::Succeeded).await;
}

#[tokio::test]
async fn there_is_no_rollback_to_bytes_that_are_not_the_recorded_ones() {
    let mut gateway = Gateway::start().await;
    let job = gateway.rebooting().await;
    gateway.reboot().await;
    gateway.until(&job, JobStatus::Succeeded).await;
    let content = gateway.provision(Slot::A, 8192);
    gateway.slots.corrupt(Slot::A, 4711);
    let environment = gateway.boot.writes();
    let by = Actor::gateway();
    let back = || gateway.engine().rollback(&by, RollbackRequest { target_version: None });
    let job = back().await.unwrap();
    let end = gateway.until(&job, JobStatus::Failed).await;
    let why = end.state.failure().unwrap();
    assert_eq!(why.code, Some(ErrorCode::RollbackNotAvailable));
    assert!(why.message.contains("no longer holds what was recorded"), "{}", why.message);
    assert_eq!(gateway.boot.writes(), environment);
    gateway.slots.corrupt(Slot::A, 4711);
    assert_eq!(gateway.slots.content(Slot::A, 8192), content, "as it was");
    back().await.unwrap();
    gateway.rebooter.until_reboots(2).await;
}

#[tokio::test]
async fn a_job_names_the_request_that_made_it_and_then_the_one_that_had_it_installed() {
    let gateway = Gateway::start().await;
    let by = |id: &str| Actor { request_id: Some(id.into()), ..operator() };
    let request = DownloadRequest {
        update_id: "rel-v5.0.5".parse().unwrap(),
        version: None,
        target: None,
        priority: Priority::Normal,
        verify_signature: true,
    };
    let job = gateway.engine().download(&by("req_1"), request).await.unwrap();
    let job = gateway.until(&job, JobStatus::Downloaded).await;
    assert_eq!(job.request_id.as_deref(), Some("req_1"));
    let install = || InstallRequest { job: JobRef::Job(job.id.clone()), options: SEAMLESS };
    gateway.gate.violate("crane_motion", &[SafetyStep::Write]);
    gateway.engine().install(&by("req_2"), install()).await.unwrap_err();
    assert_eq!(gateway.until(&job, JobStatus::Downloaded).await.request_id.as_deref(), Some("req_1"));
    gateway.gate.clear("crane_motion");
    gateway.slots.write_faults.fail_next(PortErrorKind::Io("worn out".into()));
    gateway.engine().install(&by("req_3"), install()).await.unwrap();
    let failed = gateway.until(&job, JobStatus::Failed).await;
    assert_eq!(failed.request_id.as_deref(), Some("req_3"));
    let records = ota_core::ports::AuditLog::records(&*gateway.journal, 0, 100).unwrap();
    for (action, request) in [("job.downloaded", "req_1"), ("job.failed", "req_3")] {
        let entry = records.iter().map(|record| &record.entry).find(|entry| entry.action == action).unwrap();
        assert_eq!(entry.request_id.as_deref(), Some(request), "{entry:?}");
    }
}

#[tokio::test]
async fn there_is_no_rollback_to_an_empty_slot() {
    let gateway = Gateway::start().await;
    let refused = gateway
        .engine()
        .rollback(&Actor::gateway(), RollbackRequest { target_version: None })
        .await
        .unwrap_err();
    assert_eq!(code(refused), ErrorCode::RollbackNotAvailable);
}

/// An upload that was verified, to be installed at once.
fn deployment(gateway: &Gateway) -> DeployRequest {
    let release = samples::release("v5.1.0-custom", &gateway.image);
    let image = gateway.staging.put(&"custom-v5.1.0.img".parse().unwrap(), &gateway.image);
    let vouched = Vouched {
        sha256: image.sha256,
        size: image.size,
        signers: vec![Signer { kind: SignatureKind::Cms, fingerprint: "ab".into(), name: "release".into() }],
        checksummed: false,
        trust: String::new(),
    };
    DeployRequest { release, image, vouched, target: None, options: SEAMLESS }
}

#[tokio::test]
async fn a_deployment_writes_the_verified_bytes_and_keeps_the_upload_until_it_is_confirmed() {
    let mut gateway = Gateway::start().await;
    let request = deployment(&gateway);
    let unsigned = Vouched { signers: Vec::new(), ..request.vouched.clone() };
    let without = DeployRequest { vouched: unsigned, ..request.clone() };
    let refused = gateway.engine().deploy(&Actor::gateway(), without).await.unwrap_err();
    assert_eq!(code(refused), ErrorCode::SignatureInvalid);
    let job = gateway.engine().deploy(&Actor::gateway(), request).await.unwrap();
    assert!(job.deployment.is_some());
    gateway.rebooter.until_reboots(1).await;
    assert_eq!(gateway.slots.content(Slot::B, IMAGE_BYTES), gateway.image);
    assert_eq!(gateway.staging.names().len(), 1);
    gateway.reboot().await;
    gateway.until(&job, JobStatus::Succeeded).await;
    assert!(gateway.staging.names().is_empty());
}
