//! What the gateway does by itself with what an update server offers. Pure; the engine asks and acts.

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
    /// Give up the job that it downloaded by itself, whose install nobody asked for, and download this newer release.
    Replace(Release),
}

/// What to do about `offers`.
///
/// The newest release counts for which the policy of its source says more than to tell; where there is none, the newest is told.
/// A version that was rolled back is never tried again by itself. A job that somebody else started is left alone. Its own job makes
/// way for something newer that is to go as far at least, while it waits for people or for a window: what waits for days must not
/// keep a critical release out. What is newer than the active job's release and does not replace it is told.
#[must_use]
pub fn next_step(
    offers: &[Release],
    policy: impl Fn(&Release) -> AutoPolicy,
    rolled_back: &[Version],
    active: Option<&Job>,
) -> Step {
    let newest = newest_of(offers.iter());
    let to_be_tried = |release: &&Release| {
        !rolled_back.contains(&release.version) && policy(release).of(release) != Initiative::Notify
    };
    let to_try = newest_of(offers.iter().filter(to_be_tried));
    if let Some(job) = active {
        let newer = |release: &&Release| release.version > job.release.version;
        let initiative = policy(&job.release).of(&job.release);
        let ready = job.by_itself && matches!(job.state, JobState::Downloaded);
        // Where a person has asked for the window there is a request.
        let waits_for_window =
            job.by_itself && matches!(job.state, JobState::Scheduled) && job.request_id.is_none();
        // What is to be installed at once is tried at once; and nothing makes way for what would not go as far.
        let makes_way = (ready && initiative != Initiative::Install) || waits_for_window;
        if makes_way
            && let Some(newer) = to_try.filter(newer)
            && policy(newer).of(newer) >= initiative
        {
            return Step::Replace(newer.clone());
        }
        return match initiative {
            Initiative::InstallInWindow if ready => Step::Install(Strategy::MaintenanceWindow),
            Initiative::Install if ready => Step::Install(Strategy::Immediate),
            _ => newest.filter(newer).map_or(Step::Nothing, |newer| Step::Notify(newer.clone())),
        };
    }
    match (to_try, newest) {
        (Some(release), _) => Step::Download(release.clone()),
        (None, Some(newest)) => Step::Notify(newest.clone()),
        (None, None) => Step::Nothing,
    }
}

