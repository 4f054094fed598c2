//! Performs effects: the only place that calls the ports that change something.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use ota_core::{
    ByteCount, ImageName, Sha256Digest, Slot,
    error::{OtaError, PortError, PortErrorKind},
    event::{EventKind, Operation, Outcome, Phase},
    job::{Effect, Failure, Held, Input, Job, JobKind, JobState, JobStatus},
    ports::{
        FetchObserver, FetchOrder, Flow, Front, ImageExpectation, ImageReader, PackedImage, RebootReason,
        WriteProgress,
    },
    release::{ImageKind, Release, Vouched},
    safety::{SafetyStep, Severity},
};
use tokio::sync::mpsc;
use tracing::Instrument as _;

use crate::{
    brake::Brake,
    engine::Shared,
    examine::KeepHead,
    facts::failure,
    guard::{steps_of, towards_the_other_slot},
    runner::{Message, Runner, blocking, lost_work},
    vouch::{verify, vouched_still},
};

/// A checkpoint of the download is recorded whenever this much more is durable.
const CHECKPOINT: u64 = 8 << 20;

/// First pause before an undo that failed is tried again; it doubles up to five minutes.
const GO_BACK_AGAIN: Duration = Duration::from_secs(5);

/// Where the outcome of one launch goes.
#[derive(Clone)]
struct Report {
    epoch: u64,
    outbox: mpsc::UnboundedSender<Message>,
}

impl Report {
    fn send(&self, input: Input) {
        let _ = self.outbox.send(Message::Outcome { epoch: self.epoch, input });
    }
}

impl Runner {
    /// Performs one effect of `job`. Long work is launched; its outcome comes back as a message.
    pub(crate) async fn perform(&mut self, effect: Effect, job: &Job) {
        match effect {
            Effect::Persist => {}
            Effect::StartFetch => self.start_fetch(job),
            Effect::StopFetch | Effect::StopWrite => {
                self.stop_work();
                self.tell_end_of_progress();
            }
            Effect::VerifyImage => self.on_device(job, Operation::Verifying, verify),
            Effect::FenceSlot => {
                self.brake = Arc::default();
                let brake = Arc::clone(&self.brake);
                self.change_boot(job, move |shared, job| fence(shared, job, &brake));
            }
            Effect::WriteSlot => self.on_device(job, Operation::WritingPartition, write),
            Effect::CheckSlot => self.on_device(job, Operation::ReadingBack, check_slot),
            Effect::ArmSlot => self.change_boot(job, arm),
            Effect::ConfirmSlot => self.change_boot(job, confirm),
            Effect::GoBack => {
                self.stop_work();
                self.undo_tries = 0;
                self.change_boot(job, go_back);
            }
            Effect::GoBackAgain => self.go_back_again(job),
            Effect::Reboot => self.reboot(job, RebootReason::Trial),
            Effect::RebootBack => self.reboot(job, RebootReason::GoBack),
            Effect::CheckHealth => self.check_health(job),
            Effect::AwaitUnblocked => self.wait_for_safety(job),
            Effect::AwaitWindow => self.await_window(job).await,
            Effect::PauseWrite => self.brake.pause(),
            Effect::ResumeWrite => self.brake.release(),
            Effect::RecordSuccess => {
                self.note_restart();
                self.note(job, |shared, job| {
                    shared.slot_confirmed(job)?;
                    shared.raise_floor_after(job)?;
                    shared.remember_left(job)?;
                    shared.record_end(job, Outcome::Success)
                })
                .await;
            }
            Effect::DropImage => {
                self.note(job, |shared, job| match &job.image {
                    Some(image) => shared.ports.images.remove(&image.name),
                    None => shared.ports.images.remove(&staged_name(&job.release)),
                })
                .await;
            }
            Effect::Announce(phase, outcome) => self.announce(job, phase, outcome),
        }
    }

