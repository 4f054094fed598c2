//! Which slot the kernel was started from, told by its command line.
//!
//! Owns the text only: a contradiction or an unknown name is `None`, and then nothing may be written. Reading the file
//! and following links is the caller's.

use std::path::{Path, PathBuf};

use ota_core::Slot;

/// The devices of the two slots, as configured.
#[derive(Clone, Copy, Debug)]
pub struct SlotPaths<'a> {
    /// Slot A.
    pub a: &'a Path,
    /// Slot B.
    pub b: &'a Path,
}

/// The booted slot, by everything in `cmdline` that tells.
///
/// `ota.slot=A`, `rauc.slot=A` (also RAUC's slot names, `rootfs.0`), `root=` with a device, `PARTLABEL=`, `PARTUUID=`,
/// `LABEL=` or `UUID=`. A `root=` of neither slot says nothing (initramfs, dm-verity); an unknown name in the others
/// makes the slot unknown, as do two that disagree. `resolve` follows links, `None` where there is nothing.
#[must_use]
pub fn booted_slot(
    cmdline: &str,
    slots: SlotPaths<'_>,
    resolve: &dyn Fn(&Path) -> Option<PathBuf>,
) -> Option<Slot> {
    let mut found = None;
    for parameter in parameters(cmdline) {
        let Some((name, value)) = parameter.split_once('=') else { continue };
        let told = match name {
            "ota.slot" | "rauc.slot" => Some(named(value)?),
            "root" => by_root(value, slots, resolve),
            _ => None,
        };
        match (found, told) {
            (Some(before), Some(now)) if before != now => return None,
            _ => found = found.or(told),
        }
    }
    found
}

fn named(value: &str) -> Option<Slot> {
    match value {
        "A" | "a" | "rootfs.0" => Some(Slot::A),
        "B" | "b" | "rootfs.1" => Some(Slot::B),
        _ => None,
    }
}

fn by_root(value: &str, slots: SlotPaths<'_>, resolve: &dyn Fn(&Path) -> Option<PathBuf>) -> Option<Slot> {
    let root = root_device(value)?;
    let is =
        |slot: &Path| slot == root || resolve(slot).is_some_and(|s| s == root || Some(s) == resolve(&root));
    match (is(slots.a), is(slots.b)) {
        (true, false) => Some(Slot::A),
        (false, true) => Some(Slot::B),
        _ => None,
    }
}

/// The path that udev gives to what `root=` names. Source: kernel `Documentation/admin-guide/kernel-parameters`.
fn root_device(value: &str) -> Option<PathBuf> {
    let tags = [
        ("PARTLABEL=", "by-partlabel", false),
        ("PARTUUID=", "by-partuuid", true),
        ("LABEL=", "by-label", false),
        ("UUID=", "by-uuid", false),
    ];
    for (tag, folder, lower) in tags {
        if let Some(name) = value.strip_prefix(tag) {
            let name = name.trim_matches('"');
            let name = if lower { name.to_ascii_lowercase() } else { name.to_owned() };
            let plain = !name.is_empty() && !name.contains('/');
            return plain.then(|| Path::new("/dev/disk").join(folder).join(name));
        }
    }
    value.starts_with('/').then(|| PathBuf::from(value))
}

/// Splits at white space outside double quotes; what follows `--` is for init.
fn parameters(cmdline: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    cmdline
        .split(move |c: char| {
            quoted ^= c == '"';
            !quoted && c.is_ascii_whitespace()
        })
        .filter(|p| !p.is_empty())
        .take_while(|p| *p != "--")
        .map(|p| p.trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(cmdline: &str, expected: Option<Slot>) {
        let slots = SlotPaths {
            a: Path::new("/dev/disk/by-partlabel/root-a"),
            b: Path::new("/dev/disk/by-partlabel/root-b"),
        };
        let resolve = |path: &Path| match path.to_str()? {
            "/dev/disk/by-partlabel/root-a" | "/dev/disk/by-partuuid/0aff-01" | "/dev/mmcblk0p3" => {
                Some("/dev/mmcblk0p3".into())
            }
            "/dev/disk/by-partlabel/root-b" | "/dev/mmcblk0p4" => Some("/dev/mmcblk0p4".into()),
            _ => None,
        };
        assert_eq!(booted_slot(cmdline, slots, &resolve), expected, "{cmdline}");
    }

    #[test]
    fn the_slot_is_found_by_name_or_by_root_device() {
        check("quiet ota.slot=A panic=1\n", Some(Slot::A));
        check("rauc.slot=B", Some(Slot::B));
        check("rauc.slot=rootfs.1 ota.slot=B", Some(Slot::B));
        check("root=PARTLABEL=root-b ro", Some(Slot::B));
        check("root=PARTUUID=0AFF-01 ro", Some(Slot::A));
        check("root=/dev/mmcblk0p4", Some(Slot::B));
        check("root=/dev/disk/by-partlabel/root-a", Some(Slot::A));
        check("root=/dev/ram0 ota.slot=A", Some(Slot::A));
        check("root=/dev/mmcblk0p3 rauc.slot=A", Some(Slot::A));
    }

    #[test]
    fn what_is_unknown_or_contradicts_itself_is_no_slot() {
        check("", None);
        check("quiet root=/dev/sda1", None);
        check("ota.slot=C", None);
        check("ota.slot=", None);
        check("ota.slot=A rauc.slot=B", None);
        check("ota.slot=A ota.slot=B", None);
        check("ota.slot=A rauc.slot=system", None);
        check("root=/dev/mmcblk0p4 ota.slot=A", None);
        check("root=PARTLABEL=../by-partlabel/root-a", None);
    }

    #[test]
    fn quoted_text_and_what_is_for_init_are_not_parameters() {
        check("note=\"x ota.slot=B y\" ota.slot=A", Some(Slot::A));
        check("\"ota.slot=B\"", Some(Slot::B));
        check("ota.slot=A -- ota.slot=B", Some(Slot::A));
        check("xota.slot=A", None);
    }
}
