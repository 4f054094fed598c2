//! `ota-admin report`.

use std::path::PathBuf;

use jiff::Timestamp;
use ota_api::{
    reports::{ComplianceQuery, ComplianceReport, ReportFormat, ReportPeriod, ReportTable},
    text::hms,
};

use super::Context;
use crate::{
    exit::Failure,
    keep::Kept,
    output::{facts, table},
};

/// Length of the periods.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum PeriodArg {
    Day,
    Week,
    Month,
    Quarter,
    Year,
}

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum FormatArg {
    /// Sums of each period, comma-separated.
    Csv,
    /// Each update, comma-separated.
    CsvUpdates,
    /// Each override, comma-separated.
    CsvOverrides,
    /// A page to print.
    Html,
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// First moment, RFC 3339; a year before the end when it is not given.
    #[arg(long, value_name = "TIME")]
    pub(crate) from: Option<Timestamp>,
    /// First moment after the report, RFC 3339; now when it is not given.
    #[arg(long, value_name = "TIME")]
    pub(crate) to: Option<Timestamp>,
    /// Length of the periods, in UTC.
    #[arg(long, value_enum, default_value = "month")]
    pub(crate) period: PeriodArg,
    /// Write it into --file like this.
    #[arg(long, value_enum, requires = "file")]
    pub(crate) format: Option<FormatArg>,
    /// File that receives it; must not exist. A page to print unless --format says otherwise.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
}

pub(crate) async fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let client = context.client()?;
    let period = match args.period {
        PeriodArg::Day => ReportPeriod::Day,
        PeriodArg::Week => ReportPeriod::Week,
        PeriodArg::Month => ReportPeriod::Month,
        PeriodArg::Quarter => ReportPeriod::Quarter,
        PeriodArg::Year => ReportPeriod::Year,
    };
    let query =
        ComplianceQuery { from: args.from, to: args.to, period: Some(period), format: None, table: None };
    let Some(file) = &args.file else {
        let report = client.compliance(&query).await?;
        return context.out.show(&report, text);
    };
    let (format, table) = match args.format.unwrap_or(FormatArg::Html) {
        FormatArg::Html => (ReportFormat::Html, None),
        FormatArg::Csv => (ReportFormat::Csv, Some(ReportTable::Periods)),
        FormatArg::CsvUpdates => (ReportFormat::Csv, Some(ReportTable::Updates)),
        FormatArg::CsvOverrides => (ReportFormat::Csv, Some(ReportTable::Overrides)),
    };
    let query = ComplianceQuery { format: Some(format), table, ..query };
    let mut kept = Kept::start(file, &context.out)?;
    client.compliance_text(&query, &mut |bytes| kept.write(bytes)).await?;
    context.out.show(&kept.finish()?, |done| format!("{} ({} bytes)", done.file, done.bytes))
}

fn text(report: &ComplianceReport) -> String {
    let time = |seconds: Option<u64>| seconds.map_or_else(|| "-".into(), hms);
    let periods = report.periods.iter().map(|period| (period.begins.as_str(), &period.sums));
    let rows = periods.chain([("total", &report.total)]).map(|(begins, sums)| {
        [
            begins.to_owned(),
            sums.tried.to_string(),
            sums.succeeded.to_string(),
            sums.rolled_back.to_string(),
            sums.failed.to_string(),
            sums.cancelled.to_string(),
            time(sums.median_seconds),
            sums.overrides.to_string(),
            (sums.pin_failures + sums.pin_locked).to_string(),
        ]
    });
    let header = [
        "PERIOD",
        "TRIED",
        "SUCCEEDED",
        "ROLLED BACK",
        "FAILED",
        "CANCELLED",
        "MEDIAN",
        "OVERRIDES",
        "PIN FAILURES",
    ];
    let audit =
        if report.audit_intact { "every record fits" } else { "BROKEN: see `ota-admin audit verify`" };
    let mut out = facts(vec![
        ("Gateway", format!("{} ({} {})", report.gateway, report.model, report.serial)),
        ("From", report.from.to_string()),
        ("To", report.to.to_string()),
        ("Audit", audit.into()),
    ]);
    out += &format!("\n\n{}", table(header, rows));
    if !report.overrides.is_empty() {
        let rows = report
            .overrides
            .iter()
            .map(|enabled| [enabled.at.to_string(), enabled.actor.clone(), enabled.reason.clone()]);
        out += &format!("\n\n{}", table(["OVERRIDE", "BY", "REASON"], rows));
    }
    out
}
