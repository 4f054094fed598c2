//! The suite: a cut behind every durable operation of every situation, with everything it can leave.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use fastrand::Rng;

use crate::{
    board::{self, How, Run},
    disk::{Disk, Records, Step},
    medium,
    rig::Rig,
    scenario::{Behaviour, Images, Scenario},
    seed,
    tally::{Counts, Tally},
    verdict::{self, Cuts},
    world::Play,
    wrong::Wrong,
};

/// Most outcomes of one cut: 3^6.
const MOST_OUTCOMES: usize = 729;
/// Most in the second of two situations that differ in the environment's state and the tries only: the first has them all. What
/// it saves pays for every outcome of a factory reset.
pub(crate) const TWIN_OUTCOMES: usize = 27;
/// Cuts at boot in a row.
const STORM: usize = 8;
/// One recovery of so many that were cut is cut once more.
const AGAIN_IN: usize = 6;

/// How thorough the suite is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    /// One state in so many gets a second cut in its recovery.
    pub(crate) second_cut_in: usize,
    /// Most outcomes of one cut that are tried.
    pub(crate) outcomes: usize,
    /// The same in a situation that has a twin: all outcomes are tried in that one.
    pub(crate) twin_outcomes: usize,
    /// Most outcomes of a cut between two system calls of the store.
    pub(crate) call_outcomes: usize,
    /// The same of a factory reset, from slot A and from slot B, and of another cut in its recovery, where there is one. The
    /// running slot takes no part in a reset: from one of them all is tried.
    pub(crate) resets: [(usize, Option<usize>); 2],
    /// Cuts on the real file system.
    pub(crate) ext4_cuts: u64,
    /// Stop at the first rule that is broken.
    pub(crate) stop_at_first: bool,
}

impl Effort {
    /// What CI runs.
    pub(crate) const CI: Self = Self {
        second_cut_in: 4,
        outcomes: MOST_OUTCOMES,
        twin_outcomes: TWIN_OUTCOMES,
        call_outcomes: 36,
        resets: [(MOST_OUTCOMES, Some(6)), (36, None)],
        ext4_cuts: 40,
        stop_at_first: false,
    };
    /// A second cut behind every state, and more of the rest.
    pub(crate) const LONG: Self = Self {
        second_cut_in: 1,
        twin_outcomes: MOST_OUTCOMES,
        call_outcomes: 243,
        resets: [(MOST_OUTCOMES, Some(81)); 2],
        ext4_cuts: 400,
        ..Self::CI
    };
    /// Enough to find a mistake.
    pub(crate) const SPOT: Self = Self {
        second_cut_in: 8,
        outcomes: 9,
        twin_outcomes: 9,
        call_outcomes: 12,
        resets: [(12, None); 2],
        ext4_cuts: 0,
        stop_at_first: true,
    };
}

/// Runs the suite over `scenarios`, on all processors.
pub(crate) fn run(scenarios: &[Scenario], wrong: Option<Wrong>, effort: Effort) -> anyhow::Result<Tally> {
    let images = Arc::new(Images::make());
    let next = AtomicUsize::new(0);
    let enough = AtomicBool::new(false);
    let tally = Mutex::new(Tally::default());
    let work = || -> anyhow::Result<()> {
        let rig = Rig::make()?;
        while !enough.load(Ordering::Relaxed) {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(scenario) = scenarios.get(number) else { break };
            let play = Play { scenario: *scenario, images: Arc::clone(&images), wrong };
            let random = Rng::with_seed(number as u64);
            let mut explorer =
                Explorer { rig: &rig, play, effort, random, counts: Counts::default(), seen: HashSet::new() };
            let operations = explorer.explore()?;
            if effort.stop_at_first && explorer.counts.bad > 0 {
                enough.store(true, Ordering::Relaxed);
            }
            tally.lock().unwrap_or_else(PoisonError::into_inner).add(scenario, operations, explorer.counts);
        }
        Ok(())
    };
    side_by_side(work)?;
    Ok(tally.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Does `work` in several threads, until each has ended.
pub(crate) fn side_by_side(work: impl Fn() -> anyhow::Result<()> + Sync) -> anyhow::Result<()> {
    // A session is handed from thread to thread, and most of them wait at any time.
    let threads = 2 * std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(&work)).collect();
        workers.into_iter().try_for_each(|worker| {
            worker.join().map_err(|_| anyhow::anyhow!("a thread of the suite panicked"))?
        })
    })
}

/// The undisturbed runs only, for their numbers of operations.
pub(crate) fn count(scenarios: &[Scenario]) -> anyhow::Result<Tally> {
    let (images, rig, mut tally) = (Arc::new(Images::make()), Rig::make()?, Tally::default());
    for scenario in scenarios {
        let play = Play { scenario: *scenario, images: Arc::clone(&images), wrong: None };
        tally.add(scenario, operations(&board::undisturbed(&rig, &play)?), Counts::default());
    }
    Ok(tally)
}

fn operations(run: &Run) -> usize {
    run.log.iter().filter(|step| step.is_durable()).count()
}

struct Explorer<'a> {
    rig: &'a Rig,
    play: Play,
    effort: Effort,
    random: Rng,
    counts: Counts,
    seen: HashSet<u64>,
}