    /// A new launch: outcomes of earlier ones are stale from now on.
    fn launch(&mut self) -> Report {
        self.epoch = self.epoch.wrapping_add(1);
        Report { epoch: self.epoch, outbox: self.outbox.clone() }
    }

    /// The async work of the active job, in the span of what caused it.
    fn begin(&mut self, work: impl Future<Output = ()> + Send + 'static) {
        self.task = Some(tokio::spawn(work.in_current_span()).abort_handle());
    }

    fn start_fetch(&mut self, job: &Job) {
        let report = self.launch();
        let shared = Arc::clone(&self.shared);
        let have = match job.state {
            JobState::Downloading { have, .. } | JobState::Paused { have } => have,
            _ => ByteCount::ZERO,
        };
        shared.live.begin(Operation::Downloading, have, job.release.size);
        let order = FetchOrder {
            release: job.release.clone(),
            name: staged_name(&job.release),
            priority: job.priority,
        };
        let known = self.source;
        let work = async move {
            let observer = FetchReport {
                shared: Arc::clone(&shared),
                report: report.clone(),
                told: Mutex::new(have),
                arrived: Mutex::default(),
            };
            let outcome = match source_of(&shared, &order, known).await {
                Ok(source) => source.fetch(&order, &observer).await,
                Err(error) => Err(error),
            };
            report.send(match outcome {
                Ok(image) => Input::Fetched(image),
                Err(error) => {
                    tracing::warn!(error = error.chain(), "download failed");
                    Input::FetchFailed(failure(&error))
                }
            });
        };
        self.begin(work);
    }

    /// Long blocking work with progress.
    fn on_device(
        &mut self,
        job: &Job,
        operation: Operation,
        work: fn(&Shared, &Job, &mut dyn FnMut(WriteProgress) -> Flow) -> Input,
    ) {
        let report = self.launch();
        self.brake = Arc::default();
        let (shared, job, brake) = (Arc::clone(&self.shared), job.clone(), Arc::clone(&self.brake));
        self.tell_end_of_progress();
        shared.live.begin(operation, ByteCount::ZERO, job.release.size);
        // Not only at the next look: a short operation would be over by then, and nobody told of it.
        self.tell_progress();
        self.device.run(move || {
            let now = || shared.ports.clock.monotonic();
            let (began, mut stood_still, mut written) = (now(), Duration::ZERO, ByteCount::ZERO);
            let mut observer = |progress| {
                match progress {
                    WriteProgress::Written(bytes) => {
                        shared.moved.written(bytes.saturating_sub(written));
                        written = bytes;
                        shared.live.at(operation, bytes);
                    }
                    WriteProgress::ReadBack(bytes) => shared.live.at(Operation::ReadingBack, bytes),
                }
                let asked = now();
                let flow = brake.flow();
                stood_still += now().saturating_sub(asked);
                flow
            };
            let outcome = work(&shared, &job, &mut observer);
            if operation == Operation::WritingPartition && outcome == Input::Written {
                let took = now().saturating_sub(began).saturating_sub(stood_still);
                shared.note_write(job.release.size, took);
            }
            report.send(outcome);
        });
    }

    /// A job that is to be started needs a window it fits into; one that is under way needs an open one.
    async fn await_window(&mut self, job: &Job) {
        let starts = job.state == JobState::Scheduled;
        let (shared, known) = (Arc::clone(&self.shared), job.clone());
        let work = blocking(move || Ok(shared.expected_work(&known))).await.unwrap_or(Duration::MAX);
        let work = if starts { work } else { Duration::ZERO };
        tracing::info!(?work, "waits for an update window");
        self.awaiting_window = Some(work);
        if !starts {
            self.tell_status(job);
        }
    }

    /// How long the restart took, now that the new slot is confirmed.
    fn note_restart(&mut self) {
        let Some(rebooted) = self.rebooted_at.take() else { return };
        let shared = Arc::clone(&self.shared);
        let took = shared.ports.clock.wall().since(rebooted);
        self.device.run(move || shared.note_restart(took));
    }

