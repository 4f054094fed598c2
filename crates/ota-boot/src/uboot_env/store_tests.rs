//! The copies on real files, and on a model that records and fails.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
};

use tempfile::TempDir;

use super::*;
use crate::device::OsDevices;

const SIZE: usize = 0x1000;

/// A folder with an environment file of two copies, the second at 0x2000.
struct World {
    dir: TempDir,
}

impl World {
    fn new(lines: &str) -> Self {
        let world = Self { dir: tempfile::tempdir().unwrap() };
        let lines = lines.replace("ENV", world.file("env").to_str().unwrap());
        std::fs::write(world.file("fw_env.config"), lines).unwrap();
        std::fs::write(world.file("env"), vec![0xff; 0x4000]).unwrap();
        world
    }

    fn redundant() -> Self {
        Self::new("ENV 0x0 0x1000\nENV 0x2000 0x1000\n")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn store(&self) -> EnvStore {
        self.store_on(Arc::new(OsDevices::default()))
    }

    fn store_on(&self, devices: Arc<dyn Devices>) -> EnvStore {
        let settings = EnvSettings {
            fw_env_config: self.file("fw_env.config"),
            lock: self.file("lock"),
            allow_single_copy: false,
        };
        EnvStore::new(settings, devices)
    }

    fn put(&self, offset: usize, copy: &[u8]) {
        let mut bytes = self.bytes();
        bytes[offset..offset + copy.len()].copy_from_slice(copy);
        std::fs::write(self.file("env"), bytes).unwrap();
    }

    fn bytes(&self) -> Vec<u8> {
        std::fs::read(self.file("env")).unwrap()
    }
}

fn copy(flag: u8, text: &str) -> Vec<u8> {
    let mut environment = Environment::default();
    for (name, value) in text.split(' ').filter_map(|v| v.split_once('=')) {
        environment.set(name, value);
    }
    Format::Redundant.seal(flag, &environment.serialise(SIZE - 5).unwrap())
}

fn set_x(store: &EnvStore, value: &str) -> Result<(), BootError> {
    store.update(|e| {
        e.set("x", value);
        Ok(())
    })
}

fn x(store: &EnvStore) -> String {
    store.read().unwrap().environment.text("x").unwrap().to_owned()
}

#[test]
fn a_write_goes_to_the_other_copy_and_leaves_the_current_one_alone() {
    let world = World::redundant();
    world.put(0, &copy(255, "x=old a=1"));
    let store = world.store();
    for (round, changed) in [(0, 0x2000), (1, 0), (2, 0x2000)] {
        let before = world.bytes();
        set_x(&store, &round.to_string()).unwrap();
        let after = world.bytes();
        assert_eq!(x(&store), round.to_string());
        assert_eq!(after[changed + 4], u8::try_from(round).unwrap(), "255 is followed by 0");
        let others = (0..0x4000).filter(|at| !(changed..changed + SIZE).contains(at));
        assert!(others.into_iter().all(|at| before[at] == after[at]), "round {round}");
    }
}

#[test]
fn two_bad_copies_are_refused_and_no_defaults_are_written() {
    let world = World::redundant();
    let before = world.bytes();
    assert!(matches!(world.store().read(), Err(BootError::EnvUnreadable { .. })));
    assert!(matches!(set_x(&world.store(), "1"), Err(BootError::EnvUnreadable { .. })));
    assert_eq!(world.bytes(), before);
}

#[test]
fn a_single_copy_can_be_read_and_is_written_only_when_allowed() {
    let world = World::new("ENV 0x0 0x1000\n");
    let mut environment = Environment::default();
    environment.set("x", "old");
    world.put(0, &Format::Single.seal(0, &environment.serialise(SIZE - 4).unwrap()));
    let mut store = world.store();
    let current = store.read().unwrap();
    assert_eq!((current.environment.text("x"), current.redundant), (Some("old"), false));
    let before = world.bytes();
    assert!(matches!(set_x(&store, "new"), Err(BootError::EnvNotRedundant { .. })));
    assert_eq!(world.bytes(), before);
    store.settings.allow_single_copy = true;
    set_x(&store, "new").unwrap();
    assert_eq!(x(&store), "new");
}

#[test]
fn a_refused_change_writes_nothing() {
    let world = World::redundant();
    world.put(0, &copy(1, "x=old"));
    let before = world.bytes();
    assert!(matches!(world.store().update(|_| Err(BootError::NoCanary)), Err(BootError::NoCanary)));
    let full = world.store().update(|e| {
        e.set("x", &"y".repeat(SIZE));
        Ok(())
    });
    assert!(matches!(full, Err(BootError::EnvFull { .. })));
    assert_eq!(world.bytes(), before);
}

#[test]
fn a_link_is_not_followed_and_a_place_behind_the_end_is_no_second_copy() {
    let world = World::redundant();
    world.put(0, &copy(1, "x=old"));
    std::fs::rename(world.file("env"), world.file("real")).unwrap();
    std::os::unix::fs::symlink(world.file("real"), world.file("env")).unwrap();
    assert!(matches!(world.store().read(), Err(BootError::EnvUnreadable { .. })));
    std::fs::rename(world.file("real"), world.file("env")).unwrap();
    let short = world.bytes()[..0x2800].to_vec();
    std::fs::write(world.file("env"), &short).unwrap();
    assert!(matches!(set_x(&world.store(), "new"), Err(BootError::EnvNotRedundant { .. })));
    assert_eq!(world.bytes(), short);
}

#[test]
fn a_place_counted_from_the_end_that_meets_the_other_is_no_pair() {
    let world = World::redundant();
    world.put(0, &copy(1, "x=old"));
    let config =
        format!("{} 0 1000\n{} -0x4000 1000\n", world.file("env").display(), world.file("env").display());
    std::fs::write(world.file("fw_env.config"), config).unwrap();
    assert!(matches!(world.store().read(), Err(BootError::EnvNotRedundant { .. })));
}

#[test]
fn a_missing_or_malformed_configuration_is_reported_at_every_use() {
    let world = World::redundant();
    world.put(0, &copy(1, "x=old"));
    std::fs::write(world.file("fw_env.config"), "nonsense").unwrap();
    assert!(matches!(world.store().read(), Err(BootError::Layout { .. })));
    std::fs::remove_file(world.file("fw_env.config")).unwrap();
    assert!(matches!(world.store().read(), Err(BootError::EnvUnreadable { .. })));
}

#[test]
fn the_tools_lock_is_waited_for() {
    let world = World::redundant();
    world.put(0, &copy(1, "x=old"));
    let held = open_lock(&world.file("lock")).unwrap();
    held.lock().unwrap();
    let store = world.store();
    let writer = std::thread::spawn(move || set_x(&store, "new").map(|()| x(&store)));
    assert!(!writer.is_finished());
    drop(held);
    assert_eq!(writer.join().unwrap().unwrap(), "new");
}

/// Files in memory that record what is done and fail at a chosen operation.
#[derive(Default)]
struct Recorder {
    files: Mutex<BTreeMap<PathBuf, Vec<u8>>>,
    log: Mutex<Vec<String>>,
    operations: AtomicUsize,
    fail_at: Option<usize>,
    /// Takes writes and does not keep them.
    lies: bool,
    /// The file whose medium gives an error.
    unread: Option<&'static str>,
}

impl Recorder {
    fn step(&self, what: String) -> io::Result<()> {
        self.log().push(what);
        match self.operations.fetch_add(1, Ordering::Relaxed) {
            n if Some(n) == self.fail_at => Err(io::ErrorKind::Other.into()),
            _ => Ok(()),
        }
    }

