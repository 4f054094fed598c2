//! Counting, and what is written out.

use std::time::Duration;

use ota_api::reports::ReportTable;
use ota_core::{
    job::Failure,
    ports::{AuditEntry, Role},
};
use ota_testkit::samples;

use super::*;

/// 2026-01-31T23:59:00Z: the next minute is another day, week, month, quarter's month and year's month.
const END_OF_JANUARY: Timestamp = Timestamp::from_secs(1_769_903_940);
const YEAR: Duration = Duration::from_secs(365 * 86_400);

fn span(period: ReportPeriod) -> Span {
    Span { from: Timestamp::from_secs(1_767_225_600), to: Timestamp::from_secs(1_767_225_600) + YEAR, period }
}

fn job(number: u64, created: Timestamp, seconds: u64, state: JobState) -> Job {
    let mut job = samples::job(number, samples::release("v5.0.5", b"x"));
    job.created = created;
    job.updated = created + Duration::from_secs(seconds);
    job.state = state;
    job
}

fn record(seq: u64, action: &str, outcome: AuditOutcome, request: &str, reason: &str) -> AuditRecord {
    let entry = AuditEntry {
        actor: "crane-ops".into(),
        role: Some(Role::Admin),
        address: Some("192.0.2.7".into()),
        action: action.into(),
        outcome,
        request_id: Some(request.into()),
        job: None,
        reason: Some(reason.into()),
    };
    AuditRecord { seq, at: END_OF_JANUARY, entry, hash: String::new() }
}

fn identity() -> GatewayIdentity {
    GatewayIdentity { name: "gw".into(), model: "M".into(), serial: "S".into() }
}

fn filled(period: ReportPeriod) -> ComplianceReport {
    let mut counted = Compliance::new(span(period));
    let later = END_OF_JANUARY + Duration::from_secs(60);
    let why = Failure::because("health_check", "<b>unhealthy</b>");
    counted.add_job(&job(5, later, 9, JobState::Queued));
    counted.add_job(&job(4, later, 300, JobState::Succeeded));
    counted.add_job(&job(3, END_OF_JANUARY, 100, JobState::Succeeded));
    counted.add_job(&job(2, END_OF_JANUARY, 50, JobState::RolledBack { why }));
    counted.add_job(&job(1, END_OF_JANUARY, 7, JobState::Cancelled { reason: "=2+2".into() }));
    counted.add_job(&job(9, Timestamp::from_secs(0), 1, JobState::Succeeded));
    let mut by_hand = job(6, later, 70, JobState::Succeeded);
    by_hand.kind = JobKind::Rollback;
    counted.add_job(&by_hand);
    use AuditOutcome::{Ok, Refused};
    for record in [
        record(1, "safety.override", Refused, "a", "INVALID_PIN: the PIN is missing or wrong"),
        record(2, "safety.override", Refused, "b", "TOO_MANY_REQUESTS: too many wrong PINs"),
        record(3, "safety.override.requested", Ok, "c", "sensor broken (600 s)"),
        record(4, "safety.override", Ok, "c", "sensor broken (600 s)"),
        record(5, "safety.override", Ok, "d", "turned off"),
    ] {
        counted.add_record(&record);
    }
    counted.finish(identity(), later, true)
}

