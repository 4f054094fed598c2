//! Resets on real folders and on a real block device, cut off after every durable step.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use ota_core::{
    Timestamp,
    error::PortErrorKind,
    ports::{Carried, FactoryReset as _, ResetOrder},
};
use tempfile::TempDir;

use super::{Applied, FactoryResetConfig, ResetFolder, Step, apply::wait_for, erase};
use crate::UserDataError;

const NOW: Timestamp = Timestamp::from_secs(1_763_000_000);

fn order() -> ResetOrder {
    ResetOrder {
        by: "ada".into(),
        role: None,
        address: Some("192.0.2.7".into()),
        request_id: Some("req_1".into()),
        at: NOW,
        boot_id: "boot-1".into(),
        backup: None,
        audit_end: Some((7, "ab".into())),
        carried: Carried::default(),
    }
}

struct Device {
    dir: TempDir,
    config: FactoryResetConfig,
}

impl Device {
    /// One whose data has no partition of its own.
    fn with_paths() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        for name in ["state/staging", "state/deep/er", "plant"] {
            fs::create_dir_all(data.join(name)).unwrap();
        }
        for name in ["state/state.db", "state/deep/er/x", "state/staging/image", "plant/y"] {
            fs::write(data.join(name), "secret").unwrap();
        }
        fs::write(dir.path().join("beside"), "kept").unwrap();
        symlink(dir.path().join("beside"), data.join("state/link")).unwrap();
        let config = FactoryResetConfig {
            enabled: true,
            dir: Some(dir.path().join("keep")),
            partition: None,
            label: None,
            paths: vec![data.join("state"), data.join("plant"), dir.path().join("never-there")],
            state: data.join("state"),
        };
        Self { dir, config }
    }

    fn folder(&self) -> ResetFolder {
        ResetFolder::new(self.config.clone())
    }

    fn left(&self) -> usize {
        let count = |path: &PathBuf| fs::read_dir(path).map_or(0, Iterator::count);
        self.config.paths.iter().map(count).sum()
    }
}

/// Stops after `steps` durable steps, as a power cut does.
fn cut_after(folder: &ResetFolder, steps: usize) -> Result<Applied, UserDataError> {
    let mut left = steps;
    folder.apply(NOW, &mut |_| {
        left = left.saturating_sub(1);
        if left == 0 { Err(UserDataError::Stopped) } else { Ok(()) }
    })
}

fn finish(folder: &ResetFolder) -> Applied {
    folder.apply(NOW, &mut |_| Ok(())).unwrap()
}

#[test]
fn without_an_order_nothing_is_erased() {
    let device = Device::with_paths();
    assert_eq!(finish(&device.folder()), Applied::Nothing);
    assert_eq!(device.left(), 5);
}

#[test]
fn a_reset_that_is_cut_off_after_any_step_is_finished_by_the_next_boot() {
    let steps = {
        let device = Device::with_paths();
        device.folder().schedule(&order()).unwrap();
        let mut steps = 0;
        device
            .folder()
            .apply(NOW, &mut |_| {
                steps += 1;
                Ok(())
            })
            .unwrap();
        steps
    };
    assert_eq!(steps, 7, "begun, five names, done");
    for cut in 1..=steps {
        let device = Device::with_paths();
        device.folder().schedule(&order()).unwrap();
        assert!(matches!(cut_after(&device.folder(), cut), Err(UserDataError::Stopped)), "cut {cut}");
        let pending = device.folder().pending().unwrap();
        assert_eq!(pending.is_some(), cut < steps, "cut {cut}");
        // The power goes again at the first step of the second try.
        let _ = cut_after(&device.folder(), 1);
        let applied = finish(&device.folder());
        assert_eq!(applied, if cut < steps { Applied::Erased } else { Applied::Before }, "cut {cut}");
        assert_eq!(device.left(), 0, "cut {cut}");
        assert_eq!(fs::read_to_string(device.dir.path().join("beside")).unwrap(), "kept");
        let marker = device.folder().marker().unwrap().unwrap();
        assert_eq!((marker.order, marker.step), (order(), Step::Done { at: NOW }));
        assert!(device.folder().forget().unwrap());
        assert_eq!(finish(&device.folder()), Applied::Nothing);
    }
}