    /// Work that ends in one write of the boot environment, in the order of the requests.
    fn change_boot(&mut self, job: &Job, work: impl FnOnce(&Shared, &Job) -> Input + Send + 'static) {
        let report = self.launch();
        let (shared, job) = (Arc::clone(&self.shared), job.clone());
        self.tell_end_of_progress();
        self.device.run(move || report.send(work(&shared, &job)));
    }

    /// Later each time: a try may write to a medium that is failing.
    fn go_back_again(&mut self, job: &Job) {
        let pause = GO_BACK_AGAIN * 2_u32.pow(self.undo_tries.min(6));
        self.undo_tries += 1;
        tracing::error!(?pause, "the switch could not be undone; trying again");
        let report = self.launch();
        let (shared, device, job) = (Arc::clone(&self.shared), self.device.clone(), job.clone());
        let work = async move {
            tokio::time::sleep(pause).await;
            let outcome = device.ask(move || go_back(&shared, &job)).await;
            report.send(outcome.unwrap_or_else(|| Input::GoBackFailed(lost_work())));
        };
        self.begin(work);
    }

    /// Announces the reboot, waits, and asks safety right before the restart itself.
    fn reboot(&mut self, job: &Job, reason: RebootReason) {
        let report = self.launch();
        let (shared, device, job) = (Arc::clone(&self.shared), self.device.clone(), job.clone());
        let work = async move {
            let held = || reboot_held(&shared, &job);
            if let Some(held) = held() {
                return report.send(held);
            }
            let countdown = shared.config.reboot_countdown;
            shared.bus.publish(EventKind::System {
                event: "reboot_scheduled".into(),
                message: format!("System reboot scheduled in {countdown} seconds"),
                countdown: Some(countdown),
            });
            if let Some(held) = count_down(&shared, countdown, held).await {
                return report.send(held);
            }
            let outcome = device.ask(move || restart(&shared, reason, &job)).await;
            report.send(outcome.unwrap_or_else(|| Input::RebootFailed(lost_work())));
        };
        self.begin(work);
    }

    fn check_health(&mut self, job: &Job) {
        let report = self.launch();
        self.brake = Arc::default();
        let brake = Arc::clone(&self.brake);
        let (shared, device, job) = (Arc::clone(&self.shared), self.device.clone(), job.clone());
        let work = async move {
            let own = Arc::clone(&shared);
            let digest = device.ask(move || own_digest(&own, &job, &brake)).await;
            let outcome = match digest {
                None => Err(lost_work()),
                Some(Err(why)) => Err(why),
                Some(Ok(())) => {
                    shared.ports.health.run().await.map_err(|what| Failure::because("health_check", what))
                }
            };
            report.send(outcome.map_or_else(Input::HealthFailed, |()| Input::HealthPassed));
        };
        self.begin(work);
    }

    /// Book-keeping that must not stop a job: a failure is logged, the record of the job is what counts.
    async fn note(&self, job: &Job, work: fn(&Shared, &Job) -> Result<(), PortError>) {
        let (shared, job) = (Arc::clone(&self.shared), job.clone());
        let done = self.device.ask(move || {
            work(&shared, &job).inspect_err(|error| {
                tracing::error!(error = error.chain(), "book-keeping failed");
            })
        });
        let _ = done.await;
    }

    /// What an install that did not succeed leaves in the records of slots and updates.
    pub(crate) async fn note_end(&self, job: &Job) {
        if job.install.is_none() || job.state.status() == JobStatus::Succeeded {
            return;
        }
        self.note(job, |shared, job| {
            if job.counters.trials > 0 {
                shared.slot_given_up(job.target)?;
            } else if job.counters.installs > 0 {
                shared.slot_left(job.target)?;
            }
            shared.record_end(job, outcome_of(job))
        })
        .await;
    }

