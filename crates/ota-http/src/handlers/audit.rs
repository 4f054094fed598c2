//! `audit`: the record of who did what, for admins.

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use http::header;
use ota_api::audit::{AuditFormat, AuditPage, AuditQuery, AuditRow, AuditVerdict};
use ota_core::ports::{AuditRecord, Role};
use utoipa_axum::routes;

use crate::{
    app::App,
    csv,
    extract::{Answer, Params, page_limit},
    router::Routes,
    status::Refusal,
};

/// How many records are read at a time when most of them are filtered out.
const CHUNK: u32 = 500;
/// How many records one request looks through at most.
const CHUNKS: usize = 40;

pub(crate) fn routes() -> Routes {
    Routes::new().read(Role::Admin, routes!(records)).read(Role::Admin, routes!(verify))
}

/// The audit, oldest first; as JSON, JSON lines or CSV.
#[utoipa::path(get, path = "/audit", tag = "audit", params(AuditQuery), responses((status = 200, content(
    (AuditPage = "application/json"), (String = "application/x-ndjson"), (String = "text/csv")))))]
async fn records(State(app): State<App>, Params(query): Params<AuditQuery>) -> Result<Response, Refusal> {
    let limit = usize::try_from(page_limit(query.limit, 100, 1000)?).unwrap_or(1000);
    let (mut next, mut rows) = (query.after.unwrap_or(0), Vec::new());
    for _ in 0..CHUNKS {
        let chunk = app.auditor.records(next, CHUNK).await?;
        let ended = chunk.len() < usize::try_from(CHUNK).unwrap_or(0);
        for record in &chunk {
            if rows.len() == limit {
                break;
            }
            next = record.seq;
            if wanted(record, &query) {
                rows.push(AuditRow::from(record));
            }
        }
        if ended || rows.len() == limit {
            break;
        }
    }
    render(AuditPage { records: rows, next }, query.format.unwrap_or_default())
}

fn wanted(record: &AuditRecord, query: &AuditQuery) -> bool {
    query.actor.as_ref().is_none_or(|actor| record.entry.actor == *actor)
        && query.action.as_ref().is_none_or(|action| record.entry.action.starts_with(action.as_str()))
}

fn render(page: AuditPage, format: AuditFormat) -> Result<Response, Refusal> {
    let (kind, body) = match format {
        AuditFormat::Json => return Ok(Answer::new(page).into_response()),
        AuditFormat::Jsonl => {
            let lines: Result<Vec<_>, _> = page.records.iter().map(serde_json::to_string).collect();
            let lines = lines.map_err(|error| Refusal::internal(error.to_string()))?;
            ("application/x-ndjson", lines.into_iter().map(|line| line + "\n").collect())
        }
        AuditFormat::Csv => ("text/csv; charset=utf-8", table(&page.records)),
    };
    Ok(([(header::CONTENT_TYPE, kind)], body).into_response())
}

fn table(rows: &[AuditRow]) -> String {
    let mut out =
        "seq,timestamp,actor,role,address,action,outcome,request_id,job_id,reason,hash\r\n".to_owned();
    for row in rows {
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let cells = [
            row.seq.to_string(),
            row.timestamp.to_string(),
            row.actor.clone(),
            row.role.map(|role| role.to_string()).unwrap_or_default(),
            text(&row.address),
            row.action.clone(),
            row.outcome.to_string(),
            text(&row.request_id),
            text(&row.job_id),
            text(&row.reason),
            row.hash.clone(),
        ];
        out += &csv::row(&cells);
    }
    out
}

/// Checks that no record was changed, removed or exchanged.
#[utoipa::path(get, path = "/audit/verify", tag = "audit", operation_id = "audit_verify",
    responses((status = 200, body = AuditVerdict)))]
async fn verify(State(app): State<App>) -> Result<Answer<AuditVerdict>, Refusal> {
    // Retention may have cut off what was before.
    let first = app.auditor.records(0, 1).await?.first().map_or(1, |record| record.seq);
    let verdict = match app.auditor.verify().await? {
        Ok(records) => AuditVerdict { intact: true, records, first, first_bad: None },
        Err(bad) => {
            AuditVerdict { intact: false, records: bad.saturating_sub(first), first, first_bad: Some(bad) }
        }
    };
    Ok(Answer::new(verdict))
}