#[test]
fn an_order_can_be_taken_back_only_before_it_has_begun() {
    let device = Device::with_paths();
    device.folder().schedule(&order()).unwrap();
    assert_eq!(device.folder().pending().unwrap(), Some(order()));
    assert!(device.folder().cancel().unwrap());
    assert_eq!(finish(&device.folder()), Applied::Nothing);
    device.folder().schedule(&order()).unwrap();
    cut_after(&device.folder(), 1).unwrap_err();
    assert!(device.folder().cancel().is_err());
    assert_eq!(finish(&device.folder()), Applied::Erased);
}

#[test]
fn a_device_that_is_not_set_up_for_it_takes_no_order() {
    let reason = |config: FactoryResetConfig| {
        let error = ResetFolder::new(config).allowed().unwrap_err();
        match error.kind() {
            PortErrorKind::Unavailable { reason, .. } => (*reason).to_owned(),
            PortErrorKind::Ota(error) => error.code().to_string(),
            other @ PortErrorKind::Io(_) => panic!("{other}"),
        }
    };
    let good = Device::with_paths();
    good.folder().allowed().unwrap();
    let config = good.config.clone();
    assert_eq!(reason(FactoryResetConfig { enabled: false, ..config.clone() }), "OTA_011");
    assert_eq!(reason(FactoryResetConfig { dir: None, ..config.clone() }), "reset_not_set_up");
    let elsewhere = good.dir.path().join("elsewhere");
    assert_eq!(reason(FactoryResetConfig { state: elsewhere, ..config }), "reset_not_set_up");
}

#[test]
fn an_order_that_does_not_read_stops_the_reset_and_is_not_deleted() {
    let device = Device::with_paths();
    device.folder().schedule(&order()).unwrap();
    let path = device.dir.path().join("keep/factory-reset.json");
    let text = fs::read_to_string(&path).unwrap();
    for bad in ["", "{", &text.replace("\"schema\": 1", "\"schema\": 9")] {
        fs::write(&path, bad).unwrap();
        assert!(matches!(cut_after(&device.folder(), 9), Err(UserDataError::Marker { .. })), "{bad}");
    }
    assert_eq!(device.left(), 5);
}

#[test]
fn a_configured_path_that_is_a_link_is_not_mistaken_for_its_content() {
    let mut device = Device::with_paths();
    let link = device.dir.path().join("link");
    symlink(device.dir.path().join("data/plant"), &link).unwrap();
    device.config.paths.push(link);
    device.folder().schedule(&order()).unwrap();
    assert!(matches!(cut_after(&device.folder(), 99), Err(UserDataError::NotSetUp(_))));
    assert!(device.folder().pending().unwrap().is_some());
}

#[test]
fn a_partition_whose_link_comes_late_is_waited_for_and_one_that_never_comes_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let link = dir.path().join("data");
    let mut pauses = 0;
    wait_for(&link, &mut || {
        pauses += 1;
        if pauses == 3 {
            symlink("/dev/null", &link).unwrap();
        }
    })
    .unwrap();
    assert_eq!(pauses, 3);
    fs::remove_file(&link).unwrap();
    let error = wait_for(&link, &mut || {}).unwrap_err().to_string();
    assert!(error.contains("did not come within 30 s"), "{error}");
}

/// Runs a tool of the packages `mount` and `e2fsprogs`; its answer.
#[expect(clippy::disallowed_methods, reason = "losetup, mount, fsck")]
fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?} (this test needs root): {said}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Not lazily: what follows needs the device. A program that another test is starting has a copy of what was open for a moment.
fn unmount(at: &Path) {
    for _ in 0..1000 {
        match nix::mount::umount(at) {
            // tidy: waits for another process
            Err(nix::errno::Errno::EBUSY) => std::thread::sleep(std::time::Duration::from_millis(20)),
            outcome => return outcome.unwrap(),
        }
    }
    panic!("{} stays busy", at.display());
}

/// A partition: a loop device on a file.
struct Partition(PathBuf);

impl Partition {
    fn new(file: &Path) -> Self {
        fs::File::create(file).unwrap().set_len(16 << 20).unwrap();
        let device = run("losetup", &["--find", "--show", file.to_str().unwrap()]);
        run("mkfs.ext4", &["-q", "-F", "-L", "plant-data", &device]);
        Self(device.into())
    }

    fn mounted<R>(&self, at: &Path, work: impl FnOnce() -> R) -> R {
        fs::create_dir_all(at).unwrap();
        run("mount", &[self.0.to_str().unwrap(), at.to_str().unwrap()]);
        let outcome = work();
        unmount(at);
        outcome
    }
}

