//! [`BlockSlotWriter`]: slots as the port [`SlotWriter`].
//!
//! Owns which device a slot is and who may be written: never the booted slot, never a mounted one, never one that is the
//! other one by another name. How the bytes travel is in [`pipeline`], how they
//! are read back in [`read_back`].

mod claim;
pub mod pipeline;
mod read_back;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use ota_core::{
    ByteCount, Sha256Digest, Slot,
    error::PortError,
    ports::{ImageExpectation, ImageReader, Observer, SlotClaim, SlotWriter},
};

use crate::{
    device::{Access, BlockDev, Devices, OsDevices},
    error::BootError,
};

pub use pipeline::{Pipeline, digest_device, install_image, write_image};

/// Writes and reads the two slots of this device.
pub struct BlockSlotWriter {
    slot_a: PathBuf,
    slot_b: PathBuf,
    booted: Option<Slot>,
    pipeline: Pipeline,
    devices: Arc<dyn Devices>,
}

impl BlockSlotWriter {
    /// Slots are block devices or plain files; `booted` is [`ota_core::ports::BootControl::booted`], and without it
    /// every write is refused. Opens nothing yet.
    #[must_use]
    pub fn new(slot_a: impl Into<PathBuf>, slot_b: impl Into<PathBuf>, booted: Option<Slot>) -> Self {
        Self {
            slot_a: slot_a.into(),
            slot_b: slot_b.into(),
            booted,
            pipeline: Pipeline::default(),
            devices: Arc::new(OsDevices::default()),
        }
    }

    /// With other devices and buffers: for models of power cuts and faults.
    #[must_use]
    pub fn with_devices(mut self, devices: Arc<dyn Devices>, pipeline: Pipeline) -> Self {
        (self.devices, self.pipeline) = (devices, pipeline);
        self
    }

    fn path(&self, slot: Slot) -> &Path {
        match slot {
            Slot::A => &self.slot_a,
            Slot::B => &self.slot_b,
        }
    }

    fn open_to_read(&self, slot: Slot, size: ByteCount) -> Result<Box<dyn BlockDev>, BootError> {
        let dev = self.devices.open(self.path(slot), Access::Read)?;
        holds(&*dev, size)?;
        Ok(dev)
    }

    fn open_to_write(&self, slot: Slot, size: ByteCount) -> Result<Box<dyn BlockDev>, BootError> {
        if self.booted.ok_or(BootError::BootedSlotUnknown)? == slot {
            return Err(BootError::BootedSlot(slot));
        }
        let path = self.path(slot);
        let other = self.path(!slot);
        if path == other || self.devices.resolve(path).is_some_and(|p| Some(p) == self.devices.resolve(other))
        {
            return Err(BootError::SameSlot { path: path.into() });
        }
        let dev = self.devices.open(path, Access::Exclusive)?;
        holds(&*dev, size)?;
        Ok(dev)
    }

    fn install(
        &self,
        slot: Slot,
        image: &mut dyn ImageReader,
        expect: ImageExpectation,
        observer: Observer<'_>,
    ) -> Result<(), BootError> {
        let dev = self.open_to_write(slot, expect.size)?;
        install_image(&*dev, image, expect, self.pipeline, observer)
    }
}

impl SlotWriter for BlockSlotWriter {
    fn capacity(&self, slot: Slot) -> Result<ByteCount, PortError> {
        let dev = self.open_to_read(slot, ByteCount::ZERO).map_err(|e| e.into_port(Some(slot)))?;
        Ok(ByteCount(dev.size()))
    }

    fn write(
        &self,
        slot: Slot,
        image: &mut dyn ImageReader,
        expect: ImageExpectation,
        observer: Observer<'_>,
    ) -> Result<(), PortError> {
        self.install(slot, image, expect, observer).map_err(|e| e.into_port(Some(slot)))
    }

    fn digest(&self, slot: Slot, size: ByteCount, observer: Observer<'_>) -> Result<Sha256Digest, PortError> {
        let dev = self.open_to_read(slot, size).map_err(|e| e.into_port(Some(slot)))?;
        digest_device(&*dev, size, self.pipeline, observer).map_err(|e| e.into_port(Some(slot)))
    }

    fn claim(&self, slot: Slot) -> Result<Box<dyn SlotClaim>, PortError> {
        Ok(Box::new(self.take(slot).map_err(|e| e.into_port(Some(slot)))?))
    }
}

fn holds(dev: &dyn BlockDev, required: ByteCount) -> Result<(), BootError> {
    let available = ByteCount(dev.size());
    if required <= available {
        return Ok(());
    }
    Err(BootError::TooSmall { path: dev.path().into(), required, available })
}

#[cfg(test)]
mod faults;
#[cfg(test)]
mod tests;