impl Explorer<'_> {
    /// The undisturbed run, then a cut at each of its operations. Gives their number.
    fn explore(&mut self) -> anyhow::Result<usize> {
        let whole = board::undisturbed(self.rig, &self.play)?;
        let operations = operations(&whole);
        self.counts.situations = 1;
        self.judge("undisturbed", &whole, 0);
        let mut disk = whole.start.clone();
        // What was recorded when the kernel that runs was started; the device as it was switched off before that.
        let (mut at_boot, mut off) = (disk.records.clone(), None);
        self.cut_here(0, &disk, &at_boot)?;
        for (at, step) in whole.log.iter().enumerate() {
            disk.apply(step);
            match step {
                Step::Restart => off = Some(disk.clone()),
                Step::Kernel { on_trial, .. } => {
                    at_boot = disk.records.clone();
                    if let Some(off) = off.take().filter(|_| *on_trial) {
                        self.spoil_old(off)?;
                    }
                }
                _ => {}
            }
            if step.is_durable() || matches!(step, Step::Answer(_)) {
                self.cut_here(at + 1, &disk, &at_boot)?;
            }
            if self.effort.stop_at_first && self.counts.bad > 0 {
                break;
            }
        }
        Ok(operations)
    }

    /// The old slot's kernel is spoiled before the trial: a good new slot is confirmed all the same. Other images are not
    /// tried: with the old slot gone there is nothing whole to come back to.
    fn spoil_old(&mut self, mut off: Disk) -> anyhow::Result<()> {
        let Play { scenario, wrong, .. } = &self.play;
        if wrong.is_some() || scenario.image != Behaviour::Good {
            return Ok(());
        }
        off.spoil_kernel(scenario.from);
        let how = How { boot: off.boot, ..How::default() };
        let run = board::run(self.rig, &self.play, off, &how)?;
        let bad = verdict::new_slot_stays(&self.play, &run);
        self.counts.spoiled += 1;
        self.record("the old slot's kernel is spoiled before the trial", &run, &bad);
        Ok(())
    }

    /// All that a cut at this instant can leave; a row of cuts; a kill of the daemon alone. `at_boot`: what was recorded when
    /// the kernel was started.
    fn cut_here(&mut self, at: usize, disk: &Disk, at_boot: &Records) -> anyhow::Result<()> {
        let Effort { outcomes, twin_outcomes, .. } = self.effort;
        let most = if self.play.scenario.has_twin() { twin_outcomes } else { outcomes };
        for fates in medium::choices(disk.pending(), most, &mut self.random) {
            let cut = disk.cut(&fates, &mut self.random);
            self.counts.outcomes += 1;
            if !self.seen.insert(cut.key()) {
                continue;
            }
            self.counts.states += 1;
            let what = format!("cut after step {at} {fates:?}");
            let run = self.turn_on(&what, cut, 1)?;
            if self.random.usize(..self.effort.second_cut_in) == 0 {
                self.cut_again(&what, &run, 2)?;
            }
        }
        let kept = vec![medium::Fate::Kept; disk.pending()];
        let after = disk.cut(&kept, &mut self.random);
        let (stormy, bad) = board::storm(&self.play, after, STORM, &mut self.random);
        self.counts.storms += 1;
        let what = format!("{STORM} cuts at boot after step {at}");
        self.counts.judge(&what, &bad);
        if bad.is_empty() {
            self.turn_on(&what, stormy, u32::try_from(STORM)? + 1)?;
        }
        if disk.daemon.is_some() {
            self.counts.kills += 1;
            let how = How { daemon_only: true, boot: disk.boot, ..How::default() };
            let run = board::run(self.rig, &self.play, disk.killed(), &how)?;
            let mut bad = verdict::same_boot(&self.play, &run, at_boot);
            bad.extend(verdict::at_rest(&self.play, &run, 0));
            self.record(&format!("kill -9 after step {at}"), &run, &bad);
        }
        Ok(())
    }

    /// Another cut somewhere in a recovery; some are cut off again and again.
    fn cut_again(&mut self, what: &str, run: &Run, cuts: Cuts) -> anyhow::Result<()> {
        let operations: Vec<usize> =
            run.log.iter().enumerate().filter(|(_, step)| step.is_durable()).map(|(at, _)| at).collect();
        if operations.is_empty() || cuts > 6 {
            return Ok(());
        }
        let at = operations[self.random.usize(..operations.len())];
        let mut disk = run.start.clone();
        run.log[..=at].iter().for_each(|step| disk.apply(step));
        let fates = medium::choices(disk.pending(), 27, &mut self.random);
        let fates = &fates[self.random.usize(..fates.len())];
        let cut = disk.cut(fates, &mut self.random);
        self.counts.more_cuts += 1;
        self.counts.second_cuts += u64::from(cuts == 2);
        let what = format!("{what}, then after step {at} of the recovery {fates:?}");
        let run = self.turn_on(&what, cut, cuts)?;
        if self.random.usize(..AGAIN_IN) == 0 { self.cut_again(&what, &run, cuts + 1) } else { Ok(()) }
    }

    fn turn_on(&mut self, what: &str, cut: Disk, cuts: Cuts) -> anyhow::Result<Run> {
        let mut bad = verdict::after_cut(&self.play, &cut);
        let how = How { boot: cut.boot, ..How::default() };
        let run = board::run(self.rig, &self.play, cut, &how)?;
        bad.extend(verdict::at_rest(&self.play, &run, cuts));
        self.record(what, &run, &bad);
        Ok(run)
    }

    fn judge(&mut self, what: &str, run: &Run, cuts: Cuts) {
        let bad = verdict::at_rest(&self.play, run, cuts);
        self.record(what, run, &bad);
    }

    fn record(&mut self, what: &str, run: &Run, bad: &[String]) {
        self.counts.most_boots = self.counts.most_boots.max(run.boots_until_up);
        self.counts.slot_writes += run.judged.slot_writes;
        self.counts.env_writes += run.judged.env_writes;
        let job = seed::job(&run.disk.records.journal);
        let end = job.map_or("no job", |job| job.state.status().as_str());
        *self.counts.ends.entry(end).or_default() += 1;
        self.counts.judge(&format!("{:?} {what}", self.play.scenario), bad);
    }
}