    fn announce(&self, job: &Job, phase: Phase, outcome: Outcome) {
        self.tell_end_of_progress();
        let since = match phase {
            Phase::Download => job.created,
            Phase::Install => job.install_started.unwrap_or(job.created),
        };
        self.shared.bus.publish(EventKind::JobComplete {
            job: job.id.clone(),
            phase,
            outcome,
            message: end_sentence(job, phase, outcome),
            version: job.release.version.clone(),
            size: job.release.size,
            duration: job.updated.since(since),
        });
    }
}

impl Shared {
    fn raise_floor_after(&self, job: &Job) -> Result<(), PortError> {
        // A rollback goes down on purpose; it never lowers the floor and has no reason to raise it.
        if job.kind == JobKind::Rollback {
            return Ok(());
        }
        // From now on what the configuration of a confirmed image says counts, whatever image is booted later. A slip of the pen
        // above that image would keep every other one out for ever.
        let confirmed = &job.release.version;
        let said = self.config.lowest_version.as_ref().map(|said| said.min(confirmed));
        let floor = match &self.config.security_floor {
            crate::engine::SecurityFloor::Fixed => said,
            crate::engine::SecurityFloor::FollowConfirmed => said.max(Some(confirmed)),
        };
        floor.map_or(Ok(()), |floor| self.raise_floor(floor))
    }
}

/// Forwards what a fetch reports: live numbers always, a checkpoint now and then.
struct FetchReport {
    shared: Arc<Shared>,
    report: Report,
    told: Mutex<ByteCount>,
    /// What has arrived, since that is told.
    arrived: Mutex<Option<ByteCount>>,
}

impl FetchObserver for FetchReport {
    fn durable(&self, have: ByteCount) {
        let mut told = self.told.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if have.get() >= told.get().saturating_add(CHECKPOINT) {
            *told = have;
            self.report.send(Input::FetchProgress { have });
        }
    }

    fn arrived(&self, have: ByteCount) {
        let mut arrived = self.arrived.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // What an earlier fetch left was counted by that.
        if let Some(before) = arrived.replace(have) {
            self.shared.moved.downloaded(have.saturating_sub(before));
        }
        self.shared.live.at(Operation::Downloading, have);
    }
}

/// The source that offers the release; after a restart the one that offers it now.
async fn source_of(
    shared: &Shared,
    order: &FetchOrder,
    known: Option<usize>,
) -> Result<Arc<dyn ota_core::ports::UpdateSource>, PortError> {
    let sources = &shared.ports.sources;
    if let Some(source) = known.and_then(|index| sources.get(index)) {
        return Ok(Arc::clone(source));
    }
    // Nothing but the configured name survives a restart; with one source there is nothing to choose.
    match sources.as_slice() {
        [] => Err(OtaError::Network { what: "no update source is configured".into() }.into()),
        [only] => Ok(Arc::clone(only)),
        many => {
            let running = shared.running_version();
            for source in many {
                let offered = source.check(&running).await.unwrap_or_default();
                if offered.iter().any(|r| r.id == order.release.id && r.sha256 == order.release.sha256) {
                    return Ok(Arc::clone(source));
                }
            }
            Err(OtaError::Network { what: format!("no source offers {} any more", order.release.id) }.into())
        }
    }
}

/// Name of a release's image in staging: the digest is in it, so that another job for the same bytes goes on there.
pub(crate) fn staged_name(release: &Release) -> ImageName {
    let extension = match release.kind {
        ImageKind::Raw => "img",
        ImageKind::Squashfs => "squashfs",
        ImageKind::TarGz => "tar.gz",
    };
    let digest = release.sha256.to_string();
    format!("update-{}.{extension}", &digest[..16])
        .parse()
        .unwrap_or_else(|_| unreachable!("hexadecimal digits and an extension make an image name"))
}

