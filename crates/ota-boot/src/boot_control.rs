//! [`UbootBootControl`]: the boot environment as the port [`BootControl`].
//!
//! Owns which plan goes with which method and what has to hold before a write: the booted slot is known, both copies are
//! there, the boot loader has left its mark. The plans are in [`crate::scheme`], the write in [`crate::uboot_env`].

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use ota_core::{
    Slot,
    error::PortError,
    ports::{BootControl, BootStatus},
};

use crate::{
    cmdline::{SlotPaths, booted_slot},
    device::{Devices, OsDevices},
    error::BootError,
    scheme,
    uboot_env::{EnvSettings, EnvStore, Environment, store::TOOLS_LOCK},
};

/// How this device boots.
#[derive(Clone, Debug)]
pub struct BootConfig {
    /// Where the copies of the environment are, as the tools read it.
    pub fw_env_config: PathBuf,
    /// The lock that the tools share.
    pub lock: PathBuf,
    /// The kernel's command line.
    pub cmdline: PathBuf,
    /// The kernel's boot id.
    pub boot_id: PathBuf,
    /// Device (or plain file) of slot A.
    pub slot_a: PathBuf,
    /// Device (or plain file) of slot B.
    pub slot_b: PathBuf,
    /// Whether an environment with one copy may be written; a power cut during a write then loses it.
    pub allow_single_copy: bool,
    /// Whether the boot loader's mark is required before a slot is fenced or armed.
    pub require_canary: bool,
    /// Tries that a slot has outside trials; what `BOOT_<slot>_LEFT` is set to. Brought into 1–9, where every reader of
    /// the environment means the same number.
    pub tries: u8,
    /// Where the boot loader may have left its version in the device tree; the variable `ver` is the second source.
    pub loader_version: PathBuf,
    /// Whether a boot loader older than [`loader::OLDEST`] may be used.
    pub allow_old_loader: bool,
}

impl BootConfig {
    /// A device with the usual paths of Linux and `slot_a`, `slot_b`.
    #[must_use]
    pub fn new(slot_a: impl Into<PathBuf>, slot_b: impl Into<PathBuf>) -> Self {
        Self {
            fw_env_config: "/etc/fw_env.config".into(),
            lock: TOOLS_LOCK.into(),
            cmdline: "/proc/cmdline".into(),
            boot_id: "/proc/sys/kernel/random/boot_id".into(),
            slot_a: slot_a.into(),
            slot_b: slot_b.into(),
            allow_single_copy: false,
            require_canary: true,
            tries: scheme::DEFAULT_TRIES,
            loader_version: "/proc/device-tree/chosen/u-boot,version".into(),
            allow_old_loader: false,
        }
    }
}

/// The U-Boot environment of this device.
pub struct UbootBootControl {
    config: BootConfig,
    env: EnvStore,
    booted: Option<Slot>,
    boot_id: String,
}

impl UbootBootControl {
    /// Reads the boot id and the command line. An unreadable environment or an unknown slot is no error here: the
    /// daemon has to be able to report it; the methods refuse.
    ///
    /// # Errors
    /// `System` when the boot id cannot be read or is empty.
    pub fn open(config: BootConfig) -> Result<Self, BootError> {
        Self::with_devices(config, Arc::new(OsDevices::default()))
    }

    /// As [`open`](Self::open), with the environment on `devices`: for models of power cuts and faults.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn with_devices(mut config: BootConfig, devices: Arc<dyn Devices>) -> Result<Self, BootError> {
        config.tries = config.tries.clamp(1, 9);
        let boot_id = read_boot_id(&config.boot_id)?;
        let booted = read_booted(&config, &*devices);
        let settings = EnvSettings {
            fw_env_config: config.fw_env_config.clone(),
            lock: config.lock.clone(),
            allow_single_copy: config.allow_single_copy,
        };
        Ok(Self { env: EnvStore::new(settings, devices), config, booted, boot_id })
    }

    /// All variables as `name=value`, in their order; what is not text is replaced. For diagnosis.
    ///
    /// # Errors
    /// As [`BootControl::status`].
    pub fn variables(&self) -> Result<Vec<String>, PortError> {
        let current = self.env.read()?;
        Ok(current.environment.entries().map(|entry| String::from_utf8_lossy(entry).into_owned()).collect())
    }

    /// One write, with `plan` applied to the variables as they are right before it.
    fn change(
        &self,
        what: &'static str,
        slot: Slot,
        needs_canary: bool,
        plan: impl FnOnce(&mut Environment),
    ) -> Result<(), PortError> {
        let done = self.env.update(|environment| {
            if needs_canary && environment.value(scheme::CANARY).is_none_or(<[u8]>::is_empty) {
                return Err(BootError::NoCanary);
            }
            plan(environment);
            Ok(())
        });
        match &done {
            Ok(()) => tracing::info!(%slot, "boot environment: {what}"),
            Err(error) => tracing::error!(%slot, %error, "boot environment not changed: {what}"),
        }
        done.map_err(|e| e.into_port(Some(slot)))
    }

    fn known_booted(&self) -> Result<Slot, BootError> {
        self.booted.ok_or(BootError::BootedSlotUnknown)
    }

    fn must_not_be_booted(&self, slot: Slot) -> Result<(), BootError> {
        if self.known_booted()? == slot { Err(BootError::BootedSlot(slot)) } else { Ok(()) }
    }
}

