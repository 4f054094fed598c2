//! The log: people, JSON lines, or the journal with its fields.

use anyhow::Context as _;
use tracing_subscriber::{EnvFilter, Layer as _, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use crate::{
    config::{AtKey as _, LogConfig, LogFormat, Misfit},
    diagnostics::LogRing,
};

/// What is logged, by `log.level`.
fn filter(config: &LogConfig) -> Result<EnvFilter, Misfit> {
    EnvFilter::try_new(&config.level).with_context(|| format!("{:?}", config.level)).at_key("log.level")
}

/// Whether the log can be started so.
///
/// # Errors
/// `log.level` is not understood.
pub(crate) fn check(config: &LogConfig) -> Result<(), Misfit> {
    filter(config).map(drop)
}

/// Starts logging for the life of the process; `ring` keeps the last lines.
pub(crate) fn start(config: &LogConfig, ring: &LogRing) -> anyhow::Result<()> {
    let filter = filter(config)?;
    let layer = match config.format {
        LogFormat::Human => {
            tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false).boxed()
        }
        LogFormat::Json => tracing_subscriber::fmt::layer().json().with_writer(std::io::stderr).boxed(),
        LogFormat::Journald => {
            tracing_journald::layer().context("log.format: no journal on this system")?.boxed()
        }
    };
    let kept = tracing_subscriber::fmt::layer().with_writer(ring.clone()).with_ansi(false);
    tracing_subscriber::registry().with(filter).with(layer).with(kept).try_init().context("starting the log")
}
