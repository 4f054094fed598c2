//! The health checks of a trial boot: systemd units, HTTP probes, commands, each with its time-out.

use std::{io, process::Stdio, time::Duration};

use ota_core::ports::{BoxFuture, HealthChecks};
use ota_fetch::{NoAuthorities, WebClient};
use ota_safety::program::Group;
use tokio::{process::Command, time::Instant};

use crate::config::{HealthCheck, HealthConfig};

/// Time between two tries of a check that has not passed yet.
const PAUSE: Duration = Duration::from_millis(500);
/// Longest single HTTP answer.
const ANSWER: Duration = Duration::from_secs(10);

/// The configured checks, run one after the other.
pub(crate) struct ConfiguredChecks {
    checks: Vec<HealthCheck>,
    http: WebClient,
}

impl ConfiguredChecks {
    pub(crate) fn new(config: &HealthConfig) -> anyhow::Result<Self> {
        let http = WebClient::build(|| reqwest::Client::builder().timeout(ANSWER).no_proxy())?;
        Ok(Self { checks: config.check.clone(), http })
    }

    /// Tries a check until it passes or its time is up. Services of a fresh boot need a while to come up.
    async fn pass(&self, check: &HealthCheck) -> Result<(), String> {
        let timeout = Duration::from_secs(check.timeout_seconds.into());
        let deadline = Instant::now() + timeout;
        let mut last = String::from("it did not answer");
        loop {
            match tokio::time::timeout_at(deadline, self.once(check)).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(why)) => last = why,
                Err(_) => {}
            }
            if Instant::now() + PAUSE >= deadline {
                return Err(format!(
                    "health check {} did not pass in {} s: {last}",
                    check.name, check.timeout_seconds
                ));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn once(&self, check: &HealthCheck) -> Result<(), String> {
        if let Some(unit) = &check.unit {
            return run("systemctl", &["is-active".into(), "--quiet".into(), unit.clone()])
                .await
                .map_err(|why| format!("unit {unit} is not active ({why})"));
        }
        if let Some(url) = &check.http {
            if self.http.trusts_nobody && url.starts_with("https") {
                return Err(format!("{url}: {NoAuthorities}"));
            }
            let answer = self.http.client.get(url).send().await.map_err(|error| format!("{url}: {error}"))?;
            return if answer.status().is_success() {
                Ok(())
            } else {
                Err(format!("{url}: {}", answer.status()))
            };
        }
        match check.command.as_deref().and_then(<[String]>::split_first) {
            Some((program, arguments)) => run(program, arguments).await,
            None => Err("nothing to check".into()),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the owner of the health check commands")]
async fn run(program: &str, arguments: &[String]) -> Result<(), String> {
    let failed = |error: io::Error| format!("{program}: {error}");
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let (child, group) = Group::start(&mut command).map_err(failed)?;
    let output = child.wait_with_output().await.map_err(failed)?;
    group.ended();
    if output.status.success() {
        return Ok(());
    }
    let said: String = String::from_utf8_lossy(&output.stderr).trim().chars().take(200).collect();
    Err(format!("{program} ended with {}{}{said}", output.status, if said.is_empty() { "" } else { ": " }))
}

impl HealthChecks for ConfiguredChecks {
    fn run(&self) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async {
            for check in &self.checks {
                self.pass(check).await?;
                tracing::info!(check = check.name, "health check passed");
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests;