#[test]
fn every_end_is_counted_in_the_period_of_its_request() {
    let report = filled(ReportPeriod::Month);
    let begins: Vec<_> = report.periods.iter().map(|period| period.begins.as_str()).collect();
    assert_eq!(begins, ["2026-01-01", "2026-02-01"]);
    let january = &report.periods[0].sums;
    assert_eq!((january.tried, january.succeeded, january.rolled_back, january.cancelled), (3, 1, 1, 1));
    assert_eq!((january.overrides, january.pin_failures, january.pin_locked), (1, 1, 1));
    let february = &report.periods[1].sums;
    assert_eq!((february.tried, february.unfinished, february.rollbacks_by_hand), (2, 1, 1));
    let total = &report.total;
    assert_eq!((total.tried, total.succeeded), (5, 2));
    assert_eq!(
        (total.shortest_seconds, total.median_seconds, total.longest_seconds),
        (Some(100), Some(300), Some(300))
    );
    assert_eq!(report.overrides.len(), 1);
    assert_eq!(
        (report.overrides[0].reason.as_str(), report.overrides[0].audit_seq),
        ("sensor broken (600 s)", 4)
    );
    let ids: Vec<_> = report.updates.iter().map(|update| update.status.to_string()).collect();
    assert_eq!(ids, ["cancelled", "rolled_back", "succeeded", "succeeded", "queued", "succeeded"]);
}

#[test]
fn only_what_was_granted_counts_as_an_override() {
    use AuditOutcome::{Ok, Refused};
    let mut counted = Compliance::new(span(ReportPeriod::Month));
    let asked = "safety.override.requested";
    for record in [
        // The first of two people proposes, the second grants; both requests are under way at the same time.
        record(1, asked, Ok, "a", "sensor broken (600 s)"),
        record(2, asked, Ok, "b", "agreed (600 s)"),
        record(3, "safety.override", Ok, "a", "proposed: sensor broken (600 s)"),
        record(4, "safety.override", Ok, "b", "agreed (600 s)"),
        // Turned off by the same client, which numbers its requests badly.
        record(5, "safety.override", Ok, "b", "over"),
        // Asked for, with the right PIN, and refused; then turned off.
        record(6, asked, Ok, "c", "once more (60 s)"),
        record(7, "safety.override", Refused, "c", "INVALID_REQUEST: nothing is violated"),
        record(8, "safety.override", Ok, "c", "off"),
    ] {
        counted.add_record(&record);
    }
    let report = counted.finish(identity(), END_OF_JANUARY, true);
    let seqs: Vec<u64> = report.overrides.iter().map(|one| one.audit_seq).collect();
    assert_eq!((seqs, report.total.overrides), (vec![4], 1));
}

#[test]
fn periods_begin_where_the_calendar_says() {
    for (period, begins) in [
        (ReportPeriod::Day, "2026-01-31"),
        (ReportPeriod::Week, "2026-01-26"),
        (ReportPeriod::Month, "2026-01-01"),
        (ReportPeriod::Quarter, "2026-01-01"),
        (ReportPeriod::Year, "2026-01-01"),
    ] {
        assert_eq!(span(period).begin(END_OF_JANUARY).to_string(), begins, "{period:?}");
    }
    let may = Timestamp::from_secs(1_778_000_000);
    assert_eq!(span(ReportPeriod::Quarter).begin(may).to_string(), "2026-04-01");
}

#[test]
fn csv_has_a_line_for_each_and_disarms_formulas() {
    let report = filled(ReportPeriod::Month);
    let periods = csv(&report, ReportTable::Periods);
    let lines: Vec<_> = periods.lines().collect();
    assert!(lines[0].starts_with("begins,tried,succeeded,rolled_back,"));
    assert_eq!(lines[1], "2026-01-01,3,1,1,0,1,0,0,100,100,100,1,1,1");
    assert!(lines[3].starts_with("total,5,2,1,"));
    let updates = csv(&report, ReportTable::Updates);
    assert_eq!(updates.lines().count(), 7);
    assert!(updates.contains(",'=2+2\r\n"), "{updates}");
    assert!(csv(&report, ReportTable::Overrides).contains(",sensor broken (600 s),4\r\n"));
}

#[test]
fn the_page_escapes_what_people_wrote() {
    let page = html(&filled(ReportPeriod::Year));
    assert!(page.contains("&lt;b&gt;unhealthy&lt;/b&gt;") && !page.contains("<b>"), "{page}");
    assert!(page.contains("every record fits its chain"));
    assert_eq!(page.matches("<table>").count(), 3);
}
