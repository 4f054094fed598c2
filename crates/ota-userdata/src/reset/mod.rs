//! The factory reset: the order for it, which lies where the reset does not reach, and carrying it out before the data is
//! mounted.
//!
//! The order is one file, replaced durably; it says who asked, when, and how far the reset is. Every step is recorded
//! before it begins and may be done again, so a reset that was cut off is finished at the next boot.

mod apply;
mod erase;
mod marker;
mod note;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, path::PathBuf};

use ota_core::{
    error::PortError,
    ports::{FactoryReset, ResetOrder},
};

pub use apply::{Applied, Durable, apply};
pub use marker::{Filesystem, Marker, Step};
pub use note::{ACTION, FreshStore};

use crate::{
    UserDataError,
    folder::{device_number, mount_of},
};

/// What a reset erases on this device, and whether it may.
#[derive(Clone, Debug, Default)]
pub struct FactoryResetConfig {
    /// The policy.
    pub enabled: bool,
    /// Where the order and the settings' backup are kept: on none of what is erased.
    pub dir: Option<PathBuf>,
    /// The data partition, made anew as ext4.
    pub partition: Option<PathBuf>,
    /// Its label; the one it has by default.
    pub label: Option<String>,
    /// Folders that are emptied, and files that are removed.
    pub paths: Vec<PathBuf>,
    /// The daemon's state, which has to be among what is erased.
    pub state: PathBuf,
}

/// The order in its folder.
#[derive(Clone, Debug)]
pub struct ResetFolder {
    config: FactoryResetConfig,
}

impl ResetFolder {
    /// Touches nothing yet.
    #[must_use]
    pub const fn new(config: FactoryResetConfig) -> Self {
        Self { config }
    }

    /// The order as it lies there, carried out or not.
    ///
    /// # Errors
    /// When it does not read.
    pub fn marker(&self) -> Result<Option<Marker>, UserDataError> {
        self.config.dir.as_deref().map_or(Ok(None), Marker::read)
    }

    /// Forgets the order. Durable on return; `false` when there is none.
    ///
    /// # Errors
    /// Those of the medium.
    pub fn forget(&self) -> Result<bool, UserDataError> {
        self.config.dir.as_deref().map_or(Ok(false), Marker::remove)
    }

    /// Has an order that was not carried out carried out by the next boot: with what is mounted where by now.
    fn open_again(&self, mut marker: Marker) -> Result<(), UserDataError> {
        let Some(dir) = &self.config.dir else { return Ok(()) };
        marker.step = Step::Requested;
        marker.mounts = self.mounts()?;
        marker.write(dir)
    }

    /// Takes an order back that has not begun.
    ///
    /// # Errors
    /// When data has been erased already: then it is to be finished.
    pub fn cancel(&self) -> Result<bool, UserDataError> {
        match self.marker()? {
            None => Ok(false),
            Some(Marker { step: Step::Requested, .. }) => self.forget(),
            Some(_) => Err(UserDataError::NotSetUp(
                "the reset has begun to erase; `factory-reset --apply` finishes it".into(),
            )),
        }
    }

    /// Carries the order out, if there is one. Run before what it erases is mounted. `watch` is told of each durable
    /// step and may stop there.
    ///
    /// # Errors
    /// See [`apply`].
    pub fn apply(
        &self,
        now: ota_core::Timestamp,
        watch: &mut dyn FnMut(Durable) -> Result<(), UserDataError>,
    ) -> Result<Applied, UserDataError> {
        apply(&self.config, now, watch)
    }

    /// Where that is mounted which holds each path that is emptied. Not of what goes with the partition, which is not mounted
    /// when it is erased, nor of what this process does not see: a sandbox hides homes.
    fn mounts(&self) -> Result<BTreeMap<PathBuf, PathBuf>, UserDataError> {
        let device = self.config.partition.as_deref().map(device_number).transpose()?;
        let mut mounts = BTreeMap::new();
        for path in self.config.paths.iter().filter(|path| path.exists()) {
            if Some(device_number(path)?) != device {
                mounts.insert(path.clone(), mount_of(path)?);
            }
        }
        Ok(mounts)
    }

    fn check_set_up(&self) -> Result<(), UserDataError> {
        let config = &self.config;
        if !config.enabled {
            return Err(UserDataError::NotAllowed);
        }
        let not = |what: String| Err(UserDataError::NotSetUp(what));
        let Some(dir) = &config.dir else {
            return not("factory_reset.dir is not configured".into());
        };
        let state_in_paths = config.paths.iter().any(|path| config.state.starts_with(path));
        let Some(partition) = &config.partition else {
            return if state_in_paths {
                Ok(())
            } else {
                not(format!("{} is in none of factory_reset.paths", config.state.display()))
            };
        };
        erase::check_program()?;
        let device = device_number(partition)?;
        if !state_in_paths && device_number(&config.state)? != device {
            return not(format!("{} is not on {}", config.state.display(), partition.display()));
        }
        let there = dir.ancestors().find(|above| above.exists()).unwrap_or(dir);
        if device_number(there)? == device {
            return not(format!("{} is on {}, which is erased", dir.display(), partition.display()));
        }
        Ok(())
    }
}

impl FactoryReset for ResetFolder {
    fn allowed(&self) -> Result<(), PortError> {
        Ok(self.check_set_up()?)
    }

    fn pending(&self) -> Result<Option<ResetOrder>, PortError> {
        let marker = self.marker()?;
        Ok(marker.filter(|marker| !matches!(marker.step, Step::Done { .. })).map(|marker| marker.order))
    }

    fn schedule(&self, order: &ResetOrder) -> Result<(), PortError> {
        self.check_set_up()?;
        let dir = self.config.dir.as_deref().unwrap_or_else(|| unreachable!("it was just checked"));
        let marker = Marker::new(order.clone(), self.mounts()?);
        Ok(marker.write(dir)?)
    }
}
