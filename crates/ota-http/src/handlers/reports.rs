//! `reports/…`: what the durable records say, per period.

use std::time::Duration;

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::header;
use ota_api::reports::{ComplianceQuery, ComplianceReport, ReportFormat};
use ota_core::{Timestamp, ports::Role};
use utoipa_axum::routes;

use crate::{
    app::App,
    compliance::{Compliance, STYLE, Span, csv, html},
    extract::{Answer, Params},
    router::Routes,
    status::Refusal,
};

/// A report goes back so far when nothing else is asked for.
const YEAR: Duration = Duration::from_secs(365 * 86_400);
/// Jobs that are read at a time.
const PAGE: u32 = 200;

pub(crate) fn routes() -> Routes {
    Routes::new().read(Role::Admin, routes!(compliance))
}

/// What became of updates, how long they took, who overrode what and why, and PIN failures, per period; as JSON, CSV or a
/// page to print.
#[utoipa::path(get, path = "/reports/compliance", tag = "audit", operation_id = "compliance_report", params(ComplianceQuery),
    responses((status = 200, content(
        (ComplianceReport = "application/json"), (String = "text/csv"), (String = "text/html")))))]
async fn compliance(
    State(app): State<App>,
    Params(query): Params<ComplianceQuery>,
) -> Result<Response, Refusal> {
    let report = compile(&app, &query).await?;
    Ok(match query.format.unwrap_or_default() {
        ReportFormat::Json => Answer::new(report).into_response(),
        ReportFormat::Csv => {
            let text = csv(&report, query.table.unwrap_or_default());
            ([(header::CONTENT_TYPE, "text/csv; charset=utf-8")], text).into_response()
        }
        ReportFormat::Html => page(&report),
    })
}

async fn compile(app: &App, query: &ComplianceQuery) -> Result<ComplianceReport, Refusal> {
    let now = app.clock.wall();
    let moment = |at: jiff::Timestamp| Timestamp::from_millis(at.as_millisecond());
    let to = query.to.map_or(now, moment);
    let year_before = Timestamp::from_secs(to.as_secs().saturating_sub(YEAR.as_secs().cast_signed()));
    let from = query.from.map_or(year_before, moment);
    if from >= to {
        return Err(Refusal::field("query.from", "must lie before query.to"));
    }
    let span = Span { from, to, period: query.period.unwrap_or_default() };
    let mut counted = app.auditor.walk(Compliance::new(span), Compliance::add_record).await?;
    let mut offset = 0;
    loop {
        let page = app.engine.jobs(offset, PAGE).await?;
        page.jobs.iter().for_each(|job| counted.add_job(job));
        offset += u64::from(PAGE);
        if offset >= page.total {
            break;
        }
    }
    let intact = app.auditor.verify().await?.is_ok();
    Ok(counted.finish(app.engine.identity().clone(), now, intact))
}

fn page(report: &ComplianceReport) -> Response {
    let style = STANDARD.encode(ring::digest::digest(&ring::digest::SHA256, STYLE.as_bytes()));
    let policy = format!("default-src 'none'; style-src 'sha256-{style}'; frame-ancestors 'none'");
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8".to_owned()),
        (header::CONTENT_SECURITY_POLICY, policy),
    ];
    (headers, html(report)).into_response()
}