impl Drop for Partition {
    fn drop(&mut self) {
        run("losetup", &["--detach", self.0.to_str().unwrap()]);
    }
}

#[test]
fn a_partition_is_fresh_under_its_old_name_whatever_was_cut_off_and_torn() {
    let mut device = Device::with_paths();
    let partition = Partition::new(&device.dir.path().join("data.img"));
    let path = partition.0.clone();
    let name = erase::name_of(&path).unwrap();
    assert_eq!(name.label.as_deref(), Some("plant-data"));
    device.config.partition = Some(path.clone());
    device.config.paths.clear();
    let mount = device.dir.path().join("mnt");
    device.config.state = mount.join("state");
    let fill = || {
        partition.mounted(&mount, || {
            fs::create_dir_all(mount.join("state")).unwrap();
            fs::write(mount.join("state/state.db"), "secret").unwrap();
            device.folder().schedule(&order()).unwrap();
            // Mounted, it is not touched.
            assert!(device.folder().apply(NOW, &mut |_| Ok(())).is_err());
        });
    };
    for cut in 0..=3 {
        fill();
        if cut > 0 {
            cut_after(&device.folder(), cut).unwrap_err();
        }
        if cut == 1 {
            // As a cut in the middle of mkfs leaves it: no super block any more.
            fs::write(&path, vec![0; 64 << 10]).unwrap();
            assert_eq!(erase::name_of(&path).unwrap(), super::Filesystem::default());
        }
        finish(&device.folder());
        run("fsck.ext4", &["-f", "-n", path.to_str().unwrap()]);
        assert_eq!(erase::name_of(&path).unwrap(), name, "cut {cut}");
        partition.mounted(&mount, || {
            let names: Vec<_> =
                fs::read_dir(&mount).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            assert_eq!(names, ["lost+found"], "cut {cut}");
        });
        device.folder().forget().unwrap();
    }
    // On the partition itself no order survives: it is refused before anything is written.
    partition.mounted(&mount, || {
        fs::create_dir_all(mount.join("state")).unwrap();
        device.config.dir = Some(mount.join("keep"));
        let error = device.folder().schedule(&order()).unwrap_err();
        assert!(matches!(error.kind(), PortErrorKind::Unavailable { reason: "reset_not_set_up", .. }));
        // And not for a state that lies elsewhere.
        device.config.dir = Some(device.dir.path().join("keep"));
        device.config.state = device.dir.path().into();
        assert!(device.folder().allowed().is_err());
    });
}

#[test]
fn what_is_not_mounted_is_not_taken_for_erased_not_even_after_a_cut() {
    let mut device = Device::with_paths();
    let partition = Partition::new(&device.dir.path().join("data.img"));
    let mount = device.dir.path().join("mnt");
    let state = mount.join("deep/state");
    // A path that is a mount itself, one that is below it, and one that was not there.
    device.config.paths = vec![mount.clone(), state.clone(), device.dir.path().join("never-there")];
    device.config.state.clone_from(&state);
    let refused = || {
        let error = device.folder().apply(NOW, &mut |_| Ok(())).unwrap_err().to_string();
        assert!(error.contains("is not what it was") && error.contains("mounted?"), "{error}");
    };
    partition.mounted(&mount, || {
        fs::create_dir_all(&state).unwrap();
        fs::write(state.join("state.db"), "secret").unwrap();
        device.folder().schedule(&order()).unwrap();
    });
    refused();
    partition.mounted(&mount, || cut_after(&device.folder(), 1).unwrap_err());
    refused();
    partition.mounted(&mount, || {
        assert!(state.join("state.db").exists());
        assert_eq!(finish(&device.folder()), Applied::Erased);
        assert_eq!(fs::read_dir(&mount).unwrap().count(), 0);
    });
}

#[test]
fn an_order_of_a_version_that_did_not_note_the_mounts_is_carried_out() {
    let device = Device::with_paths();
    device.folder().schedule(&order()).unwrap();
    let path = device.dir.path().join("keep/factory-reset.json");
    let mut text: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert!(text.as_object_mut().unwrap().remove("mounts").is_some());
    fs::write(&path, text.to_string()).unwrap();
    assert_eq!(finish(&device.folder()), Applied::Erased);
}
