//! The real store and a real factory reset over system calls that fail: R7 where the real SQLite and real files are.
//!
//! A child works under `strace`, which makes its N-th call of a kind fail (of each of its threads), or that and all after
//! it, as the kernel would; for each N that there is. Or it works where files may not grow past some length, so that the
//! kernel takes half of one write and nothing of what comes after. It either goes on as if nothing had been, or ends and
//! says what it was; then the same folder is opened without failures: what was acknowledged is there, and nothing is half
//! done. Calls of [`crate::errors`] are those of slots and environment.

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
    reset::{ASKED, Recorded, Site},
    suite,
    trace::{self, Trace},
    verdict,
};

/// Once, and from then on for ever.
const BOTH: &[bool] = &[false, true];
/// Which calls fail, how, and whether for ever. `write` is not among them, since a child says by it what went wrong: it fails
/// where files may not grow. A file system on which nothing opens stays so; the dynamic loader's files are among those that
/// do not open, which is a start that fails.
const FAILURES: [(&str, &str, &[bool]); 10] = [
    ("pwrite64", "EIO", BOTH),
    ("pwrite64", "ENOSPC", BOTH),
    ("openat", "EROFS", &[true]),
    ("fdatasync", "EIO", BOTH),
    ("fsync", "EIO", BOTH),
    ("ftruncate", "ENOSPC", BOTH),
    ("rename", "EROFS", BOTH),
    ("unlink", "EROFS", BOTH),
    ("unlinkat", "EIO", BOTH),
    ("mkdir", "ENOSPC", BOTH),
];
/// More calls of one kind than any child makes.
const MOST: usize = 2000;

/// What was tried and what came of it.
#[derive(Debug, Default)]
pub(crate) struct Failing {
    /// Runs with a call that failed.
    pub(crate) runs: u64,
    /// Those of them with a write of which half was taken.
    pub(crate) short: u64,
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
enum Failure {
    Call {
        call: &'static str,
        error: &'static str,
        at: usize,
        for_ever: bool,
    },
    /// No file grows past so many bytes: the write that would is taken by half, and nothing more.
    Half {
        len: usize,
    },
}

/// What one worker tries in a row.
#[derive(Clone, Copy, Debug)]
enum Row {
    /// The first call of a kind, the second, …, until there are no more.
    Calls {
        call: &'static str,
        error: &'static str,
        for_ever: bool,
    },
    Half {
        len: usize,
    },
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

/// Fails each call of each kind, and takes each write by half, in each kind of work. The traces say what is written.
pub(crate) fn run(store: &Trace, resets: &[Recorded]) -> anyhow::Result<Failing> {
    let rows = rows(store, resets)?;
    let next = AtomicUsize::new(0);
    let found = Mutex::new(Failing::default());
    suite::side_by_side(|| {
        while let Some((work, row)) = rows.get(next.fetch_add(1, Ordering::Relaxed)) {
            for failure in row.failures() {
                let root = files::scratch()?;
                let (ended, verdict) = work.tried(root.path(), failure)?;
                if !ended.hit {
                    break;
                }
                let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                found.runs += 1;
                found.short += u64::from(matches!(failure, Failure::Half { .. }));
                found.went_on += u64::from(ended.succeeded);
                found.bad.extend(verdict.err().map(|error| format!("{work:?} {failure:?}: {error:#}")));
            }
        }
        Ok(())
    })?;
    Ok(found.into_inner().unwrap_or_else(PoisonError::into_inner))
}

fn rows(store: &Trace, resets: &[Recorded]) -> anyhow::Result<Vec<(Work, Row)>> {
    let works = [Work::Store, Work::Ask, Work::TurnOn];
    let mut rows = Vec::new();
    for work in works {
        for (call, error, ever) in FAILURES {
            rows.extend(ever.iter().map(|for_ever| (work, Row::Calls { call, error, for_ever: *for_ever })));
        }
    }
    let mut halves = store.halves()?;
    // Asked for before the restart, carried out after it. The running slot takes no part.
    halves.extend(resets.first().context("no reset was recorded")?.trace.halves()?);
    ensure!(halves.len() == works.len(), "the traces show {} kinds of work", halves.len());
    for (work, halves) in works.into_iter().zip(halves) {
        rows.extend(halves.into_iter().map(|len| (work, Row::Half { len })));
    }
    Ok(rows)
}

impl Row {
    fn failures(self) -> impl Iterator<Item = Failure> {
        let all = match self {
            Self::Calls { .. } => 1..MOST,
            Self::Half { .. } => 1..2,
        };
        all.map(move |at| match self {
            Self::Calls { call, error, for_ever } => Failure::Call { call, error, at, for_ever },
            Self::Half { len } => Failure::Half { len },
        })
    }
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
    fn child(self, args: &[&OsStr]) -> anyhow::Result<Ended> {
        let dir = tempfile::tempdir()?;
        let trace = dir.path().join("trace");
        let mut command = match self {
            Self::Call { call, error, at, for_ever } => {
                let when = format!("when={at}{}", if for_ever { "+" } else { "" });
                strace(&trace, call, &format!("inject={call}:error={error}:{when}"))
            }
            Self::Half { len } => limited(len),
        };
        // Naming the lines of its sources takes a child that gives up longer than all that it did.
        command.arg(std::env::current_exe()?).args(args).env("RUST_BACKTRACE", "0");
        let output = command.output().with_context(|| format!("starting {command:?}"))?;
        let hit = match self {
            Self::Call { .. } => fs::read_to_string(&trace)?.contains("(INJECTED)"),
            Self::Half { .. } => {
                let started = !matches!(output.status.code(), Some(125..=127));
                ensure!(started, "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
                // The write that it was made for is one of this work.
                true
            }
        };
        let out = String::from_utf8_lossy(&output.stdout);
        let acknowledged =
            out.lines().filter_map(|line| line.strip_prefix("acknowledged ")?.parse().ok()).max();
        Ok(Ended {
            hit,
            succeeded: output.status.success(),
            acknowledged: acknowledged.unwrap_or(0),
            said: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        })
    }
}

/// Debian package strace. It stops the child at the calls that are traced, and at no others.
#[expect(clippy::disallowed_methods, reason = "the process that is traced is this program")]
fn strace(trace: &Path, call: &str, inject: &str) -> Command {
    let mut strace = Command::new("strace");
    strace.args(["-f", "--seccomp-bpf", "-qq", "-e", "signal=none"]);
    strace.args(["-e", &format!("trace={call}"), "-e", inject, "-o"]).arg(trace);
    strace
}

/// No file grows past `len` bytes: the kernel takes what fits (RLIMIT_FSIZE), then nothing, with EFBIG and no signal.
#[expect(clippy::disallowed_methods, reason = "the process that is limited is this program")]
fn limited(len: usize) -> Command {
    let mut env = Command::new("env");
    env.args(["--ignore-signal=XFSZ", "prlimit", &format!("--fsize={len}:{len}"), "--"]);
    env
}

impl Ended {
    /// Whether a child that gave up said why, in an orderly way.
    fn named(&self) -> anyhow::Result<()> {
        ensure!(!self.said.contains("panicked"), "R7: it panics: {}", self.said);
        ensure!(
            self.succeeded || verdict::is_sentence(&self.said),
            "R7: it ends without a sentence: {}",
            self.said
        );
        Ok(())
    }
}
