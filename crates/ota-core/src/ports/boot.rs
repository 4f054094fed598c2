//! The boot loader's side: which slot boots next, and restarting the gateway.

use alloc::string::String;

use serde::{Deserialize, Serialize};

use crate::{
    Slot,
    error::{PortError, PortErrorKind},
};

/// What the boot environment says, read and checked as the boot loader itself would.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootStatus {
    /// The slot that the boot loader tries first.
    pub first: Slot,
    /// The slot on trial, if one is.
    pub trial: Option<Slot>,
    /// Slot A, as the boot loader sees it.
    pub a: SlotBoot,
    /// Slot B, as the boot loader sees it.
    pub b: SlotBoot,
    /// Whether two good places for the environment are configured.
    pub redundant: bool,
    /// Whether the boot loader has left its mark: proof that it and we share one environment.
    pub canary: bool,
    /// Version of the boot loader, when the device tells.
    pub loader_version: Option<String>,
    /// Whether that version is older than what updates are installed with by default.
    pub loader_too_old: bool,
}

/// One slot in the boot environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotBoot {
    /// Whether the separate not-bootable mark is off.
    pub bootable: bool,
    /// Tries left, 0–9. Counts only during a trial.
    pub tries_left: u8,
}

impl BootStatus {
    /// One of the two.
    #[must_use]
    pub const fn slot(&self, slot: Slot) -> SlotBoot {
        match slot {
            Slot::A => self.a,
            Slot::B => self.b,
        }
    }
}

/// The boot environment. Each changing method is **one** environment write, to the copy that is not current, synced
/// and read back with the boot loader's own rule; each may be asked for twice. Source: `durable-steps.md` section 4.
///
/// Errors of all: `Unavailable` with `env_unreadable` when neither copy is good, `env_not_redundant`, `env_no_canary`,
/// `booted_slot_unknown`; `Io` when the medium fails. A failed sync is final.
pub trait BootControl: Send + Sync {
    /// The slot the kernel was started from. `None`: unknown, nothing may be written.
    fn booted(&self) -> Option<Slot>;

    /// The kernel's boot id: differs after every reboot, not after a restart of the daemon.
    fn boot_id(&self) -> &str;

    /// What the environment says now.
    ///
    /// # Errors
    /// See the trait.
    fn status(&self) -> Result<BootStatus, PortError>;

    /// Whether an update may be installed at all: booted slot known, environment readable, in two copies, shared with
    /// the boot loader. Asked before an install is accepted.
    ///
    /// # Errors
    /// `Unavailable` with the reason.
    fn ready(&self) -> Result<(), PortError> {
        let unavailable =
            |reason, what: &str| Err(PortErrorKind::Unavailable { reason, what: what.into() }.into());
        if self.booted().is_none() {
            return unavailable(
                "booted_slot_unknown",
                "the kernel command line names no configured slot; check rauc.slot=, ota.slot= or root=",
            );
        }
        let status = self.status()?;
        if !status.redundant {
            return unavailable(
                "env_not_redundant",
                "configure two copies of the boot environment in fw_env.config",
            );
        }
        if !status.canary {
            return unavailable(
                "env_no_canary",
                "the boot loader has not left its mark; install our boot script and restart the gateway once",
            );
        }
        Ok(())
    }

    /// Makes `slot` not bootable, the other one first, and no trial: before the first byte is written to it.
    ///
    /// # Errors
    /// `InvalidPartition` (OTA_008) when `slot` is the booted one; else see the trait.
    fn fence(&self, slot: Slot) -> Result<(), PortError>;

    /// Makes `slot` bootable, first, and a trial of `tries` (1–3) boots.
    ///
    /// # Errors
    /// `InvalidPartition` (OTA_008) when `slot` is the booted one; else see the trait.
    fn arm(&self, slot: Slot, tries: u8) -> Result<(), PortError>;

    /// Makes `keep` first and bootable, the other one not bootable, and no trial: undoes a switch, from either slot.
    ///
    /// # Errors
    /// See the trait.
    fn go_back(&self, keep: Slot) -> Result<(), PortError>;

    /// Ends the trial of `slot` in its favour: first, bootable, full tries, no trial.
    ///
    /// # Errors
    /// `InvalidPartition` (OTA_008) when `slot` is not the booted one; else see the trait.
    fn confirm(&self, slot: Slot) -> Result<(), PortError>;
}

/// Why the gateway restarts, for the log and the audit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RebootReason {
    /// Into the trial of a new slot.
    Trial,
    /// Back to the old slot.
    GoBack,
    /// To carry out a factory reset.
    FactoryReset,
}

/// Restarts the gateway.
pub trait Rebooter: Send + Sync {
    /// Asks for the restart and returns once it is under way.
    ///
    /// # Errors
    /// `Io` when it could not be started.
    fn reboot(&self, reason: RebootReason) -> Result<(), PortError>;
}
