//! The gateway's own initiative: asks the sources now and then and acts by policy.

use std::{collections::BTreeMap, time::Duration};

use ota_core::{
    ErrorCode, JobId, Sha256Digest, Version,
    event::EventKind,
    job::{InstallOptions, Job, JobState, Priority, Strategy},
    policy::{AutoPolicy, Step, next_step},
    ports::AuditOutcome,
    release::Release,
    safety::SafetyStep,
};
use tokio::sync::watch;

use crate::{
    Actor, DownloadRequest, Engine, EngineError, InstallRequest, JobRef, facts::ROLLED_BACK, runner::Request,
};

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
        let mut initiative = Acting {
            engine: self,
            config,
            offers: Vec::new(),
            told: None,
            seen: None,
            held: None,
            again: false,
        };
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
                    () = freed(&mut safety), if initiative.again => {}
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
        self.download(&Actor::gateway(), request).await?;
        Ok(())
    }

    /// Gives its own job up for `release`; not before the download may begin, so that a ready image is not given up for nothing.
    async fn replace_own(&self, job: &Job, release: &Release) -> Result<(), EngineError> {
        self.refuse_unsafe(SafetyStep::Download)?;
        self.shared.refuse_claimed()?;
        let why = format!("{} makes way for {}", job.release.version, release.version);
        let request = Request::MakeWay(JobRef::Job(job.id.clone()), why);
        self.request(request, &Actor::gateway()).await?;
        self.start_own(release).await
    }

    /// Who looks for the reason why a device is not updated finds it in the audit.
    async fn audit_refused(&self, refused: &RefusedTry, error: &EngineError) {
        let action = refused.action;
        let reason = format!("{}: {error}", refused.version);
        let kept = self.blocking(move |shared| {
            let at = shared.ports.clock.wall();
            shared.audit_own(at, action, AuditOutcome::Refused, None, Some(reason));
        });
        if let Err(error) = kept.await {
            tracing::error!(%error, action, "missing from the audit");
        }
    }

    async fn install_own(&self, job: &Job, strategy: Strategy) -> Result<(), EngineError> {
        let options = InstallOptions { strategy, reboot_after: true, rollback_on_failure: true };
        let request = InstallRequest { job: JobRef::Job(job.id.clone()), options };
        self.install(&Actor::gateway(), request).await?;
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
    /// What it wanted to do, where that was refused.
    held: Option<RefusedTry>,
    /// Whether it is to try once more before the next check.
    again: bool,
}

/// A try of its own that was refused. Another refusal of the same kind is nothing new: safety may take it back and say it again
/// many times a day.
#[derive(PartialEq, Eq)]
struct RefusedTry {
    /// As the same request of somebody else is called in the audit.
    action: &'static str,
    version: Version,
    code: Option<ErrorCode>,
}

impl Acting<'_> {
    async fn act(&mut self) {
        let active = self.engine.active().borrow().clone();
        self.seen = active.as_ref().filter(|job| is_ready(job)).map(|job| job.id.clone());
        let step = match self.next(active.as_ref()).await {
            Ok(step) => step,
            Err(error) => {
                tracing::error!(%error, "what was rolled back is not known: nothing is done by itself");
                self.again = true;
                return;
            }
        };
        self.again = false;
        let (action, version, outcome) = match (step, active) {
            (Step::Nothing, _) | (Step::Install(_), None) => {
                self.held = None;
                return;
            }
            (Step::Notify(release), _) => {
                if self.told.as_ref() != Some(&release.version) {
                    self.told = Some(release.version.clone());
                    self.engine.tell_offer(&release);
                }
                self.held = None;
                return;
            }
            (Step::Replace(release), Some(job)) => {
                let outcome = self.engine.replace_own(&job, &release).await;
                ("updates.download", release.version, outcome)
            }
            (Step::Download(release) | Step::Replace(release), _) => {
                let outcome = self.engine.start_own(&release).await;
                ("updates.download", release.version, outcome)
            }
            (Step::Install(strategy), Some(job)) => {
                let outcome = self.engine.install_own(&job, strategy).await;
                ("updates.install", job.release.version, outcome)
            }
        };
        let Err(error) = outcome else {
            self.held = None;
            return;
        };
        // Blocked by safety, no space, something else under way: tried again when that may have changed.
        let code = if let EngineError::Ota(error) = &error { Some(error.code()) } else { None };
        let refused = RefusedTry { action, version, code };
        if self.held.as_ref() != Some(&refused) {
            tracing::info!(%error, action, "not now");
            self.engine.audit_refused(&refused, &error).await;
            self.held = Some(refused);
        }
        self.again = true;
    }

    async fn next(&self, active: Option<&Job>) -> Result<Step, EngineError> {
        // Not knowing what was rolled back, it would be installed again.
        let rolled_back = self.engine.blocking(|shared| shared.ports.settings.value(ROLLED_BACK)).await??;
        let rolled_back: Vec<Version> =
            rolled_back.unwrap_or_default().lines().filter_map(|line| line.parse().ok()).collect();
        let policy =
            |release: &Release| self.config.policies.get(&release.source).copied().unwrap_or_default();
        Ok(next_step(&self.offers, policy, &rolled_back, active))
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
