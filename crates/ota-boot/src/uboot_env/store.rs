//! Reading and writing the copies.
//!
//! Owns the order that keeps one good copy at every instant: under the tools' lock, read both, change the variables in
//! memory, sync what is there, write the copy that is **not** current, sync, read both again past the page cache, and let
//! the boot loader's rule take the new one. Never writes defaults. Source: `durable-steps.md` section 4.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use aligned_vec::{AVec, ConstAlign};
use nix::fcntl::OFlag;

use super::{Choice, Environment, Format, select};
use crate::{
    device::{ALIGNMENT, Access, BlockDev, Devices, os::WriteProtection, read_full, sync, write_all},
    error::BootError,
    layout::{EnvLayout, EnvPlace},
};

/// Where the tools keep their lock. Source: U-Boot `tools/env/fw_env_main.c`, libubootenv `src/uboot_env.c`.
pub const TOOLS_LOCK: &str = "/var/lock/fw_printenv.lock";

/// How often and how long to wait for the lock: the tools hold it for milliseconds. A write has to have it, a read is
/// better off with it.
const LOCK_TRIES_TO_WRITE: u32 = 100;
const LOCK_TRIES_TO_READ: u32 = 5;
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// Where the environment is, and what is allowed.
#[derive(Clone, Debug)]
pub struct EnvSettings {
    /// The `fw_env.config`; read anew for every operation, so that a repair needs no restart.
    pub fw_env_config: PathBuf,
    /// The lock that the tools share, [`TOOLS_LOCK`].
    pub lock: PathBuf,
    /// Whether an environment with one copy may be written. A power cut during such a write loses it.
    pub allow_single_copy: bool,
}

/// The environment of the device.
#[derive(Clone)]
pub struct EnvStore {
    settings: EnvSettings,
    devices: Arc<dyn Devices>,
}

/// The environment as the boot loader would take it now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Current {
    /// The variables.
    pub environment: Environment,
    /// Whether two places are configured and both can be read.
    pub redundant: bool,
}

impl EnvStore {
    /// Opens nothing yet.
    #[must_use]
    pub fn new(settings: EnvSettings, devices: Arc<dyn Devices>) -> Self {
        Self { settings, devices }
    }

    /// Reads the current variables.
    ///
    /// # Errors
    /// `Layout`, `EnvNotRedundant` for two places that are one, `EnvUnreadable` when no copy is good.
    pub fn read(&self) -> Result<Current, BootError> {
        // A read works without the lock: a copy that is being written fails its CRC, and then the other one counts.
        let _lock = self
            .lock(LOCK_TRIES_TO_READ)
            .inspect_err(|e| tracing::warn!(error = %e, "reading without the lock"))
            .ok();
        let places = self.open(Access::Read)?;
        let state = places.read()?;
        let redundant = places.is_redundant() && state.unread.is_none();
        Ok(Current { environment: state.environment, redundant })
    }

    /// Changes variables: one write, durable and read back on return.
    ///
    /// `change` sees the variables as they are right before the write and may refuse.
    ///
    /// # Errors
    /// As [`read`](Self::read); `EnvNotRedundant` also when one of the copies cannot be read; `Lock`; what `change` returns; `EnvFull`; `Io` and `EnvNotTaken`, after which the
    /// boot loader finds either the old or the new variables.
    pub fn update(
        &self,
        change: impl FnOnce(&mut Environment) -> Result<(), BootError>,
    ) -> Result<(), BootError> {
        let _lock = self.lock(LOCK_TRIES_TO_WRITE)?;
        let places = self.open(Access::Shared)?;
        if places.format == Format::Single && !self.settings.allow_single_copy {
            return Err(BootError::EnvNotRedundant { what: "one copy is configured, two are needed".into() });
        }
        let State { current, flag, mut environment, unread } = places.read()?;
        // It may be the copy that counts: what the other one says is then old, and the write would go over the new.
        if let Some(what) = unread {
            return Err(BootError::EnvNotRedundant { what });
        }
        change(&mut environment)?;
        let target = if places.format == Format::Redundant { current.other() } else { Choice::First };
        let copy = places.seal(&environment, flag.wrapping_add(1))?;
        // Whoever wrote the copy that counts may have been killed before it was synced: then a cut during this write
        // could take both.
        places.settle(current)?;
        places.write(target, &copy)?;
        places.check(target, &copy)
    }