    fn log(&self) -> MutexGuard<'_, Vec<String>> {
        self.log.lock().unwrap()
    }
}

#[derive(Clone)]
struct Recorded(Arc<Recorder>);

struct Open(Recorded, PathBuf, u64);

impl Devices for Recorded {
    fn open(&self, path: &Path, _: Access) -> Result<Box<dyn BlockDev>, BootError> {
        let size = self.0.files.lock().unwrap()[path].len() as u64;
        Ok(Box::new(Open(self.clone(), path.into(), size)))
    }
}

impl BlockDev for Open {
    fn path(&self) -> &Path {
        &self.1
    }
    fn size(&self) -> u64 {
        self.2
    }
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        if self.0.0.unread.is_some_and(|name| Path::new(name) == self.1) {
            return Err(io::ErrorKind::Other.into());
        }
        let at = usize::try_from(offset).unwrap();
        buf.copy_from_slice(&self.0.0.files.lock().unwrap()[&self.1][at..at + buf.len()]);
        Ok(buf.len())
    }
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        self.0.0.step(format!("write {}", self.1.display()))?;
        let (at, half) = (usize::try_from(offset).unwrap(), buf.len().div_ceil(2));
        if !self.0.0.lies {
            self.0.0.files.lock().unwrap().get_mut(&self.1).unwrap()[at..at + half]
                .copy_from_slice(&buf[..half]);
        }
        Ok(half)
    }
    fn sync(&self) -> io::Result<()> {
        self.0.0.step(format!("sync {}", self.1.display()))
    }
    fn drop_cache(&self) -> io::Result<()> {
        self.0.0.log().push(format!("drop {}", self.1.display()));
        Ok(())
    }
}

