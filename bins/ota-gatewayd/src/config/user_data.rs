//! `[snapshot]` and `[factory_reset]`: what is saved, what is erased.

use std::path::PathBuf;

use ota_core::ByteCount;
use ota_userdata::{FactoryResetConfig, Recipients, SnapshotConfig, snapshot::Roots};
use serde::Deserialize;

use super::{
    Config,
    place::{AtKey as _, Misfit, demand},
};

/// Snapshots of settings.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(deny_unknown_fields, default)]
pub(crate) struct SnapshotSection {
    /// Files and folders that are saved. Nothing is ever restored beside them.
    pub(crate) paths: Vec<PathBuf>,
    /// Where snapshots are kept; a folder of its own below `state.dir` by default.
    pub(crate) dir: Option<PathBuf>,
    /// `age1…`: whom snapshots are encrypted to.
    pub(crate) recipients: Vec<String>,
    /// File of an age identity with which this device can restore encrypted ones by itself.
    pub(crate) identity: Option<PathBuf>,
    /// How many are kept.
    pub(crate) keep: usize,
    /// Most bytes of content that one may have.
    pub(crate) max_bytes: u64,
    /// Whether each install begins with one.
    pub(crate) before_install: bool,
}

impl Default for SnapshotSection {
    fn default() -> Self {
        Self {
            paths: Vec::new(),
            dir: None,
            recipients: Vec::new(),
            identity: None,
            keep: 5,
            max_bytes: 256 << 20,
            before_install: false,
        }
    }
}

/// The factory reset.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(deny_unknown_fields, default)]
pub(crate) struct FactoryResetSection {
    /// Whether this device may be reset.
    pub(crate) enabled: bool,
    /// Where the order and the settings' backup are kept: on none of what is erased.
    pub(crate) dir: Option<PathBuf>,
    /// The data partition, made anew as ext4 with the label and UUID that it has.
    pub(crate) partition: Option<PathBuf>,
    /// Another label for it.
    pub(crate) label: Option<String>,
    /// Folders that are emptied and files that are removed, where the data has no partition of its own.
    pub(crate) paths: Vec<PathBuf>,
    /// Whether the gateway reboots by itself for it, after the countdown and as soon as safety allows.
    pub(crate) reboot: bool,
}

impl Default for FactoryResetSection {
    fn default() -> Self {
        Self { enabled: false, dir: None, partition: None, label: None, paths: Vec::new(), reboot: true }
    }
}

impl Config {
    /// What types cannot say of both sections.
    pub(super) fn check_user_data(&self) -> Result<(), Misfit> {
        self.snapshots()?;
        let SnapshotSection { paths, keep, max_bytes, before_install, .. } = &self.snapshot;
        demand(*keep > 0, "snapshot.keep", || "must be at least 1")?;
        demand(*max_bytes > 0, "snapshot.max_bytes", || "must be at least 1")?;
        demand(!before_install || !paths.is_empty(), "snapshot.before_install", || "needs snapshot.paths")?;
        for path in paths {
            for own in [self.state.dir.clone(), self.staging(), self.snapshot_dir()] {
                demand(!path.starts_with(&own) && !own.starts_with(path), "snapshot.paths", || {
                    format!("{} holds the gateway's own state ({})", path.display(), own.display())
                })?;
            }
        }
        self.check_reset()
    }

    fn check_reset(&self) -> Result<(), Misfit> {
        let FactoryResetSection { enabled, dir, partition, label, paths, .. } = &self.factory_reset;
        let (at_dir, at_paths) = ("factory_reset.dir", "factory_reset.paths");
        Roots::new(paths.clone()).map_err(|why| Misfit::new(at_paths, why))?;
        let fits = label.as_ref().is_none_or(|label| (1..=16).contains(&label.len()));
        demand(fits, "factory_reset.label", || "must have 1 to 16 bytes")?;
        if !enabled {
            return Ok(());
        }
        let dir = dir.as_ref().ok_or_else(|| Misfit::new(at_dir, "factory_reset.enabled needs it"))?;
        demand(dir.is_absolute(), at_dir, || format!("must be an absolute path, not {}", dir.display()))?;
        let erases = partition.is_some() || paths.iter().any(|path| self.state.dir.starts_with(path));
        demand(erases, "factory_reset.enabled", || {
            format!(
                "needs factory_reset.partition, or factory_reset.paths with state.dir ({}) in them",
                self.state.dir.display()
            )
        })?;
        match paths.iter().find(|path| dir.starts_with(path)) {
            Some(path) => Err(Misfit::new(at_dir, format!("lies in {}, which is erased", path.display()))),
            None => Ok(()),
        }
    }

