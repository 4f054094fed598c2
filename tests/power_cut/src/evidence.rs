//! One page of evidence, for people who have to sign that a gateway survives power cuts.

use std::fmt::Write as _;

use ota_core::Slot;

use crate::{
    errors::Errors,
    ext4::Real,
    failing::Failing,
    reset::Resets,
    scenario::{Behaviour, Kind},
    suite::TWIN_OUTCOMES,
    tally::{Counts, Tally},
    trace::Traced,
};

/// Durable operations of the undisturbed runs; they differ with the state of the environment and the number of tries. Another
/// number means that something is no longer counted, or no longer done; who adds a step on purpose says so here.
/// `ota-power-cut --only n` names them.
const OPERATIONS: [(Kind, Behaviour, &[usize]); 16] = {
    use Behaviour::{Damaged, Good, Hangs, Unhealthy};
    use Kind::{Cancel, Confirm, Rollback, Update};
    [
        (Update, Good, &[53]),
        (Update, Hangs, &[50, 52, 54]),
        (Update, Unhealthy, &[59]),
        (Update, Damaged, &[59]),
        (Rollback, Good, &[31]),
        (Rollback, Hangs, &[28, 30, 32]),
        (Rollback, Unhealthy, &[37]),
        (Rollback, Damaged, &[37]),
        (Cancel, Good, &[44]),
        (Cancel, Hangs, &[44]),
        (Cancel, Unhealthy, &[44]),
        (Cancel, Damaged, &[44]),
        (Confirm, Good, &[53]),
        (Confirm, Hangs, &[50, 52, 54]),
        (Confirm, Unhealthy, &[54]),
        (Confirm, Damaged, &[60]),
    ]
};
/// The same of the system calls of a store with five rounds of writes, and of a whole factory reset.
const STORE_CALLS: usize = 210;
const RESET_CALLS: usize = 154;
/// What a run has to reach. Source: `threat-model.md` R1.
const STATES: u64 = 40_000;
const SECOND_CUTS: u64 = 10_000;

/// The rules, and what each is counted in.
const RULES: [(&str, &str); 7] = [
    ("R1", "a whole, healthy slot runs within tries + 2 boots and, at rest, boots next"),
    ("R2", "what was answered with 2xx is there: jobs, ends, audit, settings, reset"),
    ("R3", "the running slot is never written; another only while it cannot be booted"),
    ("R4", "an environment write is one whole copy, not the one that counts, then synced"),
    ("R5", "confirmed only when whole and healthy; <= 32 changes, <= `tries` trial boots"),
    ("R6", "a daemon killed and started again: no boot is counted, no trial judged by that"),
    ("R7", "a failing medium: a sentence names it (answer or log), reads go on, records stay"),
];

/// A mistake that the suite has to find, and what it found.
pub(crate) struct Mistake {
    pub(crate) name: &'static str,
    pub(crate) found: Option<String>,
}

/// Everything that was shown.
#[derive(Default)]
pub(crate) struct Evidence {
    pub(crate) tally: Tally,
    pub(crate) store: Traced,
    pub(crate) real: Real,
    pub(crate) resets: Vec<(Slot, Resets)>,
    pub(crate) errors: Errors,
    pub(crate) failing: Failing,
    /// Outcomes of a cut between two system calls of the store that are tried, at most.
    pub(crate) call_outcomes: usize,
    pub(crate) override_kept: Option<String>,
    pub(crate) mistakes: Vec<Mistake>,
    pub(crate) seconds: Vec<(&'static str, u64)>,
}

impl Evidence {
    /// States and second cuts of all parts, and third and later ones.
    fn reached(&self) -> (u64, u64, u64) {
        let total = self.tally.total();
        let first: u64 = self.resets.iter().map(|(_, resets)| resets.first.states).sum();
        let more: u64 = self.resets.iter().map(|(_, resets)| resets.more.states).sum();
        (total.states + first, total.second_cuts + more, total.more_cuts - total.second_cuts)
    }

    /// Every complaint but those of the cuts, which are counted.
    pub(crate) fn complaints(&self) -> impl Iterator<Item = &String> {
        let resets =
            self.resets.iter().flat_map(|(_, resets)| resets.first.bad.iter().chain(&resets.more.bad));
        let traced = self.store.bad.iter().chain(&self.real.bad).chain(resets);
        traced.chain(&self.errors.bad).chain(&self.failing.bad).chain(&self.override_kept)
    }

    /// What does not hold, one sentence each.
    pub(crate) fn failures(&self) -> Vec<String> {
        let total = self.tally.total();
        let mut failures = total.told.clone();
        if total.bad > 0 {
            failures.push(format!("{} runs broke a rule: {:?}", total.bad, total.broken));
        }
        failures.extend(self.complaints().take(12).cloned());
        failures.extend(self.changed_operations());
        let (states, second, _) = self.reached();
        if states < STATES || second < SECOND_CUTS {
            let told = format!("{states} states and {second} second cuts");
            failures.push(format!("only {told}, {STATES} and {SECOND_CUTS} are promised"));
        }
        let unfound = self.mistakes.iter().filter(|mistake| mistake.found.is_none());
        failures.extend(unfound.map(|mistake| format!("the mistake \"{}\" is not found", mistake.name)));
        if self.mistakes.is_empty() || self.errors.runs == 0 || self.failing.short == 0 || self.real.cuts == 0
        {
            failures.push("parts were left out".into());
        }
        failures
    }

