//! The boot loader's side of the environment: reading it at power-on, saving what the boot script changed.
//!
//! The bytes are `ota-boot`'s code, which its own tests hold against U-Boot's tools; the rules are `ota_testkit`'s.

use std::{fs, path::PathBuf, sync::Arc};

use anyhow::Context as _;
use ota_boot::{
    BootError,
    device::OsDevices,
    uboot_env::{EnvSettings, EnvStore, Environment, Format},
};
use ota_testkit::bootloader::Variables;

use crate::{Layout, process};

/// Bytes of a copy.
const SIZE: usize = 0x4000;
/// Where the second copy starts; each has an erase block of its own.
const SECOND: usize = 0x1_0000;

/// The boot environment of a device that is a file.
#[derive(Clone)]
pub struct BootEnvironment {
    file: PathBuf,
    fw_env_config: PathBuf,
    store: EnvStore,
}

impl BootEnvironment {
    /// That of a simulated device. Opens nothing yet.
    #[must_use]
    pub fn new(layout: &Layout) -> Self {
        Self::at(layout.uboot_env(), layout.fw_env_config(), layout.run("fw_printenv.lock"))
    }

    /// The one in `file`, as `fw_env_config` says. Opens nothing yet.
    #[must_use]
    pub fn at(file: PathBuf, fw_env_config: PathBuf, lock: PathBuf) -> Self {
        let settings = EnvSettings { fw_env_config: fw_env_config.clone(), lock, allow_single_copy: false };
        Self { file, fw_env_config, store: EnvStore::new(settings, Arc::new(OsDevices::default())) }
    }

    /// Makes both copies as a boot loader that has booted twice leaves them, with a variable of the board's own.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn make(&self) -> anyhow::Result<()> {
        let file = &self.file;
        let path = file.display();
        let config =
            format!("# device  offset  size\n{path} {:#x} {SIZE:#x}\n{path} {SECOND:#x} {SIZE:#x}\n", 0);
        fs::write(&self.fw_env_config, config)?;
        let mut environment = Environment::default();
        for (name, value) in [("board_name", "igw-5000"), ("ethaddr", "02:00:00:12:34:56")] {
            environment.set(name, value);
        }
        for (name, value) in ota_testkit::bootloader::boot(&Variables::new()).save.unwrap_or_default() {
            environment.set(&name, &value);
        }
        let data = environment.serialise(SIZE - Format::Redundant.header())?;
        let mut bytes = vec![0xff; SECOND + SECOND];
        for (flag, start) in [(1, 0), (2, SECOND)] {
            bytes[start..start + SIZE].copy_from_slice(&Format::Redundant.seal(flag, &data));
        }
        fs::write(file, bytes).with_context(|| format!("writing {path}"))
    }

    /// All variables, as the boot loader reads them: none when both copies are bad.
    ///
    /// # Errors
    /// When the file cannot be read at all.
    pub fn variables(&self) -> anyhow::Result<Variables> {
        let current = match self.store.read() {
            Ok(current) => current,
            Err(BootError::EnvUnreadable { .. }) => return Ok(Variables::new()),
            Err(error) => return Err(error).context("reading the boot environment"),
        };
        let pairs = current.environment.entries().filter_map(|entry| {
            let (name, value) = std::str::from_utf8(entry).ok()?.split_once('=')?;
            Some((name.to_owned(), value.to_owned()))
        });
        Ok(pairs.collect())
    }

    /// What U-Boot's `saveenv` does: all variables into the copy that is not current.
    ///
    /// # Errors
    /// When it cannot be written; the boot script goes on without.
    pub fn save(&self, variables: &Variables) -> anyhow::Result<()> {
        let saved = self.store.update(|environment| {
            let names: Vec<String> = environment
                .entries()
                .filter_map(|e| Some(std::str::from_utf8(e).ok()?.split_once('=')?.0.to_owned()))
                .collect();
            for name in names.iter().filter(|name| !variables.contains_key(*name)) {
                environment.unset(name);
            }
            for (name, value) in variables {
                if environment.text(name) != Some(value) {
                    environment.set(name, value);
                }
            }
            Ok(())
        });
        saved.context("saving the boot environment")
    }

    /// The file's bytes, both copies and what lies between.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn bytes(&self) -> anyhow::Result<Vec<u8>> {
        Ok(fs::read(&self.file)?)
    }

    /// What Debian's `fw_printenv` makes of it: `name=value` lines.
    ///
    /// # Errors
    /// When it is not installed, fails, or finds no good copy.
    pub fn printed(&self) -> anyhow::Result<Variables> {
        let output = process::outcome("fw_printenv", ["-c".as_ref(), self.fw_env_config.as_os_str()])?;
        let said = String::from_utf8_lossy(&output.stderr);
        // It ends with 0 and a complaint when both copies are bad.
        anyhow::ensure!(output.status.success() && said.trim().is_empty(), "fw_printenv: {}", said.trim());
        let text = String::from_utf8(output.stdout)?;
        Ok(text.lines().filter_map(|l| l.split_once('=')).map(|(n, v)| (n.into(), v.into())).collect())
    }
}
