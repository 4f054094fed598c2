//! What real programs leave of their files after a cut between any two of their system calls.
//!
//! A child process works with real code under `strace` ([`crate::calls`]); its calls are played on a model of a file system
//! that loses what was not synced ([`crate::files`]); what each cut leaves is put into a folder and judged with the real
//! code again. Owns the playing, and the child that works with the store: so a commit of SQLite is shown to be one durable
//! step, and the files beside it (the audit's key and anchor) to be replaced in the order of `durable-steps.md`, section 1.

use std::{
    collections::{BTreeSet, HashSet},
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
};

use anyhow::{Context as _, ensure};
use fastrand::Rng;
use ota_core::{
    JobId, Timestamp,
    ports::{AuditEntry, AuditLog as _, JobJournal as _, Settings as _},
};
use ota_store::{Condition, SqliteStore};
use ota_testkit::samples;

use crate::{
    calls::{self, Call},
    files::{self, Files, Left},
};

/// Rounds of writes that the child makes.
pub(crate) const ROUNDS: u64 = 5;
/// Of so many durable operations the cut after one is to be followed by another cut, in one of so many of its outcomes.
const AGAIN_EVERY: usize = 10;
const AGAIN_IN: usize = 3;
/// The setting that counts rounds, and how often it says so.
const SETTING: &str = "round";
const WIDTH: usize = 3000;

/// A sync that is left out on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LeftOut {
    /// Of files that are about to be renamed.
    TempFile,
    /// Of folders.
    Folder,
    /// Of the write-ahead log.
    Commit,
}

impl LeftOut {
    pub(crate) const ALL: [Self; 3] = [Self::TempFile, Self::Folder, Self::Commit];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::TempFile => "no temp-file sync",
            Self::Folder => "no folder sync",
            Self::Commit => "no sync of a commit",
        }
    }
}

/// A trace, and the files that it begins with.
#[derive(Clone, Debug)]
pub(crate) struct Trace {
    pub(crate) calls: Vec<Call>,
    pub(crate) files: Files,
    /// How far the work was when the trace began.
    pub(crate) acknowledged: u64,
}

/// What was tried and what came of it.
#[derive(Debug, Default)]
pub(crate) struct Traced {
    /// Durable system calls in the trace.
    pub(crate) operations: usize,
    /// Folders that a cut can leave and that were opened.
    pub(crate) states: u64,
    /// What was broken.
    pub(crate) bad: Vec<String>,
}

/// How a trace is played.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    pub(crate) left_out: Option<LeftOut>,
    /// Most outcomes of one cut.
    pub(crate) outcomes: usize,
}

/// What a cut left, and how far the work had been acknowledged by then.
pub(crate) struct Cut {
    pub(crate) left: Left,
    pub(crate) acknowledged: u64,
    /// Whether it is one of the few that are cut again while they are turned on, where that is done.
    pub(crate) again: bool,
    /// For people.
    what: String,
}

impl Trace {
    /// Plays the trace and has `judge` look at what a cut after each call leaves. Ends early at the first thing that is
    /// broken where something was left out on purpose.
    pub(crate) fn play(
        &self,
        effort: Effort,
        judge: &(dyn Fn(&Cut) -> anyhow::Result<()> + Sync),
    ) -> anyhow::Result<Traced> {
        let traced = Mutex::new(Traced::default());
        let (give, take) = sync_channel::<Cut>(16);
        let take = Arc::new(Mutex::new(take));
        let operations = std::thread::scope(|scope| {
            // A gateway that is turned on is handed from thread to thread, and most of them wait at any time.
            for _ in 0..2 * std::thread::available_parallelism().map_or(1, usize::from) {
                let (take, traced) = (Arc::clone(&take), &traced);
                scope.spawn(move || work(&take, traced, judge));
            }
            // When the last of them has panicked, nobody takes any more, and giving fails.
            drop(take);
            let played =
                self.give(effort, &give, &|| effort.left_out.is_some() && !lock(&traced).bad.is_empty());
            drop(give);
            played
        })?;
        let traced = traced.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok(Traced { operations, ..traced })
    }

    /// What `of` says of the calls, each right before it is made: of all up to a restart, of those up to the next, ….
    pub(crate) fn gather<T: Ord>(
        &self,
        of: impl Fn(&Files, &Call) -> Option<T>,
    ) -> anyhow::Result<Vec<BTreeSet<T>>> {
        let (mut files, mut all, mut some) = (self.files.clone(), Vec::new(), BTreeSet::new());
        for call in &self.calls {
            some.extend(of(&files, call));
            files.take(call)?;
            if matches!(call, Call::Restart) {
                all.push(std::mem::take(&mut some));
            }
        }
        all.push(some);
        Ok(all)
    }

