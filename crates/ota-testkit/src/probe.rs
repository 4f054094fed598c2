//! Free resources as the test says.

use std::sync::{Mutex, PoisonError};

use ota_core::{ByteCount, error::PortError, ports::SystemProbe, safety::Resources};

use crate::faults::Faults;

/// Answers what it was given.
#[derive(Debug)]
pub struct FakeProbe {
    resources: Mutex<Resources>,
    /// Measurements that are to fail.
    pub faults: Faults,
}

impl FakeProbe {
    /// Answers `resources` from now on.
    pub fn set(&self, resources: Resources) {
        *self.resources.lock().unwrap_or_else(PoisonError::into_inner) = resources;
    }
}

impl Default for FakeProbe {
    /// 1 GiB of disk, 256 MiB of memory, a load of 0.25.
    fn default() -> Self {
        let resources =
            Resources { disk_free: ByteCount(1 << 30), memory_free: ByteCount(1 << 28), cpu_load: 0.25 };
        Self { resources: Mutex::new(resources), faults: Faults::default() }
    }
}

impl SystemProbe for FakeProbe {
    fn resources(&self) -> Result<Resources, PortError> {
        self.faults.call()?;
        Ok(*self.resources.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
