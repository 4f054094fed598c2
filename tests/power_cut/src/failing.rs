//! The real store and a real factory reset over system calls that fail: R7 where the real SQLite and real files are.
//!
//! A child works under `strace`, which makes its N-th call of a kind fail (of each of its threads), or that and all after
//! it, as the kernel would; for each N that there is. Or it works where files may not grow past some length, so that the
//! kernel takes half of one write and nothing of what comes after. It either goes on as if nothing had been, or ends and
//! says what it was; then the same folder is opened without failures: what was acknowledged is there, and nothing is half
//! done. Calls of [`crate::errors`] are those of slots and environment.

use std::{
    collections::BTreeSet,
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
    files::{self, Files},
    reset::{ASKED, Recorded, Site},
    suite,
    trace::{self, Trace},
    verdict,
};

/// Once, and from then on for ever.
const BOTH: [bool; 2] = [false, true];
/// Which calls fail, and how. The dynamic loader's files are among those that do not open, which is a start that fails.
const FAILURES: [(&str, &str); 12] = [
    ("pwrite64", "EIO"),
    ("pwrite64", "ENOSPC"),
    ("openat", "EROFS"),
    ("fdatasync", "EIO"),
    ("fdatasync", "ENOSPC"),
    ("fsync", "EIO"),
    ("fsync", "ENOSPC"),
    ("ftruncate", "ENOSPC"),
    ("rename", "EROFS"),
    ("unlink", "EROFS"),
    ("unlinkat", "EIO"),
    ("mkdir", "ENOSPC"),
];
/// How `write` fails, of one file at a time: a child says by the same call what went wrong.
const WRITES: [&str; 2] = ["EIO", "ENOSPC"];
/// How the name of a file begins to end that has the number of the process in it.
const NUMBERED: &str = ".new-";
/// Traces the calls on the file that is the first argument.
const ONE_FILE: &str =
    r#"file=$1; shift; case $file in *.new-) file=$file$$;; esac; exec strace -D -P "$file" "$@""#;
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

/// A call of the system, and how it fails.
#[derive(Clone, Copy, Debug)]
struct Injected<'a> {
    call: &'static str,
    error: &'static str,
    for_ever: bool,
    /// On this file only, as it was called in a recording.
    file: Option<&'a str>,
}

#[derive(Clone, Copy, Debug)]
enum Failure<'a> {
    Call {
        injected: Injected<'a>,
        at: usize,
    },
    /// No file grows past so many bytes: the write that would is taken by half, and nothing more.
    Half {
        len: usize,
    },
}

/// What one worker tries in a row.
#[derive(Clone, Copy, Debug)]
enum Row<'a> {
    /// The first call of a kind, the second, …, until there are no more.
    Calls(Injected<'a>),
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
    let reset = &resets.first().context("no reset was recorded")?.trace;
    // Asked for before the restart, carried out after it. The running slot takes no part.
    let halves = [store.gather(Files::half_of)?, reset.gather(Files::half_of)?].concat();
    let written = [store.gather(Files::written)?, reset.gather(Files::written)?].concat();
    ensure!(
        halves.len() == Work::ALL.len()
            && written.len() == halves.len()
            && !written.iter().any(BTreeSet::is_empty),
        "the traces do not show what each kind of work writes: {halves:?}, {written:?}"
    );
    let rows = rows(&halves, &written);
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

fn rows<'a>(halves: &[BTreeSet<usize>], written: &'a [BTreeSet<String>]) -> Vec<(Work, Row<'a>)> {
    let mut rows = Vec::new();
    for (work, (halves, written)) in Work::ALL.into_iter().zip(halves.iter().zip(written)) {
        for for_ever in BOTH {
            let of_all = |(call, error)| Injected { call, error, for_ever, file: None };
            rows.extend(FAILURES.map(|failure| (work, Row::Calls(of_all(failure)))));
            for file in written {
                let of_one = |error| Injected { call: "write", error, for_ever, file: Some(file) };
                rows.extend(WRITES.map(|error| (work, Row::Calls(of_one(error)))));
            }
        }
        rows.extend(halves.iter().map(|len| (work, Row::Half { len: *len })));
    }
    rows
}

