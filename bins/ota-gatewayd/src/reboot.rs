//! Restarting the gateway through a command, by default systemd's.

use std::process::Command;

use ota_core::{
    error::{PortError, PortErrorKind},
    ports::{RebootReason, Rebooter},
};

/// Runs the configured command, which must return once the restart is under way.
pub(crate) struct CommandRebooter {
    command: Vec<String>,
}

impl CommandRebooter {
    /// `command`: program and arguments, not empty.
    pub(crate) const fn new(command: Vec<String>) -> Self {
        Self { command }
    }
}

impl Rebooter for CommandRebooter {
    #[expect(clippy::disallowed_methods, reason = "the owner of the reboot command")]
    fn reboot(&self, reason: RebootReason) -> Result<(), PortError> {
        let Some((program, arguments)) = self.command.split_first() else {
            return Err(PortErrorKind::Io("reboot.command is empty".into()).into());
        };
        tracing::warn!(?reason, program, "rebooting the gateway");
        let status = Command::new(program)
            .args(arguments)
            .status()
            .map_err(|error| PortError::io(format!("starting {program}"), error))?;
        if status.success() {
            Ok(())
        } else {
            Err(PortErrorKind::Io(format!("{program} ended with {status}")).into())
        }
    }
}
