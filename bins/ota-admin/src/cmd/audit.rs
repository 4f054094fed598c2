//! `ota-admin audit`.

use std::path::PathBuf;

use ota_api::{
    audit::{AuditFormat, AuditPage, AuditQuery, AuditVerdict},
    words::AuditOutcome,
};

use super::Context;
use crate::{
    exit::Failure,
    keep::Kept,
    output::{Output, table},
};

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) what: What,
}

#[derive(Clone, Debug, clap::Subcommand)]
pub(crate) enum What {
    /// Show the newest records, or with --after those from there on; oldest first.
    List {
        #[command(flatten)]
        filter: Filter,
        /// Only those before this number.
        #[arg(long, value_name = "NUMBER")]
        before: Option<u64>,
        /// How many at most.
        #[arg(long, default_value = "100", value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
    },
    /// Write all records into a file.
    Export {
        #[command(flatten)]
        filter: Filter,
        /// How it is written.
        #[arg(long, value_enum, default_value = "jsonl")]
        format: FormatArg,
        /// File that receives them; must not exist.
        #[arg(short, long, value_name = "FILE")]
        file: PathBuf,
    },
    /// Check that no record was changed, removed or exchanged; exit code 1 when one was.
    Verify,
}

/// Which records.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Filter {
    /// Only those after this number.
    #[arg(long, value_name = "NUMBER")]
    pub(crate) after: Option<u64>,
    /// Only of this actor.
    #[arg(long)]
    pub(crate) actor: Option<String>,
    /// Only actions that start with this, `updates.`.
    #[arg(long)]
    pub(crate) action: Option<String>,
    /// Only what ended like this.
    #[arg(long, value_enum)]
    pub(crate) outcome: Option<OutcomeArg>,
    /// Only of this job.
    #[arg(long, value_name = "JOB")]
    pub(crate) job: Option<String>,
    /// Only those that have this text in them.
    #[arg(long, value_name = "TEXT")]
    pub(crate) text: Option<String>,
}

/// How an action ended, as it is typed.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum OutcomeArg {
    /// It was done.
    Ok,
    /// The gateway refused it.
    Refused,
    /// It failed.
    Failed,
}

impl From<OutcomeArg> for AuditOutcome {
    fn from(typed: OutcomeArg) -> Self {
        match typed {
            OutcomeArg::Ok => Self::Ok,
            OutcomeArg::Refused => Self::Refused,
            OutcomeArg::Failed => Self::Failed,
        }
    }
}

/// How an export is written.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum FormatArg {
    /// One JSON object a line.
    Jsonl,
    /// Comma-separated values.
    Csv,
}

impl Filter {
    /// Without a limit: everything, where the format is not JSON.
    fn query(&self, limit: Option<u32>) -> AuditQuery {
        AuditQuery {
            after: self.after,
            limit,
            actor: self.actor.clone(),
            action: self.action.clone(),
            outcome: self.outcome.map(AuditOutcome::from),
            job_id: self.job.clone(),
            text: self.text.clone(),
            ..AuditQuery::default()
        }
    }
}

pub(crate) async fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let client = context.client()?;
    match args.what {
        What::List { filter, before, limit } => {
            let newest = filter.after.is_none().then_some(true);
            let query = AuditQuery { before, newest, ..filter.query(Some(limit)) };
            let page = client.audit(&query).await?;
            context.out.show(&page, |page| list(page, newest.is_some()))
        }
        What::Export { filter, format, file } => {
            let format = match format {
                FormatArg::Jsonl => AuditFormat::Jsonl,
                FormatArg::Csv => AuditFormat::Csv,
            };
            let query = AuditQuery { format: Some(format), ..filter.query(None) };
            let mut kept = Kept::start(&file, &context.out)?;
            client.audit_text(&query, &mut |bytes| kept.write(bytes)).await?;
            context.out.show(&kept.finish()?, |done| format!("{} ({} bytes)", done.file, done.bytes))
        }
        What::Verify => verdict(&client.audit_verify().await?, &mut context.out),
    }
}

fn list(page: &AuditPage, newest: bool) -> String {
    let rows = page.records.iter().map(|row| {
        [
            row.seq.to_string(),
            row.timestamp.to_string(),
            row.actor.clone(),
            row.address.clone().unwrap_or_default(),
            row.action.clone(),
            row.outcome.to_string(),
            row.job_id.clone().unwrap_or_default(),
            row.reason.clone().unwrap_or_default(),
        ]
    });
    let more = match page.previous {
        Some(previous) => format!("\n\n`--before {previous}` shows older ones"),
        None if newest => String::new(),
        None => format!("\n\n`--after {}` shows the next ones", page.next),
    };
    table(["NUMBER", "TIME", "WHO", "FROM", "WHAT", "OUTCOME", "JOB", "REASON"], rows) + &more
}

fn verdict(verdict: &AuditVerdict, out: &mut Output) -> Result<(), Failure> {
    let shown = out.show(verdict, |verdict| match verdict.first_bad {
        None => format!("{} records from number {} on: every one fits", verdict.records, verdict.first),
        Some(bad) => {
            format!("record {bad} does not fit: it or one before it was changed, removed or exchanged")
        }
    });
    // The verdict counts, whatever becomes of the line.
    if verdict.intact { shown } else { Err(anyhow::anyhow!("the audit is not intact").into()) }
}
