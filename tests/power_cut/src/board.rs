//! The board: power, boot loader, watchdog. Turns a disk on and lets it run until it rests.

use std::sync::Arc;

use fastrand::Rng;
use ota_core::Slot;
use ota_testkit::bootloader::{self, Boot, Variables};

use crate::{
    disk::{Disk, Place, Step},
    fault::Fault,
    medium,
    rig::{End, Operator, Rig},
    scenario::Behaviour,
    world::{Judged, Play, World},
    wrong::Wrong,
};

/// Boots without a rest after which a device is lost.
const LOST: u32 = 24;

/// What came of turning a disk on.
pub(crate) struct Run {
    /// What the disk was at the start.
    pub(crate) start: Disk,
    /// Everything that was done.
    pub(crate) log: Vec<Step>,
    /// The disk at the end.
    pub(crate) disk: Disk,
    /// Boots until a whole, healthy system first came up; all of them where none did.
    pub(crate) boots_until_up: u32,
    /// What was planned to fail, and how often it did.
    pub(crate) fault: Option<Fault>,
    /// Writes that were judged one by one.
    pub(crate) judged: Judged,
    /// Rules that were broken.
    pub(crate) bad: Vec<String>,
}

/// How a disk is turned on.
#[derive(Clone, Debug, Default)]
pub(crate) struct How {
    /// Whether the operator plays the scenario in the first session.
    pub(crate) operator: bool,
    /// The daemon alone was killed: the first session goes on in this boot.
    pub(crate) daemon_only: bool,
    /// What fails.
    pub(crate) fault: Option<Fault>,
    /// First boot id.
    pub(crate) boot: u32,
}

/// Turns `disk` on and lets it run until it rests, is lost or stuck.
pub(crate) fn run(rig: &Rig, play: &Play, disk: Disk, how: &How) -> anyhow::Result<Run> {
    let start = disk.clone();
    let world = World::new(play.clone(), disk, how.fault.clone());
    let mut board = Board { rig, world, boot: how.boot, boots: 0, up: None };
    let mut operator = if how.operator { Operator::Asks } else { Operator::Away };
    let mut here = if how.daemon_only { start.running } else { None };
    loop {
        let slot = match here.take() {
            Some(slot) => slot,
            None => match board.power_on() {
                Some(slot) => slot,
                None if board.boots >= LOST => {
                    board.world.complain(format!("R1: no system comes up in {LOST} boots"));
                    break;
                }
                None if board.world.complaints().is_empty() => continue,
                None => break,
            },
        };
        let end = board.rig.session(&board.world, slot, board.boot, operator)?;
        operator = Operator::Away;
        match end {
            End::Restart if board.boots < LOST => board.world.note(Step::Restart),
            // What has failed once or for ever is judged by what comes after.
            End::Restart | End::Stuck if board.world.is_faulty() => break,
            End::Restart => {
                board.world.complain("R5: the gateway restarts again and again".into());
                break;
            }
            End::Rest => break,
            End::Stuck => {
                board.world.complain("the daemon is stuck".into());
                break;
            }
        }
    }
    Ok(Run {
        start,
        log: board.world.log(),
        disk: board.world.look(Clone::clone),
        boots_until_up: board.up.unwrap_or(board.boots),
        fault: board.world.fault(),
        judged: board.world.judged(),
        bad: board.world.complaints(),
    })
}

struct Board<'a> {
    rig: &'a Rig,
    world: Arc<World>,
    boot: u32,
    boots: u32,
    up: Option<u32>,
}

impl Board<'_> {
    /// One power-on or reset, up to a running system; `None`: it hangs until the watchdog resets the board.
    fn power_on(&mut self) -> Option<Slot> {
        self.boots += 1;
        self.boot += 1;
        let slot = boot_loader(&self.world)?;
        let (_, behaviour) = self.world.behaviour(slot)?;
        if behaviour == Behaviour::Hangs {
            return None;
        }
        if self.world.look(|disk| self.world.play.is_sound(disk, slot)) {
            self.up.get_or_insert(self.boots);
        }
        Some(slot)
    }
}