fn recorded(fail_at: Option<usize>, lies: bool) -> (World, Recorded) {
    let world = World::new("one 0 1000\ntwo 0 1000\n");
    let files = [("one", copy(1, "x=old")), ("two", copy(0, "x=older"))];
    let files = Mutex::new(files.map(|(name, bytes)| (name.into(), bytes)).into());
    (world, Recorded(Arc::new(Recorder { files, fail_at, lies, ..Recorder::default() })))
}

#[test]
fn the_copy_that_counts_is_synced_before_the_other_is_written_and_both_are_read_again_from_the_medium() {
    let (world, devices) = recorded(None, false);
    set_x(&world.store_on(Arc::new(devices.clone())), "new").unwrap();
    let log = devices.0.log().clone();
    assert!(log.iter().all(|l| l != "write one"), "{log:?}");
    let mut changes: Vec<&str> = log.iter().map(String::as_str).filter(|l| !l.starts_with("drop")).collect();
    // The device takes half of what is left at a time.
    changes.dedup();
    assert_eq!(changes, ["sync one", "write two", "sync two"]);
    let sync = log.iter().position(|l| l == "sync two").unwrap();
    assert!(log[sync..].contains(&"drop one".into()) && log[sync..].contains(&"drop two".into()), "{log:?}");
}

#[test]
fn a_failure_at_any_write_or_sync_is_reported_and_leaves_the_current_copy_whole() {
    let (world, devices) = recorded(None, false);
    set_x(&world.store_on(Arc::new(devices.clone())), "new").unwrap();
    let operations = devices.0.operations.load(Ordering::Relaxed);
    assert!(operations > 3);
    for fail_at in 0..operations {
        let (world, devices) = recorded(Some(fail_at), false);
        let failed = set_x(&world.store_on(Arc::new(devices.clone())), "new");
        assert!(matches!(failed, Err(BootError::Io { .. })), "{fail_at}: {failed:?}");
        assert_eq!(devices.0.files.lock().unwrap()[Path::new("one")], copy(1, "x=old"), "{fail_at}");
    }
}

#[test]
fn a_medium_that_does_not_keep_the_write_is_found_out() {
    let (world, devices) = recorded(None, true);
    let failed = set_x(&world.store_on(Arc::new(devices)), "new");
    assert!(matches!(failed, Err(BootError::EnvNotTaken { .. })), "{failed:?}");
}

#[test]
fn nothing_is_written_while_a_copy_cannot_be_read_because_it_may_be_the_newer_one() {
    for (unread, shown) in [("one", "older"), ("two", "old")] {
        let (world, mut devices) = recorded(None, false);
        Arc::get_mut(&mut devices.0).unwrap().unread = Some(unread);
        let store = world.store_on(Arc::new(devices.clone()));
        let current = store.read().unwrap();
        assert_eq!((current.environment.text("x"), current.redundant), (Some(shown), false));
        let refused = set_x(&store, "new").unwrap_err();
        let BootError::EnvNotRedundant { what } = &refused else { panic!("{refused:?}") };
        assert!(what.contains("cannot be read"), "{what}");
        assert!(devices.0.log().iter().all(|line| line.starts_with("drop")), "{:?}", devices.0.log());
    }
}