pub(crate) fn expectation(job: &Job) -> Result<(ImageName, ImageExpectation), PortError> {
    let image = job.image.as_ref().ok_or_else(|| PortErrorKind::Io("the job has no staged image".into()))?;
    Ok((image.name.clone(), ImageExpectation { size: image.size, sha256: image.sha256 }))
}

pub(crate) type Watch<'a> = &'a mut dyn FnMut(WriteProgress) -> Flow;

/// `brake`: what comes before the first write may take as long as reading the image, and a cancel must not cost the slot.
pub(crate) fn fence(shared: &Shared, job: &Job, brake: &Brake) -> Input {
    let blocks = shared.held_back(steps_of(job, SafetyStep::Write));
    if !blocks.is_empty() {
        return Input::Blocked(blocks);
    }
    let run = || {
        vouched_still(shared, job, &mut |_| brake.flow())?;
        shared.snapshot_before_install(job)?;
        if brake.flow() == Flow::Stop {
            return Err(OtaError::SystemBusy { with: "stopped on request".into() }.into());
        }
        shared.ports.boot.fence(job.target)?;
        shared.slot_spoiled(job.target)
    };
    run().map_or_else(|error| Input::FenceFailed(failure(&error)), |()| Input::Fenced)
}

fn write(shared: &Shared, job: &Job, observer: Watch<'_>) -> Input {
    let mut run = || {
        let (name, staged) = expectation(job)?;
        // What was vouched for is what is written, whatever lies in staging by now: of a one-file image the bytes in front of
        // its trailer.
        let expect = match &job.vouched {
            Some(Vouched { size, sha256, .. }) => ImageExpectation { size: *size, sha256: *sha256 },
            None => staged,
        };
        if expect.size == staged.size && expect.sha256 != staged.sha256 {
            return Err(PortErrorKind::Io("the verified digest is not the staged one".into()).into());
        }
        let vouched = bytes_alone(expect);
        let (images, verifier) = (&shared.ports.images, &shared.ports.verifier);
        let end = images.end(&name, verifier.end_len())?;
        let front = front(job, expect, staged);
        let open = || -> Result<Box<dyn ImageReader>, PortError> {
            let image: Box<dyn ImageReader> = Box::new(Front::new(images.open(&name)?, front));
            Ok(verifier.guarded(image, &vouched, &end))
        };
        let holds = write_image(shared, job.target, expect, &open, observer)?;
        shared.slot_written(job, holds)
    };
    run().map_or_else(|error| Input::WriteFailed(failure(&error)), |()| Input::Written)
}

/// The bytes, without who vouched for them.
fn bytes_alone(expect: ImageExpectation) -> Vouched {
    let ImageExpectation { size, sha256 } = expect;
    Vouched { sha256, size, signers: Vec::new(), checksummed: false, trust: String::new() }
}

/// Gives what the slot holds then: of a packed image another length and digest than the image has.
fn write_image(
    shared: &Shared,
    slot: Slot,
    expect: ImageExpectation,
    open: &(dyn Fn() -> Result<Box<dyn ImageReader>, PortError> + Sync),
    observer: Watch<'_>,
) -> Result<ImageExpectation, PortError> {
    let facts = match shared.known_facts(expect) {
        Some(facts) => facts,
        // Not since this start: once more in memory, so that what is written can be held against it.
        None => {
            let head = KeepHead::of(open()?, shared.ports.inspector.head_len())?;
            shared.facts_of(&bytes_alone(expect), &head, open()?, None, observer)?
        }
    };
    let Some(unpacked) = &facts.unpacked else {
        shared.ports.slots.write(slot, &mut *open()?, expect, observer)?;
        return Ok(expect);
    };
    tracing::info!(packed = %expect.sha256, unpacked = %unpacked.sha256, format = facts.format, "unpacking");
    let image = PackedImage { expect, kind: facts.kind, unpacked, open };
    shared.ports.slots.write_packed(slot, image, observer)
}

