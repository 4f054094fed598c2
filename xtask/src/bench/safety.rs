//! `cargo xtask bench safety`: what a thousand constraints cost, beside the same process without any.

use std::{fs, path::Path};

use super::meter::{Cost, measured};
use crate::{build::Profile, process, workspace::Workspace};

/// How the bench is run.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many constraints, each with a source of its own.
    #[arg(long, default_value_t = 1000)]
    constraints: u32,
    /// Samples a second of each.
    #[arg(long, default_value_t = 10)]
    hertz: u32,
    /// How long each measure runs.
    #[arg(long, default_value_t = 20)]
    seconds: u32,
    /// Measure the development build, which is there already. The figures say so.
    #[arg(long)]
    dev: bool,
}

/// Most of one core.
const CPU_BAR: f64 = 5.0;
/// Most memory, in MiB.
const MEMORY_BAR: f64 = 16.0;

/// Its name and the measure of the program.
const ROWS: [(&str, &str); 3] = [
    ("the process without a constraint", "idle"),
    ("judging: samples handed to the engine", "fed"),
    ("reading and judging: a file for each", "files"),
];

/// Runs the bench.
pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let profile = Profile::of(args.dev);
    profile.build(&["--example", "bench_safety"])?;
    let target = Workspace::read()?.target;
    let program = profile.folder(&target).join("examples/bench_safety");
    let folder =
        if Path::new("/dev/shm").is_dir() { Path::new("/dev/shm").to_owned() } else { target.clone() };
    let folder = folder.join(format!("bench-safety-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    println!("{}", profile.sentence());
    println!("{} constraints at {} samples/s each, {} s a row", args.constraints, args.hertz, args.seconds);
    println!("{:<40} {:>14} {:>12}", "", "% of one core", "peak RSS");
    let rows = ROWS.iter().try_for_each(|(title, measure)| {
        let mut command = process::command(&program);
        command.arg(measure).arg("--dir").arg(&folder);
        for (option, value) in
            [("--constraints", args.constraints), ("--hertz", args.hertz), ("--seconds", args.seconds)]
        {
            command.arg(option).arg(value.to_string());
        }
        let cost = measured(&mut command, &[], &target.join("bench-safety.log"))?;
        println!("{title:<40} {:>12.2} % {:>8.1} MiB{}", share(cost), cost.memory, verdict(measure, cost));
        anyhow::Ok(())
    });
    let _ = fs::remove_dir_all(&folder);
    rows
}

fn share(cost: Cost) -> f64 {
    cost.cpu / cost.wall.as_secs_f64() * 100.0
}

fn verdict(measure: &str, cost: Cost) -> String {
    if measure == "idle" {
        return String::new();
    }
    let met = share(cost) < CPU_BAR && cost.memory < MEMORY_BAR;
    format!("   bar {CPU_BAR} % and {MEMORY_BAR} MiB: {}", if met { "met" } else { "not met" })
}
