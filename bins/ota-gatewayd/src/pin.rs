//! Where a PIN that is set on the device itself comes from: a file, the terminal without echo, or a line of standard input.

use std::{
    fs,
    io::{self, BufRead as _, IsTerminal as _},
    path::Path,
};

use anyhow::{Context as _, ensure};
use nix::sys::signal::{SigSet, Signal};

/// The new PIN: the first line of the file, else what is typed twice at the terminal, else one line of standard input.
pub(crate) fn read(file: Option<&Path>) -> anyhow::Result<String> {
    let text = match file {
        Some(path) => fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?,
        None if io::stdin().is_terminal() => typed()?,
        None => {
            let mut line = String::new();
            io::stdin().lock().read_line(&mut line).context("reading standard input")?;
            line
        }
    };
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

/// Twice, because nobody sees it.
fn typed() -> anyhow::Result<String> {
    let pin = hidden("New PIN: ")?;
    ensure!(hidden("New PIN again: ")? == pin, "the two differ; nothing was changed");
    Ok(pin)
}

fn hidden(prompt: &str) -> anyhow::Result<String> {
    // On Ctrl-C rpassword raises SIGINT while the terminal is still its own: the signal waits until it is given back.
    let mut interrupt = SigSet::empty();
    interrupt.add(Signal::SIGINT);
    interrupt.thread_block()?;
    let answer = rpassword::prompt_password(prompt);
    interrupt.thread_unblock()?;
    answer.context("asking for the PIN")
}
