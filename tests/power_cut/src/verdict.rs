//! What must hold after a cut, after a kill, and when the device has come to rest: R1, R2, R5, R6 of `threat-model.md`.

use ota_core::{
    Version,
    job::{Held, Job, JobState, JobStatus, MAX_CHANGES, MAX_TRIALS},
    ports::{AuditLog as _, Settings as _, SlotFacts as _, SlotState},
};
use ota_testkit::{MemJournal, bootloader};

use crate::{
    board::Run,
    disk::{Disk, Records, Step, index},
    scenario::{Behaviour, Content, Kind},
    seed,
    world::Play,
};

/// How often the power was cut so far, in a chain of cuts.
pub(crate) type Cuts = u32;

/// What is wrong with what a cut left, whatever follows.
pub(crate) fn after_cut(play: &Play, disk: &Disk) -> Vec<String> {
    let floor = disk.records.journal.value("floor.version").ok().flatten();
    let floor = floor.and_then(|text| text.parse::<Version>().ok());
    let fallback = Content::Old.version().parse::<Version>().ok();
    let above = floor.is_some_and(|floor| fallback.is_some_and(|fallback| floor > fallback));
    let loaded = disk.places.load(disk.env.durable());
    let target = play.scenario.target();
    let on_trial = loaded.variables.get("ota_trial").is_some_and(|slot| slot == target.as_str());
    let confirmed = !on_trial && bootloader::boot(&loaded.variables).slot == target;
    if above && !confirmed {
        return vec!["R5: the floor lies above the fallback slot before the new slot is confirmed".into()];
    }
    Vec::new()
}

/// What is wrong with a run.
pub(crate) fn at_rest(play: &Play, run: &Run, cuts: Cuts) -> Vec<String> {
    let mut bad = run.bad.clone();
    if !bad.is_empty() {
        return bad;
    }
    let limit = u32::from(play.scenario.tries) + 2;
    if run.boots_until_up > limit {
        bad.push(format!(
            "R1: {} boots until a whole, healthy system came up, {limit} are allowed",
            run.boots_until_up
        ));
    }
    bad.extend(boots_on(play, &run.disk));
    bad.extend(kept(run));
    bad.extend(ended(play, &run.disk, cuts));
    bad.extend(noted(&run.disk));
    bad
}

/// R1: the boot loader starts the same whole slot for ever, and nothing else could be started that is not whole.
pub(crate) fn boots_on(play: &Play, disk: &Disk) -> Option<String> {
    let loaded = disk.places.load(disk.env.seen());
    let boot = bootloader::boot(&loaded.variables);
    let running = disk.running?;
    if loaded.variables.contains_key("ota_trial") {
        // Waiting for somebody to restart the gateway.
        return None;
    }
    if boot.slot != running || (boot.save.is_some() && play.wrong.is_none()) {
        return Some(format!("R1: slot {running} runs and the next boot is that of {}", boot.slot));
    }
    if !play.is_sound(disk, running) {
        return Some(format!("R1: the gateway rests on slot {running}, which is not whole and good"));
    }
    let whole = play.images.whole(disk.slots[index(!running)].seen()).is_some();
    if !whole && boot.otherwise.is_some() {
        return Some(format!("R3: slot {} is half written and may be started", !running));
    }
    None
}

/// R1 where the old slot's kernel was spoiled before the trial of a good slot: that one is confirmed and boots next.
pub(crate) fn new_slot_stays(play: &Play, run: &Run) -> Vec<String> {
    let mut bad = run.bad.clone();
    bad.extend(kept(run));
    let (target, running) = (play.scenario.target(), run.disk.running);
    let loaded = run.disk.places.load(run.disk.env.seen());
    let next = bootloader::boot(&loaded.variables).slot;
    let end = seed::job(&run.disk.records.journal).map(|job| job.state.status());
    if running != Some(target) || next != target || end != Some(JobStatus::Succeeded) {
        bad.push(format!(
            "R1: with the old slot spoiled {running:?} runs, {next} is next, and the job is {end:?}"
        ));
    }
    bad
}

/// R6: a daemon that was killed and is started again in the same boot concludes nothing about a boot from that, up to the start
/// of the next kernel. `at_boot`: what was recorded when the kernel that runs was started.
pub(crate) fn same_boot(play: &Play, run: &Run, at_boot: &Records) -> Vec<String> {
    let Some(running) = run.start.running else { return Vec::new() };
    let mut bad = Vec::new();
    let commits =
        run.log.iter().take_while(|step| !matches!(step, Step::Kernel { .. })).filter_map(
            |step| match step {
                Step::Commit(records) => Some(records),
                _ => None,
            },
        );
    let now = &commits.last().unwrap_or(&run.start.records).journal;
    let boots = |journal: &MemJournal| journal.slot(running).map_or(0, |record| record.boot_count);
    let counted = boots(now).saturating_sub(boots(&at_boot.journal));
    if counted > 1 {
        bad.push(format!("R6: one boot of slot {running} is counted {counted} times"));
    }
    let Some(before) = seed::job(&run.start.records.journal) else { return bad };
    let restarts = run.log.iter().any(|step| matches!(step, Step::Restart));
    if running == play.scenario.target() {
        let good = matches!(play.behaviour(&run.start, running), Some((_, Behaviour::Good)));
        if good && restarts {
            bad.push(format!("R6: the good slot {running} is left because its daemon was killed"));
        }
        return bad;
    }
    // What an earlier boot recorded may be concluded from now.
    let of_this_boot = seed::job(&at_boot.journal).as_ref() != Some(&before);
    let (JobState::Armed { .. } | JobState::Rebooting) = before.state else { return bad };
    if !of_this_boot {
        return bad;
    }
    if restarts && before.state == (JobState::Armed { held: Some(Held::ExternalReboot) }) {
        bad.push("R6: the gateway is restarted, which was left to somebody else".into());
    }
    let after = seed::job(now);
    let waits = |job: &Job| matches!(job.state, JobState::Armed { .. } | JobState::Rebooting);
    let same = after.as_ref().is_some_and(|job| waits(job) && job.counters.trials == before.counters.trials);
    if !same {
        let after = after.map(|job| (job.state, job.counters.trials));
        bad.push(format!("R6: the trial is judged before its boot: {after:?}"));
    }
    bad
}

