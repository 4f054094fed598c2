//! The same runs with an operation that fails, instead of a cut: R7.
//!
//! Each durable operation of a run fails once, and from then on for ever: with EIO, ENOSPC, half of the bytes taken, or a
//! file system that has become read-only; and each read with EIO. A sync that fails has lost what it was for, and the next
//! one says that all is well, as Linux does. Whoever asked is told what it was, reads go on, and after a repair and a power
//! cycle nothing that was there before is lost.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use fastrand::Rng;
use ota_core::{
    ErrorCode, Slot,
    job::{Failure, JobState},
};

use crate::{
    board::{self, How, Run},
    disk::Disk,
    fault::{Fault, FaultKind, Operation},
    medium::Fate,
    rig::Rig,
    scenario::{Behaviour, EnvStart, Images, Kind, Scenario},
    seed, suite, verdict,
    world::Play,
};

/// What was tried and what came of it.
#[derive(Debug, Default)]
pub(crate) struct Errors {
    /// Runs with a failing operation.
    pub(crate) runs: u64,
    /// Among them those with a failing read.
    pub(crate) reads: u64,
    /// Operations that failed in them.
    pub(crate) failures: u64,
    /// How the jobs ended, after the repair.
    pub(crate) ends: BTreeMap<&'static str, u64>,
    /// Jobs that failed of it, and said so.
    pub(crate) named: u64,
    /// Rules that were broken.
    pub(crate) bad: Vec<String>,
}

struct Case {
    scenario: Scenario,
    fault: Fault,
}

/// Fails every operation of an update, a rollback, a cancel, and of trials that somebody confirms or rejects by hand.
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
            found.bad.extend(tried.bad);
            // Where there is nothing to write, half of it cannot be taken.
            if tried.failures == 0 {
                continue;
            }
            found.runs += 1;
            found.reads += u64::from(case.fault.on == Operation::Read);
            found.failures += tried.failures;
            *found.ends.entry(tried.end).or_default() += 1;
            found.named += u64::from(tried.named);
        }
        Ok(())
    };
    suite::side_by_side(work)?;
    Ok(found.into_inner().unwrap_or_else(PoisonError::into_inner))
}

fn cases(images: &Arc<Images>) -> anyhow::Result<Vec<Case>> {
    let rig = Rig::make()?;
    let mut cases = Vec::new();
    for (kind, image, from) in [
        (Kind::Update, Behaviour::Good, Slot::A),
        (Kind::Update, Behaviour::Unhealthy, Slot::B),
        (Kind::Rollback, Behaviour::Good, Slot::A),
        (Kind::Cancel, Behaviour::Good, Slot::A),
        (Kind::Confirm, Behaviour::Unhealthy, Slot::A),
        (Kind::Confirm, Behaviour::Damaged, Slot::B),
    ] {
        let scenario = Scenario { kind, from, image, env: EnvStart::Second, tries: 3 };
        let play = Play { scenario, images: Arc::clone(images), wrong: None };
        for (on, kinds) in [(Operation::Durable, &FaultKind::ALL[..]), (Operation::Read, &[FaultKind::Io])] {
            let disk = Disk::new(&scenario, images, 2);
            let how = How { operator: true, fault: Some(Fault::none(on)), ..How::default() };
            let operations = board::run(&rig, &play, disk, &how)?.fault.map_or(0, |fault| fault.calls());
            for (at, kind) in (1..=operations).flat_map(|at| kinds.iter().map(move |kind| (at, *kind))) {
                let fault = |for_ever| Fault::new(on, at, kind, for_ever);
                cases.extend([false, true].map(|for_ever| Case { scenario, fault: fault(for_ever) }));
            }
        }
    }
    Ok(cases)
}

struct Tried {
    failures: u64,
    end: &'static str,
    named: bool,
    bad: Vec<String>,
}

impl Case {
    fn tried(&self, rig: &Rig, play: &Play) -> anyhow::Result<Tried> {
        let fault = Some(self.fault.clone());
        let disk = Disk::new(&self.scenario, &play.images, 2);
        let failed = board::run(rig, play, disk, &How { operator: true, fault, ..How::default() })?;
        let mut bad = failed.bad.clone();
        let why = failure(&failed);
        let unnamed = why.as_ref().and_then(|why| unnamed(why, self.fault.kind));
        let named = why.is_some() && unnamed.is_none();
        bad.extend(unnamed);
        // The medium is repaired, the power comes back; what was not synced is gone.
        let lost = vec![Fate::Lost; failed.disk.pending()];
        let disk = failed.disk.cut(&lost, &mut Rng::with_seed(self.fault.at));
        let repaired = board::run(rig, play, disk, &How { boot: failed.disk.boot, ..How::default() })?;
        bad.extend(repaired.bad.iter().cloned());
        bad.extend(verdict::boots_on(play, &repaired.disk));
        bad.extend(verdict::kept(&repaired));
        let end =
            seed::job(&repaired.disk.records.journal).map_or("no job", |job| job.state.status().as_str());
        let Fault { on, at, kind, for_ever, .. } = &self.fault;
        let what = format!("{:?} {kind:?} at {on:?} operation {at}, for ever {for_ever}", self.scenario);
        let bad = bad.into_iter().map(|bad| format!("{what}: {bad}")).collect();
        Ok(Tried { failures: failed.fault.map_or(0, |fault| fault.hits()), end, named, bad })
    }
}

/// Why the job has failed, if it has.
fn failure(run: &Run) -> Option<Failure> {
    match seed::job(&run.disk.records.journal)?.state {
        JobState::Failed { why } => Some(why),
        _ => None,
    }
}

/// What a medium that fails is told as, where it is not told with its own words.
const MEDIUM: [ErrorCode; 4] = [
    ErrorCode::InsufficientSpace,
    ErrorCode::ChecksumMismatch,
    ErrorCode::InvalidPartition,
    ErrorCode::RollbackNotAvailable,
];

/// A job that has failed says why in a sentence: with the words of the operating system, or as what they mean for it, with the
/// code for that.
fn unnamed(why: &Failure, fault: FaultKind) -> Option<String> {
    let words = [fault.error().to_string(), "read-only".into(), "took no more bytes".into()];
    let told = words.iter().any(|words| why.message.contains(words.as_str()))
        || why.code.is_some_and(|code| MEDIUM.contains(&code));
    let named = told && verdict::is_sentence(&why.message);
    (!named).then(|| format!("R7: {fault:?} is told as {:?}: {}", why.code, why.message))
}
