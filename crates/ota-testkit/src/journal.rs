//! What survives a power cut, in memory.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use ota_core::{
    JobId, OtaError, Sha256Digest, Slot, Timestamp,
    error::{PortError, PortErrorKind},
    job::{Job, JobStatus},
    ports::{
        AuditEntry, AuditLog, AuditRecord, EndedJobs, JobJournal, JobPage, LastUpdate, Settings, SlotFacts,
        SlotRecord, TokenRecord, Tokens,
    },
};

use crate::{
    faults::{Faults, Power},
    watch::Watch,
};

/// Jobs, slots, audit, tokens and settings. Every changing call is one durable step.
#[derive(Debug, Default)]
pub struct MemJournal {
    state: Watch<State>,
    /// Writes that are to fail without an effect; the audit is not among them.
    pub write_faults: Faults,
    /// Audit records that are to fail without an effect.
    pub audit_faults: Faults,
    /// Whether no write is taken, and [`JobJournal::ready`] says so.
    pub read_only: AtomicBool,
    power: Arc<Power>,
}

#[derive(Clone, Debug, Default)]
struct State {
    numbers: u64,
    events: u64,
    /// In the order of their first save.
    jobs: Vec<Job>,
    saves: Vec<Job>,
    slots: BTreeMap<Slot, SlotRecord>,
    last_update: Option<LastUpdate>,
    audit: Vec<AuditRecord>,
    tokens: BTreeMap<String, Token>,
    settings: BTreeMap<String, String>,
}

#[derive(Clone, Debug)]
struct Token {
    digest: Sha256Digest,
    record: TokenRecord,
    revoked: bool,
}

impl MemJournal {
    /// Takes its durable steps from a shared supply.
    #[must_use]
    pub fn with_power(mut self, power: Arc<Power>) -> Self {
        self.power = power;
        self
    }

    /// Another one with what this one holds now: what a power cut at this instant leaves. Without the history of saves.
    #[must_use]
    pub fn copy(&self) -> Self {
        let state = self.state.with(|state| State { saves: Vec::new(), ..state.clone() });
        Self { state: Watch::new(state), ..Self::default() }
    }

    /// All that it holds, as text.
    pub fn shown(&self) -> String {
        self.state.with(|state| format!("{:?}", State { saves: Vec::new(), ..state.clone() }))
    }

    /// Every save of a job, in order.
    pub fn saves(&self) -> Vec<Job> {
        self.state.with(|state| state.saves.clone())
    }

    /// Waits until a stored job pleases `want`, and gives it.
    pub async fn until_job(&self, want: impl Fn(&Job) -> bool) -> Job {
        self.state.until(|state| state.jobs.iter().find(|job| want(job)).cloned()).await
    }

    /// Waits until job `id` has ended, and gives it.
    pub async fn until_ended(&self, id: &JobId) -> Job {
        self.until_job(|job| job.id == *id && job.state.is_end()).await
    }

    /// Actions of all audit records, in order.
    pub fn audited(&self) -> Vec<String> {
        self.state.with(|state| state.audit.iter().map(|record| record.entry.action.clone()).collect())
    }

    /// Changes the audit behind everybody's back.
    pub fn tamper(&self, change: impl FnOnce(&mut Vec<AuditRecord>)) {
        self.state.update(|state| change(&mut state.audit));
    }

    fn write<R>(&self, change: impl FnOnce(&mut State) -> Result<R, PortError>) -> Result<R, PortError> {
        JobJournal::ready(self)?;
        self.write_faults.call()?;
        self.power.step()?;
        self.state.update(change)
    }

    fn read<R>(&self, look: impl FnOnce(&State) -> R) -> Result<R, PortError> {
        self.power.check()?;
        Ok(self.state.with(|state| look(state)))
    }
}

impl JobJournal for MemJournal {
    fn ready(&self) -> Result<(), PortError> {
        if !self.read_only.load(Ordering::Relaxed) {
            return Ok(());
        }
        let what = "the store takes no writes".into();
        Err(PortErrorKind::Unavailable { reason: "store_read_only", what }.into())
    }

