//! A boot environment in memory, with the boot loader's rules.

use std::sync::{Arc, Mutex, PoisonError};

use ota_core::{
    OtaError, Slot,
    error::{PortError, PortErrorKind},
    ports::{BootControl, BootStatus, SlotBoot},
};

use crate::faults::{Faults, Power};

/// Tries that a confirmed slot has.
pub const FULL_TRIES: u8 = 3;

/// A model of the boot environment and of the loader that reads it. Clean start: running from A, B bootable.
#[derive(Debug)]
pub struct FakeBootControl {
    inner: Mutex<Model>,
    /// Environment writes that are to fail without an effect.
    pub write_faults: Faults,
    power: Arc<Power>,
}

#[derive(Debug)]
struct Model {
    env: BootStatus,
    booted: Option<Slot>,
    boot_id: &'static str,
    boots: u32,
    writes: u32,
    readable: bool,
    hangs: [bool; 2],
}

impl FakeBootControl {
    /// A healthy device that runs from `slot`, with the other one bootable.
    #[must_use]
    pub fn running(slot: Slot) -> Self {
        let good = SlotBoot { bootable: true, tries_left: FULL_TRIES };
        let env = BootStatus {
            first: slot,
            trial: None,
            a: good,
            b: good,
            redundant: true,
            canary: true,
            loader_version: Some("2024.01-fake".into()),
            loader_too_old: false,
        };
        Self {
            inner: Mutex::new(Model {
                env,
                booted: Some(slot),
                boot_id: "boot-0",
                boots: 0,
                writes: 0,
                readable: true,
                hangs: [false; 2],
            }),
            write_faults: Faults::default(),
            power: Arc::default(),
        }
    }

    /// Takes its durable steps from a shared supply.
    #[must_use]
    pub fn with_power(mut self, power: Arc<Power>) -> Self {
        self.power = power;
        self
    }

    /// Changes the environment behind everybody's back.
    pub fn edit(&self, change: impl FnOnce(&mut BootStatus)) {
        self.with(|model| change(&mut model.env));
    }

    /// What the environment says, also when `status` refuses to tell.
    pub fn env(&self) -> BootStatus {
        self.with(|model| model.env.clone())
    }

    /// Sets the slot the kernel was started from; `None`: unknown.
    pub fn set_booted(&self, slot: Option<Slot>) {
        self.with(|model| model.booted = slot);
    }

    /// Whether a copy of the environment is good.
    pub fn set_readable(&self, readable: bool) {
        self.with(|model| model.readable = readable);
    }

    /// Whether what is in `slot` hangs when it is booted, so that the watchdog starts the gateway again.
    pub fn set_hangs(&self, slot: Slot, hangs: bool) {
        self.with(|model| model.hangs[index(slot)] = hangs);
    }

    /// How many environment writes there were.
    pub fn writes(&self) -> u32 {
        self.with(|model| model.writes)
    }

    /// How many boots there were, hanging ones included.
    pub fn boots(&self) -> u32 {
        self.with(|model| model.boots)
    }

    /// Restarts the gateway by the loader's rules and returns the slot that comes up: a trial with tries left takes one
    /// and is booted; a trial without is left for the other slot; a slot that is not bootable is never booted. A hanging
    /// slot is started again until it is left. `None`: nothing comes up, the gateway is bricked.
    pub fn reboot(&self) -> Option<Slot> {
        self.with(|model| {
            model.booted = None;
            // More boots than any promise allows: what has not come up by now never will.
            for _ in 0..20 {
                let slot = model.choose();
                model.boots += 1;
                model.boot_id = format!("boot-{}", model.boots).leak();
                match slot {
                    Some(slot) if !model.hangs[index(slot)] => {
                        model.booted = Some(slot);
                        break;
                    }
                    Some(_) => {}
                    None => break,
                }
            }
            model.booted
        })
    }

