//! What the gateway does by itself with what an update server offers. Pure; the engine asks and acts.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::{
    Version,
    job::{Job, JobState, Strategy},
    release::Release,
};

/// How far the gateway goes by itself with a release.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Initiative {
    /// Tell those who watch.
    #[default]
    Notify,
    /// Download and verify, then wait for `install`.
    Download,
    /// Also install, in the next `update` window.
    InstallInWindow,
    /// Also install, at once; safety holds it back as it does for everybody.
    Install,
}

/// The initiative by how urgent the publisher says a release is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AutoPolicy {
    /// For ordinary releases.
    pub normal: Initiative,
    /// For releases marked critical.
    pub critical: Initiative,
}

impl AutoPolicy {
    /// The same, but never further than `most`.
    #[must_use]
    pub fn at_most(self, most: Initiative) -> Self {
        Self { normal: self.normal.min(most), critical: self.critical.min(most) }
    }

    /// The initiative for `release`.
    #[must_use]
    pub const fn of(&self, release: &Release) -> Initiative {
        if release.critical { self.critical } else { self.normal }
    }
}

/// What the gateway does next by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing is on offer, or somebody is at work.
    Nothing,
    /// Tell that this release is on offer.
    Notify(Release),
    /// Start a download.
    Download(Release),
    /// Install the job that it downloaded by itself.
    Install(Strategy),
}

/// What to do about `offers`.
///
/// The newest release counts. A version that was rolled back is told but never tried again by itself. A job that somebody
/// else started is left alone; `own` says whether the active job was started by this function's advice.
#[must_use]
pub fn next_step(
    offers: &[Release],
    policy: impl Fn(&Release) -> AutoPolicy,
    rolled_back: &[Version],
    active: Option<&Job>,
    own: bool,
) -> Step {
    if let Some(job) = active {
        let ready = own && matches!(job.state, JobState::Downloaded);
        return match policy(&job.release).of(&job.release) {
            Initiative::InstallInWindow if ready => Step::Install(Strategy::MaintenanceWindow),
            Initiative::Install if ready => Step::Install(Strategy::Immediate),
            _ => Step::Nothing,
        };
    }
    let mut candidates: Vec<&Release> = offers.iter().collect();
    candidates.sort_by(|a, b| b.version.cmp(&a.version));
    let Some(newest) = candidates.first().copied() else { return Step::Nothing };
    if rolled_back.contains(&newest.version) || policy(newest).of(newest) == Initiative::Notify {
        return Step::Notify(newest.clone());
    }
    Step::Download(newest.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{JobKind, table::sample};

    fn release(version: &str, critical: bool) -> Release {
        let mut release = sample(JobKind::Update, JobState::Queued).release;
        release.version = version.parse().unwrap();
        release.critical = critical;
        release
    }

    const EAGER: AutoPolicy = AutoPolicy { normal: Initiative::Download, critical: Initiative::Install };

    #[test]
    fn the_newest_release_is_downloaded_when_the_policy_says_so() {
        let offers = [release("v5.0.5", false), release("v5.1.0", false)];
        let step = next_step(&offers, |_| EAGER, &[], None, false);
        assert_eq!(step, Step::Download(offers[1].clone()));
        assert_eq!(
            next_step(&offers, |_| AutoPolicy::default(), &[], None, false),
            Step::Notify(offers[1].clone())
        );
        assert_eq!(next_step(&[], |_| EAGER, &[], None, false), Step::Nothing);
    }

    #[test]
    fn a_version_that_was_rolled_back_is_not_tried_again_by_itself() {
        let offers = [release("v5.0.5", true)];
        let step = next_step(&offers, |_| EAGER, &["v5.0.5".parse().unwrap()], None, false);
        assert_eq!(step, Step::Notify(offers[0].clone()));
    }

    #[test]
    fn only_its_own_download_is_installed_by_itself() {
        let mut job = sample(JobKind::Update, JobState::Downloaded);
        job.release.critical = true;
        assert_eq!(next_step(&[], |_| EAGER, &[], Some(&job), false), Step::Nothing);
        assert_eq!(next_step(&[], |_| EAGER, &[], Some(&job), true), Step::Install(Strategy::Immediate));
        job.release.critical = false;
        assert_eq!(next_step(&[], |_| EAGER, &[], Some(&job), true), Step::Nothing);
    }
}
