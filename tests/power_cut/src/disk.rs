//! All that outlives a power cut, the durable operations that change it, and what a cut at one of them can leave.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{Arc, OnceLock},
};

use fastrand::Rng;
use ota_core::{Slot, job::JobStatus};
use ota_testkit::{MemJournal, bootloader::Variables};

use crate::{
    medium::{BLOCK, ENV_BLOCK, Fate, Medium},
    saved_env::Places,
    scenario::{Content, EnvStart, Images, Scenario},
    seed,
};

/// Bytes of one copy of the environment: four blocks.
pub(crate) const ENV_BYTES: usize = 4 * ENV_BLOCK;

/// A part of the disk that is written and synced by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    Slot(Slot),
    Env,
}

/// The records as one commit left them.
#[derive(Clone, Debug)]
pub(crate) struct Records {
    pub(crate) journal: Arc<MemJournal>,
    digest: Arc<OnceLock<u64>>,
}

impl Records {
    /// What `journal` holds now.
    pub(crate) fn of(journal: &MemJournal) -> Self {
        Self { journal: Arc::new(journal.copy()), digest: Arc::default() }
    }

    fn digest(&self) -> u64 {
        *self.digest.get_or_init(|| {
            let mut hasher = DefaultHasher::new();
            self.journal.shown().hash(&mut hasher);
            hasher.finish()
        })
    }
}

/// What people were answered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Answered {
    /// 2xx to the request that makes the job.
    pub(crate) created: bool,
    /// 2xx to the request to install it.
    pub(crate) installed: bool,
    /// 2xx to the request to cancel it.
    pub(crate) cancelled: bool,
    /// Somebody is about to say that the trial is good.
    pub(crate) confirming: bool,
    /// 2xx to the one who judged the trial.
    pub(crate) judged: bool,
    /// It was shown as ended.
    pub(crate) ended: Option<JobStatus>,
}

/// One entry of the log of a run.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Durable operation: bytes are given to the disk.
    Write { place: Place, offset: usize, bytes: Arc<[u8]> },
    /// Durable operation: what was given to the disk is made durable.
    Sync { place: Place },
    /// Durable operation: a transaction of the store.
    Commit(Records),
    /// The boot loader started the kernel of a slot.
    Kernel { slot: Slot, on_trial: bool },
    /// A daemon runs, on this slot in this boot.
    Daemon { slot: Slot, boot: u32 },
    /// An orderly restart: the kernel writes back what it holds.
    Restart,
    /// The medium lost a byte of the slot.
    Damage(Slot),
    /// Somebody was told something.
    Answer(Answered),
}

impl Step {
    /// Whether the power can be cut right behind it with another result than right before it.
    pub(crate) const fn is_durable(&self) -> bool {
        matches!(self, Self::Write { .. } | Self::Sync { .. } | Self::Commit(_))
    }
}

/// The disk, and what is known of the run so far.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    pub(crate) slots: [Medium; 2],
    pub(crate) env: Medium,
    pub(crate) places: Places,
    pub(crate) records: Records,
    pub(crate) answered: Answered,
    /// The slot whose kernel runs.
    pub(crate) running: Option<Slot>,
    /// The slot that a daemon runs on.
    pub(crate) daemon: Option<Slot>,
    /// The boot that it runs in.
    pub(crate) boot: u32,
    pub(crate) damaged: bool,
    /// Starts of the target's kernel while it was on trial.
    pub(crate) trial_boots: u32,
}

/// Position of a slot in arrays.
pub(crate) const fn index(slot: Slot) -> usize {
    match slot {
        Slot::A => 0,
        Slot::B => 1,
    }
}

impl Disk {
    /// A device that has run from `scenario.from` for a while.
    pub(crate) fn new(scenario: &Scenario, images: &Images, copies: usize) -> Self {
        let content = |slot| if slot == scenario.from { Content::Old } else { Content::Spare };
        let slot = |slot| Medium::new(images.slot(content(slot)), BLOCK);
        Self {
            slots: [slot(Slot::A), slot(Slot::B)],
            env: Medium::new(first_env(scenario, copies), ENV_BLOCK),
            places: Places { copies, size: ENV_BYTES },
            records: Records::of(&seed::journal(scenario, images)),
            answered: Answered::default(),
            running: None,
            daemon: None,
            boot: 0,
            damaged: false,
            trial_boots: 0,
        }
    }

    /// The medium behind a place.
    pub(crate) fn medium(&self, place: Place) -> &Medium {
        match place {
            Place::Slot(slot) => &self.slots[index(slot)],
            Place::Env => &self.env,
        }
    }

    pub(crate) fn medium_mut(&mut self, place: Place) -> &mut Medium {
        match place {
            Place::Slot(slot) => &mut self.slots[index(slot)],
            Place::Env => &mut self.env,
        }
    }

