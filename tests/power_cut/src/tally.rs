//! What was tried and what came of it.

use std::collections::BTreeMap;

use crate::scenario::Kind;

/// Complaints that are kept in full.
const TOLD: usize = 8;
/// Characters of each.
const LENGTH: usize = 400;

/// Counts of one kind of scenario.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    /// Situations of the grid.
    pub(crate) situations: u32,
    /// Fewest and most durable operations in an undisturbed run.
    pub(crate) operations: Option<(usize, usize)>,
    /// Cuts × outcomes that were looked at.
    pub(crate) outcomes: u64,
    /// Different disks among them; each was turned on and ran until it rested.
    pub(crate) states: u64,
    /// Second and later cuts during recovery, each followed by another recovery.
    pub(crate) more_cuts: u64,
    /// Rows of cuts at boot.
    pub(crate) storms: u64,
    /// Kills of the daemon alone.
    pub(crate) kills: u64,
    /// Most boots until a system came up.
    pub(crate) most_boots: u32,
    /// How jobs ended.
    pub(crate) ends: BTreeMap<&'static str, u64>,
    /// How many runs broke a rule.
    pub(crate) bad: u64,
    /// The first of them.
    pub(crate) told: Vec<String>,
}

/// Counts by kind.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally(pub(crate) BTreeMap<Kind, Counts>);

impl Counts {
    /// A run with its complaints.
    pub(crate) fn judge(&mut self, what: &str, bad: &[String]) {
        if bad.is_empty() {
            return;
        }
        self.bad += 1;
        if self.told.len() < TOLD {
            let told: String = format!("{what}: {}", bad.join("; ")).chars().take(LENGTH).collect();
            self.told.push(told);
        }
    }

    fn add(&mut self, other: Self) {
        self.situations += other.situations;
        self.operations = match (self.operations, other.operations) {
            (Some((a, b)), Some((c, d))) => Some((a.min(c), b.max(d))),
            (mine, others) => mine.or(others),
        };
        self.outcomes += other.outcomes;
        self.states += other.states;
        self.more_cuts += other.more_cuts;
        self.storms += other.storms;
        self.kills += other.kills;
        self.most_boots = self.most_boots.max(other.most_boots);
        self.bad += other.bad;
        other.ends.into_iter().for_each(|(end, times)| *self.ends.entry(end).or_default() += times);
        let room = TOLD.saturating_sub(self.told.len());
        self.told.extend(other.told.into_iter().take(room));
    }
}

impl Tally {
    pub(crate) fn add(&mut self, kind: Kind, counts: Counts) {
        self.0.entry(kind).or_default().add(counts);
    }

    /// All kinds together.
    pub(crate) fn total(&self) -> Counts {
        let mut total = Counts::default();
        self.0.values().cloned().for_each(|counts| total.add(counts));
        total
    }
}
