//! Snapshots on real folders: what comes back, what is left out, what is refused.

mod age;
mod hostile;
mod mutations;

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use ota_core::{
    ByteCount, OtaError, SnapshotId, Timestamp,
    error::{PortError, PortErrorKind},
    ports::{Snapshot, SnapshotCause, SnapshotOrder, Snapshots as _},
};
use proptest::prelude::*;
use tempfile::TempDir;

use super::{Recipients, Roots, SnapshotConfig, SnapshotFolder, roots::TEMP};

/// A device with settings in one folder and something beside it.
pub(super) struct Device {
    dir: TempDir,
    pub(super) config: SnapshotConfig,
}

impl Device {
    pub(super) fn new() -> Self {
        // In memory where there is such a place: thousands of synced files otherwise wear the disk for nothing.
        let memory = Path::new("/dev/shm");
        let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        let settings = dir.path().join("inside/settings");
        for path in [&settings, &dir.path().join("outside")] {
            fs::create_dir_all(path).unwrap();
        }
        fs::write(dir.path().join("outside/canary"), "untouched").unwrap();
        fs::write(dir.path().join("inside/settings-beside"), "untouched").unwrap();
        let config = SnapshotConfig {
            roots: Roots::new(vec![settings]).unwrap(),
            dir: dir.path().join("snapshots"),
            outliving: Some(dir.path().join("keep")),
            recipients: Recipients::default(),
            identity: None,
            keep: 3,
            max: ByteCount(1 << 20),
        };
        Self { dir, config }
    }

    pub(super) fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(super) fn settings(&self) -> PathBuf {
        self.at("inside/settings")
    }

    pub(super) fn write(&self, name: &str, content: &[u8]) {
        let path = self.settings().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub(super) fn folder(&self) -> SnapshotFolder {
        SnapshotFolder::new(self.config.clone())
    }

    pub(super) fn create(&self) -> Result<Snapshot, PortError> {
        self.folder().create(&order(1_000))
    }

    /// Everything below, with rights and content.
    pub(super) fn picture(&self, name: &str) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
        picture(&self.at(name))
    }

    /// All that no restore may touch.
    pub(super) fn beside(&self) -> Vec<BTreeMap<PathBuf, (u32, Vec<u8>)>> {
        let mut inside = self.picture("inside");
        let settings = self.settings();
        inside.retain(|path, _| !path.starts_with(&settings));
        vec![inside, self.picture("outside")]
    }
}

pub(super) fn picture(dir: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut open = vec![dir.to_path_buf()];
    while let Some(path) = open.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let content = if meta.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            Vec::new()
        } else if meta.is_symlink() {
            fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes()
        } else {
            fs::read(&path).unwrap()
        };
        found.insert(path, (meta.permissions().mode(), content));
    }
    found
}

pub(super) fn order(at: i64) -> SnapshotOrder {
    SnapshotOrder {
        cause: SnapshotCause::Manual,
        by: "ada".into(),
        description: Some("before the move".into()),
        at: Timestamp::from_millis(at),
    }
}

pub(super) fn ota(error: &PortError) -> OtaError {
    match error.kind() {
        PortErrorKind::Ota(error) => error.clone(),
        other => panic!("{other}: {}", error.chain()),
    }
}

fn id(number: u64) -> SnapshotId {
    SnapshotId::from_number(number)
}

#[test]
fn what_was_changed_or_removed_comes_back_and_what_is_new_stays() {
    let device = Device::new();
    device.write("network/eth0", b"static");
    device.write("plant.toml", b"speed = 3");
    fs::set_permissions(device.settings().join("plant.toml"), PermissionsExt::from_mode(0o640)).unwrap();
    fs::set_permissions(device.settings().join("network"), PermissionsExt::from_mode(0o2750)).unwrap();
    let (before, beside) = (device.picture("inside/settings"), device.beside());
    let made = device.create().unwrap();
    assert_eq!((made.files, made.content), (Some(2), Some(ByteCount(15))));
    fs::remove_dir_all(device.settings().join("network")).unwrap();
    fs::write(device.settings().join("plant.toml"), "speed = 900").unwrap();
    let restored = device.folder().restore(&made.id, None).unwrap();
    assert_eq!((restored.files, restored.content), (2, ByteCount(15)));
    assert_eq!(device.picture("inside/settings"), before);
    device.write("new", b"after");
    device.folder().restore(&made.id, None).unwrap();
    assert_eq!(fs::read(device.settings().join("new")).unwrap(), b"after");
    assert_eq!(device.beside(), beside);
}

#[test]
fn settings_come_back_also_when_their_whole_folder_is_gone() {
    let device = Device::new();
    device.write("a/b/c", b"deep");
    let before = device.picture("inside/settings");
    let made = device.create().unwrap();
    fs::remove_dir_all(device.at("inside")).unwrap();
    device.folder().restore(&made.id, None).unwrap();
    assert_eq!(device.picture("inside/settings"), before);
}

