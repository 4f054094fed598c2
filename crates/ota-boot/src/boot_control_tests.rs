//! The port over a real environment file, and what it refuses.

use ota_core::{ErrorCode, error::PortErrorKind};
use tempfile::TempDir;

use super::*;
use crate::uboot_env::Format;

struct Device {
    dir: TempDir,
    config: BootConfig,
}

impl Device {
    /// Two copies; the environment has `text` in both.
    fn new(cmdline: &str, text: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let mut environment = Environment::default();
        text.lines().filter_map(|l| l.split_once('=')).for_each(|(n, v)| environment.set(n, v));
        let copy = Format::Redundant.seal(7, &environment.serialise(0x1000 - 5).unwrap());
        fs::write(path("env"), [copy.clone(), copy].concat()).unwrap();
        let env = path("env").display().to_string();
        fs::write(path("fw_env.config"), format!("{env} 0 1000\n{env} 0x1000 1000\n")).unwrap();
        fs::write(path("cmdline"), cmdline).unwrap();
        fs::write(path("boot_id"), "1234-5678\n").unwrap();
        let config = BootConfig {
            fw_env_config: path("fw_env.config"),
            lock: path("lock"),
            cmdline: path("cmdline"),
            boot_id: path("boot_id"),
            loader_version: path("version"),
            ..BootConfig::new(path("a.img"), path("b.img"))
        };
        Self { dir, config }
    }

    fn running_a() -> Self {
        Self::new("ota.slot=A", "ota_canary=1\nver=U-Boot 2025.01\nethaddr=02:00:00:00:00:01\nBOOT_ORDER=A B")
    }

    fn control(&self) -> UbootBootControl {
        UbootBootControl::open(self.config.clone()).unwrap()
    }

    fn bytes(&self) -> Vec<u8> {
        fs::read(self.dir.path().join("env")).unwrap()
    }

