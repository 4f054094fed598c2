//! `cargo xtask test`: the one command that runs every test, on a fresh machine too.

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

/// Installs what the tests hold us against, then runs them; those in the browser and of the package last, unless some were
/// chosen. `OTA_PYTHON`
/// names the interpreter that has the packages, and `python3` is that one too; `OTA_NODE_MODULES` is where the Node packages are.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    tools::debian()?;
    let python = tools::python()?;
    let modules = tools::node()?;
    let chosen = args.rest.iter().any(|arg| arg == "-p" || arg.starts_with("--package"));
    if !chosen || args.rest.iter().any(|arg| arg.ends_with("ota-tests")) {
        // The flow tests start them; `cargo test` alone builds none.
        build::programs()?;
    }
    let mut test = process::cargo();
    test.arg("test").env("OTA_BIN_DIR", build::folder()?);
    if !chosen {
        test.arg("--workspace");
    }
    if args.long {
        test.env("OTA_LONG", "1");
    }
    if process::variable("RUST_TEST_THREADS").is_none() {
        // Most of a flow is waiting for a daemon: one more than there are processors.
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        test.env("RUST_TEST_THREADS", (processors + 1).to_string());
    }
    test.args(&args.rest).env("OTA_PYTHON", python.interpreter()).env("OTA_NODE_MODULES", modules);
    test.env("PATH", python.search_path()?);
    process::run(&mut test)?;
    if args.rest.is_empty() {
        browser::suite(&browser::Args::default())?;
        package::suite()?;
    }
    Ok(())
}