impl BootControl for UbootBootControl {
    fn booted(&self) -> Option<Slot> {
        self.booted
    }

    fn boot_id(&self) -> &str {
        &self.boot_id
    }

    fn status(&self) -> Result<BootStatus, PortError> {
        let current = self.env.read()?;
        let version = loader_version(&self.config.loader_version, &current.environment);
        Ok(scheme::status(&current.environment, current.redundant, version))
    }

    fn ready(&self) -> Result<(), PortError> {
        self.known_booted()?;
        let status = self.status()?;
        if !status.redundant && !self.config.allow_single_copy {
            let what = "one copy is configured, two are needed".into();
            return Err(BootError::EnvNotRedundant { what }.into());
        }
        if !status.canary && self.config.require_canary {
            return Err(BootError::NoCanary.into());
        }
        match status.loader_version.filter(|_| status.loader_too_old) {
            Some(version) if !self.config.allow_old_loader => Err(BootError::OldLoader { version }.into()),
            _ => Ok(()),
        }
    }

    fn fence(&self, slot: Slot) -> Result<(), PortError> {
        self.must_not_be_booted(slot)?;
        let full = self.config.tries;
        self.change("fence", slot, self.config.require_canary, |e| scheme::fence(e, slot, full))
    }

    fn arm(&self, slot: Slot, tries: u8) -> Result<(), PortError> {
        self.must_not_be_booted(slot)?;
        if !(1..=3).contains(&tries) {
            return Err(BootError::Tries(tries).into());
        }
        let full = self.config.tries;
        self.change("arm", slot, self.config.require_canary, |e| scheme::arm(e, slot, tries, full))
    }

    fn go_back(&self, keep: Slot) -> Result<(), PortError> {
        self.known_booted()?;
        let full = self.config.tries;
        // An undo must not fail for a mark that was there when the slot was armed.
        self.change("go back", keep, false, |e| scheme::go_back(e, keep, full))
    }

    fn confirm(&self, slot: Slot) -> Result<(), PortError> {
        if self.known_booted()? != slot {
            return Err(BootError::NotBootedSlot(slot).into_port(Some(slot)));
        }
        let full = self.config.tries;
        self.change("confirm", slot, false, |e| scheme::confirm(e, slot, full))
    }
}

fn read_boot_id(path: &Path) -> Result<String, BootError> {
    let failed = |source| BootError::System { path: path.into(), source };
    let text = fs::read_to_string(path).map_err(failed)?;
    let id = text.trim();
    // An empty id would be equal to itself over a reboot.
    if id.is_empty() { Err(failed(std::io::ErrorKind::InvalidData.into())) } else { Ok(id.to_owned()) }
}

fn read_booted(config: &BootConfig, devices: &dyn Devices) -> Option<Slot> {
    let text = fs::read_to_string(&config.cmdline)
        .inspect_err(
            |error| tracing::error!(%error, path = %config.cmdline.display(), "no kernel command line"),
        )
        .ok()?;
    let slots = SlotPaths { a: &config.slot_a, b: &config.slot_b };
    let booted = booted_slot(&text, slots, &|path| devices.resolve(path));
    if booted.is_none() {
        tracing::error!(cmdline = text.trim(), "the booted slot is not known, nothing will be written");
    }
    booted
}

/// The version text, without the zero byte that device tree strings end with.
fn loader_version(device_tree: &Path, environment: &Environment) -> Option<String> {
    let from_tree = fs::read(device_tree).ok().map(|b| String::from_utf8_lossy(&b).into_owned());
    let clean =
        |text: String| Some(text.trim_matches(['\0', ' ', '\n']).to_owned()).filter(|t| !t.is_empty());
    from_tree.and_then(clean).or_else(|| environment.text(scheme::VERSION).map(str::to_owned).and_then(clean))
}

#[cfg(test)]
#[path = "boot_control_tests.rs"]
mod tests;
