//! Telling systemd that we are ready, alive, and stopping.

use std::time::Duration;

use sd_notify::NotifyState;

/// We serve.
pub(crate) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// We stop.
pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Keeps the watchdog quiet for as long as the runtime turns: a deadlock of the runtime lets it bite.
pub(crate) async fn feed_watchdog() {
    let Some(timeout) = sd_notify::watchdog_enabled() else {
        return std::future::pending().await;
    };
    let mut tick = tokio::time::interval((timeout / 3).max(Duration::from_millis(100)));
    loop {
        tick.tick().await;
        tell(&[NotifyState::Watchdog]);
    }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "no service manager listens");
    }
}
