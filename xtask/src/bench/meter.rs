//! What running a program takes: wall time, CPU of all its processes, peak memory.
//!
//! CPU is what the kernel charges to the process, its children and the services it talks to; the kernel's own threads
//! (the loop device's worker) are charged to nobody, for all alike. Memory is looked at every few milliseconds: the sum
//! of the processes' high-water marks.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    sync::mpsc::{RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};

use crate::process;

/// Time between two looks at the memory.
const LOOK: Duration = Duration::from_millis(5);

/// Of the clock in `/proc/PID/stat`; the same on every Linux.
const TICKS_A_SECOND: f64 = 100.0;

/// What one run took.
#[derive(Clone, Copy)]
pub(super) struct Cost {
    /// From starting the program to its end.
    pub(super) wall: Duration,
    /// User and system time in seconds.
    pub(super) cpu: f64,
    /// Peak memory in MiB.
    pub(super) memory: f64,
}

/// A command before its neighbours: with a raised priority where that is allowed (root), else as any other.
pub(super) fn urgent(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = process::command("nice");
    command.args(["-n", "-15"]).arg(program);
    command
}

/// Raises the priority of the whole session until dropped: where the kernel groups processes by session, a process'
/// own priority counts only within its group. Source: sched(7), "The autogroup feature".
pub(super) struct Urgency;

impl Urgency {
    /// Does nothing where it is not allowed, or the kernel has no such groups.
    pub(super) fn of_this_session() -> Self {
        let _ = fs::write(AUTOGROUP, "-15");
        Self
    }
}

impl Drop for Urgency {
    fn drop(&mut self) {
        let _ = fs::write(AUTOGROUP, "0");
    }
}

const AUTOGROUP: &str = "/proc/self/autogroup";

/// Runs the command to its end. `services` are processes that work for it; `log` takes what it says.
pub(super) fn measured(command: &mut Command, services: &[u32], log: &Path) -> anyhow::Result<Cost> {
    let said = fs::File::create(log)?;
    command.stdin(Stdio::null()).stdout(said.try_clone()?).stderr(said);
    for pid in services {
        fs::write(format!("/proc/{pid}/clear_refs"), "5")?;
    }
    let before = charged(services)?;
    let start = now();
    let mut child = command.spawn().with_context(|| format!("starting {command:?}"))?;
    let roots: Vec<u32> = services.iter().copied().chain([child.id()]).collect();
    let (ended, wait_for_end) = channel::<()>();
    let looking = thread::spawn(move || {
        let mut peak = 0;
        loop {
            peak = peak.max(roots.iter().map(|pid| resident(*pid)).sum());
            if wait_for_end.recv_timeout(LOOK) != Err(RecvTimeoutError::Timeout) {
                return peak;
            }
        }
    });
    let status = child.wait()?;
    let wall = start.elapsed();
    drop(ended);
    let peak: u32 = looking.join().unwrap_or_default();
    if !status.success() {
        let said = fs::read_to_string(log).unwrap_or_default();
        let last: Vec<&str> = said.lines().rev().filter(|l| !l.trim().is_empty()).take(3).collect();
        bail!("{status}: {}", last.into_iter().rev().collect::<Vec<_>>().join(" | "));
    }
    Ok(Cost { wall, cpu: charged(services)? - before, memory: f64::from(peak) / 1024.0 })
}

/// Seconds charged so far to the children that have ended, and to the services with theirs. Source: proc_pid_stat(5).
fn charged(services: &[u32]) -> anyhow::Result<f64> {
    let mut ticks = times("self", 2..4)?;
    for pid in services {
        ticks += times(&pid.to_string(), 0..4)?;
    }
    Ok(ticks / TICKS_A_SECOND)
}

/// The sum of some of utime, stime, cutime and cstime.
fn times(pid: &str, which: std::ops::Range<usize>) -> anyhow::Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name in brackets may hold anything; the times are the 12th to 15th field after it.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11);
    let all: Vec<f64> = fields.take(4).map(str::parse).collect::<Result<_, _>>()?;
    Ok(all.get(which).with_context(|| format!("/proc/{pid}/stat is short"))?.iter().sum())
}

/// KiB at the peak of a process and its living descendants; 0 for one that is gone.
fn resident(pid: u32) -> u32 {
    let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
    let status = read("status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    let own: u32 = line.trim().trim_end_matches(" kB").parse().unwrap_or_default();
    let children = read(&format!("task/{pid}/children"));
    own + children.split_whitespace().filter_map(|child| child.parse().ok()).map(resident).sum::<u32>()
}

#[expect(clippy::disallowed_methods, reason = "a measurement of elapsed time is what this module is for")]
fn now() -> Instant {
    Instant::now()
}
