//! A stand-in for the boot loader: the rules of `dist/u-boot/ota-boot.cmd` as a pure function.
//!
//! Owns nothing but these rules. It is written after the script, not after `ota-boot`, so that the two check each other.
//! Reading and writing the environment's bytes, and what happens in the booted slot, are left to the caller.

use std::collections::BTreeMap;

use ota_core::Slot;

/// The variables of an environment by name. A name without a value here is one that U-Boot does not know.
pub type Variables = BTreeMap<String, String>;

/// What the boot script decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Boot {
    /// The slot whose kernel is loaded first.
    pub slot: Slot,
    /// The slot whose kernel is loaded when that of `slot` does not load; without it the board is reset.
    pub otherwise: Option<Slot>,
    /// The slot taken instead when saving fails: a trial that cannot be counted would never end.
    pub unsaved: Slot,
    /// All variables as they are saved before the kernel is loaded; `None`: nothing changed, nothing is saved.
    pub save: Option<Variables>,
}

/// Runs the boot script over `variables`.
#[must_use]
pub fn boot(variables: &Variables) -> Boot {
    let mut vars = variables.clone();
    let mut dirty = false;
    for (name, value) in [("BOOT_ORDER", "A B"), ("BOOT_A_LEFT", "3"), ("BOOT_B_LEFT", "3")] {
        if is_empty(&vars, name) {
            vars.insert(name.into(), value.into());
        }
    }
    let slot = with_tries(&vars).unwrap_or_else(|| {
        let slot = last_confirmed(&vars);
        vars.insert(left(slot).into(), "3".into());
        dirty = true;
        slot
    });
    let on_trial = is(&vars, "ota_trial", slot.as_str());
    if on_trial {
        let fewer = tries(&vars, slot).saturating_sub(1).to_string();
        vars.insert(left(slot).into(), fewer);
        dirty = true;
    }
    if is_empty(&vars, "ota_canary") {
        vars.insert("ota_canary".into(), "1".into());
        dirty = true;
    }
    let other_is_bad = is(&vars, "ota_bad", (!slot).as_str());
    let otherwise = (!on_trial && !other_is_bad).then_some(!slot);
    let unsaved = if on_trial && !other_is_bad { !slot } else { slot };
    Boot { slot, otherwise, unsaved, save: dirty.then_some(vars) }
}

/// What one power-on comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PowerOn {
    /// The slot whose kernel was started; `None`: none loaded, the board was reset.
    pub started: Option<Slot>,
    /// As in [`Boot::save`].
    pub save: Option<Variables>,
}

/// One power-on, where `loads` says which slots have a kernel that loads.
pub fn power_on(variables: &Variables, loads: impl Fn(Slot) -> bool) -> PowerOn {
    let boot = boot(variables);
    let started = [Some(boot.slot), boot.otherwise].into_iter().flatten().find(|slot| loads(*slot));
    PowerOn { started, save: boot.save }
}

/// The first slot of the order that is not marked and has tries.
fn with_tries(vars: &Variables) -> Option<Slot> {
    in_order(vars).find(|slot| tries(vars, *slot) > 0)
}

/// The slot to go on with when no tries are left: never a marked one.
fn last_confirmed(vars: &Variables) -> Slot {
    let confirmed = if is(vars, "ota_trial", "A") {
        Slot::B
    } else if is(vars, "ota_trial", "B") {
        Slot::A
    } else {
        in_order(vars).next().unwrap_or(Slot::A)
    };
    if is(vars, "ota_bad", confirmed.as_str()) { !confirmed } else { confirmed }
}

fn in_order(vars: &Variables) -> impl Iterator<Item = Slot> {
    let order = vars.get("BOOT_ORDER").map_or("", String::as_str);
    let known =
        order.split_whitespace().filter_map(|word| Slot::ALL.into_iter().find(|s| s.as_str() == word));
    known.filter(|slot| !is(vars, "ota_bad", slot.as_str()))
}

