//! A compliance report as comma-separated values and as a page to print.

use std::fmt::Write as _;

use jiff::Timestamp;
use ota_api::{
    reports::{CompliancePeriod, ComplianceReport, ComplianceSums, ReportTable},
    text,
};

use crate::csv::row;

/// Names of the columns of sums, as in the JSON.
const SUMS: [&str; 13] = [
    "tried",
    "succeeded",
    "rolled_back",
    "failed",
    "cancelled",
    "unfinished",
    "rollbacks_by_hand",
    "shortest_seconds",
    "median_seconds",
    "longest_seconds",
    "overrides",
    "pin_failures",
    "pin_locked",
];

/// One table, with a header line.
pub(crate) fn csv(report: &ComplianceReport, table: ReportTable) -> String {
    let (header, rows) = match table {
        ReportTable::Periods => (period_header(), period_rows(report)),
        ReportTable::Updates => (UPDATES.map(str::to_owned).into(), update_rows(report)),
        ReportTable::Overrides => (OVERRIDES.map(str::to_owned).into(), override_rows(report)),
    };
    rows.iter().fold(row::<String>(&header), |out, cells| out + &row(cells))
}

const UPDATES: [&str; 9] = [
    "job_id",
    "kind",
    "version",
    "status",
    "requested_at",
    "install_requested_at",
    "ended_at",
    "duration_seconds",
    "reason",
];
const OVERRIDES: [&str; 5] = ["at", "actor", "address", "reason", "audit_seq"];

fn period_header() -> Vec<String> {
    ["begins"].into_iter().chain(SUMS).map(str::to_owned).collect()
}

fn period_rows(report: &ComplianceReport) -> Vec<Vec<String>> {
    let cells = |begins: &str, sums: &ComplianceSums| -> Vec<String> {
        std::iter::once(begins.to_owned()).chain(sum_cells(sums)).collect()
    };
    let rows = report.periods.iter().map(|CompliancePeriod { begins, sums }| cells(begins, sums));
    rows.chain([cells("total", &report.total)]).collect()
}

fn sum_cells(sums: &ComplianceSums) -> [String; 13] {
    let number = |value: u64| value.to_string();
    let maybe = |value: Option<u64>| value.map(number).unwrap_or_default();
    [
        number(sums.tried),
        number(sums.succeeded),
        number(sums.rolled_back),
        number(sums.failed),
        number(sums.cancelled),
        number(sums.unfinished),
        number(sums.rollbacks_by_hand),
        maybe(sums.shortest_seconds),
        maybe(sums.median_seconds),
        maybe(sums.longest_seconds),
        number(sums.overrides),
        number(sums.pin_failures),
        number(sums.pin_locked),
    ]
}

fn update_rows(report: &ComplianceReport) -> Vec<Vec<String>> {
    let time = |at: Option<Timestamp>| at.map(|at| at.to_string()).unwrap_or_default();
    let cells = report.updates.iter().map(|update| {
        vec![
            update.job_id.clone(),
            update.kind.to_string(),
            update.version.clone(),
            update.status.to_string(),
            update.requested_at.to_string(),
            time(update.install_requested_at),
            time(update.ended_at),
            update.duration_seconds.map(|seconds| seconds.to_string()).unwrap_or_default(),
            update.reason.clone().unwrap_or_default(),
        ]
    });
    cells.collect()
}

fn override_rows(report: &ComplianceReport) -> Vec<Vec<String>> {
    let cells = report.overrides.iter().map(|enabled| {
        vec![
            enabled.at.to_string(),
            enabled.actor.clone(),
            enabled.address.clone().unwrap_or_default(),
            enabled.reason.clone(),
            enabled.audit_seq.to_string(),
        ]
    });
    cells.collect()
}

/// Style of the page. In the page itself, so that a saved one prints alike.
pub(crate) const STYLE: &str = "body{font:10pt/1.4 sans-serif;margin:2em;color:#000;background:#fff}\
    h1{font-size:16pt}h2{font-size:12pt;margin-top:2em}\
    table{border-collapse:collapse;width:100%;page-break-inside:auto}\
    th,td{border:1px solid #888;padding:.2em .5em;text-align:left;vertical-align:top;overflow-wrap:anywhere}\
    th{background:#eee}tr{page-break-inside:avoid}.bad{font-weight:bold}\
    @page{size:A4 landscape;margin:15mm}";

/// The report as a page to print; everything that people wrote is escaped.
pub(crate) fn html(report: &ComplianceReport) -> String {
    let mut out = String::from("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">");
    let title = format!("Update compliance of {}", report.gateway);
    let _ = writeln!(out, "<title>{}</title><style>{STYLE}</style></head><body>", escaped(&title));
    let _ = write!(
        out,
        "<h1>{}</h1>\n<p>Model {}, serial number {}. From {} to {}, made {}.</p>\n",
        escaped(&title),
        escaped(&report.model),
        escaped(&report.serial),
        report.from,
        report.to,
        report.generated_at,
    );
    let since = report.audit_since.map_or_else(|| "is empty".into(), |at| format!("reaches back to {at}"));
    let verdict = if report.audit_intact {
        "every record fits its chain"
    } else {
        "<span class=\"bad\">its chain is broken: see audit/verify</span>"
    };
    let _ = writeln!(out, "<p>The audit {since}; {verdict}.</p>");
    let median = report.total.median_seconds.map_or_else(|| "–".into(), text::hms);
    let _ = writeln!(
        out,
        "<p>{} updates tried, {} succeeded, {} rolled back, {} failed; half of the succeeded ones took no more than {median}.</p>",
        report.total.tried, report.total.succeeded, report.total.rolled_back, report.total.failed,
    );
    table(&mut out, "Periods", &period_header(), &period_rows(report));
    table(&mut out, "Updates", &UPDATES, &update_rows(report));
    table(&mut out, "Overrides", &OVERRIDES, &override_rows(report));
    out + "</body></html>\n"
}

fn table<T: AsRef<str>>(out: &mut String, heading: &str, header: &[T], rows: &[Vec<String>]) {
    let _ = writeln!(out, "<h2>{heading}</h2>");
    if rows.is_empty() {
        out.push_str("<p>None.</p>\n");
        return;
    }
    out.push_str("<table><thead><tr>");
    for name in header {
        let _ = write!(out, "<th>{}</th>", escaped(&name.as_ref().replace('_', " ")));
    }
    out.push_str("</tr></thead><tbody>\n");
    for cells in rows {
        out.push_str("<tr>");
        for cell in cells {
            let _ = write!(out, "<td>{}</td>", escaped(cell));
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody></table>\n");
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}
