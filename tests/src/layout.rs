//! Where everything of a simulated device lies. The names are its interface: see docs/simulated-device.md.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use ota_core::Slot;

/// The folder of a simulated device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    dir: PathBuf,
}

impl Layout {
    /// The device in `dir`, which must exist.
    ///
    /// # Errors
    /// When there is no such folder, or its path holds white space: `fw_env.config` cannot name such a path.
    pub fn new(dir: &Path) -> anyhow::Result<Self> {
        let dir = dir.canonicalize().with_context(|| format!("opening {}", dir.display()))?;
        let text = dir.to_str().unwrap_or(" ");
        ensure!(!text.contains(char::is_whitespace), "{}: no white space in the path, please", dir.display());
        Ok(Self { dir })
    }

    /// The folder itself.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Says that the folder belongs to a simulated device and may be made afresh.
    #[must_use]
    pub fn mark(&self) -> PathBuf {
        self.at(MARK)
    }

    /// Base URL of the gateway.
    #[must_use]
    pub fn url(&self) -> PathBuf {
        self.at("url")
    }

    /// Bearer token of role `admin`.
    #[must_use]
    pub fn admin_token(&self) -> PathBuf {
        self.at("admin.token")
    }

    /// The PIN, on this device only.
    #[must_use]
    pub fn pin(&self) -> PathBuf {
        self.at("pin")
    }

    /// What the factory wrote to the slots: arguments of `ota-gatewayd provision`, a line each.
    #[must_use]
    pub fn factory(&self) -> PathBuf {
        self.at("run/factory")
    }

    /// Where the copies of the environment are, for `fw_printenv -c`.
    #[must_use]
    pub fn fw_env_config(&self) -> PathBuf {
        self.at("fw_env.config")
    }

    /// Both copies of the boot environment.
    #[must_use]
    pub fn uboot_env(&self) -> PathBuf {
        self.at("uboot.env")
    }

    /// The partition of a slot.
    #[must_use]
    pub fn slot(&self, slot: Slot) -> PathBuf {
        self.at(match slot {
            Slot::A => "slots/a.img",
            Slot::B => "slots/b.img",
        })
    }

    /// The daemon's configuration. Written anew at every power-on.
    #[must_use]
    pub fn gateway_toml(&self) -> PathBuf {
        self.at("gateway.toml")
    }

    /// The signed repository that the update server serves.
    #[must_use]
    pub fn repo(&self) -> PathBuf {
        self.at("repo")
    }

    /// Images as they were built, before they went into the repository or a slot.
    #[must_use]
    pub fn images(&self) -> PathBuf {
        self.at("images")
    }

    /// All keys: `release/` and `tuf/` are the publisher's, `trusted/` and `root.json` the device's.
    #[must_use]
    pub fn keys(&self) -> PathBuf {
        self.at("keys")
    }

    /// Certificates that the device trusts.
    #[must_use]
    pub fn trusted_keys(&self) -> PathBuf {
        self.at("keys/trusted")
    }

    /// The root metadata that the device was shipped with.
    #[must_use]
    pub fn initial_root(&self) -> PathBuf {
        self.at("keys/root.json")
    }

    /// A sensor's file.
    #[must_use]
    pub fn sensor(&self, name: &str) -> PathBuf {
        self.at("sensors").join(name)
    }

    /// What the daemon says.
    #[must_use]
    pub fn gateway_log(&self) -> PathBuf {
        self.at("gateway.log")
    }

    /// The daemon's own folder, which both slots share.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.at("state")
    }

    /// The user's settings, which snapshots are made of.
    #[must_use]
    pub fn settings(&self) -> PathBuf {
        self.at("settings")
    }

    /// What a factory reset leaves alone: its order, and the settings' backup.
    #[must_use]
    pub fn keep(&self) -> PathBuf {
        self.at("keep")
    }

    /// What exists only while a slot runs: `cmdline`, `boot_id`, `os-release`, `health`, `reboot`.
    #[must_use]
    pub fn run(&self, name: &str) -> PathBuf {
        self.at("run").join(name)
    }

    /// Makes the folders.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn make_folders(&self) -> anyhow::Result<()> {
        for name in ["slots", "images", "keys/trusted", "sensors", "state", "settings", "keep", "run"] {
            let path = self.at(name);
            fs::create_dir_all(&path).with_context(|| format!("making {}", path.display()))?;
        }
        Ok(())
    }
}

/// Name of [`Layout::mark`].
pub(crate) const MARK: &str = ".ota-simdevice";
