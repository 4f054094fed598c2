//! `cargo xtask test`: the one command that runs every test, on a fresh machine too.

use std::process::Command;

use crate::{browser, build, package, process, tools};

/// What to run.
#[derive(clap::Args, Default)]
pub(crate) struct Args {
    /// Ten times as many kill rounds, and whatever else takes hours.
    #[arg(long)]
    long: bool,
    /// Handed on to `cargo test`, `-p ota-safety` or `-- a_name`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

/// Installs what the tests hold us against, then runs them: of the crates and in the browser, the flows, the package; or, when
/// some were chosen, those. `OTA_PYTHON` names the interpreter that has the packages, and `python3` is that one too;
/// `OTA_NODE_MODULES` is where the Node packages are.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    tools::debian()?;
    let python = tools::python()?;
    let modules = tools::node()?;
    let chosen = args.rest.iter().any(|arg| arg == "-p" || arg.starts_with("--package"));
    if !chosen || args.rest.iter().any(|arg| arg.ends_with("ota-tests")) {
        // The flow tests start them; `cargo test` alone builds none.
        build::programs()?;
    }
    let folder = build::folder()?;
    let search = python.search_path()?;
    let cargo_test = |mut test: Command| {
        test.env("OTA_BIN_DIR", &folder).env("OTA_PYTHON", python.interpreter());
        test.env("OTA_NODE_MODULES", &modules).env("PATH", &search);
        if args.long {
            test.env("OTA_LONG", "1");
        }
        if process::variable("RUST_TEST_THREADS").is_none() {
            // Most of a flow is waiting for a daemon: one more than there are processors.
            let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
            test.env("RUST_TEST_THREADS", (processors + 1).to_string());
        }
        test
    };
    if !args.rest.is_empty() {
        let mut test = process::cargo();
        test.arg("test");
        if !chosen {
            test.arg("--workspace");
        }
        return process::run(cargo_test(test).args(&args.rest));
    }
    process::run(cargo_test(process::cargo()).args(["test", "--workspace", "--no-run"]))?;
    // The suite in the browser waits for restarts most of its time. The tests of the crates run beside it and give way to it.
    let browser = browser::Beside::start()?;
    let crates =
        process::run(cargo_test(process::yielding_cargo()).args(["test", "--workspace", "--lib", "--bins"]));
    browser.end()?;
    crates?;
    process::run(cargo_test(process::cargo()).args(["test", "--workspace", "--test", "*"]))?;
    package::suite()
}
