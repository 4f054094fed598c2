//! A slot as a block device, for the tools that make file systems. The same checks as for a write stand in front.

use std::{path::Path, sync::Arc};

use ota_core::{ByteCount, Slot, error::PortError, ports::SlotClaim};

use super::BlockSlotWriter;
use crate::{
    device::{Access, BlockDev, Devices, loops::LoopDevice, sync},
    error::BootError,
};

/// A slot that was claimed.
pub(super) enum Claim {
    /// A block device. It is opened only to settle it: whoever mounts it wants it for itself.
    Block { slot: Slot, path: String, capacity: ByteCount, devices: Arc<dyn Devices> },
    /// A plain file behind a loop device; locked against other writers of ours.
    File { slot: Slot, path: String, device: LoopDevice, file: Box<dyn BlockDev> },
}

impl BlockSlotWriter {
    pub(super) fn take(&self, slot: Slot) -> Result<Claim, BootError> {
        let dev = self.open_to_write(slot, ByteCount::ZERO)?;
        let place = self.path(slot);
        let open = |source| BootError::Open { path: place.into(), source };
        if std::fs::metadata(place).map_err(open)?.is_file() {
            let device = LoopDevice::over(place).map_err(open)?;
            return Ok(Claim::File { slot, path: text(device.path())?, device, file: dev });
        }
        let capacity = ByteCount(dev.size());
        Ok(Claim::Block { slot, path: text(place)?, capacity, devices: Arc::clone(&self.devices) })
    }
}

fn text(path: &Path) -> Result<String, BootError> {
    path.to_str().map(str::to_owned).ok_or_else(|| BootError::WrongKind { path: path.into() })
}

fn settle(dev: &dyn BlockDev) -> Result<(), BootError> {
    sync(dev)?;
    dev.drop_cache().map_err(|e| BootError::io("read", dev.path(), 0, e))
}

impl SlotClaim for Claim {
    fn device(&self) -> &str {
        match self {
            Self::Block { path, .. } | Self::File { path, .. } => path,
        }
    }

    fn capacity(&self) -> ByteCount {
        match self {
            Self::Block { capacity, .. } => *capacity,
            Self::File { file, .. } => ByteCount(file.size()),
        }
    }

    fn settle(&self) -> Result<(), PortError> {
        match self {
            Self::Block { slot, path, devices, .. } => {
                let settled = devices.open(Path::new(path), Access::Shared).and_then(|dev| settle(&*dev));
                settled.map_err(|e| e.into_port(Some(*slot)))
            }
            Self::File { slot, device, file, .. } => {
                let synced = device.sync().map_err(|e| BootError::io("sync", device.path(), 0, e));
                synced.and_then(|()| settle(&**file)).map_err(|e| e.into_port(Some(*slot)))
            }
        }
    }
}
