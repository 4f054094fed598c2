//! How long records are kept: old jobs and audit records go, at the start and once a day.

use std::{sync::Arc, time::Duration};

use ota_core::ports::{AuditLog as _, Clock};
use ota_store::{Cut, SqliteStore};

use crate::{config::Config, record::by};

/// Pause between two looks.
const DAY: Duration = Duration::from_secs(86_400);
/// Audit records that stay, whatever the configuration says.
const NEWEST: u32 = 1000;

/// Looks again and again.
pub(crate) async fn keep(store: Arc<SqliteStore>, clock: Arc<dyn Clock>, config: Arc<Config>) {
    loop {
        let (store, clock, config) = (Arc::clone(&store), Arc::clone(&clock), Arc::clone(&config));
        let done = tokio::task::spawn_blocking(move || once(&store, &*clock, &config)).await;
        match done {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(error = error.chain(), "old records stay"),
            Err(error) => tracing::warn!(%error, "old records stay"),
        }
        tokio::time::sleep(DAY).await;
    }
}

fn once(store: &SqliteStore, clock: &dyn Clock, config: &Config) -> Result<(), ota_core::error::PortError> {
    if store.is_read_only() {
        return Ok(());
    }
    let jobs = store.forget_jobs(config.retention.jobs)?;
    if jobs > 0 {
        tracing::info!(jobs, "old jobs are forgotten");
        store
            .append(clock.wall(), &by("gateway", "retention.jobs", format!("{jobs} ended jobs forgotten")))?;
    }
    // A clock that nobody vouches for must not make everything old.
    let before = config.retention.audit_days.filter(|_| clock.wall_is_trusted()).map(|days| {
        ota_core::Timestamp::from_secs(clock.wall().as_secs().saturating_sub(i64::from(days) * 86_400))
    });
    let cut = Cut { keep: config.retention.audit_records.max(NEWEST), before, newest: NEWEST };
    // What is said of the cut stands in the chain before anything goes.
    if let Some((from, to, hash)) = store.would_cut(cut)? {
        let told = format!("records {from} to {to} cut off, the last with hash {hash}");
        store.append(clock.wall(), &by("gateway", "retention.audit", told))?;
        store.cut_audit(to)?;
        tracing::info!(from, to, "old audit records are cut off");
    }
    Ok(())
}