    fn open(&self, access: Access) -> Result<Places, BootError> {
        let path = &self.settings.fw_env_config;
        let text = std::fs::read_to_string(path)
            .map_err(|e| BootError::EnvUnreadable { what: format!("{}: {e}", path.display()) })?;
        let layout =
            EnvLayout::parse(&text).map_err(|source| BootError::Layout { path: path.clone(), source })?;
        Places::open(&layout, &*self.devices, access)
    }

    /// Takes the tools' lock; released when the file is dropped.
    fn lock(&self, tries: u32) -> Result<File, BootError> {
        let path = &self.settings.lock;
        let failed = |source| BootError::Lock { path: path.clone(), source };
        let file = open_lock(path).map_err(failed)?;
        for _ in 0..tries {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
                Err(TryLockError::Error(e)) => return Err(failed(e)),
            }
        }
        Err(failed(io::ErrorKind::WouldBlock.into()))
    }
}

/// The lock's folder is open to all and sticky: there the kernel may refuse `O_CREAT` on a file that exists.
fn open_lock(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits());
    match options.open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => options.create(true).mode(0o644).open(path),
        result => result,
    }
}

/// What was read: the copy that counts, its flag and its variables.
struct State {
    current: Choice,
    flag: u8,
    environment: Environment,
    /// The copy whose medium gives an error, which is another thing than a wrong checksum: it may be the newer one.
    unread: Option<String>,
}

/// The copies; a place that cannot be opened keeps why, and the other one may still be read.
struct Places {
    format: Format,
    size: usize,
    copies: Vec<Result<Place, BootError>>,
}

struct Place {
    dev: Box<dyn BlockDev>,
    start: u64,
}

type Block = AVec<u8, ConstAlign<ALIGNMENT>>;

impl Places {
    fn open(layout: &EnvLayout, devices: &dyn Devices, access: Access) -> Result<Self, BootError> {
        refuse_hidden_overlap(layout, devices)?;
        let copies = layout.places().iter().map(|p| Place::open(p, devices, access)).collect::<Vec<_>>();
        let format = if layout.is_redundant() { Format::Redundant } else { Format::Single };
        if let [Ok(first), Ok(second)] = copies.as_slice()
            && devices.resolve(first.dev.path()) == devices.resolve(second.dev.path())
            && first.start.abs_diff(second.start) < layout.size() as u64
        {
            return Err(BootError::EnvNotRedundant { what: "the two copies overlap".into() });
        }
        Ok(Self { format, size: layout.size(), copies })
    }

    fn is_redundant(&self) -> bool {
        matches!(self.copies.as_slice(), [Ok(_), Ok(_)])
    }

    fn read(&self) -> Result<State, BootError> {
        let read = |place: &Result<Place, BootError>| match place {
            Ok(place) => place.read(self.size).map_err(|e| cause(&e)),
            Err(e) => Err(cause(e)),
        };
        let copies: Vec<Result<Block, String>> = self.copies.iter().map(read).collect();
        let unsealed = |index: usize| {
            copies.get(index).and_then(|c| c.as_ref().ok()).and_then(|bytes| self.format.unseal(bytes))
        };
        let flags = [unsealed(0).map(|(flag, _)| flag), unsealed(1).map(|(flag, _)| flag)];
        let current = select(flags[0], flags[1]);
        let Some((current, (flag, data))) = current.and_then(|c| Some((c, unsealed(c.index())?))) else {
            return Err(BootError::EnvUnreadable { what: describe(&copies) });
        };
        let environment = Environment::parse(data)
            .map_err(|e| BootError::EnvUnreadable { what: format!("copy {}: {e}", current.index() + 1) })?;
        let unread = copies.iter().enumerate().find_map(|(index, copy)| {
            Some(format!("copy {} cannot be read: {}", index + 1, copy.as_ref().err()?))
        });
        Ok(State { current, flag, environment, unread })
    }

