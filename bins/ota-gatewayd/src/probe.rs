//! Free disk, memory and load, read from the kernel.

use std::{fs, path::PathBuf, thread};

use nix::sys::statvfs::statvfs;
use ota_core::{ByteCount, error::PortError, ports::SystemProbe, safety::Resources};

/// Reads `/proc` and the file system of the staging folder.
pub(crate) struct KernelProbe {
    staging: PathBuf,
}

impl KernelProbe {
    pub(crate) const fn new(staging: PathBuf) -> Self {
        Self { staging }
    }
}

impl SystemProbe for KernelProbe {
    #[allow(clippy::useless_conversion, reason = "block counts have 32 bits on 32-bit devices")]
    fn resources(&self) -> Result<Resources, PortError> {
        let disk = statvfs(&self.staging).map_err(|error| {
            PortError::io(format!("asking {} for its space", self.staging.display()), error)
        })?;
        let read = |path: &str| {
            fs::read_to_string(path).map_err(|error| PortError::io(format!("reading {path}"), error))
        };
        Ok(Resources {
            disk_free: ByteCount(
                u64::from(disk.blocks_available()).saturating_mul(u64::from(disk.fragment_size())),
            ),
            memory_free: memory_available(&read("/proc/meminfo")?),
            cpu_load: load_per_processor(&read("/proc/loadavg")?),
        })
    }
}

/// `MemAvailable` of `/proc/meminfo`, which counts in KiB.
fn memory_available(meminfo: &str) -> ByteCount {
    let kib = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|number| number.parse::<u64>().ok());
    ByteCount(kib.unwrap_or(0).saturating_mul(1024))
}

/// The one-minute load of `/proc/loadavg`, divided by the number of processors, in hundredths.
fn load_per_processor(loadavg: &str) -> f64 {
    let load: f64 = loadavg.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0.0);
    let processors = thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    let processors = u32::try_from(processors).unwrap_or(u32::MAX);
    (load / f64::from(processors) * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_and_load_are_read_as_the_kernel_writes_them() {
        let meminfo = "MemTotal:       16384 kB\nMemFree: 1 kB\nMemAvailable:    800 kB\n";
        assert_eq!(memory_available(meminfo), ByteCount(819_200));
        assert!(load_per_processor("0.50 0.40 0.30 1/100 4711\n") <= 0.5);
        assert_eq!(memory_available("nonsense"), ByteCount(0));
    }
}
