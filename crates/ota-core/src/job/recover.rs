//! From what a restart finds to one [`Situation`].

use super::{Job, Situation};
use crate::{Slot, ports::BootStatus};

/// What a restart finds. Pure data, so that every combination can be tested.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct World {
    /// The slot the kernel was started from, if it is known.
    pub running: Option<Slot>,
    /// The boot environment, if it can be read.
    pub boot: Option<BootStatus>,
}

/// Where `job` stands in `world`. Source: `durable-steps.md` section 3.
#[must_use]
pub fn situation(job: &Job, world: &World) -> Situation {
    let (Some(running), Some(boot)) = (world.running, world.boot.as_ref()) else {
        return Situation::Lost;
    };
    let target = boot.slot(job.target);
    if running == job.target {
        return if boot.trial == Some(job.target) {
            Situation::OnNewTrial
        } else {
            Situation::OnNewConfirmed
        };
    }
    match (boot.trial == Some(job.target), target.bootable, target.tries_left) {
        (true, true, 1..) => Situation::OnOldSwitched,
        (true, ..) => Situation::OnOldTriesUsed,
        (false, ..) => Situation::OnOld,
    }
}