    fn changed_operations(&self) -> Vec<String> {
        let mut changed = Vec::new();
        for (kind, image, known) in &OPERATIONS {
            let found = self.tally.operations.get(&(*kind, *image)).cloned().unwrap_or_default();
            if !found.iter().eq(known.iter()) {
                changed.push(format!("N of {kind:?}, image {image:?}, is {found:?} and was {known:?}"));
            }
        }
        if self.tally.operations.len() != OPERATIONS.len() || self.resets.len() != Slot::ALL.len() {
            changed.push("the situations are not those whose operations are known".into());
        }
        let resets =
            self.resets.iter().map(|(_, resets)| ("a factory reset", resets.first.operations, RESET_CALLS));
        for (what, found, known) in resets.chain([("the store", self.store.operations, STORE_CALLS)]) {
            if found != known {
                changed.push(format!("N of {what} is {found} and was {known}"));
            }
        }
        changed
    }

    /// The page.
    pub(crate) fn page(&self, revision: &str, made: &str) -> String {
        let mut page = String::new();
        // Writing to a text cannot fail.
        let _ = self.write(&mut page, revision, made);
        page
    }

    fn write(&self, page: &mut String, revision: &str, made: &str) -> std::fmt::Result {
        let (failures, (states, second, later)) = (self.failures(), self.reached());
        let verdict = if failures.is_empty() { "PASSED" } else { "FAILED" };
        writeln!(page, "OTA GATEWAY - POWER CUTS AND I/O ERRORS: {verdict}")?;
        writeln!(
            page,
            "{states} states after a cut, {second} second cuts inside a recovery, {later} third to sixth, {} bad",
            self.bad()
        )?;
        writeln!(page, "Sources {revision}; run {made}; repeat it with `cargo xtask power-cut`")?;
        writeln!(page, "What is modelled, why, and what the hardware must add: docs/power-safety.md\n")?;
        self.write_rules(page)?;
        self.write_cuts(page)?;
        self.write_resets(page)?;
        self.write_store(page)?;
        self.write_errors(page)?;
        self.write_mistakes(page)?;
        let seconds: Vec<String> = self.seconds.iter().map(|(what, s)| format!("{what} {s} s")).collect();
        let all: u64 = self.seconds.iter().map(|(_, s)| s).sum();
        writeln!(page, "\nTime: {all} s ({}).", seconds.join(", "))?;
        failures.iter().try_for_each(|failure| writeln!(page, "FAILED: {failure}"))
    }

    fn bad(&self) -> u64 {
        self.tally.total().bad + self.complaints().count() as u64
    }

    fn write_rules(&self, page: &mut String) -> std::fmt::Result {
        let total = self.tally.total();
        let resets: u64 = self.resets.iter().map(|(_, r)| r.first.states + r.more.states).sum();
        let checked = |rule: &str| match rule {
            "R1" | "R5" => total.judged,
            "R2" => total.judged + resets + self.store.states + self.real.cuts,
            "R3" => total.slot_writes,
            "R4" => total.env_writes,
            "R6" => total.kills,
            _ => self.errors.runs + self.failing.runs,
        };
        let kept =
            |name: &str| self.complaints().filter(|told| told.contains(&format!(" {name}: "))).count() as u64;
        writeln!(page, "   {:<4} {:<80} {:>8} {:>7}", "rule", "", "checked", "broken")?;
        for (name, what) in RULES {
            let broken = total.broken.get(name).copied().unwrap_or(0) + kept(name);
            writeln!(page, "   {name:<4} {what:<80} {:>8} {broken:>7}", checked(name))?;
        }
        writeln!(page)
    }

