//! One page of evidence, for people who have to sign that a gateway survives power cuts.

use std::fmt::Write as _;

use crate::{
    errors::Errors,
    scenario::Kind,
    tally::{Counts, Tally},
    trace::Traced,
};

/// Fewest durable operations of an undisturbed run. Fewer means that something is no longer counted.
pub(crate) const OPERATIONS: [(Kind, usize); 3] =
    [(Kind::Update, 45), (Kind::Rollback, 25), (Kind::Cancel, 40)];
/// What a run of the suite has to reach. Source: `threat-model.md` R1.
pub(crate) const STATES: u64 = 40_000;
pub(crate) const SECOND_CUTS: u64 = 10_000;

/// A mistake that the suite has to find, and what it found.
pub(crate) struct Mistake {
    pub(crate) name: &'static str,
    pub(crate) found: Option<String>,
}

/// Everything that was shown.
pub(crate) struct Evidence {
    pub(crate) tally: Tally,
    pub(crate) traced: Traced,
    pub(crate) errors: Errors,
    pub(crate) override_kept: Option<String>,
    pub(crate) mistakes: Vec<Mistake>,
    pub(crate) seconds: [(&'static str, u64); 4],
}

impl Evidence {
    /// What does not hold, one sentence each.
    pub(crate) fn failures(&self) -> Vec<String> {
        let total = self.tally.total();
        let mut failures = total.told.clone();
        if total.bad > 0 {
            failures.push(format!("{} runs broke a rule", total.bad));
        }
        failures.extend(self.traced.bad.iter().take(8).cloned());
        failures.extend(self.errors.bad.iter().take(8).cloned());
        failures.extend(self.override_kept.clone());
        for (kind, least) in OPERATIONS {
            let found =
                self.tally.0.get(&kind).and_then(|counts| counts.operations).map_or(0, |(fewest, _)| fewest);
            if found < least {
                failures.push(format!("N of {kind:?} has fallen to {found}, it was {least} at least"));
            }
        }
        if total.states < STATES || total.more_cuts < SECOND_CUTS {
            let told = format!("{} states and {} second cuts", total.states, total.more_cuts);
            failures.push(format!("only {told}, {STATES} and {SECOND_CUTS} are promised"));
        }
        let unfound = self.mistakes.iter().filter(|mistake| mistake.found.is_none());
        failures.extend(unfound.map(|mistake| format!("the mistake \"{}\" is not found", mistake.name)));
        failures
    }

    /// The page.
    pub(crate) fn page(&self, revision: &str) -> String {
        let mut page = String::new();
        let total = self.tally.total();
        let failures = self.failures();
        let verdict = if failures.is_empty() { "PASSED" } else { "FAILED" };
        let _ = writeln!(page, "POWER CUTS AND I/O ERRORS: {verdict}");
        let _ = writeln!(
            page,
            "Sources {revision}. Repeat with `cargo xtask power-cut`; rules R1-R7: docs/design/threat-model.md.\n"
        );
        let _ = writeln!(
            page,
            "1. A cut behind every durable operation, every block that was not synced lost, kept or torn (3^k, 729 at most)"
        );
        let _ = writeln!(
            page,
            "   Real boot environment, slot writer and job engine; from slot A and from slot B; image good, hanging,"
        );
        let _ = writeln!(
            page,
            "   unhealthy, damaged on the medium; four states of the two environment copies; trials of 1, 2 and 3 boots."
        );
        let _ = writeln!(
            page,
            "   {:<9} {:>4} {:>7} {:>9} {:>8} {:>10} {:>7} {:>6} {:>10} {:>4}",
            "", "runs", "N", "outcomes", "states", "more cuts", "at boot", "kills", "boots, max", "bad"
        );
        for (name, counts) in self.rows(&total) {
            let (least, most) = counts.operations.unwrap_or_default();
            let n = if least == most { least.to_string() } else { format!("{least}-{most}") };
            let Counts { situations, outcomes, states, more_cuts, storms, kills, most_boots, bad, .. } =
                counts;
            let _ = writeln!(
                page,
                "   {name:<9} {situations:>4} {n:>7} {outcomes:>9} {states:>8} {more_cuts:>10} {storms:>7} {kills:>6} {most_boots:>10} {bad:>4}"
            );
        }
        let ends: Vec<String> = total.ends.iter().map(|(end, times)| format!("{end} {times}")).collect();
        let _ = writeln!(
            page,
            "   N: durable operations of an undisturbed run. states: different disks, each turned on until it rests. more cuts:"
        );
        let _ = writeln!(
            page,
            "   cuts inside a recovery (second to sixth). at boot: eight cuts in a row in the boot loader. kills: kill -9 of the"
        );
        let _ = writeln!(page, "   daemon alone. Jobs ended: {}.\n", ends.join(", "));
        let Traced { operations, states, bad } = &self.traced;
        let _ = writeln!(
            page,
            "2. The store by its real system calls (SQLite, audit key and anchor; strace): {operations} operations, {states} states opened, {} bad\n",
            bad.len()
        );
        let ends: Vec<String> =
            self.errors.ends.iter().map(|(end, times)| format!("{end} {times}")).collect();
        let Errors { runs, failures: hits, bad, .. } = &self.errors;
        let _ = writeln!(
            page,
            "3. EIO, ENOSPC, short write, read-only at each operation, once and for ever: {runs} runs, {hits} failures, {} bad",
            bad.len()
        );
        let _ = writeln!(page, "   After repair and power cycle: {}.\n", ends.join(", "));
        let found = self.mistakes.iter().filter(|mistake| mistake.found.is_some()).count();
        let _ = writeln!(page, "4. Mistakes made on purpose: {found} of {} found", self.mistakes.len());
        for Mistake { name, found } in &self.mistakes {
            let first = found.as_deref().unwrap_or("NOT FOUND").chars().take(96).collect::<String>();
            let _ = writeln!(page, "   {name:<48} {first}");
        }
        let _ = writeln!(
            page,
            "   PIN counted after the comparison                 in `cargo test -p ota-http pin`, with its wrong order"
        );
        let seconds: Vec<String> = self.seconds.iter().map(|(what, s)| format!("{what} {s} s")).collect();
        let _ = writeln!(
            page,
            "\nTime: {}. Not shown here: the board itself (power supply, eMMC firmware), see docs/power-safety.md.",
            seconds.join(", ")
        );
        for failure in failures {
            let _ = writeln!(page, "FAILED: {failure}");
        }
        page
    }

    fn rows<'a>(&'a self, total: &'a Counts) -> Vec<(String, &'a Counts)> {
        let kinds = self.tally.0.iter().map(|(kind, counts)| (format!("{kind:?}").to_lowercase(), counts));
        kinds.chain([("all".to_owned(), total)]).collect()
    }
}