    fn with<R>(&self, look: impl FnOnce(&mut Model) -> R) -> R {
        look(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn write(
        &self,
        change: impl FnOnce(&mut BootStatus, Slot) -> Result<(), PortError>,
    ) -> Result<(), PortError> {
        self.with(|model| {
            let booted = model.booted.ok_or_else(|| unavailable("booted_slot_unknown"))?;
            model.check()?;
            let mut env = model.env.clone();
            change(&mut env, booted)?;
            self.write_faults.call()?;
            self.power.step()?;
            model.env = env;
            model.writes += 1;
            Ok(())
        })
    }
}

impl Default for FakeBootControl {
    fn default() -> Self {
        Self::running(Slot::A)
    }
}

impl Model {
    fn choose(&mut self) -> Option<Slot> {
        let first = self.env.trial.unwrap_or(self.env.first);
        if self.env.trial.is_some() {
            let trial = slot_mut(&mut self.env, first);
            if trial.bootable && trial.tries_left > 0 {
                trial.tries_left -= 1;
                return Some(first);
            }
            return self.env.slot(!first).bootable.then_some(!first);
        }
        [first, !first].into_iter().find(|slot| self.env.slot(*slot).bootable)
    }

    fn check(&self) -> Result<(), PortError> {
        match () {
            () if !self.readable => Err(unavailable("env_unreadable")),
            () if !self.env.redundant => Err(unavailable("env_not_redundant")),
            () if !self.env.canary => Err(unavailable("env_no_canary")),
            () => Ok(()),
        }
    }
}

impl BootControl for FakeBootControl {
    fn booted(&self) -> Option<Slot> {
        self.with(|model| model.booted)
    }

    fn boot_id(&self) -> &str {
        self.with(|model| model.boot_id)
    }

    fn status(&self) -> Result<BootStatus, PortError> {
        self.power.check()?;
        self.with(
            |model| {
                if model.readable { Ok(model.env.clone()) } else { Err(unavailable("env_unreadable")) }
            },
        )
    }

    fn fence(&self, slot: Slot) -> Result<(), PortError> {
        self.write(|env, booted| {
            if slot == booted {
                return Err(OtaError::running_slot(slot).into());
            }
            slot_mut(env, slot).bootable = false;
            (env.first, env.trial) = (!slot, None);
            Ok(())
        })
    }

    fn arm(&self, slot: Slot, tries: u8) -> Result<(), PortError> {
        assert!((1..=3).contains(&tries), "a trial has 1 to 3 boots, not {tries}");
        self.write(|env, booted| {
            if slot == booted {
                return Err(OtaError::running_slot(slot).into());
            }
            *slot_mut(env, slot) = SlotBoot { bootable: true, tries_left: tries };
            (env.first, env.trial) = (slot, Some(slot));
            Ok(())
        })
    }

    fn go_back(&self, keep: Slot) -> Result<(), PortError> {
        self.write(|env, _| {
            *slot_mut(env, keep) = SlotBoot { bootable: true, tries_left: FULL_TRIES };
            slot_mut(env, !keep).bootable = false;
            (env.first, env.trial) = (keep, None);
            Ok(())
        })
    }

    fn confirm(&self, slot: Slot) -> Result<(), PortError> {
        self.write(|env, booted| {
            if slot != booted {
                let why = "only the running slot can be confirmed".into();
                return Err(OtaError::InvalidPartition { slot: slot.to_string(), why }.into());
            }
            *slot_mut(env, slot) = SlotBoot { bootable: true, tries_left: FULL_TRIES };
            (env.first, env.trial) = (slot, None);
            Ok(())
        })
    }
}

fn unavailable(reason: &'static str) -> PortError {
    PortErrorKind::Unavailable { reason, what: "as the test wants it".into() }.into()
}

const fn slot_mut(env: &mut BootStatus, slot: Slot) -> &mut SlotBoot {
    match slot {
        Slot::A => &mut env.a,
        Slot::B => &mut env.b,
    }
}

const fn index(slot: Slot) -> usize {
    match slot {
        Slot::A => 0,
        Slot::B => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hanging_trial_uses_its_tries_and_the_old_slot_comes_back() {
        let boot = FakeBootControl::running(Slot::A);
        boot.fence(Slot::B).unwrap();
        boot.arm(Slot::B, 3).unwrap();
        boot.set_hangs(Slot::B, true);
        assert_eq!(boot.reboot(), Some(Slot::A));
        assert_eq!((boot.boots(), boot.env().b.tries_left, boot.env().trial), (4, 0, Some(Slot::B)));
        boot.go_back(Slot::A).unwrap();
        assert_eq!((boot.env().b.bootable, boot.env().trial), (false, None));
    }

    #[test]
    fn a_trial_that_comes_up_runs_from_the_new_slot_with_a_new_boot_id() {
        let boot = FakeBootControl::running(Slot::B);
        let before = boot.boot_id().to_owned();
        boot.arm(Slot::A, 2).unwrap();
        assert_eq!(boot.reboot(), Some(Slot::A));
        assert_ne!(boot.boot_id(), before);
        boot.confirm(Slot::A).unwrap();
        assert_eq!((boot.env().first, boot.env().trial, boot.writes()), (Slot::A, None, 2));
    }

    #[test]
    fn a_slot_that_is_not_bootable_is_never_booted() {
        let boot = FakeBootControl::running(Slot::A);
        boot.fence(Slot::B).unwrap();
        boot.set_hangs(Slot::A, true);
        assert_eq!(boot.reboot(), None);
    }

    #[test]
    fn a_write_that_was_cut_off_changes_nothing() {
        let power = Arc::new(Power::default());
        let boot = FakeBootControl::running(Slot::A).with_power(power.clone());
        power.cut_after(1);
        boot.fence(Slot::B).unwrap();
        boot.arm(Slot::B, 3).unwrap_err();
        power.restore();
        assert_eq!(boot.env().trial, None);
    }
}
