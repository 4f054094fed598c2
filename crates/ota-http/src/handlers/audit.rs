//! `audit`: the record of who did what, for admins.

use std::io;

use axum::{
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _};
use http::header;
use ota_api::{
    audit::{AuditFormat, AuditPage, AuditQuery, AuditRow, AuditVerdict},
    words::AuditOutcome,
};
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
/// Records that an export without a limit writes at a time.
const PAGE: usize = 1000;

pub(crate) fn routes() -> Routes {
    Routes::new().read(Role::Admin, routes!(records)).read(Role::Admin, routes!(verify))
}

/// The audit, oldest first; as JSON, JSON lines or CSV.
#[utoipa::path(get, path = "/audit", tag = "audit", params(AuditQuery), responses((status = 200, content(
    (AuditPage = "application/json"), (String = "application/x-ndjson"), (String = "text/csv")))))]
async fn records(State(app): State<App>, Params(mut query): Params<AuditQuery>) -> Result<Response, Refusal> {
    // Large and small letters are the same here.
    query.text = query.text.map(|text| text.to_lowercase());
    let format = query.format.unwrap_or_default();
    if format != AuditFormat::Json && query.limit.is_none() {
        return everything(app, query, format).await;
    }
    let limit = usize::try_from(page_limit(query.limit, 100, 1000)?).unwrap_or(1000);
    let page = if query.newest == Some(true) {
        latest(&app, &query, limit).await?
    } else {
        following(&app, &query, limit).await?
    };
    if format == AuditFormat::Json {
        return Ok(Answer::new(page).into_response());
    }
    Ok(written(format, Body::from(header_of(format).to_owned() + &write(&page.records, format)?)))
}

/// Upwards from where the query begins.
async fn following(app: &App, query: &AuditQuery, limit: usize) -> Result<AuditPage, Refusal> {
    let mut page = AuditPage { records: Vec::new(), next: query.after.unwrap_or(0), previous: None };
    for _ in 0..CHUNKS {
        // Records that do not read are missing from a chunk, so only an empty one is the end.
        let chunk = app.auditor.records(page.next, CHUNK).await?;
        if chunk.is_empty() {
            break;
        }
        for record in &chunk {
            if page.records.len() == limit || query.before.is_some_and(|before| record.seq >= before) {
                return Ok(page);
            }
            page.next = record.seq;
            page.records.extend(wanted(record, query));
        }
    }
    Ok(page)
}

/// Downwards from where the query ends.
async fn latest(app: &App, query: &AuditQuery, limit: usize) -> Result<AuditPage, Refusal> {
    let newest = app.auditor.newest().await?;
    let floor = query.after.unwrap_or(0);
    let mut end = query.before.map_or(newest, |before| before.saturating_sub(1).min(newest));
    let next = end.max(floor);
    let mut rows = Vec::new();
    'looking: for _ in 0..CHUNKS {
        let from = end.saturating_sub(u64::from(CHUNK)).max(floor);
        let chunk = app.auditor.records(from, CHUNK).await?;
        if chunk.first().is_none_or(|record| record.seq > end) {
            // What was before is cut off, or never was.
            end = floor;
            break;
        }
        for record in chunk.iter().rev().filter(|record| record.seq <= end) {
            if rows.len() == limit {
                end = record.seq;
                break 'looking;
            }
            rows.extend(wanted(record, query));
        }
        end = from;
    }
    rows.reverse();
    Ok(AuditPage { records: rows, next, previous: (end > floor).then_some(end.saturating_add(1)) })
}

/// All that fits, written while it is read: no page of it is the whole.
async fn everything(app: App, query: AuditQuery, format: AuditFormat) -> Result<Response, Refusal> {
    let end = app.auditor.newest().await?.saturating_add(1);
    let query = AuditQuery { before: Some(query.before.map_or(end, |before| before.min(end))), ..query };
    let pages = stream::try_unfold(Some(query.after.unwrap_or(0)), move |at| {
        let (app, query) = (app.clone(), query.clone());
        async move {
            let Some(after) = at else { return Ok(None) };
            let query = AuditQuery { after: Some(after), ..query };
            let page = following(&app, &query, PAGE).await.map_err(io::Error::other)?;
            let text = write(&page.records, format).map_err(io::Error::other)?;
            Ok(Some((Bytes::from(text), (page.next > after).then_some(page.next))))
        }
    });
    let head =
        stream::once(async move { Ok::<_, io::Error>(Bytes::from_static(header_of(format).as_bytes())) });
    Ok(written(format, Body::from_stream(head.chain(pages))))
}

/// The record, where the query asks for it. Most are passed over, so what is cheap is looked at first.
fn wanted(record: &AuditRecord, query: &AuditQuery) -> Option<AuditRow> {
    let entry = &record.entry;
    let cheap = query.actor.as_ref().is_none_or(|actor| entry.actor == *actor)
        && query.action.as_ref().is_none_or(|action| entry.action.starts_with(action.as_str()))
        && query.outcome.is_none_or(|outcome| AuditOutcome::from(entry.outcome) == outcome)
        && (query.job_id.is_none() || entry.job.is_some());
    let row = cheap.then(|| AuditRow::from(record))?;
    let fits = query.job_id.as_ref().is_none_or(|id| row.job_id.as_ref() == Some(id))
        && query.text.as_ref().is_none_or(|text| mentions(&row, text));
    fits.then_some(row)
}

/// Whether people find `text`, in small letters, in the record. Its number, time and hash are not what they look for.
fn mentions(row: &AuditRow, text: &str) -> bool {
    let (role, outcome) = (row.role.map(|role| role.to_string()), row.outcome.to_string());
    [
        Some(&row.actor),
        role.as_ref(),
        row.address.as_ref(),
        Some(&row.action),
        Some(&outcome),
        row.request_id.as_ref(),
        row.job_id.as_ref(),
        row.reason.as_ref(),
    ]
    .into_iter()
    .flatten()
    .any(|place| place.to_lowercase().contains(text))
}

fn written(format: AuditFormat, body: Body) -> Response {
    let kind = if format == AuditFormat::Csv { "text/csv; charset=utf-8" } else { "application/x-ndjson" };
    ([(header::CONTENT_TYPE, kind)], body).into_response()
}

const fn header_of(format: AuditFormat) -> &'static str {
    match format {
        AuditFormat::Csv => {
            "seq,timestamp,actor,role,address,action,outcome,request_id,job_id,reason,hash\r\n"
        }
        AuditFormat::Json | AuditFormat::Jsonl => "",
    }
}

/// The records as lines, without a header.
fn write(rows: &[AuditRow], format: AuditFormat) -> Result<String, Refusal> {
    if format == AuditFormat::Csv {
        return Ok(rows.iter().map(line).collect());
    }
    let lines: Result<Vec<_>, _> = rows.iter().map(serde_json::to_string).collect();
    let lines = lines.map_err(|error| Refusal::internal(error.to_string()))?;
    Ok(lines.into_iter().map(|line| line + "\n").collect())
}

fn line(row: &AuditRow) -> String {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    csv::row(&[
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
    ])
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
