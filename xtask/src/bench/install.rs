//! `cargo xtask bench install`: the slot written, hashed and read back, beside what it cannot be faster than.
//!
//! Owns the rounds, the bars and the tables. The bars are those of `docs/performance.md`; ratios compare figures of one
//! run only, round by round, so that a busy neighbour hits all alike.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{
    media::{Medium, room},
    meter::{Cost, Urgency, measured, urgent},
    peers::{Peer, Peers},
};
use crate::{build::Profile, workspace::Workspace};

/// How the bench is run.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Size of the image; 431 MiB are 452 MB.
    #[arg(long, default_value_t = 431)]
    mib: u32,
    /// Where image and slot lie; without it below the target directory and, with room, in /dev/shm.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Rounds; the tables tell medians.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Installs Debian's swupdate and rauc, which are otherwise measured only when they are there.
    #[arg(long)]
    peers: bool,
    /// Size of our buffers, to try another than the product's.
    #[arg(long)]
    chunk_kib: Option<u32>,
    /// Number of our buffers.
    #[arg(long)]
    buffers: Option<u32>,
    /// Measure the development build, which is there already. The figures say so.
    #[arg(long)]
    dev: bool,
}

/// Bytes that the CPU bar is for.
const CPU_BAR_MB: f64 = 452.0;

/// A figure of our own: its name, the measure of the program, the bars for wall (× floor) and CPU (s).
struct Row {
    title: &'static str,
    measure: &'static str,
    bar: Option<f64>,
}

const ROWS: [Row; 5] = [
    Row { title: "floor: dd, direct, 1 MiB, synced", measure: "floor", bar: None },
    // Right after the writing, as a read-back is: media are slower then than when they have rested.
    Row { title: "then read: dd, direct, 1 MiB", measure: "read", bar: None },
    Row { title: "floor: SHA-256 alone", measure: "hash", bar: None },
    Row { title: "slot written and hashed", measure: "write", bar: Some(1.25) },
    Row { title: "the same, and read back", measure: "write_read_back", bar: Some(2.2) },
];

/// Most CPU seconds for [`CPU_BAR_MB`].
const CPU_BAR: f64 = 1.5;

/// Places in [`ROWS`].
const FLOOR: usize = 0;
const READ: usize = 1;
const HASH: usize = 2;
const WRITE: usize = 3;
const WHOLE: usize = 4;

/// Runs the bench.
pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let profile = Profile::of(args.dev);
    profile.build(&["--example", "bench_install"])?;
    let target = Workspace::read()?.target;
    let program = profile.folder(&target).join("examples/bench_install");
    let needed = u64::from(args.mib) * 6;
    let memory = Path::new("/dev/shm");
    let dirs = match &args.dir {
        Some(dir) => vec![dir.clone()],
        None if room(memory).is_ok_and(|mib| mib >= needed) => vec![target.join("bench"), memory.into()],
        None => {
            println!("/dev/shm: not measured, it has no room for {needed} MiB");
            vec![target.join("bench")]
        }
    };
    if args.peers {
        super::peers::install()?;
    }
    dirs.iter().try_for_each(|dir| on(dir, args, &program))
}

fn on(dir: &Path, args: &Args, program: &Path) -> anyhow::Result<()> {
    let medium = Medium::make(dir, args.mib, program)?;
    let cache = if medium.direct { "past the page cache" } else { "through the page cache" };
    println!("\n## Loop device over a file in {}, {cache}: {} MiB", dir.display(), args.mib);
    let mut peers = Peers::prepare(&medium);
    let urgency = Urgency::of_this_session();
    let mut runs: Vec<Vec<Cost>> = ROWS.iter().map(|_| Vec::new()).collect();
    for _ in 0..args.runs.max(1) {
        for (row, costs) in ROWS.iter().zip(&mut runs) {
            costs.push(once(row.measure, &medium, args, program)?);
        }
        peers.round(&medium);
    }
    drop(urgency);
    println!("{}\n", circumstances(args));
    let ours = Ours { runs, mib: args.mib };
    ours.print();
    print_peers(&ours, peers.done());
    Ok(())
}

fn once(measure: &str, medium: &Medium, args: &Args, program: &Path) -> anyhow::Result<Cost> {
    let mut command;
    if ["floor", "read"].contains(&measure) {
        let (image, slot) = (medium.image.display(), medium.slot.display());
        command = urgent("dd");
        command.args(["bs=1M", "status=none"]);
        match measure {
            "read" => command.args([&format!("if={slot}"), "of=/dev/null", "iflag=direct"]),
            _ => command.args([
                &format!("if={image}"),
                &format!("of={slot}"),
                "oflag=direct",
                "conv=fsync,notrunc",
            ]),
        };
    } else {
        command = urgent(program);
        command.args([measure, "--sha256", &medium.sha256, "--mib", &medium.mib.to_string()]);
        command.arg("--image").arg(&medium.image).arg("--slot").arg(&medium.slot);
        for (option, value) in [("--chunk-kib", args.chunk_kib), ("--buffers", args.buffers)] {
            if let Some(value) = value {
                command.args([option, &value.to_string()]);
            }
        }
    }
    measured(&mut command, &[], &medium.dir.join("log"))
}