    fn seal(&self, environment: &Environment, flag: u8) -> Result<Block, BootError> {
        let data = environment.serialise(self.size - self.format.header())?;
        Ok(AVec::from_slice(ALIGNMENT, &self.format.seal(flag, &data)))
    }

    fn place(&self, choice: Choice) -> Result<&Place, BootError> {
        let number = choice.index() + 1;
        self.copies[choice.index()]
            .as_ref()
            .map_err(|e| BootError::EnvNotRedundant { what: format!("copy {number}: {}", cause(e)) })
    }

    fn settle(&self, current: Choice) -> Result<(), BootError> {
        sync(&*self.place(current)?.dev)
    }

    fn write(&self, target: Choice, copy: &[u8]) -> Result<(), BootError> {
        let place = self.place(target)?;
        if place.start + copy.len() as u64 > place.dev.size() {
            return Err(BootError::EnvNotRedundant {
                what: format!("{} ends before copy {}", place.dev.path().display(), target.index() + 1),
            });
        }
        let _writable = WriteProtection::lift(place.dev.path());
        write_all(&*place.dev, copy, place.start)?;
        sync(&*place.dev)
    }

    /// Reads both copies back and lets the boot loader's rule choose.
    fn check(&self, target: Choice, copy: &[u8]) -> Result<(), BootError> {
        let not_taken = |what: String| BootError::EnvNotTaken { what };
        let written = self.place(target)?.read(self.size)?;
        if written.as_slice() != copy {
            return Err(not_taken(format!("copy {} differs from what was written", target.index() + 1)));
        }
        let state = self.read()?;
        if state.current == target {
            return Ok(());
        }
        let other = format!("the boot loader would take copy {}", state.current.index() + 1);
        Err(not_taken(match state.unread {
            Some(why) => format!("{other}: {why}"),
            None => other,
        }))
    }
}

impl Place {
    fn open(place: &EnvPlace, devices: &dyn Devices, access: Access) -> Result<Self, BootError> {
        let dev = devices.open(&place.device, access)?;
        let start = place.start(dev.size()).ok_or_else(|| BootError::EnvUnreadable {
            what: format!("{} is shorter than the offset {}", place.device.display(), place.offset),
        })?;
        Ok(Self { dev, start })
    }

    fn read(&self, size: usize) -> Result<Block, BootError> {
        self.dev.drop_cache().map_err(|e| BootError::io("read", self.dev.path(), self.start, e))?;
        let mut copy: Block = AVec::from_iter(ALIGNMENT, std::iter::repeat_n(0, size));
        read_full(&*self.dev, &mut copy, self.start)?;
        Ok(copy)
    }
}

/// Two names of one device would make a pair of copies that is one copy.
fn refuse_hidden_overlap(layout: &EnvLayout, devices: &dyn Devices) -> Result<(), BootError> {
    let [first, second] = layout.places() else { return Ok(()) };
    let same = devices.resolve(&first.device).is_some_and(|d| Some(d) == devices.resolve(&second.device));
    if same && first.meets(second) {
        let what = format!("{} and {} are one place", first.device.display(), second.device.display());
        return Err(BootError::EnvNotRedundant { what });
    }
    Ok(())
}

/// What is wrong with each copy, when neither counts.
fn describe(copies: &[Result<Block, String>]) -> String {
    let each = copies.iter().enumerate().map(|(index, copy)| {
        format!("copy {}: {}", index + 1, copy.as_ref().err().map_or("wrong checksum", String::as_str))
    });
    each.collect::<Vec<_>>().join(", ")
}

/// An error with its causes in one line.
fn cause(error: &BootError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