/// How much of the staged file is read: of a one-file image what was vouched for, without the trailer; else all of it, so
/// that a file that has grown is noticed.
fn front(job: &Job, expect: ImageExpectation, staged: ImageExpectation) -> ByteCount {
    let one_file = job.kind == JobKind::Deployment || expect.size != staged.size;
    if one_file { expect.size } else { ByteCount(u64::MAX) }
}

/// A rollback goes only to bytes that are still the recorded ones.
fn check_slot(shared: &Shared, job: &Job, observer: Watch<'_>) -> Input {
    let mut run = || {
        let slot = job.target;
        let record = shared.ports.facts.slot(slot)?;
        let refused = |why| PortError::from(OtaError::RollbackNotAvailable { why });
        let (Some(expected), Some(size)) = (record.sha256, record.size) else {
            return Err(refused(format!("no digest is recorded of slot {slot}")));
        };
        let found = shared.ports.slots.digest(slot, size, observer)?;
        if found == expected {
            return Ok(());
        }
        Err(refused(format!("slot {slot} no longer holds what was recorded: digest {found}, not {expected}")))
    };
    run().map_or_else(|error| Input::WriteFailed(failure(&error)), |()| Input::Written)
}

pub(crate) fn same_digest(expected: &Sha256Digest, found: &Sha256Digest) -> Result<(), PortError> {
    if expected == found { Ok(()) } else { Err(OtaError::digest_mismatch(expected, found).into()) }
}

fn arm(shared: &Shared, job: &Job) -> Input {
    let blocks = shared.held_back(steps_of(job, SafetyStep::Switch));
    if !blocks.is_empty() {
        return Input::Blocked(blocks);
    }
    if job.waits_for_windows() && !shared.ports.safety.fits_window(Duration::ZERO) {
        return Input::WindowClosed;
    }
    match shared.ports.boot.arm(job.target, shared.config.tries) {
        Ok(()) => Input::Armed,
        Err(error) => Input::ArmFailed(failure(&error)),
    }
}

fn confirm(shared: &Shared, job: &Job) -> Input {
    match shared.ports.boot.confirm(job.target) {
        Ok(()) => Input::SlotConfirmed,
        Err(error) => Input::ConfirmFailed(failure(&error)),
    }
}

fn go_back(shared: &Shared, job: &Job) -> Input {
    match shared.ports.boot.go_back(job.source) {
        Ok(()) => Input::WentBack,
        Err(_) if never_switched(shared, job) => Input::WentBack,
        Err(error) => Input::GoBackFailed(failure(&error)),
    }
}

/// Whether there is nothing to undo: both copies can be read, and what counts says that the old slot boots next.
fn never_switched(shared: &Shared, job: &Job) -> bool {
    let status = shared.ports.boot.status();
    status.is_ok_and(|boot| boot.redundant && boot.first == job.source && boot.trial.is_none())
}

/// Why the reboot may not happen now.
fn reboot_held(shared: &Shared, job: &Job) -> Option<Input> {
    let blocks = shared.held_back(steps_of(job, SafetyStep::Reboot));
    if !blocks.is_empty() {
        return Some(Input::Blocked(blocks));
    }
    let in_window = towards_the_other_slot(job) && job.waits_for_windows();
    (in_window && !shared.ports.safety.fits_window(Duration::ZERO)).then_some(Input::WindowClosed)
}

/// Waits for the announced reboot; ends at once with what has come to hold it back.
pub(crate) async fn count_down<H>(shared: &Shared, seconds: u32, held: impl Fn() -> Option<H>) -> Option<H> {
    let mut changes = shared.ports.safety_changes.clone();
    let end = tokio::time::sleep(Duration::from_secs(seconds.into()));
    tokio::pin!(end);
    loop {
        tokio::select! {
            () = &mut end => return None,
            changed = changes.changed() => {
                if let Some(held) = held() {
                    return Some(held);
                }
                if changed.is_err() {
                    // No more changes are announced: the last look, right before the restart, still asks.
                    end.await;
                    return None;
                }
            }
        }
    }
}