    /// Does what the log says was done.
    pub(crate) fn apply(&mut self, step: &Step) {
        match step {
            Step::Write { place, offset, bytes } => self.medium_mut(*place).write(*offset, bytes),
            Step::Sync { place } => self.medium_mut(*place).sync(),
            Step::Commit(records) => self.records = records.clone(),
            Step::Kernel { slot, on_trial } => {
                self.running = Some(*slot);
                self.daemon = None;
                self.trial_boots += u32::from(*on_trial);
            }
            Step::Daemon { slot, boot } => (self.daemon, self.boot) = (Some(*slot), *boot),
            Step::Restart => {
                for place in [Place::Slot(Slot::A), Place::Slot(Slot::B), Place::Env] {
                    self.medium_mut(place).sync();
                }
                self.running = None;
                self.daemon = None;
            }
            Step::Damage(slot) => {
                let mut bytes = self.slots[index(*slot)].seen().to_vec();
                Images::damage(&mut bytes);
                self.slots[index(*slot)] = Medium::new(bytes, BLOCK);
                self.damaged = true;
            }
            Step::Answer(answered) => self.answered = answered.clone(),
        }
    }

    /// The medium loses the block that the kernel of `slot` is loaded from.
    pub(crate) fn spoil_kernel(&mut self, slot: Slot) {
        let mut bytes = self.slots[index(slot)].seen().to_vec();
        bytes[..BLOCK].fill(0);
        self.slots[index(slot)] = Medium::new(bytes, BLOCK);
    }

    /// How many blocks a cut now decides about.
    pub(crate) fn pending(&self) -> usize {
        self.slots[0].pending() + self.slots[1].pending() + self.env.pending()
    }

    /// The disk after a cut that left this of each pending block.
    pub(crate) fn cut(&self, fates: &[Fate], random: &mut Rng) -> Self {
        let (a, rest) = fates.split_at(self.slots[0].pending());
        let (b, env) = rest.split_at(self.slots[1].pending());
        Self {
            slots: [self.slots[0].cut(a, random), self.slots[1].cut(b, random)],
            env: self.env.cut(env, random),
            places: self.places,
            records: self.records.clone(),
            answered: self.answered.clone(),
            running: None,
            daemon: None,
            boot: self.boot,
            damaged: self.damaged,
            trial_boots: self.trial_boots,
        }
    }

    /// The disk after the daemon alone was killed: the kernel still has what it was given.
    pub(crate) fn killed(&self) -> Self {
        Self { daemon: None, ..self.clone() }
    }

    /// A number that two disks share when nothing can tell them apart.
    pub(crate) fn key(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for medium in [&self.slots[0], &self.slots[1], &self.env] {
            hasher.write_u64(fingerprint(medium.durable()));
        }
        hasher.write_u64(self.records.digest());
        (self.running, self.damaged, &self.answered).hash(&mut hasher);
        hasher.finish()
    }
}

/// 64 bits of a content, eight bytes at a time: the standard hasher takes longer than the run that it saves. Its length is not in
/// them.
pub(crate) fn fingerprint(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let mut print = 0xcbf2_9ce4_8422_2325_u64;
    for word in words.iter().chain([&last]) {
        print = (print ^ u64::from_le_bytes(*word)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    }
    print
}

/// The environment as a boot loader and a gateway that were at work before leave it. The copy that does not count says the
/// opposite of the one that does, and variables of the board stand around ours, so that every write changes every block.
fn first_env(scenario: &Scenario, copies: usize) -> Vec<u8> {
    let places = Places { copies, size: ENV_BYTES };
    let current = variables(scenario.from);
    if copies == 1 {
        return places.seal(0, &current);
    }
    let stale = variables(!scenario.from);
    let (first, second) = match scenario.env {
        EnvStart::Second => (places.seal(1, &stale), places.seal(2, &current)),
        EnvStart::First => (places.seal(8, &current), places.seal(7, &stale)),
        EnvStart::Wrapped => (places.seal(255, &stale), places.seal(0, &current)),
        EnvStart::OnlyFirst => (places.seal(3, &current), vec![0xff; ENV_BYTES]),
    };
    [first, second].concat()
}

fn variables(first: Slot) -> Variables {
    let mut random = Rng::with_seed(11);
    let mut set: Variables = (0..12)
        .map(|n| {
            let value = (0..240).map(|_| random.lowercase()).collect();
            (format!("board_note_{n:02}"), value)
        })
        .collect();
    let ours = [
        ("BOOT_ORDER", format!("{first} {}", !first)),
        ("BOOT_A_LEFT", "3".into()),
        ("BOOT_B_LEFT", "3".into()),
    ];
    set.extend(ours.map(|(name, value)| (name.to_owned(), value)));
    set.insert("ota_canary".into(), "1".into());
    set.insert("ethaddr".into(), "02:00:00:12:34:56".into());
    set
}
