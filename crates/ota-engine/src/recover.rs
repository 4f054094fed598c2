//! What a start finds, and what it makes of it. Exactly once, before any request.

use std::sync::Arc;

use ota_core::{
    ByteCount, JobId, Sha256Digest, Timestamp,
    error::{PortError, PortErrorKind},
    job::{
        Counters, Input, InstallOptions, Job, JobKind, JobState, Priority, Situation, Strategy, World,
        after_end, situation,
    },
    release::{ImageKind, Release},
};
use tokio::sync::mpsc;
use tracing::Instrument as _;

use crate::{
    EngineError,
    engine::Shared,
    runner::{Message, Runner, blocking, span_of},
};

impl Runner {
    /// A runner that has taken up what the last run left.
    ///
    /// # Errors
    /// `Internal` when the store cannot be read.
    pub(crate) async fn recover(
        shared: Arc<Shared>,
        outbox: mpsc::UnboundedSender<Message>,
    ) -> Result<Self, EngineError> {
        let mut runner = Self::new(Arc::clone(&shared), outbox)?;
        runner.unrecordable = unrecordable(&shared);
        if runner.unrecordable.is_some() {
            return runner.look_only().await;
        }
        let (job, world) = blocking(move || Ok(look_around(&shared)?)).await?;
        let Some(job) = job else {
            runner.finish_last().await;
            return Ok(runner);
        };
        let situation = situation(&job, &world);
        let new_boot = job.boot_id != runner.shared.ports.boot.boot_id();
        span_of(&job).in_scope(|| {
            tracing::info!(state = job.state.name(), ?situation, new_boot, "job found after a start");
        });
        if new_boot && situation == Situation::OnNewTrial && job.state == JobState::Rebooting {
            runner.rebooted_at = Some(job.updated);
        }
        runner.active = Some(job.clone());
        runner.shared.active.send_replace(Some(job));
        // Where the record cannot be written now it is tried again, and reads are answered meanwhile.
        runner.outcome(runner.epoch, Input::Recovered { situation, new_boot }).await;
        Ok(runner)
    }

    /// Nothing can be recorded before the next start: the job is shown as its record says, and nothing is done for it that
    /// the record would have to say. So a trial stays one, neither confirmed nor left: the boot loader counts its boots. A switch
    /// is undone where the record says so already, or the next boot would follow it.
    async fn look_only(mut self) -> Result<Self, EngineError> {
        let shared = Arc::clone(&self.shared);
        let (job, world) = blocking(move || Ok((shared.ports.journal.active()?, world(&shared)))).await?;
        let Some(job) = job else { return Ok(self) };
        let situation = situation(&job, &world);
        span_of(&job).in_scope(|| {
            tracing::error!(
                state = job.state.name(),
                ?situation,
                "job found, and nothing can be recorded: it waits for the next start"
            );
        });
        let undoing = matches!(job.state, JobState::Undoing { .. });
        let elsewhere =
            matches!(situation, Situation::Lost | Situation::OnNewTrial | Situation::OnNewConfirmed);
        let new_boot = job.boot_id != self.shared.ports.boot.boot_id();
        self.active = Some(job.clone());
        self.shared.active.send_replace(Some(job));
        if undoing && !elsewhere {
            self.outcome(self.epoch, Input::Recovered { situation, new_boot }).await;
        }
        Ok(self)
    }

    /// A cut right behind the record of a job's end lost what is noted beside it: it is noted now.
    async fn finish_last(&mut self) {
        let shared = Arc::clone(&self.shared);
        let unnoted = blocking(move || {
            let unnoted = shared.unnoted_end()?;
            unnoted.as_ref().map_or(Ok(()), |job| shared.audit_end_once(job))?;
            Ok(unnoted)
        });
        match unnoted.await {
            Ok(Some(job)) => {
                let noting = async {
                    tracing::info!(
                        state = job.state.name(),
                        "its end was not noted before the cut; noting it"
                    );
                    for effect in after_end(&job) {
                        self.perform(effect, &job).await;
                    }
                    self.note_end(&job).await;
                };
                noting.instrument(span_of(&job)).await;
            }
            Ok(None) => {}
            Err(error) => tracing::error!(?error, "the last job cannot be looked at"),
        }
    }
}

/// Why nothing is recorded before the next start. What only failed just now is tried again.
fn unrecordable(shared: &Shared) -> Option<PortErrorKind> {
    let error = shared.ports.journal.ready().err()?;
    matches!(error.kind(), PortErrorKind::Unavailable { .. }).then(|| error.kind().clone())
}

fn look_around(shared: &Shared) -> Result<(Option<Job>, World), PortError> {
    let ports = &shared.ports;
    // A boot that is not counted must not stop the daemon from answering.
    if let Err(error) = shared.note_boot() {
        tracing::warn!(error = error.chain(), "this boot is not counted");
    }
    let world = world(shared);
    let job = match ports.journal.active()? {
        Some(job) => Some(job),
        None => orphan_trial(shared, &world)?,
    };
    Ok((job, world))
}

fn world(shared: &Shared) -> World {
    let port = &shared.ports.boot;
    let boot = match port.status() {
        Ok(status) => Some(status),
        Err(error) => {
            tracing::error!(
                error = error.chain(),
                "the boot environment cannot be read: no updates until it can"
            );
            None
        }
    };
    World { running: port.booted(), boot }
}

/// A trial of the running slot that no job of ours knows of: somebody else switched. It is judged like one of ours.
fn orphan_trial(shared: &Shared, world: &World) -> Result<Option<Job>, PortError> {
    let (Some(running), Some(boot)) = (world.running, &world.boot) else { return Ok(None) };
    if boot.trial != Some(running) {
        return Ok(None);
    }
    tracing::warn!(slot = %running, "the running slot is on a trial that no job started; judging it");
    let ports = &shared.ports;
    let now = ports.clock.wall();
    let record = ports.facts.slot(running)?;
    let job = Job {
        id: JobId::from_number(ports.journal.next_number()?),
        deployment: None,
        kind: JobKind::Rollback,
        release: foreign_release(shared, record.sha256, record.size),
        source: !running,
        target: running,
        priority: Priority::Normal,
        verify_signature: true,
        image: None,
        vouched: None,
        install: Some(InstallOptions {
            strategy: Strategy::Immediate,
            reboot_after: true,
            rollback_on_failure: true,
        }),
        state: JobState::Rebooting,
        confirmed_by_hand: false,
        by_itself: false,
        request_id: None,
        counters: Counters::default(),
        boot_id: String::new(),
        created: now,
        install_started: Some(now),
        updated: now,
    };
    ports.journal.save(&job)?;
    Ok(Some(job))
}

fn foreign_release(shared: &Shared, sha256: Option<Sha256Digest>, size: Option<ByteCount>) -> Release {
    Release {
        id: "foreign-switch".parse().unwrap_or_else(|_| unreachable!("a constant id")),
        version: shared.running_version(),
        description: "A switch of slots that was not made by the gateway".into(),
        size: size.unwrap_or_default(),
        sha256: sha256.unwrap_or(Sha256Digest([0; 32])),
        release_date: None::<Timestamp>,
        critical: false,
        requires_reboot: true,
        kind: ImageKind::Raw,
        source: "local".into(),
        deltas: Vec::new(),
        unpacked_size: None,
    }
}
