//! The one task that owns the active job.

use std::{sync::Arc, time::Duration};

use ota_core::{
    ByteCount, DeploymentId, JobId, Slot, Timestamp,
    error::{OtaError, PortError, PortErrorKind},
    event::{EventKind, Operation, Progress},
    job::{
        Counters, Effect, Failure, Held, Input, InstallOptions, Job, JobKind, JobState, Priority, Refused,
        Strategy, Transition, step,
    },
    release::{Release, StagedImage, Vouched, refuse_below_floor},
    safety::{ConstraintState, SafetyStep},
};
use tokio::{
    sync::{mpsc, oneshot},
    task::AbortHandle,
    time::MissedTickBehavior,
};
use tracing::{Instrument as _, Span};

use crate::{
    EngineError, InstallRequest, JobRef, LiveProgress,
    brake::Brake,
    claim::{Claim, Claimant},
    device::Device,
    effects::staged_name,
    engine::{Shared, busy, is},
    facts::system_state,
    guard::{refuse_blocked, steps_of},
};

/// How often progress is told and waits are reconsidered. Safety changes wake the runner at once.
const TICK: Duration = Duration::from_millis(250);
/// How long until an outcome whose record could not be written is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// What reaches the runner.
pub(crate) enum Message {
    /// Somebody asks for something, with the id of the request, in whose span it is decided.
    Request(Request, Option<String>, Span, oneshot::Sender<Result<Job, EngineError>>),
    /// An effect had this outcome. `epoch` is the number of the launch it belongs to.
    Outcome { epoch: u64, input: Input },
    /// Somebody wants to be alone.
    Claim(Claimant, oneshot::Sender<Result<Claim, EngineError>>),
    /// Stop.
    Shutdown(oneshot::Sender<()>),
}

/// A request that the runner decides on.
pub(crate) enum Request {
    /// A new job.
    Create(Box<Create>),
    /// Install a job.
    Install(InstallRequest),
    /// Anything else a job may be told by people.
    Input(Option<JobRef>, Input),
    /// Give up a job of the gateway's own whose install nobody has asked for, with the reason.
    MakeWay(JobRef, String),
}

impl Request {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Create(_) => "Create",
            Self::Install(_) => "Install",
            Self::Input(_, input) => input.name(),
            Self::MakeWay(..) => "MakeWay",
        }
    }
}

/// A job to be made.
pub(crate) struct Create {
    pub(crate) release: Release,
    /// Index of the source that offers it; none for what is here already.
    pub(crate) source: Option<usize>,
    pub(crate) kind: JobKind,
    pub(crate) target: Slot,
    pub(crate) priority: Priority,
    pub(crate) verify_signature: bool,
    pub(crate) image: Option<StagedImage>,
    pub(crate) vouched: Option<Vouched>,
    /// For jobs that are installed at once.
    pub(crate) install: Option<InstallOptions>,
    pub(crate) by_itself: bool,
}

/// The runner. Its fields are the live side of the active job; everything that must survive is in the job.
pub(crate) struct Runner {
    pub(crate) shared: Arc<Shared>,
    pub(crate) outbox: mpsc::UnboundedSender<Message>,
    pub(crate) device: Device,
    pub(crate) active: Option<Job>,
    /// Index of the source of the active job.
    pub(crate) source: Option<usize>,
    /// Number of the last launched effect; outcomes of earlier ones are stale.
    pub(crate) epoch: u64,
    /// The async work of the active job.
    pub(crate) task: Option<AbortHandle>,
    /// Tells blocking work of the active job to stop, or to stand still.
    pub(crate) brake: Arc<Brake>,
    /// The step that waits for safety.
    pub(crate) waiting: Option<SafetyStep>,
    /// What has to fit into the window that the job waits for.
    pub(crate) awaiting_window: Option<Duration>,
    /// How often the undo of a switch has failed in a row.
    pub(crate) undo_tries: u32,
    /// When the reboot into the trial was recorded, seen after it.
    pub(crate) rebooted_at: Option<Timestamp>,
    /// Constraint states as last told.
    pub(crate) told: Vec<(String, ConstraintState)>,
    /// Why this run records nothing, and so changes nothing.
    pub(crate) unrecordable: Option<PortErrorKind>,
    /// Whether the last record could not be written; said once.
    unrecorded: bool,
}

