//! The real store, by the system calls it really makes: what is left of its files after a cut between any two of them.
//!
//! A child process works with a real `SqliteStore` under `strace`, which writes down every write, sync, rename and folder
//! sync with its bytes. The trace is then played on a model of a file system that loses what was not synced: data of a
//! file until that file is synced, names until their folder is. What each cut leaves is put into a folder and opened with
//! the real store. So a commit of SQLite is shown to be one durable step, and the files beside it (the audit's key
//! and anchor) to be replaced in the order of `durable-steps.md`, section 1.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail, ensure};
use ota_core::{
    JobId, Timestamp,
    ports::{AuditLog as _, JobJournal as _, Settings as _},
};
use ota_store::{Condition, SqliteStore};
use ota_testkit::samples;

use crate::{
    files::{Files, Key},
    medium,
    random::Random,
};

/// Rounds of writes that the child makes.
const ROUNDS: u64 = 5;
/// Most outcomes of one cut.
const OUTCOMES: usize = 12;
/// The setting that counts rounds.
const SETTING: &str = "round";

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

/// A system call that matters.
#[derive(Clone, Debug)]
pub(crate) enum Call {
    Open {
        fd: i64,
        path: PathBuf,
        creates: bool,
        truncates: bool,
    },
    Close {
        fd: i64,
    },
    Write {
        fd: i64,
        offset: Option<usize>,
        bytes: Vec<u8>,
    },
    Truncate {
        fd: i64,
        len: usize,
    },
    Sync {
        fd: i64,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
    },
    Unlink {
        path: PathBuf,
    },
    /// A folder was made; all that matters is in ours.
    MakeFolder,
    /// The child has acknowledged so many rounds.
    Acknowledged(u64),
}

/// What the child does: rounds of writes, each acknowledged on standard output.
pub(crate) fn child(folder: &Path) -> anyhow::Result<()> {
    use std::io::Write as _;
    let store = SqliteStore::open(folder, Timestamp::from_secs(1))?.store;
    for round in 1..=ROUNDS {
        let number = store.next_number()?;
        store.save(&samples::job(number, samples::release("v5.1.0", b"image")))?;
        store.append(Timestamp::from_secs(2), &samples::audit_entry("updates.install"))?;
        store.set_value(SETTING, Some(&round.to_string()))?;
        let mut out = std::io::stdout().lock();
        out.write_all(format!("acknowledged {round}\n").as_bytes())?;
        out.flush()?;
    }
    Ok(())
}

/// Records the system calls of a child.
#[expect(clippy::disallowed_methods, reason = "the process that is traced is this program")]
pub(crate) fn record() -> anyhow::Result<(Vec<Call>, PathBuf)> {
    let dir = tempfile::tempdir()?;
    let (trace, state) = (dir.path().join("trace"), dir.path().join("state"));
    let calls = "trace=openat,close,write,pwrite64,ftruncate,fsync,fdatasync,rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat";
    let output = Command::new("strace")
        .args(["-f", "-xx", "-s", "1000000", "-e", "signal=none", "-e", calls, "-o"])
        .arg(&trace)
        .arg(std::env::current_exe()?)
        .arg("write-records")
        .arg(&state)
        .output()
        .context("starting strace (Debian package strace)")?;
    ensure!(output.status.success(), "strace: {}", String::from_utf8_lossy(&output.stderr));
    let text = fs::read_to_string(&trace)?;
    let calls = text.lines().map(|line| parse(line, &state)).collect::<anyhow::Result<Vec<_>>>()?;
    Ok((calls.into_iter().flatten().collect(), state))
}

/// Plays a trace and opens what a cut after each call leaves.
pub(crate) fn play(calls: &[Call], state: &Path, left_out: Option<LeftOut>) -> anyhow::Result<Traced> {
    let mut files = Files::new(state);
    let (mut acknowledged, mut random, mut traced) = (0, Random::new(5), Traced::default());
    let mut seen = std::collections::HashSet::<Key>::new();
    for call in calls {
        if let Call::Acknowledged(round) = call {
            acknowledged = *round;
        } else {
            let skipped = left_out.is_some_and(|left_out| files.is_sync(call, left_out));
            traced.operations += usize::from(!skipped && files.take(call)?);
        }
        for fates in medium::choices(files.pending(), OUTCOMES, &mut random) {
            let (left, key) = files.cut(&fates, acknowledged, &mut random);
            if !seen.insert(key) {
                continue;
            }
            traced.states += 1;
            if let Err(error) = judge(&left, acknowledged) {
                traced.bad.push(format!("after {acknowledged} rounds: {error:#}"));
                if left_out.is_some() {
                    return Ok(traced);
                }
            }
        }
    }
    ensure!(acknowledged == ROUNDS, "the trace shows {acknowledged} of {ROUNDS} rounds");
    Ok(traced)
}

