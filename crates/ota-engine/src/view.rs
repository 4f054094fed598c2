//! What the engine shows: plain data, numbers only.

use ota_core::{
    ByteCount, Slot, Timestamp,
    event::{Operation, SystemState},
    job::Job,
    ports::{BootStatus, LastUpdate, SlotRecord, SlotState},
    safety::Resources,
};

use crate::{GatewayIdentity, PendingReset};

/// A job with its live progress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobView {
    /// The job as recorded.
    pub job: Job,
    /// What moves bytes right now, for the active job.
    pub live: Option<LiveProgress>,
}

/// What moves bytes right now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LiveProgress {
    /// The operation.
    pub operation: Operation,
    /// Bytes done in it.
    pub current: ByteCount,
    /// Bytes to do in it.
    pub total: ByteCount,
    /// Recent speed, when known.
    pub bytes_per_second: Option<u64>,
}

impl LiveProgress {
    /// Seconds that are left at the recent speed.
    #[must_use]
    pub fn eta_seconds(&self) -> Option<u64> {
        let speed = self.bytes_per_second.filter(|s| *s > 0)?;
        Some(self.total.saturating_sub(self.current).get().div_ceil(speed))
    }
}

/// One slot: the record beside what the boot loader sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotView {
    /// Which.
    pub slot: Slot,
    /// What is recorded of it.
    pub record: SlotRecord,
    /// `good`, `bad`, `trial` or `empty`, from record and environment together.
    pub state: SlotState,
    /// Size of the partition, where it can be asked.
    pub capacity: Option<ByteCount>,
}

/// The gateway as a whole.
#[derive(Clone, Debug)]
pub struct SystemView {
    /// Name, model, serial.
    pub identity: GatewayIdentity,
    /// Idle, updating, …
    pub state: SystemState,
    /// Why the gateway cannot install, with the contract's word for it; empty when it can.
    pub degraded: Vec<(String, String)>,
    /// The running slot, if it is known.
    pub active: Option<SlotView>,
    /// The other one.
    pub inactive: Option<SlotView>,
    /// The boot environment, if it can be read.
    pub boot: Option<BootStatus>,
    /// Free resources.
    pub resources: Resources,
    /// How the last update ended.
    pub last_update: Option<LastUpdate>,
    /// The job that has not ended.
    pub active_job: Option<Job>,
    /// The factory reset that waits for a boot.
    pub reset: Option<PendingReset>,
    /// Whether the policy lets unsigned images through.
    pub allow_unsigned: bool,
    /// When a check of the update server last succeeded.
    pub last_good_check: Option<Timestamp>,
    /// Now.
    pub now: Timestamp,
}