/// Why an input was not taken.
pub(crate) enum FeedError {
    Refused(Refused),
    Record(EngineError),
}

impl Runner {
    pub(crate) fn new(
        shared: Arc<Shared>,
        outbox: mpsc::UnboundedSender<Message>,
    ) -> Result<Self, EngineError> {
        let device = Device::start().map_err(|e| EngineError::Internal { log: e.to_string() })?;
        Ok(Self {
            shared,
            outbox,
            device,
            active: None,
            source: None,
            epoch: 0,
            task: None,
            brake: Arc::default(),
            waiting: None,
            awaiting_window: None,
            undo_tries: 0,
            rebooted_at: None,
            told: Vec::new(),
            unrecordable: None,
            unrecorded: false,
        })
    }

    /// Takes messages until the shutdown.
    pub(crate) async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Message>) {
        let mut safety = self.shared.ports.safety_changes.clone();
        let mut announced = true;
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let before = self.standing();
            tokio::select! {
                message = inbox.recv() => match message {
                    Some(Message::Request(request, id, span, reply)) => {
                        let answer = self.request(request, id).instrument(span).await;
                        let _ = reply.send(answer);
                    }
                    Some(Message::Claim(who, reply)) => {
                        let _ = reply.send(self.claim(who));
                    }
                    Some(Message::Outcome { epoch, input }) => self.outcome(epoch, input).await,
                    Some(Message::Shutdown(reply)) => {
                        self.rest().await;
                        let _ = reply.send(());
                        return;
                    }
                    None => return,
                },
                changed = safety.changed(), if announced => {
                    // When nobody announces changes any more, the tick still asks.
                    announced = changed.is_ok();
                    self.reconsider().await;
                }
                _ = tick.tick() => {
                    self.tell_progress();
                    self.reconsider().await;
                }
            }
            // What has just begun may be unsafe since before it began, and no more news of that will come.
            if self.standing() != before {
                self.reconsider().await;
            }
        }
    }

    /// Which job is active and what it does.
    fn standing(&self) -> Option<(JobId, &'static str)> {
        self.active.as_ref().map(|job| (job.id.clone(), job.state.name()))
    }

    /// Stops what can be resumed and waits until the device is at rest.
    async fn rest(&mut self) {
        self.stop_work();
        let _ = self.device.ask(|| ()).await;
    }

    /// Aborts async work and tells blocking work to stop. Outcomes of both are stale from now on.
    pub(crate) fn stop_work(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
        self.brake.stop();
        self.epoch = self.epoch.wrapping_add(1);
        self.waiting = None;
        self.awaiting_window = None;
    }

    async fn request(&mut self, request: Request, id: Option<String>) -> Result<Job, EngineError> {
        if let Some(why) = &self.unrecordable {
            return Err(PortError::from(why.clone()).into());
        }
        match request {
            Request::Create(create) => self.create(*create, id).await,
            Request::Install(install) => self.install(install, id).await,
            Request::Input(name, input) => {
                let job = self.named(name.as_ref()).await?;
                self.feed(input).await.map_err(|error| refusal(&job, error))
            }
            Request::MakeWay(name, reason) => {
                let job = self.named(Some(&name)).await?;
                // Somebody may have asked for it since that was decided.
                let idle = matches!(job.state, JobState::Downloaded | JobState::Scheduled);
                if !(idle && job.by_itself && job.request_id.is_none()) {
                    return Err(busy(&job).into());
                }
                self.feed(Input::Cancel { reason }).await.map_err(|error| refusal(&job, error))
            }
        }
    }

    async fn create(&mut self, create: Create, request_id: Option<String>) -> Result<Job, EngineError> {
        if let Some(job) = &self.active {
            return Err(busy(job).into());
        }
        self.shared.refuse_claimed()?;
        let kind = create.kind;
        let held_for_window = create.install.is_some_and(|o| o.strategy == Strategy::MaintenanceWindow);
        if !held_for_window {
            refuse_blocked(self.shared.ports.safety.judge(match kind {
                JobKind::Update => SafetyStep::Download,
                JobKind::Deployment => SafetyStep::Deploy,
                JobKind::Rollback => SafetyStep::Rollback,
            }))?;
        }
        self.source = create.source;
        let install = create.install.filter(|_| kind == JobKind::Deployment);
        let job = self.record_new(create, request_id).await?;
        tracing::info!(job = %job.id, version = %job.release.version, ?kind, "job made");
        self.adopt(job);
        let unexpected = |error| match error {
            FeedError::Record(error) => error,
            FeedError::Refused(refused) => EngineError::Internal { log: refused.to_string() },
        };
        let job = self.feed(Input::Start).await.map_err(unexpected)?;
        match install {
            Some(options) => self.feed(Input::Install(options)).await.map_err(unexpected),
            None => Ok(job),
        }
    }

    /// Checks the space, gives the job its number and makes its record durable.
    async fn record_new(&self, create: Create, request_id: Option<String>) -> Result<Job, EngineError> {
        let shared = Arc::clone(&self.shared);
        blocking(move || {
            let ports = &shared.ports;
            space_for(&shared, &create)?;
            let number = ports.journal.next_number()?;
            let now = ports.clock.wall();
            let deployment = (create.kind == JobKind::Deployment).then(|| DeploymentId::from_number(number));
            let job = Job {
                id: JobId::from_number(number),
                deployment,
                kind: create.kind,
                release: create.release,
                source: !create.target,
                target: create.target,
                priority: create.priority,
                verify_signature: create.verify_signature,
                image: create.image,
                vouched: create.vouched,
                install: create.install,
                state: JobState::Queued,
                confirmed_by_hand: false,
                by_itself: create.by_itself,
                request_id,
                counters: Counters::default(),
                boot_id: ports.boot.boot_id().into(),
                created: now,
                install_started: None,
                updated: now,
            };
            ports.journal.save(&job)?;
            Ok(job)
        })
        .await
    }

    async fn install(&mut self, request: InstallRequest, id: Option<String>) -> Result<Job, EngineError> {
        let job = self.named(Some(&request.job)).await?;
        let starts = matches!(job.state, JobState::Downloaded | JobState::Scheduled);
        for step in asked_for(&job.state).into_iter().flat_map(|step| steps_of(&job, step)) {
            refuse_blocked(self.shared.ports.safety.judge(step))?;
        }
        if starts {
            self.shared.refuse_claimed()?;
            let boot = Arc::clone(&self.shared.ports.boot);
            blocking(move || Ok(boot.ready()?)).await?;
            if request.options.strategy != Strategy::MaintenanceWindow {
                let step =
                    if job.kind == JobKind::Deployment { SafetyStep::Deploy } else { SafetyStep::Write };
                refuse_blocked(self.shared.ports.safety.judge(step))?;
            }
        }
        // Recorded with the state that the request leads to.
        let asked = self.active.as_mut().map(|job| std::mem::replace(&mut job.request_id, id));
        let fed = self.feed(Input::Install(request.options)).await;
        if let (Err(_), Some(before), Some(job)) = (&fed, asked, &mut self.active) {
            job.request_id = before;
        }
        fed.map_err(|error| refusal(&job, error))
    }

    /// The active job, if it goes by `name`.
    async fn named(&self, name: Option<&JobRef>) -> Result<Job, EngineError> {
        match (&self.active, name) {
            (Some(job), None) => Ok(job.clone()),
            (Some(job), Some(name)) if is(job, name) => Ok(job.clone()),
            (_, name) => {
                let id = name.map_or_else(String::new, ToString::to_string);
                let ended = match name.cloned() {
                    Some(name) => {
                        let shared = Arc::clone(&self.shared);
                        blocking(move || Ok(shared.find(&name)?)).await?.is_some()
                    }
                    None => false,
                };
                Err(OtaError::JobNotFound { id, ended }.into())
            }
        }
    }

    pub(crate) async fn outcome(&mut self, epoch: u64, input: Input) {
        if epoch != self.epoch {
            tracing::debug!(input = input.name(), "outcome of work that was stopped");
            return;
        }
        if !self.take(input.clone()).await {
            let outbox = self.outbox.clone();
            tokio::spawn(async move {
                tokio::time::sleep(RETRY).await;
                let _ = outbox.send(Message::Outcome { epoch, input });
            });
        }
    }

    /// Tells the active job what nobody waits for an answer to. `false`: it could not be recorded, and has to be told again.
    pub(crate) async fn take(&mut self, input: Input) -> bool {
        let (name, span) = (input.name(), self.span());
        let fed = self.feed(input).await;
        let _in_span = span.entered();
        match fed {
            Ok(_) => self.unrecorded = false,
            Err(FeedError::Refused(refused)) => tracing::warn!(%refused, "not taken"),
            Err(FeedError::Record(error)) => {
                // Said once, for the log may lie on the same full disk.
                if std::mem::replace(&mut self.unrecorded, true) {
                    tracing::debug!(?error, input = name, "the job record could still not be written");
                } else {
                    tracing::error!(
                        ?error,
                        input = name,
                        "the job record could not be written; trying again"
                    );
                }
                return false;
            }
        }
        true
    }

    /// Tells the active job `input`: decides, makes durable, performs. All of it, and the work that it begins, in the span of the job.
    pub(crate) async fn feed(&mut self, input: Input) -> Result<Job, FeedError> {
        let span = self.span();
        let fed = async {
            if let Some(arrived) = self.arrived_before(&input) {
                self.advance(arrived).await?;
            }
            self.advance(input).await
        };
        fed.instrument(span).await
    }

    fn span(&self) -> Span {
        self.active.as_ref().map_or_else(Span::none, span_of)
    }

    /// A download that is stopped keeps everything that has arrived; its record is to say that, not the last checkpoint.
    fn arrived_before(&self, input: &Input) -> Option<Input> {
        let stops = matches!(input, Input::Pause | Input::Blocked(_));
        let JobState::Downloading { have: known, held: None } = self.active.as_ref()?.state else {
            return None;
        };
        let have = self.shared.live.now()?.current;
        (stops && have > known).then_some(Input::FetchProgress { have })
    }

    async fn advance(&mut self, input: Input) -> Result<Job, FeedError> {
        let Some(job) = self.active.clone() else {
            return Err(FeedError::Refused(Refused { state: "(no job)", input: input.name() }));
        };
        let Transition { job: mut next, effects } =
            step(&job, input, self.shared.ports.clock.wall()).map_err(FeedError::Refused)?;
        if effects.first() == Some(&Effect::Persist) {
            next.boot_id = self.shared.ports.boot.boot_id().into();
            self.persist(&job, &next).await.map_err(FeedError::Record)?;
        }
        let changed = job.state.name() != next.state.name();
        if changed {
            tracing::info!(from = job.state.name(), to = next.state.name(), "job state");
        }
        if next.state.is_end() {
            self.end(&next, effects).await;
            return Ok(next);
        }
        self.adopt(next.clone());
        if changed {
            self.tell_status(&next);
        }
        for effect in effects {
            self.perform(effect, &next).await;
        }
        Ok(next)
    }

    /// The job has ended: the book-keeping first, then the gateway is free, then it is told.
    async fn end(&mut self, job: &Job, effects: Vec<Effect>) {
        self.stop_work();
        self.tell_end_of_progress();
        let (tell, keep): (Vec<_>, Vec<_>) =
            effects.into_iter().partition(|e| matches!(e, Effect::Announce(..)));
        for effect in keep {
            self.perform(effect, job).await;
        }
        self.note_end(job).await;
        self.active = None;
        self.shared.active.send_replace(None);
        self.tell_status(job);
        for effect in tell {
            self.perform(effect, job).await;
        }
    }

    fn adopt(&mut self, job: Job) {
        self.shared.active.send_replace(Some(job.clone()));
        self.active = Some(job);
    }

    /// The record first, then the audit of the change: an audit that cannot be written does not stop a job that is
    /// under way.
    async fn persist(&self, before: &Job, job: &Job) -> Result<(), EngineError> {
        let changed = before.state.status() != job.state.status();
        let (shared, job) = (Arc::clone(&self.shared), job.clone());
        blocking(move || {
            shared.ports.journal.save(&job)?;
            if changed {
                shared.audit_state(&job);
            }
            Ok(())
        })
        .await
    }

    pub(crate) fn tell_progress(&self) {
        let live = self.shared.live.sample(self.shared.ports.clock.monotonic());
        if let (Some(live), Some(job)) = (live, &self.active) {
            self.shared.bus.publish(EventKind::Progress(progress(job, live, false)));
        }
    }

    /// The last numbers of an operation that is over.
    pub(crate) fn tell_end_of_progress(&self) {
        if let (Some(live), Some(job)) = (self.shared.live.end(), &self.active) {
            self.shared.bus.publish(EventKind::Progress(progress(job, live, true)));
        }
    }

    pub(crate) fn tell_status(&self, job: &Job) {
        let active = (!job.state.is_end()).then_some(job);
        let (message, severity) = crate::effects::status_sentence(job);
        self.shared.bus.publish(EventKind::StatusChange {
            system: system_state(active, false),
            message,
            severity,
        });
    }
}