/// 1–9; anything else is none.
fn tries(vars: &Variables, slot: Slot) -> u8 {
    match vars.get(left(slot)).map(String::as_bytes) {
        Some([digit @ b'1'..=b'9']) => digit - b'0',
        _ => 0,
    }
}

fn is(vars: &Variables, name: &str, value: &str) -> bool {
    vars.get(name).is_some_and(|v| v == value)
}

fn is_empty(vars: &Variables, name: &str) -> bool {
    vars.get(name).is_none_or(String::is_empty)
}

fn left(slot: Slot) -> &'static str {
    match slot {
        Slot::A => "BOOT_A_LEFT",
        Slot::B => "BOOT_B_LEFT",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vars(text: &str) -> Variables {
        text.lines().filter_map(|l| l.split_once('=')).map(|(n, v)| (n.to_owned(), v.to_owned())).collect()
    }

    #[test]
    fn an_empty_environment_boots_a_and_leaves_the_canary() {
        let boot = boot(&Variables::new());
        assert_eq!((boot.slot, boot.otherwise), (Slot::A, Some(Slot::B)));
        assert_eq!(boot.save, Some(vars("BOOT_ORDER=A B\nBOOT_A_LEFT=3\nBOOT_B_LEFT=3\nota_canary=1")));
    }

    #[test]
    fn an_ordinary_boot_saves_nothing() {
        let boot = boot(&vars("BOOT_ORDER=B A\nBOOT_A_LEFT=3\nBOOT_B_LEFT=3\nota_canary=1"));
        assert_eq!((boot.slot, boot.save), (Slot::B, None));
    }

    #[test]
    fn a_trial_counts_down_and_falls_back_without_another_write() {
        let mut now = vars("BOOT_ORDER=B A\nBOOT_A_LEFT=3\nBOOT_B_LEFT=2\nota_trial=B\nota_canary=1");
        for expected in ["1", "0"] {
            let boot = boot(&now);
            assert_eq!((boot.slot, boot.otherwise), (Slot::B, None));
            now = boot.save.unwrap();
            assert_eq!(now["BOOT_B_LEFT"], expected);
        }
        let boot = boot(&now);
        assert_eq!((boot.slot, boot.otherwise, boot.save), (Slot::A, Some(Slot::B), None));
    }

    #[test]
    fn without_tries_the_last_confirmed_slot_is_reset_and_a_marked_one_never() {
        let spent = "BOOT_ORDER=B A\nBOOT_A_LEFT=0\nBOOT_B_LEFT=0\nota_canary=1";
        let check = |more: &str, slot: Slot| {
            let boot = boot(&vars(&format!("{spent}\n{more}")));
            assert_eq!(boot.slot, slot, "{more}");
            assert_ne!(boot.save.unwrap()[left(slot)], "0", "{more}");
        };
        check("", Slot::B);
        check("ota_bad=B", Slot::A);
        check("ota_trial=B", Slot::A);
        check("ota_trial=A\nota_bad=A", Slot::B);
        check("ota_trial=B\nota_bad=A", Slot::B);
    }

    #[test]
    fn a_trial_is_started_although_the_old_slot_no_longer_loads() {
        let mut now = vars("BOOT_ORDER=B A\nBOOT_A_LEFT=3\nBOOT_B_LEFT=2\nota_trial=B\nota_canary=1");
        // Also when all its tries are used: nothing else is there.
        for _ in 0..4 {
            let on = power_on(&now, |slot| slot == Slot::B);
            assert_eq!(on.started, Some(Slot::B), "{now:?}");
            now = on.save.unwrap_or(now);
        }
        assert_eq!(now["BOOT_B_LEFT"], "0");
    }

    #[test]
    fn a_kernel_that_does_not_load_gives_way_to_the_other_slot_unless_it_is_marked() {
        let a_only = "BOOT_ORDER=A B\nota_canary=1";
        assert_eq!(power_on(&vars(a_only), |s| s == Slot::B).started, Some(Slot::B));
        assert_eq!(power_on(&vars(&format!("{a_only}\nota_bad=B")), |s| s == Slot::B).started, None);
    }
}
