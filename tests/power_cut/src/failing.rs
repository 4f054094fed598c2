//! The real store and a real factory reset over system calls that fail: R7 where the real SQLite and real files are.
//!
//! A child works under `strace`, which makes its N-th call of a kind fail, or that and all after it, as the kernel would. It
//! either goes on as if nothing had been, or ends and says what it was; then the same folder is opened without failures:
//! what was acknowledged is there, and nothing is half done. Calls of [`crate::errors`] are those of slots and environment.

use std::{
    ffi::OsStr,
    fs,
    path::Path,
    process::Command,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use anyhow::{Context as _, ensure};
use ota_core::Slot;

use crate::{
    files,
    reset::{ASKED, Site},
    suite, trace,
};

/// Which calls fail, and how. Opening, closing and `write` are left out: the dynamic loader and the runtime's own wake-ups
/// would fail with them.
const FAILURES: [(&str, &str); 9] = [
    ("pwrite64", "EIO"),
    ("pwrite64", "ENOSPC"),
    ("fdatasync", "EIO"),
    ("fsync", "EIO"),
    ("ftruncate", "ENOSPC"),
    ("rename", "EROFS"),
    ("unlink", "EROFS"),
    ("unlinkat", "EIO"),
    ("mkdir", "ENOSPC"),
];
/// More calls of one kind than any child makes.
const MOST: usize = 2000;

/// What was tried and what came of it.
#[derive(Debug, Default)]
pub(crate) struct Failing {
    /// Runs with a call that failed.
    pub(crate) runs: u64,
    /// Those of them that went on to their end.
    pub(crate) went_on: u64,
    /// What was broken.
    pub(crate) bad: Vec<String>,
}

/// What the child does.
#[derive(Clone, Copy, Debug)]
enum Work {
    /// Rounds of writes into a store.
    Store,
    /// Asks for a factory reset, with a backup.
    Ask,
    /// The boot that carries it out.
    TurnOn,
}

#[derive(Clone, Copy, Debug)]
struct Failure {
    call: &'static str,
    error: &'static str,
    at: usize,
    for_ever: bool,
}

/// A child that has ended.
struct Ended {
    /// Whether a call failed.
    hit: bool,
    succeeded: bool,
    acknowledged: u64,
    /// Its last words.
    said: String,
}

/// Fails one call in `every` of each kind, in each kind of work.
pub(crate) fn run(every: usize) -> anyhow::Result<Failing> {
    let works = [Work::Store, Work::Ask, Work::TurnOn];
    let rows: Vec<(Work, (&str, &str), bool)> = works
        .into_iter()
        .flat_map(|work| FAILURES.into_iter().map(move |failure| (work, failure)))
        .flat_map(|(work, failure)| [false, true].map(|for_ever| (work, failure, for_ever)))
        .collect();
    let next = AtomicUsize::new(0);
    let found = Mutex::new(Failing::default());
    suite::side_by_side(|| {
        while let Some((work, (call, error), for_ever)) = rows.get(next.fetch_add(1, Ordering::Relaxed)) {
            // Not always the same ones: the kinds begin at different calls.
            for at in (1 + (call.len() + error.len()) % every..MOST).step_by(every) {
                let failure = Failure { call, error, at, for_ever: *for_ever };
                let root = files::scratch()?;
                let (ended, verdict) = work.tried(root.path(), failure)?;
                if !ended.hit {
                    break;
                }
                let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                found.runs += 1;
                found.went_on += u64::from(ended.succeeded);
                found.bad.extend(verdict.err().map(|error| format!("{work:?} {failure:?}: {error:#}")));
            }
        }
        Ok(())
    })?;
    Ok(found.into_inner().unwrap_or_else(PoisonError::into_inner))
}

impl Work {
    fn tried(self, root: &Path, failure: Failure) -> anyhow::Result<(Ended, anyhow::Result<()>)> {
        let site = Site::new(root, Slot::A);
        let state = root.join("state");
        match self {
            Self::Store => {}
            Self::Ask => site.furnish()?,
            Self::TurnOn => {
                site.furnish()?;
                asked(root)?;
            }
        }
        let slot = OsStr::new(Slot::A.as_str());
        let ended = match self {
            Self::Store => failure.child(&["write-records".as_ref(), state.as_os_str()])?,
            Self::Ask => failure.child(&["ask-for-reset".as_ref(), root.as_os_str(), slot])?,
            Self::TurnOn => failure.child(&["turn-on".as_ref(), root.as_os_str(), slot])?,
        };
        let verdict = ended.named().and_then(|()| match self {
            Self::Store => trace::rounds_are_there(&state, ended.acknowledged).map(drop),
            Self::Ask => site.turns_on_as_told(ended.acknowledged),
            // Asked for with 2xx before.
            Self::TurnOn => site.turns_on_as_told(ASKED),
        });
        Ok((ended, verdict))
    }
}

/// A reset asked for without failures.
#[expect(clippy::disallowed_methods, reason = "the process that asks is this program")]
fn asked(root: &Path) -> anyhow::Result<()> {
    let mut child = Command::new(std::env::current_exe()?);
    let output = child.arg("ask-for-reset").arg(root).arg(Slot::A.as_str()).output()?;
    ensure!(output.status.success(), "asking for a reset: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

impl Failure {
    /// Runs this program with `args` and a call that fails.
    #[expect(clippy::disallowed_methods, reason = "the process that is traced is this program")]
    fn child(self, args: &[&OsStr]) -> anyhow::Result<Ended> {
        let Self { call, error, at, for_ever } = self;
        let dir = tempfile::tempdir()?;
        let trace = dir.path().join("trace");
        let inject = format!("inject={call}:error={error}:when={at}{}", if for_ever { "+" } else { "" });
        let output = Command::new("strace")
            .args(["-f", "-qq", "-e", "signal=none", "-e", &format!("trace={call}"), "-e", &inject, "-o"])
            .arg(&trace)
            .arg(std::env::current_exe()?)
            .args(args)
            .output()
            .context("starting strace (Debian package strace)")?;
        let out = String::from_utf8_lossy(&output.stdout);
        let acknowledged =
            out.lines().filter_map(|line| line.strip_prefix("acknowledged ")?.parse().ok()).max();
        Ok(Ended {
            hit: fs::read_to_string(&trace)?.contains("(INJECTED)"),
            succeeded: output.status.success(),
            acknowledged: acknowledged.unwrap_or(0),
            said: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        })
    }
}

impl Ended {
    /// Whether a child that gave up said why, in an orderly way.
    fn named(&self) -> anyhow::Result<()> {
        ensure!(!self.said.contains("panicked"), "R7: it panics: {}", self.said);
        ensure!(self.succeeded || !self.said.is_empty(), "R7: it ends without a word");
        Ok(())
    }
}