fn progress(job: &Job, live: LiveProgress, last: bool) -> Progress {
    Progress {
        job: job.id.clone(),
        operation: live.operation,
        current: if last && live.operation != Operation::Downloading { live.total } else { live.current },
        total: live.total,
        bytes_per_second: live.bytes_per_second,
        last,
    }
}

/// What every line that is logged of a job carries, at any level: the job, and the request that last had it go on.
pub(crate) fn span_of(job: &Job) -> Span {
    tracing::error_span!("job", job = %job.id, request_id = job.request_id)
}

/// Blocking work with the engine's errors, inside of the caller's span. It runs to its end also when nobody waits for it any more.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, EngineError> + Send + 'static,
) -> Result<T, EngineError> {
    let span = Span::current();
    let work = move || span.in_scope(work);
    tokio::task::spawn_blocking(work).await.map_err(|e| EngineError::Internal { log: e.to_string() })?
}

/// The step that an install which is asked for again would do at once: that of a job whose reboot is left to people, or that
/// waits for a window.
fn asked_for(state: &JobState) -> Option<SafetyStep> {
    let by_people = |held: &Held| matches!(held, Held::ExternalReboot | Held::Window);
    match state {
        JobState::Installed { held: Some(held) } if by_people(held) => Some(SafetyStep::Switch),
        JobState::Armed { held: Some(held) } if by_people(held) => Some(SafetyStep::Reboot),
        _ => None,
    }
}

