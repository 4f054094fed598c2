//! What the kernel says of the daemon's process: `/proc/self`.

use std::fs;

use ota_http::ProcessFigures;

/// Ticks of the times in `/proc`: the kernel's interface says 100 on every architecture.
const TICKS: f64 = 100.0;

/// As it is now; `None` where there is no `/proc`.
pub(super) fn figures() -> Option<ProcessFigures> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let machine = fs::read_to_string("/proc/stat").ok()?;
    let open = fs::read_dir("/proc/self/fd").ok()?.count();
    parse(&stat, &status, &limits, &machine, u64::try_from(open).ok()?)
}

fn parse(stat: &str, status: &str, limits: &str, machine: &str, open_fds: u64) -> Option<ProcessFigures> {
    // The name of the program is in brackets and may hold anything.
    let (_, fields) = stat.rsplit_once(')')?;
    // The first field here is the third of proc(5).
    let field = |number: usize| fields.split_whitespace().nth(number - 3)?.parse::<f64>().ok();
    let kib = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
    };
    let max = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    let booted = machine.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse::<f64>().ok()?;
    let threads = status.lines().find_map(|line| line.strip_prefix("Threads:"))?;
    Some(ProcessFigures {
        cpu_seconds: (field(14)? + field(15)?) / TICKS,
        resident_bytes: kib("VmRSS:")?,
        virtual_bytes: kib("VmSize:")?,
        open_fds,
        max_fds: max.split_whitespace().next()?.parse().unwrap_or(u64::MAX),
        threads: threads.trim().parse().ok()?,
        started: booted + field(22)? / TICKS,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_where_proc_says_they_are() {
        let stat = "7 (a (b) c) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0 3 0 1200 0 0";
        let status = "Name:\tx\nVmSize:\t  2048 kB\nVmRSS:\t  1024 kB\nThreads:\t3\n";
        let limits = "Limit  Soft  Hard  Units\nMax open files            1024                 4096                 files\n";
        let found = parse(stat, status, limits, "cpu 1\nbtime 1000\n", 9).unwrap();
        assert_eq!((found.cpu_seconds, found.started), (2.0, 1012.0));
        assert_eq!((found.resident_bytes, found.virtual_bytes, found.threads), (1 << 20, 2 << 20, 3));
        assert_eq!((found.open_fds, found.max_fds), (9, 1024));
    }

    #[test]
    fn this_process_has_figures() {
        let figures = figures().unwrap();
        assert!(figures.resident_bytes > 0 && figures.open_fds > 2 && figures.started > 1.0e9);
    }
}
