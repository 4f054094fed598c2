//! What was tried and what came of it.

use std::collections::{BTreeMap, BTreeSet};

use crate::scenario::{Behaviour, Kind, Scenario};

/// Complaints that are kept in full.
const TOLD: usize = 8;
/// Characters of each.
const LENGTH: usize = 400;

/// Counts of one kind of scenario.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    /// Situations of the grid.
    pub(crate) situations: u32,
    /// Cuts × outcomes that were looked at.
    pub(crate) outcomes: u64,
    /// Different disks among them; each was turned on and ran until it rested.
    pub(crate) states: u64,
    /// Second and later cuts during recovery, each followed by another recovery.
    pub(crate) more_cuts: u64,
    /// The second ones among them.
    pub(crate) second_cuts: u64,
    /// Rows of cuts at boot.
    pub(crate) storms: u64,
    /// Kills of the daemon alone.
    pub(crate) kills: u64,
    /// Trials of a good slot with the old one spoiled.
    pub(crate) spoiled: u64,
    /// Most boots until a system came up.
    pub(crate) most_boots: u32,
    /// How jobs ended.
    pub(crate) ends: BTreeMap<&'static str, u64>,
    /// How often what was left or what came of it was judged: R1, R2, R5.
    pub(crate) judged: u64,
    /// Writes of slots that were judged: R3.
    pub(crate) slot_writes: u64,
    /// Writes of the environment that were judged: R4.
    pub(crate) env_writes: u64,
    /// How often each rule was broken.
    pub(crate) broken: BTreeMap<String, u64>,
    /// How many runs broke a rule.
    pub(crate) bad: u64,
    /// The first of them.
    pub(crate) told: Vec<String>,
}

/// Counts by kind.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) kinds: BTreeMap<Kind, Counts>,
    /// Durable operations of the undisturbed runs.
    pub(crate) operations: BTreeMap<(Kind, Behaviour), BTreeSet<usize>>,
}

impl Counts {
    /// A run with its complaints.
    pub(crate) fn judge(&mut self, what: &str, bad: &[String]) {
        self.judged += 1;
        for complaint in bad {
            *self.broken.entry(rule(complaint).to_owned()).or_default() += 1;
        }
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
        self.outcomes += other.outcomes;
        self.states += other.states;
        self.more_cuts += other.more_cuts;
        self.second_cuts += other.second_cuts;
        self.storms += other.storms;
        self.kills += other.kills;
        self.spoiled += other.spoiled;
        self.judged += other.judged;
        self.slot_writes += other.slot_writes;
        self.env_writes += other.env_writes;
        self.most_boots = self.most_boots.max(other.most_boots);
        self.bad += other.bad;
        other.ends.into_iter().for_each(|(end, times)| *self.ends.entry(end).or_default() += times);
        other.broken.into_iter().for_each(|(rule, times)| *self.broken.entry(rule).or_default() += times);
        let room = TOLD.saturating_sub(self.told.len());
        self.told.extend(other.told.into_iter().take(room));
    }
}

/// The rule that a complaint begins with.
pub(crate) fn rule(complaint: &str) -> &str {
    let name = complaint.split(':').next().unwrap_or_default();
    let is_rule = name.len() == 2 && name.starts_with(['R', 'A', 'F']);
    if is_rule { name } else { "other" }
}

impl Tally {
    pub(crate) fn add(&mut self, scenario: &Scenario, operations: usize, counts: Counts) {
        self.kinds.entry(scenario.kind).or_default().add(counts);
        self.operations.entry((scenario.kind, scenario.image)).or_default().insert(operations);
    }

    /// All kinds together.
    pub(crate) fn total(&self) -> Counts {
        let mut total = Counts::default();
        self.kinds.values().cloned().for_each(|counts| total.add(counts));
        total
    }

    /// Fewest and most durable operations of a kind, or of all.
    pub(crate) fn span(&self, kind: Option<Kind>) -> (usize, usize) {
        let of_kind = self.operations.iter().filter(|((k, _), _)| kind.is_none_or(|kind| kind == *k));
        let all: BTreeSet<usize> = of_kind.flat_map(|(_, found)| found.iter().copied()).collect();
        (all.first().copied().unwrap_or(0), all.last().copied().unwrap_or(0))
    }
}
