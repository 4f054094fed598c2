//! Carries an order out: record, erase, record. Asked for again after a cut, it finishes.

use std::{path::Path, thread, time::Duration};

use ota_core::Timestamp;

use super::{
    FactoryResetConfig, erase,
    marker::{Marker, Step},
};
use crate::{UserDataError, folder::mount_of};

/// How often it is looked for the partition, and how long is waited in between: 30 s in all.
const LOOKS: u32 = 300;
const PAUSE: Duration = Duration::from_millis(100);

/// What has just become durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Durable {
    /// The order says that erasing begins.
    Begun,
    /// The data partition has a fresh file system.
    Partition,
    /// One name below a configured path is gone.
    Removed(std::path::PathBuf),
    /// The order says that all is erased.
    Done,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// There was no order.
    Nothing,
    /// All is erased; the daemon's next start takes note.
    Erased,
    /// It was erased before, and the daemon has not taken note yet.
    Before,
}

/// Erases what is configured, if an order says so.
///
/// # Errors
/// `NotAllowed` when the policy has changed since; `NotSetUp` when what is to be erased is not there; `Program` or `File` when
/// something cannot be erased. The order then stays, and the next boot tries again.
pub fn apply(
    config: &FactoryResetConfig,
    now: Timestamp,
    watch: &mut dyn FnMut(Durable) -> Result<(), UserDataError>,
) -> Result<Applied, UserDataError> {
    let Some(dir) = &config.dir else { return Ok(Applied::Nothing) };
    let Some(mut marker) = Marker::read(dir)? else { return Ok(Applied::Nothing) };
    match &marker.step {
        Step::Done { .. } => return Ok(Applied::Before),
        Step::Requested if !config.enabled => return Err(UserDataError::NotAllowed),
        Step::Requested | Step::Erasing { .. } => {}
    }
    // Both also after a cut, while nothing is written yet: this boot may be slower than the last.
    if let Some(partition) = &config.partition {
        wait_for(partition, &mut || thread::sleep(PAUSE))?;
    }
    check_mounts(config, &marker)?;
    let known = match &marker.step {
        Step::Erasing { filesystem } => filesystem.clone(),
        _ => config.partition.as_deref().map(erase::name_of).transpose()?,
    };
    if let Some(partition) = &config.partition {
        erase::refuse_in_use(partition)?;
    }
    marker.step = Step::Erasing { filesystem: known.clone() };
    marker.attempts = marker.attempts.saturating_add(1);
    marker.write(dir)?;
    watch(Durable::Begun)?;
    if let Some(partition) = &config.partition {
        let mut name = known.unwrap_or_default();
        name.label = config.label.clone().or(name.label);
        erase::make_filesystem(partition, &name)?;
        watch(Durable::Partition)?;
    }
    for path in &config.paths {
        erase::empty(path, watch)?;
    }
    marker.step = Step::Done { at: now };
    marker.write(dir)?;
    watch(Durable::Done)?;
    Ok(Applied::Erased)
}

/// So early in the boot the links to partitions are still being made.
pub(super) fn wait_for(partition: &Path, pause: &mut dyn FnMut()) -> Result<(), UserDataError> {
    for _ in 0..LOOKS {
        if partition.exists() {
            return Ok(());
        }
        pause();
    }
    let waited = (PAUSE * LOOKS).as_secs();
    Err(UserDataError::NotSetUp(format!("{} did not come within {waited} s", partition.display())))
}

/// What is to be emptied must lie where it lay: below a mount that is missing there is nothing, and that is soon erased.
fn check_mounts(config: &FactoryResetConfig, marker: &Marker) -> Result<(), UserDataError> {
    for path in &config.paths {
        let Some(mount) = marker.mounts.get(path) else { continue };
        if mount_of(path)? != *mount {
            return Err(UserDataError::NotSetUp(format!(
                "{} is not what it was when the reset was asked for: is {} mounted?",
                path.display(),
                mount.display()
            )));
        }
    }
    Ok(())
}