/// What people are told when a job does not take their request.
fn refusal(job: &Job, error: FeedError) -> EngineError {
    match error {
        FeedError::Record(error) => error,
        FeedError::Refused(refused) => OtaError::SystemBusy {
            with: format!(
                "job {} is {}: it cannot be {}",
                job.id,
                job.state.status().as_str(),
                wanted(refused.input)
            ),
        }
        .into(),
    }
}

/// What a request wants to be done to a job.
fn wanted(input: &str) -> &str {
    match input {
        "Pause" => "paused",
        "Resume" => "resumed",
        "Install" => "installed",
        "Cancel" => "cancelled",
        "ConfirmByHand" => "confirmed",
        "RejectByHand" => "rejected",
        other => other,
    }
}

fn space_for(shared: &Shared, create: &Create) -> Result<(), EngineError> {
    // What a rollback goes to was looked at when it was found.
    if create.kind == JobKind::Rollback {
        return Ok(());
    }
    refuse_below_floor(shared.floor()?.as_ref(), &create.release.version)?;
    let required = create.release.size;
    refuse_larger_than_slot(shared, create.target, required)?;
    if create.image.is_some() {
        return Ok(());
    }
    let name = staged_name(&create.release);
    // One download at a time: what is unfinished of another one has no job any more.
    if let Err(error) = shared.ports.images.forget_unfinished(&name) {
        tracing::warn!(error = error.chain(), "unfinished downloads take space");
    }
    let available = shared.ports.images.room_for(&name)?;
    if available < required {
        return Err(OtaError::InsufficientSpace { place: "staging".into(), required, available }.into());
    }
    Ok(())
}

/// Refuses an image that is longer than the slot it would go to.
pub(crate) fn refuse_larger_than_slot(
    shared: &Shared,
    slot: Slot,
    required: ByteCount,
) -> Result<(), PortError> {
    let available = shared.ports.slots.capacity(slot)?;
    if available < required {
        let place = format!("slot {slot}");
        return Err(OtaError::InsufficientSpace { place, required, available }.into());
    }
    Ok(())
}

/// A failure for work that ended without saying how.
pub(crate) fn lost_work() -> Failure {
    Failure::internal("the work ended without a result; see the log of the daemon")
}