/// What a reader needs to judge the figures.
fn circumstances(args: &Args) -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let load = read("/proc/loadavg");
    let cpus = read("/proc/cpuinfo");
    let model = cpus.lines().find_map(|l| l.strip_prefix("model name")).unwrap_or_default();
    format!(
        "Medians of {} rounds, {}, on {} × {}, load {} at the end.",
        args.runs.max(1),
        Profile::of(args.dev).sentence(),
        cpus.lines().filter(|l| l.starts_with("processor")).count(),
        model.trim_start_matches([' ', '\t', ':']),
        load.split_whitespace().take(2).collect::<Vec<_>>().join(" "),
    )
}

/// All runs of our rows.
struct Ours {
    runs: Vec<Vec<Cost>>,
    mib: u32,
}

impl Ours {
    fn print(&self) {
        let slower = self.slower_floor();
        println!(
            "| | wall s | × floor | × slower floor | best round | bar | CPU s a 452 MB | bar | peak RSS MiB |"
        );
        println!("|---|---|---|---|---|---|---|---|---|");
        for (at, row) in ROWS.iter().enumerate() {
            let (wall, cpu) = (self.wall(at), self.cpu(at));
            let ratio = wall / self.wall(FLOOR);
            let bar = row.bar.map_or_else(
                || "–".into(),
                |bar| {
                    let hash_bound = ratio > bar && wall / slower <= bar;
                    verdict(bar, ratio, "×") + if hash_bound { ", met × slower floor" } else { "" }
                },
            );
            let cpu_bar = row.bar.map_or_else(|| "–".into(), |_| verdict(CPU_BAR, cpu, "s"));
            println!(
                "| {} | {wall:.3} | {ratio:.2} | {:.2} | {:.2} | {bar} | {cpu:.2} | {cpu_bar} | {:.1} |",
                row.title,
                wall / slower,
                self.best_ratio(at),
                median(&self.runs[at], |c| c.memory),
            );
        }
        println!();
        if self.wall(HASH) > self.wall(FLOOR) {
            println!(
                "Here SHA-256 alone takes {:.2} × the floor, so no installer that hashes can meet less than that: an image is",
                self.wall(HASH) / self.wall(FLOOR)
            );
            println!(
                "one chain of blocks, and the sum is never faster than the slower of the two floors (column \"slower floor\")."
            );
        } else {
            println!("The medium is slower than SHA-256 here, so the floor is the medium's.");
        }
        let bare = self.wall(FLOOR) + self.wall(READ);
        println!(
            "Writing and reading without any hashing (both dd) take {:.2} × the floor; ours with the read-back takes {:.2} × that.",
            bare / self.wall(FLOOR),
            self.wall(WHOLE) / bare
        );
    }

    /// The slower of writing alone and hashing alone.
    fn slower_floor(&self) -> f64 {
        self.wall(FLOOR).max(self.wall(HASH))
    }

    fn wall(&self, at: usize) -> f64 {
        median(&self.runs[at], |c| c.wall.as_secs_f64())
    }

    /// For [`CPU_BAR_MB`].
    fn cpu(&self, at: usize) -> f64 {
        median(&self.runs[at], |c| c.cpu) * CPU_BAR_MB / (f64::from(self.mib) * 1.048_576)
    }

    /// Against the slower floor of the same round, in the round where it is least: disturbed least.
    fn best_ratio(&self, at: usize) -> f64 {
        let seconds = |at: usize, round: usize| self.runs[at][round].wall.as_secs_f64();
        let ratios = (0..self.runs[at].len())
            .map(|round| seconds(at, round) / seconds(FLOOR, round).max(seconds(HASH, round)));
        ratios.fold(f64::INFINITY, f64::min)
    }
}

fn print_peers(ours: &Ours, peers: Vec<Peer>) {
    println!(
        "\n| other installers, same bytes | wall s | × ours | × ours, no read-back | CPU × ours | peak RSS MiB | × ours |"
    );
    println!("|---|---|---|---|---|---|---|");
    for Peer { name, runs } in peers {
        let costs = match runs {
            Ok(costs) => costs,
            Err(why) => {
                println!("| {name} | not measured: {why} | | | | | |");
                continue;
            }
        };
        let whole = &ours.runs[WHOLE];
        let (wall, memory) = (median(&costs, |c| c.wall.as_secs_f64()), median(&costs, |c| c.memory));
        println!(
            "| {name} | {wall:.3} | {:.2} | {:.2} | {:.2} | {memory:.1} | {:.1} |",
            wall / ours.wall(WHOLE),
            wall / ours.wall(WRITE),
            median(&costs, |c| c.cpu) / median(whole, |c| c.cpu),
            memory / median(whole, |c| c.memory),
        );
    }
}

fn verdict(bar: f64, value: f64, unit: &str) -> String {
    format!("≤ {bar} {unit}: {}", if value <= bar { "met" } else { "not met" })
}

fn median(costs: &[Cost], of: impl Fn(&Cost) -> f64) -> f64 {
    let mut values: Vec<f64> = costs.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
