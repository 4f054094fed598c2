//! What every request can reach.

use std::{
    ops::Deref,
    sync::{Arc, Mutex},
};

use ota_core::ports::{
    AuditLog, Bandwidth, Clock, Inhibitors, SafetyOverrides, Settings, Tokens, UploadStore,
};
use ota_engine::Engine;
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    HttpConfig, audit::Auditor, auth::Authenticator, bundle::Diagnostics, metrics::Metrics, pin::PinGate,
    sessions::Sessions, status::Refusal,
};

/// The engine and the ports that the server works through.
#[derive(Clone)]
#[expect(missing_docs, reason = "each field is named like the port it holds")]
pub struct AppState {
    pub engine: Engine,
    pub tokens: Arc<dyn Tokens>,
    pub settings: Arc<dyn Settings>,
    pub audit: Arc<dyn AuditLog>,
    pub clock: Arc<dyn Clock>,
    pub uploads: Arc<dyn UploadStore>,
    /// Without them `safety/override` answers `UNAVAILABLE`.
    pub overrides: Option<Arc<dyn SafetyOverrides>>,
    /// Without them `safety/inhibitors` answers `UNAVAILABLE`.
    pub inhibitors: Option<Arc<dyn Inhibitors>>,
    /// Without it `settings/bandwidth` answers `UNAVAILABLE`.
    pub bandwidth: Option<Arc<dyn Bandwidth>>,
    /// What a debug bundle holds beside what the API tells.
    pub diagnostics: Arc<dyn Diagnostics>,
}

/// [`AppState`] with what the server keeps itself; cheap to clone.
#[derive(Clone)]
pub(crate) struct App(Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) engine: Engine,
    pub(crate) tokens: Arc<dyn Tokens>,
    /// One token is revoked at a time, so that two cannot both believe the other one stays.
    pub(crate) revoking: Mutex<()>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) auth: Authenticator,
    pub(crate) sessions: Sessions,
    pub(crate) pin: PinGate,
    pub(crate) auditor: Auditor,
    pub(crate) metrics: Metrics,
    pub(crate) web_sockets: Arc<Semaphore>,
    pub(crate) uploads: Arc<dyn UploadStore>,
    /// One permit for each upload that may arrive at a time.
    pub(crate) uploading: Semaphore,
    /// Where the gateway has a safety engine that may be overridden.
    pub(crate) overrides: Option<Arc<dyn SafetyOverrides>>,
    /// Where something may hold updates back.
    pub(crate) inhibitors: Option<Arc<dyn Inhibitors>>,
    /// Where downloads can be slowed down.
    pub(crate) bandwidth: Option<Arc<dyn Bandwidth>>,
    pub(crate) diagnostics: Arc<dyn Diagnostics>,
    /// One debug bundle is made at a time.
    pub(crate) bundling: Arc<Semaphore>,
    pub(crate) stopping: CancellationToken,
    /// Connections, and requests that are seen through whether or not their client waits: what a stop waits for.
    pub(crate) tasks: TaskTracker,
    pub(crate) config: HttpConfig,
}

impl App {
    pub(crate) fn new(state: AppState, config: HttpConfig) -> Self {
        let AppState {
            engine,
            tokens,
            settings,
            audit,
            clock,
            uploads,
            overrides,
            inhibitors,
            bandwidth,
            diagnostics,
        } = state;
        Self(Arc::new(Inner {
            auth: Authenticator::new(Arc::clone(&tokens), Arc::clone(&clock)),
            sessions: Sessions::restore(config.sessions, Arc::clone(&settings), Arc::clone(&clock)),
            pin: PinGate::new(Arc::clone(&settings), Arc::clone(&clock), config.pin.clone()),
            auditor: Auditor::new(audit, Arc::clone(&clock)),
            metrics: Metrics::default(),
            web_sockets: Arc::new(Semaphore::new(config.limits.web_sockets)),
            uploading: Semaphore::new(config.limits.uploads),
            uploads,
            overrides,
            inhibitors,
            bandwidth,
            diagnostics,
            bundling: Arc::new(Semaphore::new(1)),
            stopping: CancellationToken::new(),
            tasks: TaskTracker::new(),
            engine,
            tokens,
            revoking: Mutex::default(),
            clock,
            config,
        }))
    }
}

impl Deref for App {
    type Target = Inner;
    fn deref(&self) -> &Inner {
        &self.0
    }
}

/// Runs disk work off the async threads.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refusal> {
    let span = tracing::Span::current();
    tokio::task::spawn_blocking(move || span.in_scope(work))
        .await
        .map_err(|error| Refusal::internal(error.to_string()))
}