/// Opens what a cut left and looks for what was acknowledged.
fn judge(left: &[(String, Vec<u8>)], acknowledged: u64) -> anyhow::Result<()> {
    let memory = Path::new("/dev/shm");
    let dir = if memory.is_dir() { tempfile::tempdir_in(memory)? } else { tempfile::tempdir()? };
    let folder = dir.path().join("state");
    fs::create_dir(&folder)?;
    for (name, bytes) in left {
        fs::write(folder.join(name), bytes)?;
    }
    let opened =
        SqliteStore::open(&folder, Timestamp::from_secs(3)).context("R2: the store does not open")?;
    ensure!(matches!(opened.condition, Condition::Fresh | Condition::Normal), "R2: {:?}", opened.condition);
    ensure!(opened.audit_broken_at.is_none(), "A6: the audit is broken at {:?}", opened.audit_broken_at);
    let store = opened.store;
    let round = store.value(SETTING)?.and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    ensure!(round >= acknowledged, "R2: round {acknowledged} was acknowledged, the store knows {round}");
    let chain = store.verify_chain()?;
    ensure!(chain.is_ok_and(|count| count >= acknowledged), "R2: the audit has {chain:?} records");
    if acknowledged > 0 {
        ensure!(store.job(&JobId::from_number(acknowledged))?.is_some(), "R2: job {acknowledged} is lost");
        ensure!(store.next_number()? > acknowledged, "R2: a job number is given twice");
    }
    Ok(())
}

/// One line of a trace; `None`: a call that failed or does not matter.
fn parse(line: &str, state: &Path) -> anyhow::Result<Option<Call>> {
    ensure!(!line.contains("unfinished ..."), "two threads of the child overlap: {line}");
    let Some((call, result)) = line.rsplit_once(" = ") else { return Ok(None) };
    let result: i64 = result.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(-1);
    // With -f each line begins with the process.
    let call = call.trim_start_matches(|c: char| c.is_ascii_digit() || c == ' ');
    let Some((name, rest)) = call.split_once('(') else { return Ok(None) };
    if result < 0 {
        return Ok(None);
    }
    let texts = texts(rest)?;
    let path = |n: usize| -> anyhow::Result<PathBuf> {
        let bytes = texts.get(n).with_context(|| format!("no path in {name}"))?;
        Ok(PathBuf::from(String::from_utf8_lossy(bytes).into_owned()))
    };
    let numbers: Vec<i64> = outside_texts(rest).filter_map(|word| word.parse().ok()).collect();
    let number = |n: usize| numbers.get(n).copied().with_context(|| format!("no number {n} in {name}"));
    let ours = |path: &PathBuf| path.starts_with(state);
    Ok(match name {
        "openat" => {
            let path = path(0)?;
            let (creates, truncates) = (rest.contains("O_CREAT"), rest.contains("O_TRUNC"));
            ours(&path).then_some(Call::Open { fd: result, path, creates, truncates })
        }
        "close" => Some(Call::Close { fd: number(0)? }),
        "write" | "pwrite64" => {
            let bytes =
                texts.first().map(|b| b[..usize::try_from(result).unwrap_or(0)].to_vec()).unwrap_or_default();
            let said = String::from_utf8_lossy(&bytes).into_owned();
            match said.trim().strip_prefix("acknowledged ").and_then(|n| n.parse().ok()) {
                Some(round) if number(0)? == 1 => Some(Call::Acknowledged(round)),
                _ => {
                    let offset = if name == "pwrite64" { numbers.last().copied() } else { None };
                    let offset = offset.map(usize::try_from).transpose()?;
                    Some(Call::Write { fd: number(0)?, offset, bytes })
                }
            }
        }
        "ftruncate" => Some(Call::Truncate { fd: number(0)?, len: usize::try_from(number(1)?)? }),
        "fsync" | "fdatasync" => Some(Call::Sync { fd: number(0)? }),
        "rename" | "renameat" | "renameat2" => Some(Call::Rename { from: path(0)?, to: path(1)? }),
        "unlink" | "unlinkat" => Some(Call::Unlink { path: path(0)? }),
        "mkdir" | "mkdirat" => Some(Call::MakeFolder),
        other => bail!("an unexpected call {other}"),
    })
}

/// The quoted texts of a call, as bytes; strace writes each byte as `\x41`.
fn texts(arguments: &str) -> anyhow::Result<Vec<Vec<u8>>> {
    let quoted = arguments.split('"').skip(1).step_by(2);
    let bytes = |text: &str| {
        let pairs = text.split("\\x").skip(1);
        pairs
            .map(|pair| u8::from_str_radix(pair, 16).context("not a byte"))
            .collect::<anyhow::Result<Vec<u8>>>()
    };
    quoted.map(bytes).collect()
}

/// The arguments that are no texts.
fn outside_texts(arguments: &str) -> impl Iterator<Item = &str> {
    let outside = arguments.split('"').step_by(2);
    outside.flat_map(|part| part.split([',', ' ', ')'])).filter(|word| !word.is_empty())
}