impl<'a> Row<'a> {
    fn failures(self) -> impl Iterator<Item = Failure<'a>> {
        let all = match self {
            Self::Calls(_) => 1..MOST,
            Self::Half { .. } => 1..2,
        };
        all.map(move |at| match self {
            Self::Calls(injected) => Failure::Call { injected, at },
            Self::Half { len } => Failure::Half { len },
        })
    }
}

impl Work {
    const ALL: [Self; 3] = [Self::Store, Self::Ask, Self::TurnOn];

    fn tried(self, root: &Path, failure: Failure<'_>) -> anyhow::Result<(Ended, anyhow::Result<()>)> {
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
            Self::Store => failure.child(root, &["write-records".as_ref(), state.as_os_str()])?,
            Self::Ask => failure.child(root, &["ask-for-reset".as_ref(), root.as_os_str(), slot])?,
            Self::TurnOn => failure.child(root, &["turn-on".as_ref(), root.as_os_str(), slot])?,
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

impl Failure<'_> {
    /// Runs this program with `args` and a call that fails; it works in `root`.
    fn child(self, root: &Path, args: &[&OsStr]) -> anyhow::Result<Ended> {
        let dir = tempfile::tempdir()?;
        let trace = dir.path().join("trace");
        let mut command = match self {
            Self::Call { injected, at } => {
                let Injected { call, error, for_ever, file } = injected;
                let when = format!("when={at}{}", if for_ever { "+" } else { "" });
                let mut strace = file.map_or_else(strace, |file| strace_of(&root.join(unnumbered(file))));
                strace.args(["-f", "--seccomp-bpf", "-qq", "-e", "signal=none"]);
                strace.args(["-e".to_owned(), format!("trace={call}")]);
                strace.args(["-e".to_owned(), format!("inject={call}:error={error}:{when}")]);
                strace.arg("-o").arg(&trace);
                strace
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
fn strace() -> Command {
    Command::new("strace")
}

/// The same for calls on `file` only. Where its name ends with the number of the process that writes it, that is the shell's: with
/// `-D` it is the tracer that is forked, and the program takes the shell's place.
#[expect(clippy::disallowed_methods, reason = "the process that is traced is this program")]
fn strace_of(file: &Path) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", ONE_FILE, "sh"]).arg(file);
    shell
}

/// Takes the number of the process from the name of a file that `ota-store` is about to rename.
fn unnumbered(file: &str) -> &str {
    let name = file.trim_end_matches(|char: char| char.is_ascii_digit());
    if name.ends_with(NUMBERED) { name } else { file }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_a_process_is_taken_from_a_name_and_other_numbers_stay() {
        assert_eq!(unnumbered("state/audit.key.new-4711"), "state/audit.key.new-");
        assert_eq!(unnumbered("keep/.factory-reset.json.new"), "keep/.factory-reset.json.new");
        assert_eq!(unnumbered("keep/SNAP-1768"), "keep/SNAP-1768");
    }

    #[test]
    fn each_file_that_a_work_writes_fails_in_both_ways_once_and_for_ever() {
        let names = |all: &[&str]| all.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<String>>();
        let written = [names(&["a", "b"]), names(&["c"]), names(&["d"])];
        let halves = [BTreeSet::new(), BTreeSet::new(), BTreeSet::from([7])];
        let rows = rows(&halves, &written);
        let of_files =
            rows.iter().filter(|(_, row)| matches!(row, Row::Calls(Injected { file: Some(_), .. })));
        assert_eq!(of_files.count(), 4 * WRITES.len() * BOTH.len());
        assert_eq!(rows.len(), 4 * 4 + 3 * FAILURES.len() * BOTH.len() + 1);
    }
}