#[test]
fn links_pipes_and_names_that_are_no_text_are_left_out_and_named() {
    use std::os::unix::ffi::OsStrExt as _;
    let device = Device::new();
    device.write("kept", b"x");
    symlink(device.at("outside/canary"), device.settings().join("link")).unwrap();
    nix::unistd::mkfifo(&device.settings().join("pipe"), nix::sys::stat::Mode::S_IRUSR).unwrap();
    fs::write(device.settings().join(std::ffi::OsStr::from_bytes(b"\xff")), "x").unwrap();
    let made = device.create().unwrap();
    let why: Vec<&str> = made.skipped.iter().filter_map(|name| name.rsplit('/').next()).collect();
    assert_eq!(why, ["link is a symbolic link", "pipe is a pipe", "\u{fffd} has a name that is no text"]);
    assert_eq!(made.files, Some(1));
}

#[test]
fn the_newest_are_kept_and_count_on_when_the_clock_goes_back() {
    let device = Device::new();
    device.write("a", b"x");
    let folder = device.folder();
    for at in [5_000, 6_000, 1_000, 1_000, -3] {
        folder.create(&order(at)).unwrap();
    }
    let ids: Vec<SnapshotId> = folder.list().unwrap().into_iter().map(|snapshot| snapshot.id).collect();
    assert_eq!(ids, [id(6_003), id(6_002), id(6_001)]);
    assert_eq!(fs::read_dir(device.at("snapshots")).unwrap().count(), 6);
}

#[test]
fn what_a_cut_left_is_taken_away_by_the_next_one() {
    let device = Device::new();
    device.write("a", b"x");
    device.create().unwrap();
    for stray in [".SNAP-77.tar.zst.part", "SNAP-77.json", ".SNAP-78.json.new"] {
        fs::write(device.at("snapshots").join(stray), "half").unwrap();
    }
    assert_eq!(device.folder().list().unwrap().len(), 1);
    device.create().unwrap();
    let names: Vec<String> =
        picture(&device.at("snapshots")).into_keys().map(|p| p.display().to_string()).collect();
    assert!(names.iter().all(|name| !name.contains("SNAP-77") && !name.contains(".part")), "{names:?}");
}

#[test]
fn nothing_to_save_and_too_much_to_save_are_told_apart() {
    let mut device = Device::new();
    let error = device.create().unwrap_err();
    assert!(matches!(error.kind(), PortErrorKind::Unavailable { reason: "snapshots_not_configured", .. }));
    device.write("large", &vec![7; 5_000]);
    device.config.max = ByteCount(4_999);
    let error = ota(&device.create().unwrap_err());
    let expected = (ByteCount(5_000), ByteCount(4_999));
    assert!(
        matches!(error, OtaError::InsufficientSpace { required, available, .. } if (required, available) == expected)
    );
    assert!(device.folder().list().unwrap().is_empty());
}

/// A file system of that many KiB in memory, mounted while it is held.
struct Mounted(PathBuf);

impl Mounted {
    #[expect(clippy::disallowed_methods, reason = "mount, of the package `mount`")]
    fn tmpfs(at: &Path, kib: u32) -> Self {
        fs::create_dir_all(at).unwrap();
        let size = format!("size={kib}k,mode=0700");
        let status =
            std::process::Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(at).status();
        assert!(status.unwrap().success(), "mounting needs root");
        Self(at.into())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Gone from here at once, also while a program that another test is starting still has a copy of what was open.
        let _ = nix::mount::umount2(&self.0, nix::mount::MntFlags::MNT_DETACH);
    }
}

#[test]
fn a_full_medium_leaves_no_part_of_a_snapshot() {
    let device = Device::new();
    // What does not shrink.
    let noise: Vec<u8> = (0..400_000_u64)
        .flat_map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes())
        .take(400_000)
        .collect();
    device.write("noise", &noise);
    let medium = Mounted::tmpfs(&device.at("snapshots"), 128);
    let error = ota(&device.create().unwrap_err());
    assert!(matches!(error, OtaError::InsufficientSpace { .. }), "{error}");
    assert_eq!(fs::read_dir(device.at("snapshots")).unwrap().count(), 0);
    drop(medium);
    device.create().unwrap();
}