/// The boot script: chooses, saves, starts a kernel. `None`: nothing was started.
fn boot_loader(world: &World) -> Option<Slot> {
    let (places, loaded) = world.look(|disk| (disk.places, disk.places.load(disk.env.seen())));
    let boot = decide(&loaded.variables, world.play.wrong);
    if let Some(variables) = &boot.save {
        let (offset, bytes) = places.save(&loaded, variables);
        world.note(Step::Write { place: Place::Env, offset, bytes: bytes.into() });
        world.note(Step::Sync { place: Place::Env });
    }
    let slot = boot.slot;
    let scenario = world.play.scenario;
    let on_trial = loaded.variables.get("ota_trial").is_some_and(|trial| trial == slot.as_str());
    if on_trial
        && scenario.image == Behaviour::Damaged
        && slot == scenario.target()
        && !world.look(|d| d.damaged)
    {
        world.note(Step::Damage(slot));
    }
    world.note(Step::Kernel { slot, on_trial });
    if world.behaviour(slot).is_none() {
        world.complain(format!("R1: slot {slot} is started and is not whole"));
        return None;
    }
    Some(slot)
}

/// The rules of `dist/u-boot/ota-boot.cmd`; or, as the mistake on trial, those of a script that counts every boot and
/// resets all counters when they are used up, whatever is marked.
fn decide(variables: &Variables, wrong: Option<Wrong>) -> Boot {
    if wrong != Some(Wrong::ResetIgnoresMark) {
        return bootloader::boot(variables);
    }
    let left = |slot: Slot| format!("BOOT_{slot}_LEFT");
    let tries = |set: &Variables, slot| set.get(&left(slot)).and_then(|n| n.parse::<u8>().ok()).unwrap_or(3);
    let mut set = variables.clone();
    if Slot::ALL.iter().all(|slot| tries(&set, *slot) == 0) {
        for slot in Slot::ALL {
            set.insert(left(slot), "3".into());
        }
        set.insert("BOOT_ORDER".into(), "A B".into());
        set.remove("ota_bad");
    }
    let order = set.get("BOOT_ORDER").cloned().unwrap_or_else(|| "A B".into());
    let named = |word: &str| Slot::ALL.into_iter().find(|slot| slot.as_str() == word);
    let slot = order.split(' ').filter_map(named).find(|slot| tries(&set, *slot) > 0);
    let slot = slot.or_else(|| Slot::ALL.into_iter().find(|slot| tries(&set, *slot) > 0)).unwrap_or(Slot::A);
    let fewer = tries(&set, slot).saturating_sub(1).to_string();
    set.insert(left(slot), fewer);
    Boot { slot, otherwise: None, unsaved: slot, save: Some(set) }
}

/// The power is cut `times` times while the boot loader is at work or right after it, each time with another outcome of
/// what it was saving.
pub(crate) fn storm(play: &Play, disk: Disk, times: usize, random: &mut Rng) -> (Disk, Vec<String>) {
    let mut disk = disk;
    for _ in 0..times {
        let world = World::new(play.clone(), disk.clone(), None);
        boot_loader(&world);
        let bad = world.complaints();
        if !bad.is_empty() {
            return (disk, bad);
        }
        let log = world.log();
        let mut now = disk;
        for step in &log[..random.usize(..=log.len())] {
            now.apply(step);
        }
        let fates = medium::choices(now.pending(), 8, random);
        disk = now.cut(&fates[random.usize(..fates.len())], random);
    }
    (disk, Vec::new())
}

/// The run that nobody disturbs.
pub(crate) fn undisturbed(rig: &Rig, play: &Play) -> anyhow::Result<Run> {
    let copies = if play.wrong == Some(Wrong::OneCopy) { 1 } else { 2 };
    let disk = Disk::new(&play.scenario, &play.images, copies);
    run(rig, play, disk, &How { operator: true, ..How::default() })
}
