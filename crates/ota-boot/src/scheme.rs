//! What the variables mean: the contract between the boot script and us.
//!
//! | variable | written by | values | meaning |
//! |---|---|---|---|
//! | `BOOT_ORDER` | us | `A B`, `B A`, `A`, `B` | slots by preference; one under installation is not in it |
//! | `BOOT_A_LEFT`, `BOOT_B_LEFT` | us, boot script | one digit 0–9 | tries left; counts only for the slot on trial |
//! | `ota_bad` | us | `A`, `B`, absent | not bootable, whatever the counters say |
//! | `ota_trial` | us | `A`, `B`, absent | the slot whose boots are counted |
//! | `ota_canary` | boot script | `1` | both share this environment |
//!
//! Owns reading them into a [`BootStatus`] and the four plans as edits in memory. The whole table with the decision of
//! the boot script is in `dist/u-boot/README.md`; `ota_testkit::bootloader` follows the same rules independently.

use ota_core::{
    Slot,
    ports::{BootStatus, SlotBoot},
};

use crate::{loader, uboot_env::Environment};

/// Slots by preference, separated by spaces.
pub const ORDER: &str = "BOOT_ORDER";
/// The slot that must not be booted.
pub const BAD: &str = "ota_bad";
/// The slot on trial.
pub const TRIAL: &str = "ota_trial";
/// The mark that only the boot script leaves.
pub const CANARY: &str = "ota_canary";
/// The boot loader's own version text.
pub const VERSION: &str = "ver";

/// Counter that the boot script assumes where there is none, and resets to. Fixed by U-Boot's rauc boot method too.
pub const DEFAULT_TRIES: u8 = 3;

/// Name of the counter of a slot.
#[must_use]
pub const fn left(slot: Slot) -> &'static str {
    match slot {
        Slot::A => "BOOT_A_LEFT",
        Slot::B => "BOOT_B_LEFT",
    }
}

/// Reads the variables as the boot script does.
#[must_use]
pub fn status(environment: &Environment, redundant: bool, loader_version: Option<String>) -> BootStatus {
    let slot = |slot| SlotBoot {
        bootable: named(environment, BAD) != Some(slot),
        tries_left: tries_left(environment, slot),
    };
    BootStatus {
        first: next(environment),
        trial: named(environment, TRIAL),
        a: slot(Slot::A),
        b: slot(Slot::B),
        redundant,
        canary: environment.value(CANARY).is_some_and(|v| !v.is_empty()),
        loader_too_old: loader_version.as_deref().is_some_and(loader::is_too_old),
        loader_version,
    }
}

/// `slot` not bootable, the other one first, no trial.
pub fn fence(environment: &mut Environment, slot: Slot, full: u8) {
    only(environment, !slot, full);
}

/// `slot` bootable, first, and a trial of `tries`; the other one is what the boot script goes back to.
pub fn arm(environment: &mut Environment, slot: Slot, tries: u8, full: u8) {
    environment.set(ORDER, &format!("{slot} {}", !slot));
    environment.set(left(slot), &tries.to_string());
    environment.set(left(!slot), &full.to_string());
    environment.unset(BAD);
    environment.set(TRIAL, slot.as_str());
}

/// `keep` first and bootable, the other one not bootable, no trial.
pub fn go_back(environment: &mut Environment, keep: Slot, full: u8) {
    only(environment, keep, full);
}

/// `slot` first, bootable, full tries, no trial. The other one stays what it was.
pub fn confirm(environment: &mut Environment, slot: Slot, full: u8) {
    let other_is_bad = named(environment, BAD) == Some(!slot);
    let order = if other_is_bad { slot.as_str().to_owned() } else { format!("{slot} {}", !slot) };
    environment.set(ORDER, &order);
    environment.set(left(slot), &full.to_string());
    if !other_is_bad {
        environment.unset(BAD);
    }
    environment.unset(TRIAL);
}

fn only(environment: &mut Environment, keep: Slot, full: u8) {
    environment.set(ORDER, keep.as_str());
    environment.set(left(keep), &full.to_string());
    environment.set(left(!keep), "0");
    environment.set(BAD, (!keep).as_str());
    environment.unset(TRIAL);
}

/// The slot that the boot script takes next.
fn next(environment: &Environment) -> Slot {
    let bad = named(environment, BAD);
    let order = environment.text(ORDER).filter(|o| !o.is_empty()).unwrap_or("A B");
    // Exactly `A` and `B`: the script compares texts.
    let slots = || order.split_ascii_whitespace().filter_map(exact).filter(|s| Some(*s) != bad);
    let with_tries = slots().find(|s| tries_left(environment, *s) > 0);
    with_tries.unwrap_or_else(|| {
        let confirmed = named(environment, TRIAL).map_or_else(|| slots().next().unwrap_or(Slot::A), |t| !t);
        if bad == Some(confirmed) { !confirmed } else { confirmed }
    })
}