    fn write_cuts(&self, page: &mut String) -> std::fmt::Result {
        let total = self.tally.total();
        writeln!(
            page,
            "1. Update, rollback, cancel, confirm: a cut behind every durable operation, every block that was not synced"
        )?;
        writeln!(
            page,
            "   lost, kept or torn (3^k, 729 at most; {TWIN_OUTCOMES} in the second of two situations that differ in environment and tries);"
        )?;
        writeln!(page, "   then the boot loader's rules and the real recovery. From slot A and B;")?;
        writeln!(
            page,
            "   image good, hanging, unhealthy, half damaged; four states of the environment; trials of 1 to 3 boots."
        )?;
        writeln!(
            page,
            "   {:<9} {:>4} {:>7} {:>9} {:>8} {:>10} {:>7} {:>6} {:>10} {:>4}",
            "", "runs", "N", "outcomes", "states", "more cuts", "at boot", "kills", "boots, max", "bad"
        )?;
        let kinds = self.tally.kinds.iter().map(|(kind, counts)| (Some(*kind), counts));
        for (kind, counts) in kinds.chain([(None, &total)]) {
            let name = kind.map_or_else(|| "all".to_owned(), |kind| format!("{kind:?}").to_lowercase());
            let (least, most) = self.tally.span(kind);
            let n = if least == most { least.to_string() } else { format!("{least}-{most}") };
            let Counts { situations, outcomes, states, more_cuts, storms, kills, most_boots, bad, .. } =
                counts;
            writeln!(
                page,
                "   {name:<9} {situations:>4} {n:>7} {outcomes:>9} {states:>8} {more_cuts:>10} {storms:>7} {kills:>6} {most_boots:>10} {bad:>4}"
            )?;
        }
        writeln!(
            page,
            "   N: durable operations of an undisturbed run. states: different disks, each turned on until it rests. more cuts:"
        )?;
        writeln!(
            page,
            "   second to sixth, inside a recovery. at boot: eight cuts in a row in the boot loader. kills: of the daemon alone."
        )?;
        writeln!(
            page,
            "   The old slot's kernel spoiled before the trial of a good image: {} trials, each confirmed. With an image that is\n   not good no whole slot is left: nothing is promised, and not tried.",
            total.spoiled
        )?;
        writeln!(page, "   Jobs ended: {}.\n", listed(total.ends.iter()))
    }

    fn write_resets(&self, page: &mut String) -> std::fmt::Result {
        writeln!(
            page,
            "2. Factory reset by its real system calls: asked for with a backup, erased at the next boot, taken note of;"
        )?;
        writeln!(
            page,
            "   a cut behind each, every block that was not synced lost, kept or torn, names as a journal replays them"
        )?;
        for (slot, Resets { first, more, erased, outcomes, again }) in &self.resets {
            let (n, states, bad) = (first.operations, first.states, first.bad.len() + more.bad.len());
            let told = "came up reset, the others as they were";
            writeln!(
                page,
                "   from slot {slot}: N {n}, {outcomes} outcomes a cut at most, {states} states ({erased} {told}),"
            )?;
            let cuts = match again {
                Some(most) => {
                    format!("{} more cuts inside the recovery, {most} outcomes each at most", more.states)
                }
                None => "no more cuts inside the recovery".to_owned(),
            };
            writeln!(page, "      {cuts}, {bad} bad")?;
        }
        writeln!(
            page,
            "   The running slot takes no part: neither slots nor environment are written, which is checked in every state. So all\n   is tried from one of them, and the other one is looked at by samples.\n"
        )
    }

    fn write_store(&self, page: &mut String) -> std::fmt::Result {
        let Traced { operations, states, bad } = &self.store;
        writeln!(page, "3. A commit of the store is one durable step (SQLite, audit key and anchor)")?;
        writeln!(
            page,
            "   by its real system calls: N {operations}, {} outcomes a cut, {states} states opened, {} bad",
            self.call_outcomes,
            bad.len()
        )?;
        let Real { cuts, acknowledged, between, bad } = &self.real;
        writeln!(
            page,
            "   on a real ext4, shut down under it: {cuts} cuts, {} commits acknowledged, {between} cuts in an open round, {} bad\n",
            acknowledged * 4,
            bad.len()
        )
    }

    fn write_errors(&self, page: &mut String) -> std::fmt::Result {
        let Errors { runs, reads, failures, ends, named, bad } = &self.errors;
        writeln!(
            page,
            "4. EIO, ENOSPC, short write, read-only at each operation, EIO at each read; once and for ever"
        )?;
        writeln!(
            page,
            "   {runs} runs ({reads} with failing reads), {failures} failures, {} bad",
            bad.len()
        )?;
        writeln!(
            page,
            "   {named} jobs failed of it, each with the cause in a sentence. Update, rollback, cancel, and trials that somebody\n   confirms or rejects by hand."
        )?;
        let Failing { runs, short, went_on, bad } = &self.failing;
        writeln!(
            page,
            "   Real SQLite, real factory reset, each call of the system that opens, writes, syncs, cuts or names a file fails, once\n   and for ever: {runs} runs, {short} of them with a write that is taken by half and no further; {went_on} went on, {} bad",
            bad.len()
        )?;
        writeln!(page, "   After repair and power cycle: {}.\n", listed(ends.iter()))
    }

    fn write_mistakes(&self, page: &mut String) -> std::fmt::Result {
        let found = self.mistakes.iter().filter(|mistake| mistake.found.is_some()).count();
        writeln!(
            page,
            "5. Mistakes made on purpose, each of which has to be found: {found} of {}",
            self.mistakes.len()
        )?;
        for Mistake { name, found } in &self.mistakes {
            let first = found.as_deref().unwrap_or("NOT FOUND").chars().take(80).collect::<String>();
            writeln!(page, "   {name:<48} {first}")?;
        }
        Ok(())
    }
}

fn listed<'a>(ends: impl Iterator<Item = (&'a &'static str, &'a u64)>) -> String {
    ends.map(|(end, times)| format!("{end} {times}")).collect::<Vec<_>>().join(", ")
}
