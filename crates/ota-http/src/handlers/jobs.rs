//! `updates/jobs`: the history.

use axum::extract::{Path, State};
use ota_api::jobs::{JobInfo, JobList, JobsQuery};
use ota_core::ports::Role;
use ota_engine::JobRef;
use utoipa_axum::routes;

use crate::{
    app::App,
    extract::{Answer, Params, page_limit},
    router::Routes,
    status::Refusal,
};

pub(crate) fn routes() -> Routes {
    Routes::new().read(Role::Viewer, routes!(jobs)).read(Role::Viewer, routes!(job))
}

/// All jobs, newest first, a page at a time.
#[utoipa::path(get, path = "/updates/jobs", tag = "jobs", params(JobsQuery), responses((status = 200, body = JobList)))]
async fn jobs(State(app): State<App>, Params(query): Params<JobsQuery>) -> Result<Answer<JobList>, Refusal> {
    let (offset, limit) = (query.offset.unwrap_or(0), page_limit(query.limit, 50, 200)?);
    let page = app.engine.jobs(offset, limit).await?;
    Ok(Answer::new(JobList::new(&page, offset, limit)))
}

/// One job or deployment.
#[utoipa::path(get, path = "/updates/jobs/{id}", tag = "jobs", params(("id" = String, Path, description = "Job or deployment")),
    responses((status = 200, body = JobInfo), (status = 404, description = "OTA_013")))]
async fn job(State(app): State<App>, Path(id): Path<String>) -> Result<Answer<JobInfo>, Refusal> {
    let view = app.engine.progress(Some(JobRef::parse(&id)?)).await?;
    Ok(Answer::new(JobInfo::from(&view.job)))
}