/// Safety is asked in the same breath as the restart.
fn restart(shared: &Shared, reason: RebootReason, job: &Job) -> Input {
    if let Some(held) = reboot_held(shared, job) {
        return held;
    }
    match shared.ports.rebooter.reboot(reason) {
        Ok(()) => Input::RebootStarted,
        Err(error) => Input::RebootFailed(failure(&error)),
    }
}

/// The running slot must hold what was written before anything of it is believed.
fn own_digest(shared: &Shared, job: &Job, brake: &Brake) -> Result<(), Failure> {
    if !shared.config.verify_slot_digest {
        return Ok(());
    }
    let mut observer = |_| brake.flow();
    let mut run = || {
        let record = shared.ports.facts.slot(job.target)?;
        let (Some(expected), Some(size)) = (record.sha256, record.size) else { return Ok(()) };
        let found = shared.ports.slots.digest(job.target, size, &mut observer)?;
        same_digest(&expected, &found)
    };
    run().map_err(|error: PortError| failure(&error))
}

fn outcome_of(job: &Job) -> Outcome {
    match job.state.status() {
        JobStatus::RolledBack => Outcome::RolledBack,
        JobStatus::Cancelled => Outcome::Cancelled,
        JobStatus::Succeeded => Outcome::Success,
        _ => Outcome::Failed,
    }
}

/// What `job_complete` says.
fn end_sentence(job: &Job, phase: Phase, outcome: Outcome) -> String {
    let why = || job.state.failure().map_or_else(String::new, |why| format!(": {}", why.message));
    match (phase, outcome) {
        (Phase::Download, Outcome::Success) => "Update downloaded successfully".into(),
        (Phase::Install, Outcome::Success) => "Update installed and confirmed".into(),
        (_, Outcome::Cancelled) => "Update cancelled".into(),
        (Phase::Download, _) => format!("Download failed{}", why()),
        (Phase::Install, Outcome::RolledBack) => format!("Update rolled back{}", why()),
        (Phase::Install, Outcome::Failed) => format!("Update failed{}", why()),
    }
}

/// What `status_change` says.
pub(crate) fn status_sentence(job: &Job) -> (String, Severity) {
    if let Some(Held::Safety(blocks)) = job.state.held() {
        let names: Vec<&str> = blocks.iter().map(|block| block.constraint.as_str()).collect();
        return (format!("Update waits for safety: {}", names.join(", ")), Severity::Warning);
    }
    if job.state.held() == Some(&Held::Window) {
        return ("Update waits for the next maintenance window".into(), Severity::Info);
    }
    if job.state.held() == Some(&Held::ExternalReboot) {
        return ("Update installed, waiting for a reboot".into(), Severity::Info);
    }
    let (text, severity) = match job.state.status() {
        JobStatus::Queued => ("Update queued", Severity::Info),
        JobStatus::Downloading => ("Update download in progress", Severity::Info),
        JobStatus::Paused => ("Update download paused", Severity::Info),
        JobStatus::Verifying => ("Verifying the update", Severity::Info),
        JobStatus::Downloaded => ("Update downloaded, ready to install", Severity::Info),
        JobStatus::Scheduled => ("Update waits for the next maintenance window", Severity::Info),
        JobStatus::Installing => ("Update installation in progress", Severity::Info),
        JobStatus::Rebooting => ("Rebooting", Severity::Warning),
        JobStatus::Confirming => ("Checking the new version", Severity::Info),
        JobStatus::Succeeded => ("Update installed and confirmed", Severity::Info),
        JobStatus::Failed => ("Update failed", Severity::Error),
        JobStatus::Cancelled => ("Update cancelled", Severity::Warning),
        JobStatus::RolledBack => ("Update rolled back", Severity::Error),
    };
    (text.into(), severity)
}