    fn snapshot_dir(&self) -> PathBuf {
        self.snapshot.dir.clone().unwrap_or_else(|| self.state.dir.join("snapshots"))
    }

    /// As `ota-userdata` takes it.
    pub(crate) fn snapshots(&self) -> Result<SnapshotConfig, Misfit> {
        let section = &self.snapshot;
        Ok(SnapshotConfig {
            roots: Roots::new(section.paths.clone()).map_err(|why| Misfit::new("snapshot.paths", why))?,
            dir: self.snapshot_dir(),
            outliving: self.factory_reset.dir.clone(),
            recipients: Recipients::parse(&section.recipients).at_key("snapshot.recipients")?,
            identity: section.identity.clone(),
            keep: section.keep,
            max: ByteCount(section.max_bytes),
        })
    }

    /// As `ota-userdata` takes it.
    pub(crate) fn reset(&self) -> FactoryResetConfig {
        let FactoryResetSection { enabled, dir, partition, label, paths, .. } = &self.factory_reset;
        FactoryResetConfig {
            enabled: *enabled,
            dir: dir.clone(),
            partition: partition.clone(),
            label: label.clone(),
            paths: paths.clone(),
            state: self.state.dir.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";

    fn check(more: &str) -> Result<(), String> {
        let minimal = "[gateway]\nname='g'\nmodel='M'\nserial='S'\n[slots]\na='/dev/a'\nb='/dev/b'\n";
        Config::parse(&format!("{minimal}{more}"))?.check().map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn settings_that_fit_together_are_taken() {
        check("").unwrap();
        check(&format!(
            "[snapshot]\npaths = ['/etc/plant']\nrecipients = ['{KEY}']\nbefore_install = true\n"
        ))
        .unwrap();
        check("[factory_reset]\nenabled = true\ndir = '/boot/keep'\npartition = '/dev/disk/by-partlabel/data'\n")
            .unwrap();
        check("[factory_reset]\nenabled = true\ndir = '/boot/keep'\npaths = ['/var/lib/ota-gateway']\n")
            .unwrap();
    }

    #[test]
    fn what_cannot_work_is_named_with_its_key() {
        for (more, words) in [
            ("[snapshot]\npaths = ['etc']\n", "snapshot.paths: etc"),
            ("[snapshot]\npaths = ['/var/lib']\n", "own state"),
            ("[snapshot]\npaths = ['/var/lib/ota-gateway/x']\n", "own state"),
            ("[snapshot]\nrecipients = ['ssh-ed25519 AAAA']\n", "snapshot.recipients"),
            ("[snapshot]\nkeep = 0\n", "snapshot.keep"),
            ("[snapshot]\nbefore_install = true\n", "snapshot.before_install"),
            ("[factory_reset]\nenabled = true\n", "factory_reset.dir"),
            ("[factory_reset]\nenabled = true\ndir = '/boot/keep'\n", "factory_reset.partition"),
            ("[factory_reset]\nenabled = true\ndir = '/k'\npaths = ['/srv']\n", "state.dir"),
            (
                "[factory_reset]\nenabled = true\ndir = '/var/lib/ota-gateway/k'\npaths = ['/var/lib']\n",
                "which is erased",
            ),
            ("[factory_reset]\nlabel = 'more-than-16-bytes'\n", "factory_reset.label"),
            ("[factory_reset]\npolicy = true\n", "policy"),
        ] {
            let error = check(more).unwrap_err();
            assert!(error.contains(words), "{more}: {error}");
        }
    }
}
