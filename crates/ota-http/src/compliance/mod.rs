//! The compliance report: counted from the durable records of jobs and audit. Pure; reading them is the handler's work.

mod render;

use std::collections::{BTreeMap, BTreeSet};

use jiff::{ToSpan as _, civil::Date, tz::TimeZone};
use ota_api::{
    reports::{
        ComplianceOverride, CompliancePeriod, ComplianceReport, ComplianceSums, ComplianceUpdate,
        ReportPeriod,
    },
    text,
};
use ota_core::{
    Timestamp,
    job::{Job, JobKind, JobState, JobStatus},
    ports::{AuditOutcome, AuditRecord},
};
use ota_engine::GatewayIdentity;

pub(crate) use self::render::{STYLE, csv, html};

/// The time of a report and how it is divided.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) from: Timestamp,
    pub(crate) to: Timestamp,
    pub(crate) period: ReportPeriod,
}

impl Span {
    fn holds(&self, at: Timestamp) -> bool {
        (self.from..self.to).contains(&at)
    }

    /// First day of the period that holds `at`.
    fn begin(&self, at: Timestamp) -> Date {
        let date = text::time(at).to_zoned(TimeZone::UTC).date();
        let first = date.first_of_month();
        match self.period {
            ReportPeriod::Day => date,
            ReportPeriod::Week => {
                let days = i32::from(date.weekday().to_monday_zero_offset());
                date.checked_sub(days.days()).unwrap_or(date)
            }
            ReportPeriod::Month => first,
            ReportPeriod::Quarter => {
                first.checked_sub(i32::from((date.month() - 1) % 3).months()).unwrap_or(first)
            }
            ReportPeriod::Year => date.first_of_year(),
        }
    }
}

/// Counts records. Audit records come in their order, jobs in any.
#[derive(Debug)]
pub(crate) struct Compliance {
    span: Span,
    periods: BTreeMap<Date, Count>,
    updates: Vec<ComplianceUpdate>,
    overrides: Vec<ComplianceOverride>,
    audit_since: Option<Timestamp>,
    /// Overrides that were asked for, by request id and what was noted then; a grant repeats both. Turning one off, and a
    /// proposal that a second person has to agree to, have the same action and note something else.
    asked: BTreeSet<(String, String)>,
}

#[derive(Clone, Debug, Default)]
struct Count {
    sums: ComplianceSums,
    durations: Vec<u64>,
}

impl Compliance {
    pub(crate) fn new(span: Span) -> Self {
        Self {
            span,
            periods: BTreeMap::new(),
            updates: Vec::new(),
            overrides: Vec::new(),
            audit_since: None,
            asked: BTreeSet::new(),
        }
    }

    fn count(&mut self, at: Timestamp) -> &mut Count {
        self.periods.entry(self.span.begin(at)).or_default()
    }

    pub(crate) fn add_job(&mut self, job: &Job) {
        if !self.span.holds(job.created) {
            return;
        }
        let status = job.state.status();
        let duration = status.is_end().then(|| job.updated.since(job.created).as_secs());
        let Count { sums, durations } = self.count(job.created);
        if job.kind == JobKind::Rollback {
            sums.rollbacks_by_hand += 1;
        } else {
            sums.tried += 1;
            *match status {
                JobStatus::Succeeded => &mut sums.succeeded,
                JobStatus::RolledBack => &mut sums.rolled_back,
                JobStatus::Failed => &mut sums.failed,
                JobStatus::Cancelled => &mut sums.cancelled,
                _ => &mut sums.unfinished,
            } += 1;
            if status == JobStatus::Succeeded {
                durations.extend(duration);
            }
        }
        self.updates.push(ComplianceUpdate {
            job_id: job.id.to_string(),
            kind: job.kind.into(),
            version: job.release.version.to_string(),
            status: status.into(),
            requested_at: text::time(job.created),
            install_requested_at: job.install_started.map(text::time),
            ended_at: status.is_end().then(|| text::time(job.updated)),
            duration_seconds: duration,
            reason: reason(&job.state),
        });
    }

    pub(crate) fn add_record(&mut self, record: &AuditRecord) {
        self.audit_since.get_or_insert(record.at);
        let entry = &record.entry;
        let said = entry.reason.as_deref().unwrap_or_default();
        let asked = || Some((entry.request_id.clone()?, said.to_owned()));
        if entry.action == "safety.override.requested" {
            self.asked.extend(asked());
            return;
        }
        if !self.span.holds(record.at) {
            return;
        }
        if entry.outcome == AuditOutcome::Refused {
            if said.starts_with("INVALID_PIN:") {
                self.count(record.at).sums.pin_failures += 1;
            } else if said.starts_with("TOO_MANY_REQUESTS: too many wrong PINs") {
                self.count(record.at).sums.pin_locked += 1;
            }
            return;
        }
        let granted = entry.action == "safety.override"
            && entry.outcome == AuditOutcome::Ok
            && asked().is_some_and(|asked| self.asked.remove(&asked));
        if granted {
            self.count(record.at).sums.overrides += 1;
            self.overrides.push(ComplianceOverride {
                at: text::time(record.at),
                actor: entry.actor.clone(),
                address: entry.address.clone(),
                reason: said.to_owned(),
                audit_seq: record.seq,
            });
        }
    }

    /// The report. `intact`: whether every audit record fits its chain.
    pub(crate) fn finish(
        mut self,
        identity: GatewayIdentity,
        now: Timestamp,
        intact: bool,
    ) -> ComplianceReport {
        let mut total = Count::default();
        let periods = self.periods.into_iter().map(|(begins, count)| {
            total.add(&count);
            CompliancePeriod { begins: begins.to_string(), sums: count.finish() }
        });
        let periods = periods.collect();
        self.updates.sort_by(|a, b| (a.requested_at, &a.job_id).cmp(&(b.requested_at, &b.job_id)));
        ComplianceReport {
            gateway: identity.name,
            model: identity.model,
            serial: identity.serial,
            generated_at: text::time(now),
            from: text::time(self.span.from),
            to: text::time(self.span.to),
            period: self.span.period,
            audit_since: self.audit_since.map(text::time),
            audit_intact: intact,
            total: total.finish(),
            periods,
            updates: self.updates,
            overrides: self.overrides,
        }
    }
}

impl Count {
    fn add(&mut self, other: &Self) {
        let (sum, more) = (&mut self.sums, &other.sums);
        sum.tried += more.tried;
        sum.succeeded += more.succeeded;
        sum.rolled_back += more.rolled_back;
        sum.failed += more.failed;
        sum.cancelled += more.cancelled;
        sum.unfinished += more.unfinished;
        sum.rollbacks_by_hand += more.rollbacks_by_hand;
        sum.overrides += more.overrides;
        sum.pin_failures += more.pin_failures;
        sum.pin_locked += more.pin_locked;
        self.durations.extend(&other.durations);
    }

    fn finish(mut self) -> ComplianceSums {
        self.durations.sort_unstable();
        self.sums.shortest_seconds = self.durations.first().copied();
        self.sums.median_seconds = self.durations.get(self.durations.len() / 2).copied();
        self.sums.longest_seconds = self.durations.last().copied();
        self.sums
    }
}

fn reason(state: &JobState) -> Option<String> {
    match state {
        JobState::Failed { why } | JobState::RolledBack { why } => {
            let code = why.code.map(|code| format!("{code}: ")).unwrap_or_default();
            Some(format!("{code}{}", why.message))
        }
        JobState::Cancelled { reason } => Some(reason.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
