//! The same runs with an operation that fails, instead of a cut: R7.
//!
//! Each durable operation of a run fails once, and from then on for ever: with EIO, ENOSPC, half of the bytes taken, or a
//! file system that has become read-only. Whoever asked is told what it was, reads go on, and after a repair and a
//! power cycle nothing that was there before is lost.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use ota_core::{Slot, job::JobState};

use crate::{
    board::{self, How, Run},
    disk::Disk,
    fault::{Fault, FaultKind},
    medium::Fate,
    random::Random,
    rig::Rig,
    scenario::{Behaviour, EnvStart, Images, Kind, Scenario},
    seed, verdict,
    world::Play,
};

/// Most of the time is spent in waits for the next try.
const THREADS: usize = 96;

/// What was tried and what came of it.
#[derive(Debug, Default)]
pub(crate) struct Errors {
    /// Runs with a failing operation.
    pub(crate) runs: u64,
    /// Operations that failed in them.
    pub(crate) failures: u64,
    /// How the jobs ended, after the repair.
    pub(crate) ends: BTreeMap<&'static str, u64>,
    /// Rules that were broken.
    pub(crate) bad: Vec<String>,
}

struct Case {
    scenario: Scenario,
    at: u64,
    kind: FaultKind,
    for_ever: bool,
}

/// Fails every operation of an update, a rollback and a cancel.
pub(crate) fn run() -> anyhow::Result<Errors> {
    let images = Arc::new(Images::make());
    let cases = cases(&images)?;
    let next = AtomicUsize::new(0);
    let found = Mutex::new(Errors::default());
    let work = || -> anyhow::Result<()> {
        let rig = Rig::make()?;
        while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
            let play = Play { scenario: case.scenario, images: Arc::clone(&images), wrong: None };
            let tried = case.tried(&rig, &play)?;
            let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
            found.runs += 1;
            found.failures += tried.failures;
            *found.ends.entry(tried.end).or_default() += 1;
            found.bad.extend(tried.bad);
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| {
            worker.join().map_err(|_| anyhow::anyhow!("a thread of the suite panicked"))?
        })
    })?;
    Ok(found.into_inner().unwrap_or_else(PoisonError::into_inner))
}

fn cases(images: &Arc<Images>) -> anyhow::Result<Vec<Case>> {
    let rig = Rig::make()?;
    let mut cases = Vec::new();
    for (kind, image) in [
        (Kind::Update, Behaviour::Good),
        (Kind::Update, Behaviour::Unhealthy),
        (Kind::Rollback, Behaviour::Good),
        (Kind::Cancel, Behaviour::Good),
    ] {
        let scenario = Scenario { kind, from: Slot::A, image, env: EnvStart::Second, tries: 3 };
        let play = Play { scenario, images: Arc::clone(images), wrong: None };
        let whole = board::undisturbed(&rig, &play)?;
        let operations = whole.log.iter().filter(|step| step.is_durable()).count() as u64;
        for (at, kind) in (1..=operations).flat_map(|at| FaultKind::ALL.map(|kind| (at, kind))) {
            cases.extend([false, true].map(|for_ever| Case { scenario, at, kind, for_ever }));
        }
    }
    Ok(cases)
}

struct Tried {
    failures: u64,
    end: &'static str,
    bad: Vec<String>,
}

impl Case {
    fn tried(&self, rig: &Rig, play: &Play) -> anyhow::Result<Tried> {
        let fault = Some(Fault::new(self.at, self.kind, self.for_ever));
        let disk = Disk::new(&self.scenario, &play.images, 2);
        let failed = board::run(rig, play, disk, &How { operator: true, fault, ..How::default() })?;
        let mut bad = failed.bad.clone();
        bad.extend(unnamed(&failed));
        // The medium is repaired, the power comes back; what was not synced is gone.
        let lost = vec![Fate::Lost; failed.disk.pending()];
        let disk = failed.disk.cut(&lost, &mut Random::new(self.at));
        let repaired = board::run(rig, play, disk, &How { boot: failed.disk.boot, ..How::default() })?;
        bad.extend(repaired.bad.iter().cloned());
        bad.extend(verdict::boots_on(play, &repaired.disk));
        bad.extend(verdict::kept(&repaired));
        bad.extend(unnamed(&repaired));
        let end =
            seed::job(&repaired.disk.records.journal).map_or("no job", |job| job.state.status().as_str());
        let what = format!(
            "{:?} {:?} at operation {}, for ever {}",
            self.scenario, self.kind, self.at, self.for_ever
        );
        let bad = bad.into_iter().map(|bad| format!("{what}: {bad}")).collect();
        Ok(Tried { failures: failed.faults, end, bad })
    }
}

/// A job that has failed says why.
fn unnamed(run: &Run) -> Option<String> {
    let job = seed::job(&run.disk.records.journal)?;
    let why = match &job.state {
        JobState::Failed { why } | JobState::RolledBack { why } => why,
        _ => return None,
    };
    why.message.is_empty().then(|| "R7: the job has failed without a word".to_owned())
}
