//! The device while the power is on: takes every operation of the code under test, writes it down, and judges it at once.
//!
//! Owns the rules that can be seen in a single operation: R3 (who may be written, and when), R4 (how the environment is
//! written), R5 (who may be confirmed). What only shows after a cut is judged in [`crate::verdict`].

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use ota_boot::{
    BootError,
    device::{Access, BlockDev, Devices},
};
use ota_core::{
    Slot,
    error::{PortError, PortErrorKind},
};
use ota_testkit::bootloader::{self, Boot, Variables};

use crate::{
    disk::{Answered, Disk, Place, Records, Step, index},
    fault::{Fault, FaultKind, Operation},
    saved_env::Loaded,
    scenario::{Behaviour, Content, Images, Scenario},
    wrong::Wrong,
};

/// What is played, and what is wrong on purpose.
#[derive(Clone)]
pub(crate) struct Play {
    pub(crate) scenario: Scenario,
    pub(crate) images: Arc<Images>,
    pub(crate) wrong: Option<Wrong>,
}

/// A device that is on.
pub(crate) struct World {
    pub(crate) play: Play,
    state: Mutex<State>,
    asked: AtomicU64,
}

/// How many writes were held against the rules.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Judged {
    pub(crate) slot_writes: u64,
    pub(crate) env_writes: u64,
}

struct State {
    disk: Disk,
    log: Vec<Step>,
    bad: Vec<String>,
    judged: Judged,
    /// The environment as a cut that loses all leaves it; none: it has changed since it was last read.
    env: Option<(Loaded, Boot)>,
    /// Whether the health checks have passed on the running system.
    healthy: bool,
    /// Commits that were answered before they were made, the last one with all of them; only where that is the mistake on trial.
    late: Option<Records>,
    fault: Option<Fault>,
}