/// The newest; of several with one version the first, by the order of the sources.
fn newest_of<'a>(offers: impl DoubleEndedIterator<Item = &'a Release>) -> Option<&'a Release> {
    offers.rev().max_by(|a, b| a.version.cmp(&b.version))
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
        let step = next_step(&offers, |_| EAGER, &[], None);
        assert_eq!(step, Step::Download(offers[1].clone()));
        assert_eq!(next_step(&offers, |_| AutoPolicy::default(), &[], None), Step::Notify(offers[1].clone()));
        assert_eq!(next_step(&[], |_| EAGER, &[], None), Step::Nothing);
    }

    #[test]
    fn a_version_that_was_rolled_back_is_not_tried_again_by_itself() {
        let offers = [release("v5.0.5", true)];
        let step = next_step(&offers, |_| EAGER, &["v5.0.5".parse().unwrap()], None);
        assert_eq!(step, Step::Notify(offers[0].clone()));
    }

    #[test]
    fn a_newer_release_that_is_only_to_be_told_hides_none_that_is_to_be_installed() {
        let (urgent, newer) = (release("v5.0.5", true), release("v5.1.0", false));
        let told_or_installed = AutoPolicy { normal: Initiative::Notify, critical: Initiative::Install };
        let offers = [urgent.clone(), newer.clone()];
        let step = |offers: &[Release], rolled_back: &[Version]| {
            next_step(offers, |_| told_or_installed, rolled_back, None)
        };
        assert_eq!(step(&offers, &[]), Step::Download(urgent.clone()));
        assert_eq!(step(&offers, core::slice::from_ref(&urgent.version)), Step::Notify(newer.clone()));
        let both = [urgent.clone(), release("v5.2.0", true)];
        assert_eq!(step(&both, core::slice::from_ref(&both[1].version)), Step::Download(urgent));
        // By the policy of its source.
        let of_beta = |release: &Release| {
            if release.version == newer.version { AutoPolicy::default() } else { EAGER }
        };
        let offers = [release("v5.0.5", false), newer.clone()];
        assert_eq!(next_step(&offers, of_beta, &[], None), Step::Download(offers[0].clone()));
    }

    #[test]
    fn of_one_version_from_two_sources_the_first_counts() {
        let mut mirror = release("v5.0.5", false);
        mirror.source = "mirror".into();
        let offers = [release("v5.0.5", false), mirror];
        assert_eq!(next_step(&offers, |_| EAGER, &[], None), Step::Download(offers[0].clone()));
        let notify = next_step(&offers, |_| AutoPolicy::default(), &[], None);
        assert_eq!(notify, Step::Notify(offers[0].clone()));
    }

    /// A download of `version` that the gateway made by itself, or somebody else.
    fn job(state: JobState, version: &str, by_itself: bool) -> Job {
        let mut job = sample(JobKind::Update, state);
        job.release = release(version, false);
        job.by_itself = by_itself;
        job
    }

    const IN_WINDOW: AutoPolicy =
        AutoPolicy { normal: Initiative::InstallInWindow, critical: Initiative::Install };

    #[test]
    fn its_own_job_that_waits_makes_way_for_something_newer_that_is_to_be_tried() {
        let newer = release("v5.0.6", true);
        let offers = [release("v5.0.5", false), newer.clone()];
        let ready = job(JobState::Downloaded, "v5.0.5", true);
        let step = |job: &Job, policy: AutoPolicy| next_step(&offers, |_| policy, &[], Some(job));
        assert_eq!(step(&ready, EAGER), Step::Replace(newer.clone()));
        let in_window = job(JobState::Scheduled, "v5.0.5", true);
        assert_eq!(step(&in_window, IN_WINDOW), Step::Replace(newer.clone()));
        // A person asked for the window, or for the download, or it is under way: told.
        let asked = Job { request_id: Some("req_1".into()), ..in_window };
        for left_alone in [
            asked,
            job(JobState::Downloaded, "v5.0.5", false),
            job(JobState::Scheduled, "v5.0.5", false),
            job(JobState::Fencing { held: None }, "v5.0.5", true),
        ] {
            assert_eq!(step(&left_alone, IN_WINDOW), Step::Notify(newer.clone()), "{left_alone:?}");
        }
        // Nothing that was rolled back, nothing that is only to be told, nothing that is not newer.
        let rolled_back = core::slice::from_ref(&newer.version);
        let kept = next_step(&offers, |_| EAGER, rolled_back, Some(&ready));
        assert_eq!(kept, Step::Notify(newer.clone()));
        let told = AutoPolicy { normal: Initiative::Download, critical: Initiative::Notify };
        assert_eq!(step(&ready, told), Step::Notify(newer.clone()));
        // A critical one that is to be installed stays before an ordinary one that would wait for people.
        let mut urgent = ready.clone();
        urgent.release.critical = true;
        let ordinary = release("v5.0.6", false);
        let held = next_step(core::slice::from_ref(&ordinary), |_| EAGER, &[], Some(&urgent));
        assert_eq!(held, Step::Install(Strategy::Immediate));
        let in_window = AutoPolicy { normal: Initiative::Download, critical: Initiative::InstallInWindow };
        urgent.state = JobState::Scheduled;
        let kept = next_step(core::slice::from_ref(&ordinary), |_| in_window, &[], Some(&urgent));
        assert_eq!(kept, Step::Notify(ordinary));
        assert_eq!(next_step(&offers[..1], |_| EAGER, &[], Some(&ready)), Step::Nothing);
    }

    #[test]
    fn only_its_own_download_is_installed_by_itself() {
        let install = AutoPolicy { normal: Initiative::Install, critical: Initiative::Install };
        let step = |by_itself, policy: AutoPolicy| {
            next_step(&[], |_| policy, &[], Some(&job(JobState::Downloaded, "v5.0.5", by_itself)))
        };
        assert_eq!(step(false, install), Step::Nothing);
        assert_eq!(step(true, install), Step::Install(Strategy::Immediate));
        assert_eq!(step(true, IN_WINDOW), Step::Install(Strategy::MaintenanceWindow));
        assert_eq!(step(true, EAGER), Step::Nothing);
    }
}
