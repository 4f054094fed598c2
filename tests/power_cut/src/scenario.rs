//! What is played: the images, and the grid of situations that a power cut is tried in.

use std::sync::Arc;

use fastrand::Rng;
use ota_core::{ByteCount, Sha256Digest, Slot, release::Release};
use ota_testkit::samples;

use crate::medium::BLOCK;

/// Bytes of a slot.
pub(crate) const SLOT_BYTES: usize = 8 * BLOCK;
/// Bytes of an image: six blocks and a part, so that six blocks wait for the first sync.
const IMAGE_BYTES: usize = 6 * BLOCK + 1000;
/// The byte that goes bad in a slot that is half damaged: past the first block, which the kernel is loaded from.
const DAMAGED_BYTE: usize = 3 * BLOCK + 77;

/// What the operator asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Download, install, trial, confirm.
    Update,
    /// Back to the version in the other slot.
    Rollback,
    /// Install without a reboot, then cancel.
    Cancel,
    /// An update without a rollback by itself: somebody looks at a trial that fails its checks, confirms one that is only
    /// unhealthy and rejects one that is damaged.
    Confirm,
}

impl Kind {
    pub(crate) const ALL: [Self; 4] = [Self::Update, Self::Rollback, Self::Cancel, Self::Confirm];
}

/// What comes of booting the image that is switched to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Behaviour {
    /// Comes up healthy.
    Good,
    /// Hangs until the watchdog bites.
    Hangs,
    /// Comes up and fails its health check.
    Unhealthy,
    /// Comes up from a slot whose medium has lost a byte since it was compared.
    Damaged,
}

/// How the two copies of the environment stand at the start: which one counts, and how their flags are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum EnvStart {
    /// The second copy counts.
    Second,
    /// The first copy counts.
    First,
    /// The second copy counts, with 0 after 255.
    Wrapped,
    /// The first copy counts, the second is rubbish.
    OnlyFirst,
}

/// One situation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Scenario {
    pub(crate) kind: Kind,
    /// The slot that runs at the start.
    pub(crate) from: Slot,
    pub(crate) image: Behaviour,
    pub(crate) env: EnvStart,
    /// Boots that a trial has.
    pub(crate) tries: u8,
}

impl Scenario {
    /// The slot that is switched to.
    pub(crate) fn target(&self) -> Slot {
        !self.from
    }

    /// Whether another situation differs from this one in the environment and its tries only.
    pub(crate) fn has_twin(&self) -> bool {
        matches!(self.env, EnvStart::OnlyFirst | EnvStart::First)
    }

    /// The version that is switched to.
    pub(crate) fn subject(&self) -> Content {
        match self.kind {
            Kind::Update | Kind::Cancel | Kind::Confirm => Content::New,
            Kind::Rollback => Content::Spare,
        }
    }

    /// Situations with each of `kinds`, from each slot, with each image; the states of the environment take turns.
    pub(crate) fn grid(kinds: &[Kind]) -> Vec<Self> {
        use Behaviour::{Damaged, Good, Hangs, Unhealthy};
        use EnvStart::{First, OnlyFirst, Second, Wrapped};
        let mut all = Vec::new();
        for &kind in kinds {
            for from in Slot::ALL {
                for (number, image) in [Good, Hangs, Unhealthy, Damaged].into_iter().enumerate() {
                    let turns = [[(Second, 3), (OnlyFirst, 1)], [(Wrapped, 3), (First, 2)]];
                    for (env, tries) in turns[(number + usize::from(from == Slot::B)) % 2] {
                        all.push(Self { kind, from, image, env, tries });
                    }
                }
            }
        }
        all
    }
}

/// What a slot can hold that is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Content {
    /// v5.0.3, in the other slot at the start.
    Spare,
    /// v5.0.4, which runs at the start.
    Old,
    /// v5.0.5, on the update server.
    New,
}

impl Content {
    const ALL: [Self; 3] = [Self::Spare, Self::Old, Self::New];

    const fn index(self) -> usize {
        match self {
            Self::Spare => 0,
            Self::Old => 1,
            Self::New => 2,
        }
    }

    /// Its version.
    pub(crate) const fn version(self) -> &'static str {
        match self {
            Self::Spare => "v5.0.3",
            Self::Old => "v5.0.4",
            Self::New => "v5.0.5",
        }
    }
}

/// The images, the same in every situation.
#[derive(Clone, Debug)]
pub(crate) struct Images {
    bytes: [Arc<[u8]>; 3],
    releases: [Release; 3],
}

/// A slot that can be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Whole {
    pub(crate) content: Content,
    /// Whether it is whole but for the byte that the medium lost.
    pub(crate) damaged: bool,
}

impl Images {
    pub(crate) fn make() -> Self {
        let image = |seed| {
            let mut random = Rng::with_seed(seed);
            (0..IMAGE_BYTES).map(|_| random.u8(..)).collect()
        };
        let bytes: [Arc<[u8]>; 3] = [image(3), image(4), image(5)];
        let releases =
            Content::ALL.map(|content| samples::release(content.version(), &bytes[content.index()]));
        Self { bytes, releases }
    }

    /// The bytes of an image.
    pub(crate) fn of(&self, content: Content) -> &Arc<[u8]> {
        &self.bytes[content.index()]
    }

    /// A slot with an image at its front.
    pub(crate) fn slot(&self, content: Content) -> Vec<u8> {
        let mut slot = self.of(content).to_vec();
        slot.resize(SLOT_BYTES, 0xff);
        slot
    }

    /// The release that brings an image.
    pub(crate) fn release(&self, content: Content) -> &Release {
        &self.releases[content.index()]
    }

    /// Digest and length of an image.
    pub(crate) fn expected(&self, content: Content) -> (Sha256Digest, ByteCount) {
        let release = self.release(content);
        (release.sha256, release.size)
    }

    /// What a slot holds, if it is whole; `None`: a half-written slot, which must never be started.
    pub(crate) fn whole(&self, slot: &[u8]) -> Option<Whole> {
        Content::ALL.into_iter().find_map(|content| {
            let image = self.of(content);
            let (front, rest) = (&slot[..DAMAGED_BYTE], &slot[DAMAGED_BYTE + 1..image.len()]);
            let same = front == &image[..DAMAGED_BYTE] && rest == &image[DAMAGED_BYTE + 1..];
            let damaged = slot[DAMAGED_BYTE] != image[DAMAGED_BYTE];
            (same && (!damaged || slot[DAMAGED_BYTE] == !image[DAMAGED_BYTE]))
                .then_some(Whole { content, damaged })
        })
    }

    /// The medium loses a byte of a slot.
    pub(crate) fn damage(slot: &mut [u8]) {
        slot[DAMAGED_BYTE] = !slot[DAMAGED_BYTE];
    }
}