    fn next_number(&self) -> Result<u64, PortError> {
        self.write(|state| {
            state.numbers += 1;
            Ok(state.numbers)
        })
    }

    fn save(&self, job: &Job) -> Result<(), PortError> {
        self.write(|state| {
            state.saves.push(job.clone());
            match state.jobs.iter_mut().find(|old| old.id == job.id) {
                Some(old) => *old = job.clone(),
                None => state.jobs.push(job.clone()),
            }
            Ok(())
        })
    }

    fn job(&self, id: &JobId) -> Result<Option<Job>, PortError> {
        self.read(|state| state.jobs.iter().find(|job| job.id == *id).cloned())
    }

    fn active(&self) -> Result<Option<Job>, PortError> {
        self.read(|state| state.jobs.iter().rev().find(|job| !job.state.is_end()).cloned())
    }

    fn page(&self, offset: u64, limit: u32) -> Result<JobPage, PortError> {
        let skip = usize::try_from(offset).unwrap_or(usize::MAX);
        self.read(|state| JobPage {
            jobs: state.jobs.iter().rev().skip(skip).take(limit as usize).cloned().collect(),
            total: state.jobs.len() as u64,
        })
    }

    fn ended(&self) -> Result<Vec<EndedJobs>, PortError> {
        self.read(|state| {
            let ended = |status: JobStatus| {
                let jobs: Vec<_> = state.jobs.iter().filter(|job| job.state.status() == status).collect();
                let took = jobs.iter().map(|job| job.updated.since(job.created)).sum();
                EndedJobs { state: status, jobs: jobs.len() as u64, took }
            };
            JobStatus::ALL.into_iter().filter(|status| status.is_end()).map(ended).collect()
        })
    }

    fn reserve_events(&self, count: u64) -> Result<u64, PortError> {
        self.write(|state| {
            let first = state.events + 1;
            state.events += count;
            Ok(first)
        })
    }
}

impl SlotFacts for MemJournal {
    fn slot(&self, slot: Slot) -> Result<SlotRecord, PortError> {
        self.read(|state| state.slots.get(&slot).cloned().unwrap_or_default())
    }

    fn set_slot(&self, slot: Slot, record: &SlotRecord) -> Result<(), PortError> {
        self.write(|state| {
            state.slots.insert(slot, record.clone());
            Ok(())
        })
    }

    fn last_update(&self) -> Result<Option<LastUpdate>, PortError> {
        self.read(|state| state.last_update.clone())
    }

    fn set_last_update(&self, last: &LastUpdate) -> Result<(), PortError> {
        self.write(|state| {
            state.last_update = Some(last.clone());
            Ok(())
        })
    }
}

impl AuditLog for MemJournal {
    fn append(&self, at: Timestamp, entry: &AuditEntry) -> Result<u64, PortError> {
        let written = self.audit_faults.call().and_then(|()| self.power.step());
        written.map_err(|error| {
            let what = "free the disk that holds the state".into();
            PortError::new(PortErrorKind::Unavailable { reason: "audit_not_writable", what }, error)
        })?;
        self.state.update(|state| {
            let seq = state.audit.len() as u64 + 1;
            let hash = chained(state.audit.last(), seq, at, entry);
            state.audit.push(AuditRecord { seq, at, entry: entry.clone(), hash });
            Ok(seq)
        })
    }

    fn records(&self, after: u64, limit: u32) -> Result<Vec<AuditRecord>, PortError> {
        self.read(|state| {
            state.audit.iter().filter(|record| record.seq > after).take(limit as usize).cloned().collect()
        })
    }

    fn newest(&self) -> Result<u64, PortError> {
        self.read(|state| state.audit.last().map_or(0, |record| record.seq))
    }

    fn verify_chain(&self) -> Result<Result<u64, u64>, PortError> {
        self.read(|state| {
            let mut previous = None;
            for (expected, record) in (1..).zip(&state.audit) {
                let hash = chained(previous, expected, record.at, &record.entry);
                if record.seq != expected || record.hash != hash {
                    return Err(expected);
                }
                previous = Some(record);
            }
            Ok(state.audit.len() as u64)
        })
    }
}