impl World {
    pub(crate) fn new(play: Play, disk: Disk, fault: Option<Fault>) -> Arc<Self> {
        let state = State {
            disk,
            log: Vec::new(),
            bad: Vec::new(),
            judged: Judged::default(),
            env: None,
            healthy: false,
            late: None,
            fault,
        };
        Arc::new(Self { play, state: Mutex::new(state), asked: AtomicU64::new(0) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another number after anything was asked of the device.
    pub(crate) fn activity(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    /// Looks at the disk as it is now.
    pub(crate) fn look<R>(&self, look: impl FnOnce(&Disk) -> R) -> R {
        look(&self.state().disk)
    }

    /// Writes down what happened.
    pub(crate) fn note(&self, step: Step) {
        self.state().take(step);
    }

    /// Writes down what somebody was told.
    pub(crate) fn answer(&self, tell: impl FnOnce(&mut Answered)) {
        let mut state = self.state();
        let mut answered = state.disk.answered.clone();
        tell(&mut answered);
        state.take(Step::Answer(answered));
    }

    /// A rule was broken.
    pub(crate) fn complain(&self, what: String) {
        self.state().bad.push(what);
    }

    /// All complaints so far.
    pub(crate) fn complaints(&self) -> Vec<String> {
        self.state().bad.clone()
    }

    /// How many writes were judged.
    pub(crate) fn judged(&self) -> Judged {
        self.state().judged
    }

    /// Everything that was done.
    pub(crate) fn log(&self) -> Vec<Step> {
        self.state().log.clone()
    }

    /// How often an operation failed as planned.
    pub(crate) fn faults_hit(&self) -> u64 {
        self.state().fault.as_ref().map_or(0, Fault::hits)
    }

    /// What is planned to fail.
    pub(crate) fn fault(&self) -> Option<Fault> {
        self.state().fault.clone()
    }

    /// Whether anything is planned to fail.
    pub(crate) fn is_faulty(&self) -> bool {
        self.state().fault.is_some()
    }

    /// What a slot holds and how that behaves; `None`: not whole.
    pub(crate) fn behaviour(&self, slot: Slot) -> Option<(Content, Behaviour)> {
        self.look(|disk| self.play.behaviour(disk, slot))
    }

    /// The health checks were run: whether they pass.
    pub(crate) fn health(&self) -> Result<(), String> {
        let running = self.look(|disk| disk.running);
        match running.and_then(|slot| self.behaviour(slot)) {
            Some((_, Behaviour::Unhealthy)) => Err("the system is not well".into()),
            Some(_) => {
                self.state().healthy = true;
                Ok(())
            }
            None => Err("the system is not whole".into()),
        }
    }

    /// A daemon starts: what an earlier one saw counts no more.
    pub(crate) fn daemon_starts(&self, slot: Slot, boot: u32) {
        let mut state = self.state();
        state.healthy = false;
        state.take(Step::Daemon { slot, boot });
    }

    /// A daemon ends in order, and closes its records.
    pub(crate) fn daemon_ends(&self) {
        self.state().settle_late();
    }

    /// One transaction.
    pub(crate) fn commit(&self, records: Records) {
        let mut state = self.state();
        if self.play.wrong == Some(Wrong::AnswerBeforeRecord) {
            state.late = Some(records);
        } else {
            state.take(Step::Commit(records));
        }
    }

    /// Asked before each transaction: whether the medium takes it.
    pub(crate) fn may_commit(&self) -> Result<(), PortError> {
        match self.state().hit(Operation::Durable, false) {
            Some(FaultKind::ReadOnly) => {
                let what = "the file system of the state is read-only".into();
                Err(PortErrorKind::Unavailable { reason: "store_read_only", what }.into())
            }
            Some(kind @ (FaultKind::Io | FaultKind::Full)) => {
                Err(PortErrorKind::Io(format!("the state store cannot be written: {}", kind.error())).into())
            }
            Some(FaultKind::Short) | None => Ok(()),
        }
    }

    /// Asked before each read of the records.
    pub(crate) fn may_read(&self) -> Result<(), PortError> {
        match self.state().hit(Operation::Read, false) {
            Some(kind) => {
                Err(PortErrorKind::Io(format!("the state store cannot be read: {}", kind.error())).into())
            }
            None => Ok(()),
        }
    }

    fn write(&self, place: Place, offset: usize, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.state();
        state.settle_late();
        let len = match state.hit(Operation::Durable, true) {
            None => bytes.len(),
            Some(FaultKind::Short) => bytes.len().div_ceil(2),
            Some(kind) => return Err(kind.error()),
        };
        let bytes = &bytes[..len];
        // A write that was cut short is gone on with: its parts are no whole copies.
        let short = state.fault.as_ref().is_some_and(|fault| fault.kind == FaultKind::Short);
        if !(short && place == Place::Env) {
            let broken = match place {
                Place::Slot(slot) => state.judge_slot_write(slot),
                Place::Env => self.play.judge_env_write(&mut state, offset, bytes),
            };
            state.bad.extend(broken);
        }
        state.take(Step::Write { place, offset, bytes: bytes.into() });
        if place == Place::Env && self.play.wrong == Some(Wrong::BothCopies) {
            let other = state.disk.places.start(usize::from(offset == 0));
            state.take(Step::Write { place, offset: other, bytes: bytes.into() });
        }
        Ok(len)
    }

    fn sync(&self, place: Place) -> io::Result<()> {
        let mut state = self.state();
        state.settle_late();
        match state.hit(Operation::Durable, false) {
            None | Some(FaultKind::Short) => {}
            Some(kind) => {
                state.disk.medium_mut(place).fail_sync();
                return Err(kind.error());
            }
        }
        let skipped = match place {
            Place::Slot(_) => Wrong::NoSlotSync,
            Place::Env => Wrong::NoEnvSync,
        };
        if self.play.wrong != Some(skipped) {
            state.take(Step::Sync { place });
        }
        Ok(())
    }
}

impl State {
    fn take(&mut self, step: Step) {
        if matches!(step, Step::Sync { place: Place::Env } | Step::Restart) {
            self.env = None;
        }
        self.disk.apply(&step);
        self.log.push(step);
    }

    fn hit(&mut self, operation: Operation, takes_bytes: bool) -> Option<FaultKind> {
        self.fault.as_mut().and_then(|fault| fault.hit(operation, takes_bytes))
    }

    /// What was answered too early is made durable before a slot or the environment is written, and at the end of the daemon.
    fn settle_late(&mut self) {
        if let Some(records) = self.late.take() {
            self.take(Step::Commit(records));
        }
    }

    /// The environment as a cut that loses all leaves it, and what the boot loader makes of it.
    fn env(&mut self) -> &(Loaded, Boot) {
        let disk = &self.disk;
        self.env.get_or_insert_with(|| {
            let loaded = disk.places.load(disk.env.durable());
            let boot = bootloader::boot(&loaded.variables);
            (loaded, boot)
        })
    }

    fn judge_slot_write(&mut self, slot: Slot) -> Vec<String> {
        self.judged.slot_writes += 1;
        let mut bad = Vec::new();
        if self.disk.running == Some(slot) {
            bad.push(format!("R3: the running slot {slot} is written"));
        }
        let (_, boot) = self.env();
        if boot.slot == slot || boot.otherwise == Some(slot) {
            bad.push(format!("R3: slot {slot} is written while the boot loader may start it"));
        }
        bad
    }
}

impl Play {
    /// What a slot holds and how that behaves when it is started.
    pub(crate) fn behaviour(&self, disk: &Disk, slot: Slot) -> Option<(Content, Behaviour)> {
        let whole = self.images.whole(disk.slots[index(slot)].seen())?;
        let behaviour = match self.scenario.image {
            _ if whole.damaged => Behaviour::Damaged,
            image if whole.content == self.scenario.subject() => image,
            _ => Behaviour::Good,
        };
        // What was not damaged yet comes up like a good one.
        let undamaged = behaviour == Behaviour::Damaged && !whole.damaged;
        Some((whole.content, if undamaged { Behaviour::Good } else { behaviour }))
    }

    /// Whether what a slot holds is whole and good, or was confirmed by hand.
    pub(crate) fn is_sound(&self, disk: &Disk, slot: Slot) -> bool {
        match self.behaviour(disk, slot) {
            Some((_, Behaviour::Good)) => true,
            Some((_, Behaviour::Unhealthy)) => disk.answered.confirming,
            _ => false,
        }
    }

    fn judge_env_write(&self, state: &mut State, offset: usize, bytes: &[u8]) -> Vec<String> {
        state.judged.env_writes += 1;
        let mut bad = Vec::new();
        let places = state.disk.places;
        if state.disk.env.pending() > 0 {
            bad.push("R4: the environment is written again before it was synced".into());
        }
        let current = state.env().0.copy;
        // With one copy, which is a mistake of the suite, only a cut can show what is wrong.
        let other =
            current.map(|copy| if places.copies == 2 { places.start(1 - copy) } else { places.start(copy) });
        if other != Some(offset) || bytes.len() != places.size {
            bad.push(format!(
                "R4: not one whole copy, the one that does not count, is written: {} at {offset}",
                bytes.len()
            ));
        }
        let target = self.scenario.target();
        let confirms = places.read(bytes).is_some_and(|variables| confirms(&variables, target));
        if confirms && state.disk.running == Some(target) {
            let behaviour = self.behaviour(&state.disk, target).map(|(_, behaviour)| behaviour);
            let sound = behaviour == Some(Behaviour::Good);
            let by_hand = behaviour == Some(Behaviour::Unhealthy) && state.disk.answered.confirming;
            if !(sound && state.healthy || by_hand) {
                bad.push(format!(
                    "R5: slot {target} is confirmed: whole and good {sound}, checked {}",
                    state.healthy
                ));
            }
        }
        bad
    }
}

/// Whether `slot` is first and not on trial.
fn confirms(variables: &Variables, slot: Slot) -> bool {
    let first = variables.get("BOOT_ORDER").and_then(|order| order.split(' ').next());
    first == Some(slot.as_str()) && !variables.contains_key("ota_trial")
}

/// The disk as `ota-boot` sees it.
pub(crate) struct Disks(pub(crate) Arc<World>);

/// Path of a place.
pub(crate) const fn path(place: Place) -> &'static str {
    match place {
        Place::Slot(Slot::A) => "/model/slot-a",
        Place::Slot(Slot::B) => "/model/slot-b",
        Place::Env => "/model/env",
    }
}

impl Devices for Disks {
    fn open(&self, path: &Path, access: Access) -> Result<Box<dyn BlockDev>, BootError> {
        let all = [Place::Slot(Slot::A), Place::Slot(Slot::B), Place::Env];
        let place = all.into_iter().find(|place| self::path(*place) == path.to_string_lossy());
        let place = place.ok_or_else(|| BootError::WrongKind { path: path.into() })?;
        let size = self.0.look(|disk| disk.medium(place).seen().len() as u64);
        Ok(Box::new(Part {
            world: Arc::clone(&self.0),
            place,
            path: path.into(),
            size,
            writable: access != Access::Read,
        }))
    }
}

struct Part {
    world: Arc<World>,
    place: Place,
    path: PathBuf,
    size: u64,
    writable: bool,
}

impl BlockDev for Part {
    fn path(&self) -> &Path {
        &self.path
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let at = usize::try_from(offset).map_err(io::Error::other)?;
        let mut state = self.world.state();
        if let Some(kind) = state.hit(Operation::Read, false) {
            return Err(kind.error());
        }
        let bytes = state.disk.medium(self.place).seen().get(at..).unwrap_or_default();
        let len = bytes.len().min(buf.len());
        buf[..len].copy_from_slice(&bytes[..len]);
        Ok(len)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        if !self.writable {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        self.world.write(self.place, usize::try_from(offset).map_err(io::Error::other)?, buf)
    }

    fn sync(&self) -> io::Result<()> {
        self.world.sync(self.place)
    }

    fn drop_cache(&self) -> io::Result<()> {
        let mut state = self.world.state();
        // Without a failure all that is shown is there, or waits for its sync.
        if state.fault.is_some() {
            state.disk.medium_mut(self.place).drop_cache();
        }
        Ok(())
    }
}