/// Whether a text says something, and is no bare code.
pub(crate) fn is_sentence(text: &str) -> bool {
    let is_word = |word: &&str| word.chars().filter(|char| char.is_alphabetic()).count() > 1;
    text.split_whitespace().filter(is_word).count() >= 3
}

/// R2: nothing that was there, or was answered, is lost.
pub(crate) fn kept(run: &Run) -> Vec<String> {
    let mut bad = Vec::new();
    let (before, after) = (&run.start.records.journal, &run.disk.records.journal);
    if let Some(what) = seed::missing(after) {
        bad.push(format!("R2: {what} is lost"));
    }
    let count = |journal: &MemJournal| journal.records(0, 1000).map_or(0, |records| records.len());
    if count(after) < count(before) {
        bad.push("R2: audit records are lost".into());
    }
    let answered = &run.start.answered;
    let job = seed::job(after);
    let lost = |what: &str| {
        format!("R2: {what} was answered with 2xx and is lost: {:?}", job.as_ref().map(|j| &j.state))
    };
    if answered.created && job.is_none() {
        bad.push(lost("the job"));
    }
    if answered.installed && job.as_ref().is_none_or(|job| job.install.is_none()) {
        bad.push(lost("the install"));
    }
    if answered.cancelled && job.as_ref().is_none_or(|job| job.state.status() != JobStatus::Cancelled) {
        bad.push(lost("the cancel"));
    }
    if answered.judged && job.as_ref().is_none_or(|job| job.state.status() == JobStatus::Confirming) {
        bad.push(lost("the judgement of the trial"));
    }
    if answered.ended.is_some_and(|end| job.as_ref().is_none_or(|job| job.state.status() != end)) {
        bad.push(lost("the end"));
    }
    bad
}

/// R5 and the end that the scenario has to come to.
fn ended(play: &Play, disk: &Disk, cuts: Cuts) -> Option<String> {
    let job = seed::job(&disk.records.journal)?;
    let scenario = play.scenario;
    if job.counters.changes > MAX_CHANGES || job.counters.trials > MAX_TRIALS {
        return Some(format!("R5: {:?}", job.counters));
    }
    if disk.trial_boots > u32::from(scenario.tries) {
        return Some(format!("R5: {} trial boots, {} are allowed", disk.trial_boots, scenario.tries));
    }
    let on_target = disk.running == Some(scenario.target());
    let by_hand = scenario.image == Behaviour::Unhealthy && disk.answered.confirming;
    let good = scenario.image == Behaviour::Good || by_hand;
    let used_up = disk.trial_boots + cuts >= u32::from(scenario.tries);
    let right = match job.state.status() {
        JobStatus::Succeeded => on_target && good,
        JobStatus::RolledBack => !on_target && (!good || used_up),
        JobStatus::Cancelled => !on_target && scenario.kind == Kind::Cancel,
        // Three installs that were cut off are enough.
        JobStatus::Failed => !on_target && cuts >= 3,
        JobStatus::Downloaded => !on_target && !disk.answered.installed,
        JobStatus::Rebooting => !on_target && scenario.kind == Kind::Cancel && !disk.answered.cancelled,
        _ => false,
    };
    (!right).then(|| wrong_end(&job, disk))
}

/// What is noted beside the record of an end: the audit, the slots, the last update, the versions that are not tried again.
fn noted(disk: &Disk) -> Option<String> {
    let journal = &disk.records.journal;
    let job = seed::job(journal).filter(|job| job.state.is_end() && job.install.is_some())?;
    let target = journal.slot(job.target).map(|record| record.state).unwrap_or_default();
    let last = journal.last_update().ok().flatten().map(|last| last.status);
    let given_up = journal.value("rolled_back.versions").ok().flatten().unwrap_or_default();
    let (right, status) = match job.state.status() {
        JobStatus::Succeeded => (target == SlotState::Good, "success"),
        JobStatus::RolledBack => {
            let version = job.release.version.semver().to_string();
            let known = given_up.lines().any(|line| line == version);
            let tried = job.counters.trials > 0;
            (known && target != SlotState::Trial && (!tried || target == SlotState::Bad), "rolled_back")
        }
        other => (target != SlotState::Trial, other.as_str()),
    };
    let action = format!("job.{}", job.state.status().as_str());
    let told = journal.records(0, u32::MAX).unwrap_or_default();
    if !told.iter().any(|record| record.entry.action == action && record.entry.job.as_ref() == Some(&job.id))
    {
        return Some(format!("R2: {action} is missing from the audit"));
    }
    (!right || last.as_deref() != Some(status)).then(|| {
        format!(
            "R2: {status} is not noted: slot {} is {target:?}, last update {last:?}, given up {given_up:?}",
            job.target
        )
    })
}

fn wrong_end(job: &Job, disk: &Disk) -> String {
    format!("R5: wrong end on {:?} after {} trial boots: {:?}", disk.running, disk.trial_boots, job.state)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_or_a_word_alone_is_no_sentence() {
        assert!(!is_sentence("") && !is_sentence("OTA_007") && !is_sentence("Error: 5 (os 28)"));
        assert!(is_sentence("checksum differs: expected 00, found 01"));
    }
}
