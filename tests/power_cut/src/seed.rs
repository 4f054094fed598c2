//! The records of a device that has been at work before: what must still be there at the end.

use ota_core::{
    Slot, Timestamp, Version,
    job::{Job, JobState},
    ports::{AuditLog as _, JobJournal as _, Settings as _, SlotFacts as _, SlotRecord, SlotState},
};
use ota_testkit::{MemJournal, samples};

use crate::scenario::{Content, Images, Scenario};

/// A setting that nobody touches.
const SETTING: (&str, &str) = ("bandwidth.limit", "1000000");
/// An audit record that nobody may lose.
const ACTION: &str = "updates.install";

/// The records at the start.
pub(crate) fn journal(scenario: &Scenario, images: &Images) -> MemJournal {
    let journal = MemJournal::default();
    let fill = || -> Result<(), ota_core::error::PortError> {
        let mut job = samples::job(journal.next_number()?, images.release(Content::Old).clone());
        job.state = JobState::Succeeded;
        journal.save(&job)?;
        journal.append(Timestamp::default(), &samples::audit_entry(ACTION))?;
        journal.set_value(SETTING.0, Some(SETTING.1))?;
        for slot in Slot::ALL {
            let content = if slot == scenario.from { Content::Old } else { Content::Spare };
            let (sha256, size) = images.expected(content);
            let record = SlotRecord {
                version: content.version().parse::<Version>().ok(),
                sha256: Some(sha256),
                size: Some(size),
                state: SlotState::Good,
                ..SlotRecord::default()
            };
            journal.set_slot(slot, &record)?;
        }
        Ok(())
    };
    fill().unwrap_or_else(|error| unreachable!("records in memory take every write: {error}"));
    journal
}

/// The job that the scenario makes, once it is recorded.
pub(crate) fn job(journal: &MemJournal) -> Option<Job> {
    let page = journal.page(0, 10).unwrap_or_default();
    // The first one is the seed's.
    (page.total > 1).then(|| page.jobs.into_iter().next())?
}

/// What of the seed is no longer there.
pub(crate) fn missing(journal: &MemJournal) -> Option<&'static str> {
    let page = journal.page(0, 10).unwrap_or_default();
    if page.jobs.last().is_none_or(|job| job.state != JobState::Succeeded) {
        return Some("the record of the job before");
    }
    if journal.value(SETTING.0).ok().flatten().as_deref() != Some(SETTING.1) {
        return Some("a setting");
    }
    let first = journal.records(0, 1).unwrap_or_default();
    if first.first().is_none_or(|record| record.entry.action != ACTION) {
        return Some("an audit record");
    }
    if !matches!(journal.verify_chain(), Ok(Ok(_))) {
        return Some("the chain of the audit");
    }
    None
}
