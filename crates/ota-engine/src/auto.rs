//! The gateway's own initiative: asks the sources now and then and acts by policy.

use std::{collections::BTreeMap, time::Duration};

use ota_core::{
    JobId, Sha256Digest, Version,
    event::EventKind,
    job::{InstallOptions, Job, JobState, Priority, Strategy},
    policy::{AutoPolicy, Step, next_step},
    release::Release,
};
use tokio::sync::watch;

use crate::{Actor, DownloadRequest, Engine, EngineError, InstallRequest, JobRef, facts::ROLLED_BACK};

/// Where the job that was started by itself is kept.
const OWN_JOB: &str = "auto.job";
/// First wait after a check that failed.
const BACK_OFF: Duration = Duration::from_secs(30);
/// Longest wait until what was refused is tried again, where no change of safety is announced.
const AGAIN: Duration = Duration::from_secs(60);

/// How the gateway acts by itself.
#[derive(Clone, Debug)]
pub struct AutoConfig {
    /// Time between two checks; up to a tenth is added, differently on each device and each time.
    pub interval: Duration,
    /// What to do, by name of the source. A source that is not here is only told of.
    pub policies: BTreeMap<String, AutoPolicy>,
}

impl Engine {
    /// Checks and acts for ever; dropping the future ends it.
    pub async fn act_by_itself(&self, config: &AutoConfig) {
        let mut initiative =
            Acting { engine: self, config, offers: Vec::new(), told: None, seen: None, held: false };
        let mut active = self.active();
        let mut safety = self.shared.ports.safety_changes.clone();
        let mut failures = 0_u32;
        for round in 0_u64.. {
            let wait = wait_before(config.interval, failures, round, &self.identity().serial);
            let due = tokio::time::sleep(wait);
            tokio::pin!(due);
            loop {
                let seen = initiative.seen.clone();
                tokio::select! {
                    () = &mut due => break,
                    // A download of its own that has become ready is installed without waiting for the next check.
                    () = downloaded(&mut active, seen.as_ref()) => {}
                    () = freed(&mut safety), if initiative.held => {}
                }
                initiative.act().await;
            }
            match self.check().await {
                Ok(offers) => {
                    failures = 0;
                    initiative.offers = offers;
                    initiative.act().await;
                }
                Err(error) => {
                    failures = failures.saturating_add(1);
                    tracing::warn!(%error, failures, "the check of the update sources failed");
                }
            }
        }
    }

    fn tell_offer(&self, release: &Release) {
        self.bus().publish(EventKind::System {
            event: "update_available".into(),
            message: format!("Update {} is available: {}", release.version, release.id),
            countdown: None,
        });
    }

    async fn start_own(&self, release: &Release) -> Result<(), EngineError> {
        let request = DownloadRequest {
            update_id: release.id.clone(),
            version: Some(release.version.clone()),
            target: None,
            priority: if release.critical { Priority::High } else { Priority::Normal },
            verify_signature: true,
        };
        let job = self.download(&Actor::gateway(), request).await?;
        let id = job.id.to_string();
        self.blocking(move |shared| shared.ports.settings.set_value(OWN_JOB, Some(&id))).await??;
        Ok(())
    }

    async fn install_own(&self, strategy: Strategy) -> Result<(), EngineError> {
        let Some(job) = self.active().borrow().clone() else { return Ok(()) };
        let options = InstallOptions { strategy, reboot_after: true, rollback_on_failure: true };
        self.install(&Actor::gateway(), InstallRequest { job: JobRef::Job(job.id), options }).await?;
        Ok(())
    }
}

/// What the gateway knows while it acts by itself.
struct Acting<'a> {
    engine: &'a Engine,
    config: &'a AutoConfig,
    /// What the last check found.
    offers: Vec<Release>,
    /// The version that watchers were last told of.
    told: Option<Version>,
    /// The job that was ready to install when it last acted.
    seen: Option<JobId>,
    /// Whether what it wanted to do was refused.
    held: bool,
}

impl Acting<'_> {
    async fn act(&mut self) {
        let active = self.engine.active().borrow().clone();
        self.seen = active.as_ref().filter(|job| is_ready(job)).map(|job| job.id.clone());
        let outcome = self.try_act(active).await;
        if let Err(error) = &outcome
            && !self.held
        {
            // Blocked by safety, no space, something else under way: tried again when that may have changed.
            tracing::info!(%error, "not now");
        }
        self.held = outcome.is_err();
    }

    async fn try_act(&mut self, active: Option<Job>) -> Result<(), EngineError> {
        let engine = self.engine;
        let (rolled_back, own) = engine
            .blocking(|shared| {
                let read = |name| shared.ports.settings.value(name).map(Option::unwrap_or_default);
                // Not knowing what was rolled back, it would be installed again.
                let versions: Vec<Version> =
                    read(ROLLED_BACK)?.lines().filter_map(|line| line.parse().ok()).collect();
                Ok::<_, ota_core::error::PortError>((versions, read(OWN_JOB)?))
            })
            .await??;
        let is_own = active.as_ref().is_some_and(|job| job.id.as_str() == own);
        let policy =
            |release: &Release| self.config.policies.get(&release.source).copied().unwrap_or_default();
        match next_step(&self.offers, policy, &rolled_back, active.as_ref(), is_own) {
            Step::Nothing => Ok(()),
            Step::Notify(release) => {
                if self.told.as_ref() != Some(&release.version) {
                    self.told = Some(release.version.clone());
                    engine.tell_offer(&release);
                }
                Ok(())
            }
            Step::Download(release) => engine.start_own(&release).await,
            Step::Install(strategy) => engine.install_own(strategy).await,
        }
    }
}

const fn is_ready(job: &Job) -> bool {
    matches!(job.state, JobState::Downloaded)
}

/// Waits until a job is ready to install that was not `seen` to be.
async fn downloaded(active: &mut watch::Receiver<Option<Job>>, seen: Option<&JobId>) {
    let ready = |job: &Option<Job>| job.as_ref().is_some_and(|job| is_ready(job) && Some(&job.id) != seen);
    if active.wait_for(ready).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Waits until what was refused may be allowed.
async fn freed(safety: &mut watch::Receiver<u64>) {
    let changed = async {
        if safety.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    let _ = tokio::time::timeout(AGAIN, changed).await;
}

/// The wait before a round: short for the first, doubled after failures, and never the same for two devices, so that a fleet
/// does not ask all at once.
fn wait_before(interval: Duration, failures: u32, round: u64, serial: &str) -> Duration {
    let base = match (round, failures) {
        (0, _) => BACK_OFF.min(interval),
        (_, 0) => interval,
        (_, n) => BACK_OFF.saturating_mul(1 << n.min(10)).min(interval),
    };
    let mut seed = serial.as_bytes().to_vec();
    seed.extend_from_slice(&round.to_be_bytes());
    let jitter = u32::from(Sha256Digest::of(&seed).as_bytes()[0]);
    base + base * jitter / 2560
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_differ_by_at_most_a_tenth_and_back_off_after_failures() {
        let hour = Duration::from_secs(3600);
        for round in 1..50 {
            let wait = wait_before(hour, 0, round, "SN1");
            assert!(wait >= hour && wait <= hour + hour / 10, "{wait:?}");
        }
        assert!(wait_before(hour, 1, 5, "SN1") < wait_before(hour, 3, 5, "SN1"));
        assert!(wait_before(hour, 30, 5, "SN1") <= hour + hour / 10);
        assert_ne!(wait_before(hour, 0, 7, "SN1"), wait_before(hour, 0, 7, "SN2"));
    }
}
