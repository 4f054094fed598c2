//! `system/status` (also `gateway/status`) and the probes.

use jiff::Timestamp;
use ota_core::{
    ports::{BootStatus, LastUpdate, SlotBoot},
    safety::Resources,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    text,
    words::{Partition, PartitionState, SystemStatusWord},
};

/// Answer of `system/status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SystemStatus {
    /// Who this gateway is.
    pub gateway: Gateway,
    /// The two partitions.
    pub partitions: Partitions,
    /// Free resources.
    pub resources: ResourceNumbers,
    /// How the last update ended; `null` when there was none.
    #[serde(default)]
    pub last_update: Option<LastUpdateInfo>,
    /// Idle, updating, …
    pub system_status: SystemStatusWord,
    /// Why the gateway cannot install; empty when it can.
    #[serde(default)]
    pub degraded: Vec<Degradation>,
    /// What the boot loader will do next; `null` when the environment cannot be read.
    #[serde(default)]
    pub boot: Option<BootInfo>,
    /// The job that has not ended; `null` when there is none.
    #[serde(default)]
    pub active_job: Option<String>,
    /// The factory reset that waits for a boot; `null` when there is none.
    #[serde(default)]
    pub factory_reset: Option<ScheduledReset>,
    /// Whether the device's configuration lets unsigned images through.
    pub allow_unsigned: bool,
    /// When a check of the update server last succeeded; `null` when none did.
    #[serde(default)]
    pub last_good_check: Option<Timestamp>,
    /// The gateway's own time.
    pub timestamp: Timestamp,
}

/// Who a gateway is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Gateway {
    /// Host name or site name.
    pub name: String,
    /// Model that releases are made for.
    pub model: String,
    /// Serial number.
    pub serial: String,
}

/// Both partitions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Partitions {
    /// The one the system runs from; `null` when it is not known.
    pub active: Option<PartitionInfo>,
    /// The other one; `null` when it is not known.
    pub inactive: Option<PartitionInfo>,
}

/// One partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PartitionInfo {
    /// `A` or `B`.
    pub name: Partition,
    /// Version it holds; `null` when it is not known.
    pub version: Option<String>,
    /// Boots of this partition over its life.
    pub boot_count: u64,
    /// When it was last booted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_boot: Option<Timestamp>,
    /// What it is good for.
    pub state: PartitionState,
    /// `sha256:` and the digest of the image it holds, if it was installed by the gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksum: Option<String>,
    /// Length of that image in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_size: Option<u64>,
    /// Size of the partition in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<u64>,
}

/// Free resources.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ResourceNumbers {
    /// Free bytes where images are staged.
    pub disk_free: u64,
    /// Available memory in bytes.
    pub memory_free: u64,
    /// One-minute load average divided by the number of processors.
    pub cpu_load: f64,
}

impl From<Resources> for ResourceNumbers {
    fn from(core: Resources) -> Self {
        Self { disk_free: core.disk_free.get(), memory_free: core.memory_free.get(), cpu_load: core.cpu_load }
    }
}

/// How the last update ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LastUpdateInfo {
    /// Version it brought.
    pub version: String,
    /// When it ended.
    pub timestamp: Timestamp,
    /// `success`, `failed`, `rolled_back` or `cancelled`.
    pub status: String,
}

impl From<&LastUpdate> for LastUpdateInfo {
    fn from(core: &LastUpdate) -> Self {
        Self {
            version: core.version.to_string(),
            timestamp: text::time(core.at),
            status: core.status.clone(),
        }
    }
}

/// A factory reset that was ordered and has not been carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ScheduledReset {
    /// How it stands: scheduled for the next boot, or not carried out by the last one.
    pub message: String,
    /// Who asked for it; absent when the order does not read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested_by: Option<String>,
    /// When.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested_at: Option<Timestamp>,
    /// The backup of the settings that was made before, if one was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<String>,
}

/// A reason why the gateway cannot install.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Degradation {
    /// The contract's word: `env_unreadable`, `env_not_redundant`, `booted_slot_unknown`, …
    pub reason: String,
    /// A sentence for people.
    pub message: String,
}

/// The boot environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BootInfo {
    /// The partition that the boot loader tries first.
    pub first: Partition,
    /// The partition on trial; `null` when none is.
    #[serde(default)]
    pub trial: Option<Partition>,
    /// Partition A, as the boot loader sees it.
    pub a: BootSlotInfo,
    /// Partition B, as the boot loader sees it.
    pub b: BootSlotInfo,
    /// Whether two good places for the environment are configured.
    pub redundant: bool,
    /// Whether the boot loader has proven that it and the gateway share one environment.
    pub canary: bool,
    /// Version of the boot loader, when the device tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loader_version: Option<String>,
    /// Whether the boot loader is older than U-Boot 2024.01. Nothing is installed then, unless the configuration accepts it.
    #[serde(default)]
    pub loader_too_old: bool,
}

/// One partition in the boot environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BootSlotInfo {
    /// Whether the not-bootable mark is off.
    pub bootable: bool,
    /// Tries left; counts only during a trial.
    pub tries_left: u8,
}

impl From<SlotBoot> for BootSlotInfo {
    fn from(core: SlotBoot) -> Self {
        Self { bootable: core.bootable, tries_left: core.tries_left }
    }
}

impl From<&BootStatus> for BootInfo {
    fn from(core: &BootStatus) -> Self {
        Self {
            first: core.first.into(),
            trial: core.trial.map(Partition::from),
            a: core.a.into(),
            b: core.b.into(),
            redundant: core.redundant,
            canary: core.canary,
            loader_version: core.loader_version.clone(),
            loader_too_old: core.loader_too_old,
        }
    }
}

/// Answer of `healthz` and `readyz`: no more than this.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Probe {
    /// `ok`; when it is not, the answer is an error envelope.
    pub status: String,
}