    fn give(&self, effort: Effort, to: &SyncSender<Cut>, enough: &dyn Fn() -> bool) -> anyhow::Result<usize> {
        let (mut files, mut random) = (self.files.clone(), Rng::with_seed(5));
        let (mut acknowledged, mut operations, mut seen) = (self.acknowledged, 0, HashSet::new());
        let mut due = 1;
        for (at, call) in self.calls.iter().enumerate() {
            if let Call::Acknowledged(number) = call {
                acknowledged = *number;
            }
            let left_out = effort.left_out.is_some_and(|left_out| files.is_sync(call, left_out));
            let durable = !left_out && files.take(call)?;
            operations += usize::from(durable);
            // Behind any other call a cut leaves what it would have left before it.
            if !durable && !matches!(call, Call::Acknowledged(_) | Call::Restart) {
                continue;
            }
            for outcome in files.outcomes(effort.outcomes, &mut random) {
                let left = files.cut(&outcome, &mut random);
                if seen.insert(files::key(&left, acknowledged)) {
                    let what = format!("cut after call {at}, acknowledged {acknowledged}");
                    let again = operations >= due && random.usize(..AGAIN_IN) == 0;
                    if again {
                        due = operations + AGAIN_EVERY;
                    }
                    let cut = Cut { left, acknowledged, again, what };
                    to.send(cut).context("nobody judges any more")?;
                }
            }
            if enough() {
                break;
            }
        }
        Ok(operations)
    }
}

fn work(
    cuts: &Mutex<Receiver<Cut>>,
    traced: &Mutex<Traced>,
    judge: &(dyn Fn(&Cut) -> anyhow::Result<()> + Sync),
) {
    let next = || cuts.lock().unwrap_or_else(PoisonError::into_inner).recv();
    while let Ok(cut) = next() {
        let verdict = judge(&cut);
        let mut traced = lock(traced);
        traced.states += 1;
        if let Err(error) = verdict {
            traced.bad.push(format!("{}: {error:#}", cut.what));
        }
    }
}

fn lock(traced: &Mutex<Traced>) -> std::sync::MutexGuard<'_, Traced> {
    traced.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the child of the store does: rounds of writes in `folder`, each acknowledged on standard output.
pub(crate) fn child(folder: &Path) -> anyhow::Result<()> {
    let store = open(folder)?;
    for _ in 0..ROUNDS {
        calls::acknowledge(write_round(&store)?)?;
    }
    Ok(())
}

/// Opens the store in `folder`, which must be as one that was not disturbed.
pub(crate) fn open(folder: &Path) -> anyhow::Result<SqliteStore> {
    let opened = SqliteStore::open(folder, Timestamp::from_secs(3)).context("R2: the store does not open")?;
    ensure!(matches!(opened.condition, Condition::Fresh | Condition::Normal), "R2: {:?}", opened.condition);
    ensure!(opened.audit_broken_at.is_none(), "A6: the audit is broken at {:?}", opened.audit_broken_at);
    Ok(opened.store)
}

/// Four commits: a number, a job, an audit record, a setting that is too wide for one page. Gives the number.
pub(crate) fn write_round(store: &SqliteStore) -> anyhow::Result<u64> {
    let number = store.next_number()?;
    store.save(&samples::job(number, samples::release("v5.1.0", b"image")))?;
    let entry = AuditEntry { reason: Some(number.to_string()), ..samples::audit_entry("updates.install") };
    store.append(Timestamp::from_secs(2), &entry)?;
    store.set_value(SETTING, Some(&wide(number)))?;
    Ok(number)
}

/// A text of several pages that shows whether all of it is of one commit.
fn wide(number: u64) -> String {
    format!("{number};").repeat(WIDTH)
}

/// Records the child of the store, in a folder that is not there yet.
pub(crate) fn record_store() -> anyhow::Result<Trace> {
    let root = files::scratch()?;
    let files = Files::load(root.path())?;
    let folder = root.path().join("state");
    let calls = calls::record(["write-records".as_ref(), folder.as_os_str()])?;
    let rounds = calls.iter().filter(|call| matches!(call, Call::Acknowledged(_))).count();
    ensure!(rounds as u64 == ROUNDS, "the trace shows {rounds} of {ROUNDS} rounds");
    Ok(Trace { calls, files, acknowledged: 0 })
}

/// Opens what a cut left and looks for what was acknowledged.
pub(crate) fn judge_store(cut: &Cut) -> anyhow::Result<()> {
    let root = files::scratch()?;
    files::put_into(root.path(), &cut.left)?;
    rounds_are_there(&root.path().join("state"), cut.acknowledged).map(drop)
}

/// Whether the store in `folder` opens as one that was not disturbed, with what was acknowledged in it and every commit whole
/// or not at all. Gives the last round in it.
pub(crate) fn rounds_are_there(folder: &Path, acknowledged: u64) -> anyhow::Result<u64> {
    let store = open(folder)?;
    let text = store.value(SETTING)?.unwrap_or_default();
    let round = text.split(';').next().and_then(|number| number.parse::<u64>().ok()).unwrap_or(0);
    ensure!(round >= acknowledged, "R2: round {acknowledged} was acknowledged, the store knows {round}");
    ensure!(round == 0 || text == wide(round), "R2: half a commit is there");
    let chain = store.verify_chain()?;
    let count = chain.ok().context("A6: the chain of the audit is broken")?;
    if round > 0 {
        let told = round.to_string();
        let audited = store.records(count.saturating_sub(2), 2)?;
        ensure!(
            audited.iter().any(|record| record.entry.reason.as_ref() == Some(&told)),
            "R2: the audit of round {round} is lost"
        );
        ensure!(store.job(&JobId::from_number(round))?.is_some(), "R2: job {round} is lost");
        ensure!(store.next_number()? > round, "R2: a job number is given twice");
    }
    Ok(round)
}