    /// No changing method gets through, and no byte changes.
    fn refuses_all(&self, reason: &str) {
        let before = self.bytes();
        let control = self.control();
        let results = [control.fence(Slot::B), control.arm(Slot::B, 3)];
        for result in results {
            match result.unwrap_err().kind() {
                PortErrorKind::Unavailable { reason: found, .. } => assert_eq!(*found, reason),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(self.bytes(), before);
    }
}

fn code(result: Result<(), PortError>) -> ErrorCode {
    match result.unwrap_err().kind() {
        PortErrorKind::Ota(error) => error.code(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_update_goes_through_fence_arm_and_confirm_with_one_write_each() {
    let device = Device::running_a();
    let control = device.control();
    assert_eq!((control.booted(), control.boot_id()), (Some(Slot::A), "1234-5678"));
    control.fence(Slot::B).unwrap();
    let status = control.status().unwrap();
    assert!(!status.b.bootable && status.first == Slot::A && status.trial.is_none());
    control.arm(Slot::B, 2).unwrap();
    let status = control.status().unwrap();
    assert_eq!(
        (status.first, status.trial, status.b.tries_left, status.b.bootable),
        (Slot::B, Some(Slot::B), 2, true)
    );
    assert!(status.redundant && status.canary);
    assert_eq!(status.loader_version.as_deref(), Some("U-Boot 2025.01"));
    fs::write(&device.config.cmdline, "ota.slot=B").unwrap();
    device.control().confirm(Slot::B).unwrap();
    let status = control.status().unwrap();
    assert_eq!((status.first, status.trial, status.b.tries_left), (Slot::B, None, 3));
    // Three writes: the flag went from 7 to 10, over both copies.
    let bytes = device.bytes();
    // Equal flags at first: the first copy was current, so the second was written first.
    assert_eq!((bytes[4], bytes[0x1004]), (9, 10));
    let kept = String::from_utf8_lossy(&bytes).into_owned();
    assert_eq!(kept.matches("ethaddr=02:00:00:00:00:01\0").count(), 2);
}

#[test]
fn going_back_works_from_either_slot() {
    for cmdline in ["ota.slot=A", "ota.slot=B"] {
        let device = Device::new(cmdline, "ota_trial=B\nBOOT_ORDER=B A\nBOOT_B_LEFT=0");
        device.control().go_back(Slot::A).unwrap();
        let status = device.control().status().unwrap();
        assert_eq!(
            (status.first, status.trial, status.b.bootable, status.a.tries_left),
            (Slot::A, None, false, 3)
        );
    }
}

#[test]
fn the_booted_slot_is_neither_fenced_nor_armed_and_only_it_is_confirmed() {
    let device = Device::running_a();
    let before = device.bytes();
    let control = device.control();
    assert_eq!(code(control.fence(Slot::A)), ErrorCode::InvalidPartition);
    assert_eq!(code(control.arm(Slot::A, 1)), ErrorCode::InvalidPartition);
    assert_eq!(code(control.confirm(Slot::B)), ErrorCode::InvalidPartition);
    for tries in [0, 4, 255] {
        assert!(matches!(control.arm(Slot::B, tries).unwrap_err().kind(), PortErrorKind::Io(_)));
    }
    assert_eq!(device.bytes(), before);
}

#[test]
fn degraded_devices_open_and_every_change_names_its_reason() {
    let unknown = Device::new("quiet", "ota_canary=1");
    unknown.refuses_all("booted_slot_unknown");
    assert!(unknown.control().go_back(Slot::A).is_err());
    assert!(unknown.control().status().is_ok());
    Device::new("ota.slot=A", "BOOT_ORDER=A B").refuses_all("env_no_canary");

    let single = Device::running_a();
    let line = format!("{} 0 1000\n", single.dir.path().join("env").display());
    fs::write(&single.config.fw_env_config, &line).unwrap();
    single.refuses_all("env_not_redundant");
    fs::write(&single.config.fw_env_config, line.repeat(2)).unwrap();
    single.refuses_all("env_not_redundant");
    fs::remove_file(&single.config.fw_env_config).unwrap();
    single.refuses_all("env_unreadable");

    let spoiled = Device::running_a();
    fs::write(spoiled.dir.path().join("env"), vec![0xff; 0x2000]).unwrap();
    spoiled.refuses_all("env_unreadable");
    assert!(spoiled.control().status().is_err());
    assert_eq!(spoiled.control().booted(), Some(Slot::A));
}

#[test]
fn without_a_boot_id_nothing_can_be_told_about_reboots() {
    let device = Device::running_a();
    fs::write(&device.config.boot_id, "\n").unwrap();
    assert!(matches!(UbootBootControl::open(device.config), Err(BootError::System { .. })));
}

#[test]
fn the_device_tree_tells_the_loader_version_first() {
    let device = Device::running_a();
    fs::write(&device.config.loader_version, "2024.07-board\0").unwrap();
    assert_eq!(device.control().status().unwrap().loader_version.as_deref(), Some("2024.07-board"));
}

#[test]
fn an_old_boot_loader_is_told_and_refused_unless_it_is_allowed() {
    let mut device = Device::new("ota.slot=A", "ota_canary=1\nver=U-Boot 2019.04\nBOOT_ORDER=A B");
    let refused = device.control().ready().unwrap_err();
    let PortErrorKind::Unavailable { reason, what } = refused.kind() else { panic!("{refused:?}") };
    assert_eq!(*reason, "loader_too_old");
    assert!(what.contains("U-Boot 2019.04") && what.contains("allow_old_loader"), "{what}");
    device.config.allow_old_loader = true;
    device.control().ready().unwrap();
    assert!(device.control().status().unwrap().loader_too_old, "who accepts it still sees it");
    Device::running_a().control().ready().unwrap();
    assert!(!Device::running_a().control().status().unwrap().loader_too_old);
}

#[test]
fn one_copy_is_ready_only_where_it_is_allowed() {
    let mut device = Device::running_a();
    let mut environment = Environment::default();
    environment.set("ota_canary", "1");
    let copy = Format::Single.seal(0, &environment.serialise(0x1000 - 4).unwrap());
    fs::write(device.dir.path().join("env"), copy).unwrap();
    let env = device.dir.path().join("env");
    fs::write(&device.config.fw_env_config, format!("{} 0 1000\n", env.display())).unwrap();
    let refused = device.control().ready().unwrap_err();
    assert!(matches!(refused.kind(), PortErrorKind::Unavailable { reason: "env_not_redundant", .. }));
    device.config.allow_single_copy = true;
    device.control().ready().unwrap();
}