#[test]
fn no_flipped_byte_and_no_cut_puts_back_anything_but_what_was_saved() {
    let device = Device::new();
    for n in 0..20 {
        device.write(&format!("file-{n}"), format!("content of number {n}").as_bytes());
    }
    let saved = device.picture("inside");
    let made = device.create().unwrap();
    let file = device.at("snapshots").join(format!("{}.tar.zst", made.id));
    let whole = fs::read(&file).unwrap();
    device.write("file-0", b"changed since");
    let changed = device.picture("inside");
    let mut harmless = 0;
    let mut check = |damaged: &[u8]| {
        fs::write(&file, damaged).unwrap();
        if device.folder().restore(&made.id, None).is_err() {
            assert_eq!(device.picture("inside"), changed);
        } else {
            // Bits of the compression that mean nothing.
            assert_eq!(device.picture("inside"), saved);
            device.write("file-0", b"changed since");
            harmless += 1;
        }
    };
    for offset in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[offset] ^= 0x10;
        check(&flipped);
    }
    for length in [0, 1, whole.len() / 2, whole.len() - 1] {
        check(&whole[..length]);
    }
    check(&whole);
    assert!(harmless >= 1 && harmless <= whole.len() / 100, "{harmless} of {}", whole.len());
}

#[test]
fn a_restore_that_was_cut_off_can_be_asked_for_again() {
    let device = Device::new();
    device.write("a", b"one");
    device.write("b", b"two");
    let before = device.picture("inside/settings");
    let made = device.create().unwrap();
    // As a cut leaves it: one file is old already, of the next one a part lies there.
    device.write("b", b"other");
    device.write(TEMP, b"t");
    device.folder().restore(&made.id, None).unwrap();
    assert_eq!(device.picture("inside/settings"), before);
}

#[test]
fn a_link_in_the_way_is_not_followed() {
    let device = Device::new();
    device.write("sub/canary", b"mine");
    device.write("top", b"mine");
    let made = device.create().unwrap();
    fs::remove_dir_all(device.settings().join("sub")).unwrap();
    symlink(device.at("outside"), device.settings().join("sub")).unwrap();
    assert!(device.folder().restore(&made.id, None).is_err());
    assert_eq!(fs::read(device.at("outside/canary")).unwrap(), b"untouched");
    fs::remove_file(device.settings().join("sub")).unwrap();
    // A link in the place of a file is replaced itself.
    fs::remove_file(device.settings().join("top")).unwrap();
    symlink(device.at("outside/canary"), device.settings().join("top")).unwrap();
    device.folder().restore(&made.id, None).unwrap();
    assert_eq!(fs::read(device.settings().join("top")).unwrap(), b"mine");
    assert!(!fs::symlink_metadata(device.settings().join("top")).unwrap().is_symlink());
    assert_eq!(fs::read(device.at("outside/canary")).unwrap(), b"untouched");
}

#[test]
fn a_backup_for_a_reset_lies_where_the_reset_does_not_reach() {
    let device = Device::new();
    device.write("a", b"x");
    let made =
        device.folder().create(&SnapshotOrder { cause: SnapshotCause::FactoryReset, ..order(9) }).unwrap();
    assert!(made.outlives_reset);
    assert!(device.at("keep").join(format!("{}.tar.zst", made.id)).is_file());
    assert!(!device.at("snapshots").exists());
    assert_eq!(device.folder().list().unwrap(), std::slice::from_ref(&made));
    fs::write(device.settings().join("a"), "y").unwrap();
    device.folder().restore(&made.id, None).unwrap();
    assert_eq!(fs::read(device.settings().join("a")).unwrap(), b"x");
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[a-zA-Z0-9._-]{1,12}",
        1 => "[a-z äß€\\\\:*?'\"]{1,20}",
        1 => "[x]{90,120}",
    ]
    .prop_filter("a plain name", |name| name != "." && name != ".." && name != TEMP)
}

fn tree() -> impl Strategy<Value = BTreeMap<Vec<String>, (Vec<u8>, u32)>> {
    let path = prop::collection::vec(name(), 1..5);
    let content = prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..2_000),
        1 => prop::collection::vec(any::<u8>(), 512..513),
    ];
    prop::collection::btree_map(path, (content, 0_u32..0o1000), 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn random_trees_come_back_byte_for_byte(tree in tree()) {
        let device = Device::new();
        for (path, (content, mode)) in &tree {
            let file = path.iter().fold(device.settings(), |at, name| at.join(name));
            // A name that is a folder already, or lies in a file, is left out.
            if file.is_dir() || fs::create_dir_all(file.parent().unwrap()).is_err() {
                continue;
            }
            fs::write(&file, content).unwrap();
            fs::set_permissions(&file, PermissionsExt::from_mode(*mode)).unwrap();
        }
        let (before, beside) = (device.picture("inside/settings"), device.beside());
        let made = device.create().unwrap();
        fs::remove_dir_all(device.settings()).unwrap();
        device.folder().restore(&made.id, None).unwrap();
        prop_assert_eq!(device.picture("inside/settings"), before);
        prop_assert_eq!(device.beside(), beside);
    }
}
