//! `cargo xtask ci`: all that CI runs, cheapest first. A developer runs the same.

use std::time::Duration;

use anyhow::Context;

use crate::{demo, deny, dist, layers, openapi, power_cut, probe, process, tidy, vm};

/// One thing that must hold.
type Step = (&'static str, fn() -> anyhow::Result<()>);

const STEPS: [Step; 12] = [
    ("fmt", fmt),
    ("layers", layers::run),
    ("tidy", tidy::run),
    ("deny", deny::run),
    ("clippy", clippy),
    ("probe", probe::run),
    ("openapi", || openapi::run(&openapi::Args { check: true })),
    // The README's test command; among the tests are those that compare the other pages that are made from the code.
    ("test", || process::run(process::cargo().args(["xtask", "test"]))),
    ("power-cut", power_cut::once),
    ("vm", vm::once),
    ("demo", || demo::run(&demo::Args::default())),
    ("dist", dist::once),
];

/// Runs every step, stops at the first that fails.
pub(crate) fn run() -> anyhow::Result<()> {
    let mut times = Vec::new();
    for (name, step) in STEPS {
        println!("\n== {name}");
        let started = now();
        step().with_context(|| format!("{name} failed"))?;
        times.push(format!("{name} {} s", (now() - started).as_secs()));
    }
    println!("\nci: all {} steps passed: {}", STEPS.len(), times.join(", "));
    Ok(())
}

fn fmt() -> anyhow::Result<()> {
    process::run(process::cargo().args(["fmt", "--all", "--check"]))
}

fn clippy() -> anyhow::Result<()> {
    let lint = ["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"];
    process::run(process::cargo().args(lint))
}

#[expect(clippy::disallowed_methods, reason = "a stopwatch for people; nothing is decided by it")]
fn now() -> Duration {
    thread_local!(static START: std::time::Instant = std::time::Instant::now());
    START.with(std::time::Instant::elapsed)
}
