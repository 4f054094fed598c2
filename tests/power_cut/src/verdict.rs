//! What must hold after a cut, and when the device has come to rest: R1, R2, R5 of `threat-model.md`.

use ota_core::{
    Version,
    job::{Job, JobStatus, MAX_CHANGES, MAX_TRIALS},
    ports::{AuditLog as _, Settings as _, SlotFacts as _, SlotState},
};
use ota_testkit::bootloader;

use crate::{
    board::Run,
    disk::{Disk, index},
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
        bad.push(format!("R1: {} boots until a system came up, {limit} are allowed", run.boots_until_up));
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
    let right = match play.behaviour(disk, running) {
        Some((_, Behaviour::Good)) => true,
        Some((_, Behaviour::Unhealthy)) => disk.answered.confirming,
        _ => false,
    };
    if !right {
        return Some(format!("R1: the gateway rests on slot {running}, which is not whole and good"));
    }
    let whole = play.images.whole(disk.slots[index(!running)].seen()).is_some();
    if !whole && boot.otherwise.is_some() {
        return Some(format!("R3: slot {} is half written and may be started", !running));
    }
    None
}

/// R2: nothing that was there, or was answered, is lost.
pub(crate) fn kept(run: &Run) -> Vec<String> {
    let mut bad = Vec::new();
    let (before, after) = (&run.start.records.journal, &run.disk.records.journal);
    if let Some(what) = seed::missing(after) {
        bad.push(format!("R2: {what} is lost"));
    }
    let count =
        |journal: &ota_testkit::MemJournal| journal.records(0, 1000).map_or(0, |records| records.len());
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