/// A missing counter is the default, anything but one digit is 0.
fn tries_left(environment: &Environment, slot: Slot) -> u8 {
    match environment.value(left(slot)) {
        None | Some([]) => DEFAULT_TRIES,
        Some([digit @ b'0'..=b'9']) => digit - b'0',
        Some(_) => 0,
    }
}

fn named(environment: &Environment, name: &str) -> Option<Slot> {
    environment.text(name).and_then(exact)
}

fn exact(text: &str) -> Option<Slot> {
    Slot::ALL.into_iter().find(|s| s.as_str() == text)
}

#[cfg(test)]
mod tests {
    use ota_testkit::bootloader;

    use super::*;

    const ORDERS: [Option<&str>; 8] =
        [None, Some("A B"), Some("B A"), Some("A"), Some("B"), Some(""), Some("C D"), Some("C B")];
    const COUNTS: [Option<&str>; 7] =
        [None, Some(""), Some("0"), Some("1"), Some("3"), Some("9"), Some("10")];
    const SLOTS: [Option<&str>; 4] = [None, Some("A"), Some("B"), Some("x")];

    fn every_environment(mut visit: impl FnMut(&Environment)) {
        for order in ORDERS {
            for (a, b) in COUNTS.iter().flat_map(|a| COUNTS.iter().map(move |b| (*a, *b))) {
                for (bad, trial) in SLOTS.iter().flat_map(|x| SLOTS.iter().map(move |y| (*x, *y))) {
                    let mut environment = Environment::default();
                    let values =
                        [(ORDER, order), ("BOOT_A_LEFT", a), ("BOOT_B_LEFT", b), (BAD, bad), (TRIAL, trial)];
                    for (name, value) in values {
                        if let Some(value) = value {
                            environment.set(name, value);
                        }
                    }
                    visit(&environment);
                }
            }
        }
    }

    fn as_variables(environment: &Environment) -> bootloader::Variables {
        let names = [ORDER, "BOOT_A_LEFT", "BOOT_B_LEFT", BAD, TRIAL, CANARY];
        names.iter().filter_map(|n| Some(((*n).to_owned(), environment.text(n)?.to_owned()))).collect()
    }

    fn boots(environment: &Environment) -> Slot {
        bootloader::boot(&as_variables(environment)).slot
    }

    #[test]
    fn the_status_names_the_slot_that_the_boot_script_takes() {
        every_environment(|e| assert_eq!(status(e, true, None).first, boots(e), "{e:?}"));
    }

    #[test]
    fn a_fenced_slot_is_never_booted_however_often_the_device_restarts() {
        every_environment(|e| {
            for slot in Slot::ALL {
                let mut e = e.clone();
                fence(&mut e, slot, 3);
                let mut variables = as_variables(&e);
                for _ in 0..12 {
                    let boot = bootloader::boot(&variables);
                    assert_eq!((boot.slot, boot.otherwise), (!slot, None), "{e:?}");
                    variables = boot.save.unwrap_or(variables);
                }
            }
        });
    }

    #[test]
    fn a_trial_is_booted_as_often_as_it_has_tries_and_then_the_other_slot() {
        every_environment(|e| {
            for (slot, tries) in [(Slot::A, 1), (Slot::B, 3)] {
                let mut e = e.clone();
                arm(&mut e, slot, tries, 3);
                let mut variables = as_variables(&e);
                for round in 0..8 {
                    let boot = bootloader::boot(&variables);
                    assert_eq!(boot.slot, if round < tries { slot } else { !slot }, "{e:?} round {round}");
                    variables = boot.save.unwrap_or(variables);
                }
            }
        });
    }

    #[test]
    fn a_confirmed_slot_is_booted_for_ever_without_a_write() {
        every_environment(|e| {
            for slot in Slot::ALL {
                let mut e = e.clone();
                e.set(CANARY, "1");
                confirm(&mut e, slot, 3);
                let boot = bootloader::boot(&as_variables(&e));
                assert_eq!((boot.slot, boot.save), (slot, None), "{e:?}");
                let now = status(&e, true, None);
                assert!(now.trial.is_none() && now.slot(slot).bootable && now.slot(slot).tries_left == 3);
            }
        });
    }

    #[test]
    fn going_back_keeps_one_slot_and_marks_the_other_from_any_state() {
        every_environment(|e| {
            for keep in Slot::ALL {
                let mut e = e.clone();
                go_back(&mut e, keep, 3);
                let now = status(&e, true, None);
                assert_eq!((now.first, now.trial, now.slot(!keep).bootable), (keep, None, false));
                assert_eq!(boots(&e), keep);
            }
        });
    }

    #[test]
    fn every_plan_may_be_asked_for_twice() {
        let plans: [fn(&mut Environment); 4] = [
            |e| fence(e, Slot::B, 3),
            |e| arm(e, Slot::B, 2, 3),
            |e| go_back(e, Slot::A, 3),
            |e| confirm(e, Slot::B, 3),
        ];
        every_environment(|e| {
            for plan in plans {
                let (mut once, mut twice) = (e.clone(), e.clone());
                plan(&mut once);
                plan(&mut twice);
                plan(&mut twice);
                assert_eq!(once, twice);
            }
        });
    }
}