fn chained(previous: Option<&AuditRecord>, seq: u64, at: Timestamp, entry: &AuditEntry) -> String {
    let before = previous.map_or("", |record| &record.hash);
    Sha256Digest::of(format!("{before} {seq} {at:?} {entry:?}").as_bytes()).to_string()
}

impl Tokens for MemJournal {
    fn find(&self, digest: &Sha256Digest, now: Timestamp) -> Result<Option<TokenRecord>, PortError> {
        self.power.check()?;
        Ok(self.state.with(|state| {
            let token = state.tokens.values_mut().find(|token| token.digest == *digest && !token.revoked)?;
            if token.record.expires.is_some_and(|end| end <= now) {
                return None;
            }
            token.record.last_used = Some(Timestamp::from_secs(now.as_secs().div_euclid(60) * 60));
            Some(token.record.clone())
        }))
    }

    fn add(&self, digest: &Sha256Digest, record: &TokenRecord) -> Result<(), PortError> {
        self.write(|state| {
            if state.tokens.contains_key(&record.name) {
                let with = format!("a token is named {:?} already", record.name);
                return Err(OtaError::SystemBusy { with }.into());
            }
            let token = Token { digest: *digest, record: record.clone(), revoked: false };
            state.tokens.insert(record.name.clone(), token);
            Ok(())
        })
    }

    fn revoke(&self, name: &str) -> Result<bool, PortError> {
        self.write(|state| {
            let token = state.tokens.get_mut(name).filter(|token| !token.revoked);
            Ok(token.map(|token| token.revoked = true).is_some())
        })
    }

    fn list(&self) -> Result<Vec<TokenRecord>, PortError> {
        self.read(|state| {
            state.tokens.values().filter(|token| !token.revoked).map(|token| token.record.clone()).collect()
        })
    }
}

impl Settings for MemJournal {
    fn value(&self, name: &str) -> Result<Option<String>, PortError> {
        self.read(|state| state.settings.get(name).cloned())
    }

    fn set_value(&self, name: &str, value: Option<&str>) -> Result<(), PortError> {
        self.write(|state| {
            match value {
                Some(value) => state.settings.insert(name.into(), value.into()),
                None => state.settings.remove(name),
            };
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;
    use ota_core::job::JobState;

    #[test]
    fn the_active_job_is_the_one_that_has_not_ended() {
        let journal = MemJournal::default();
        let mut job = samples::job(journal.next_number().unwrap(), samples::release("v2.0.0", b"x"));
        journal.save(&job).unwrap();
        assert_eq!(journal.active().unwrap(), Some(job.clone()));
        job.state = JobState::Succeeded;
        journal.save(&job).unwrap();
        assert_eq!(journal.active().unwrap(), None);
        assert_eq!((journal.page(0, 10).unwrap().total, journal.saves().len()), (1, 2));
    }

    #[test]
    fn a_changed_audit_record_breaks_the_chain_there() {
        let journal = MemJournal::default();
        for action in ["one", "two", "three"] {
            journal.append(Timestamp::from_secs(1), &samples::audit_entry(action)).unwrap();
        }
        assert_eq!(journal.verify_chain().unwrap(), Ok(3));
        journal.tamper(|records| records[1].entry.actor = "somebody else".into());
        assert_eq!(journal.verify_chain().unwrap(), Err(2));
    }

    #[test]
    fn a_planned_failure_has_no_effect_and_names_its_kind() {
        let journal = MemJournal::default();
        journal.write_faults.fail_nth(2, PortErrorKind::Io("full".into()));
        journal.set_value("a", Some("1")).unwrap();
        assert_eq!(journal.set_value("a", Some("2")).unwrap_err().kind(), &PortErrorKind::Io("full".into()));
        assert_eq!(journal.value("a").unwrap().as_deref(), Some("1"));
        journal.audit_faults.fail_next(PortErrorKind::Io("full".into()));
        let refused = journal.append(Timestamp::default(), &samples::audit_entry("x")).unwrap_err();
        assert!(matches!(refused.kind(), PortErrorKind::Unavailable { reason: "audit_not_writable", .. }));
    }
}
