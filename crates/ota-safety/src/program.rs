//! Programs that others have written and that may hang: run as a group of their own, so that they end with all that they
//! have started. Which program, and what becomes of its output, is left to the caller.

use std::io;

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::process::{Child, Command};

/// Ends a program and everything that it has started when it is dropped. Who leaves the group on purpose (`setsid`) is not
/// found.
#[derive(Debug)]
pub struct Group {
    leader: Option<Pid>,
}

impl Group {
    /// Starts `command` as the first of a group of its own.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(command: &mut Command) -> io::Result<(Child, Self)> {
        let child = command.process_group(0).kill_on_drop(true).spawn()?;
        let leader = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
        Ok((child, Self { leader }))
    }

    /// The program has ended by itself and was waited for. What it has left running on purpose is left alone, and its number
    /// may soon be another's.
    pub fn ended(mut self) {
        self.leader = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.leader {
            // As long as anybody of the group is left its number is not given to others; else there is nothing to do.
            let _ = killpg(leader, Signal::SIGKILL);
        }
    }
}
