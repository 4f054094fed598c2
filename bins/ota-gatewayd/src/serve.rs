//! The daemon's life: recover, serve, stop.

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context as _;
use ota_core::ports::{AuditLog as _, Clock};
use ota_engine::{AutoConfig, Engine};
use ota_http::{AppState, HttpConfig, Server, TlsReloader};
use ota_store::SqliteStore;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::{
    config::Config,
    diagnostics::{DaemonDiagnostics, LogRing},
    notify,
    record::by,
    retention, tls,
    wire::{self, Wired},
};

/// The OpenAPI document, as `docs/api/openapi.json` keeps it.
pub(crate) fn openapi() -> anyhow::Result<String> {
    ota_http::openapi().to_pretty_json().context("printing the OpenAPI document")
}

/// `path`: the configuration file; `ring`: the last lines of the log.
pub(crate) async fn serve(config: Config, path: PathBuf, ring: LogRing) -> anyhow::Result<()> {
    let config = Arc::new(config);
    let for_wire = Arc::clone(&config);
    let Wired { ports, engine, store, safety, clock, uploads, bandwidth, lock, boot } =
        tokio::task::spawn_blocking(move || wire::wire(&for_wire)).await??;
    let stop = CancellationToken::new();
    let sensors = tokio::spawn(Arc::clone(&safety).run(stop.clone().cancelled_owned()));
    let engine = Engine::start(ports, engine).await.context("recovering the last run")?;
    let diagnostics = DaemonDiagnostics {
        ring,
        boot,
        store: Arc::clone(&store),
        config: path,
        state: config.state.dir.clone(),
    };
    let keeping = tokio::spawn(retention::keep(Arc::clone(&store), Arc::clone(&clock), Arc::clone(&config)));
    let audit = Arc::clone(&store);
    let version = format!("version {}", env!("CARGO_PKG_VERSION"));
    audited(Arc::clone(&audit), &clock, "gateway.started", version).await;
    let state = AppState {
        engine: engine.clone(),
        tokens: Arc::clone(&store) as _,
        settings: Arc::clone(&store) as _,
        audit: Arc::clone(&store) as _,
        clock: Arc::clone(&clock),
        uploads: Arc::new(uploads),
        overrides: Some(Arc::clone(&safety) as _),
        inhibitors: Some(safety),
        bandwidth: Some(Arc::new(bandwidth)),
        diagnostics: Arc::new(diagnostics),
    };
    // From here on: until then it would end the process.
    let hangup = signal(SignalKind::hangup()).context("waiting for SIGHUP")?;
    let server = Server::bind(http_config(&config)?, state).await.context("opening the HTTP interface")?;
    let address = server.local_addr();
    tracing::info!(%address, version = env!("CARGO_PKG_VERSION"), "serving");
    if let Some(path) = &config.http.address_file {
        fs::write(path, format!("{address}\n")).with_context(|| format!("writing {}", path.display()))?;
    }
    let initiative = tokio::spawn(act_by_itself(engine.clone(), auto_config(&config)));
    notify::ready();
    let watchdog = tokio::spawn(notify::feed_watchdog());
    tokio::spawn(ask_to_stop(stop.clone()));
    let journal = (Arc::clone(&audit), Arc::clone(&clock));
    let hangups = tokio::spawn(reload_on_hangup(hangup, Arc::clone(&config), server.tls_reloader(), journal));
    server.run(stop.clone().cancelled_owned()).await;
    notify::stopping();
    initiative.abort();
    engine.shutdown().await;
    watchdog.abort();
    hangups.abort();
    keeping.abort();
    audited(audit, &clock, "gateway.stopped", "asked to".into()).await;
    let _ = sensors.await;
    drop(lock);
    tracing::info!("stopped");
    Ok(())
}

/// Records what the daemon itself did. What cannot be recorded is in the log; where nothing can, that was said at the start.
async fn audited(store: Arc<SqliteStore>, clock: &Arc<dyn Clock>, action: &'static str, reason: String) {
    if store.is_read_only() {
        return;
    }
    let at = clock.wall();
    let written = tokio::task::spawn_blocking(move || store.append(at, &by("gateway", action, reason))).await;
    if !matches!(written, Ok(Ok(_))) {
        tracing::error!(action, "an action is missing from the audit");
    }
}

async fn act_by_itself(engine: Engine, config: Option<AutoConfig>) {
    if let Some(config) = config {
        engine.act_by_itself(&config).await;
    }
}

fn auto_config(config: &Config) -> Option<AutoConfig> {
    (config.auto.interval_seconds > 0).then(|| AutoConfig {
        interval: Duration::from_secs(config.auto.interval_seconds.into()),
        policies: config
            .sources
            .iter()
            .map(|source| (source.name.clone(), config.policy_of(source)))
            .collect(),
    })
}

/// Ends when the service manager or a person asks.
async fn ask_to_stop(stop: CancellationToken) {
    match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(mut terminate), Ok(mut interrupt)) => {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        }
        (Err(error), _) | (_, Err(error)) => tracing::error!(%error, "signals cannot be received; stopping"),
    }
    stop.cancel();
}

/// Takes up a renewed certificate on SIGHUP. One that cannot be used is reported; the old one stays.
async fn reload_on_hangup(
    mut hangup: Signal,
    config: Arc<Config>,
    reloader: TlsReloader,
    (store, clock): (Arc<SqliteStore>, Arc<dyn Clock>),
) {
    while hangup.recv().await.is_some() {
        let config = Arc::clone(&config);
        let material = tokio::task::spawn_blocking(move || tls::material(&config)).await;
        let reloaded = match material {
            Ok(Ok(Some(material))) => reloader.reload(&material).map_err(anyhow::Error::from),
            Ok(Ok(None)) => {
                tracing::info!("SIGHUP: plain HTTP has no certificate");
                continue;
            }
            Ok(Err(error)) => Err(error),
            Err(error) => Err(error.into()),
        };
        match reloaded {
            Ok(()) => {
                tracing::info!("certificate reloaded");
                audited(Arc::clone(&store), &clock, "tls.reloaded", "SIGHUP".into()).await;
            }
            Err(error) => tracing::error!(error = format!("{error:#}"), "the certificate was not reloaded"),
        }
    }
}

fn http_config(config: &Config) -> anyhow::Result<HttpConfig> {
    let section = &config.http;
    let mut http = HttpConfig::new(section.listen);
    http.allow_plain = section.allow_plain;
    http.hosts.clone_from(&section.hosts);
    http.hosts.push(config.gateway.name.clone());
    http.origins.clone_from(&section.origins);
    http.public_docs = section.public_docs;
    http.public_metrics = section.public_metrics;
    http.limits = section.limits.limits();
    http.limits.upload_bytes = config.upload.max_bytes;
    http.sessions = section.limits.sessions();
    http.clients = section.clients();
    http.pin = config.pin.clone();
    http.tls = tls::material(config)?;
    Ok(http)
}
