//! `safety/inhibitors`: leases by which people and programs hold updates back.

use std::{sync::Arc, time::Duration};

use axum::extract::State;
use ota_api::{
    auth::Done,
    inhibitors::{InhibitRequest, Inhibitor, InhibitorList, ReleaseInhibitorQuery},
};
use ota_core::{
    ports::{self, InhibitError, Inhibitors, Role},
    safety::SafetyStep,
};
use utoipa_axum::routes;

use crate::{
    app::App,
    auth::Caller,
    extract::{Answer, Json, Params},
    router::Routes,
    status::{Refusal, Transport},
};

pub(crate) fn routes() -> Routes {
    Routes::new()
        .read(Role::Viewer, routes!(list))
        .change(Role::Operator, "safety.inhibit", routes!(inhibit))
        .change(Role::Operator, "safety.release", routes!(release))
}

fn port(app: &App) -> Result<&Arc<dyn Inhibitors>, Refusal> {
    let unavailable = || Transport::Unavailable {
        reason: "no_inhibitors",
        what: "this gateway has no safety engine that could hold updates back".into(),
    };
    Ok(app.inhibitors.as_ref().ok_or_else(unavailable)?)
}

/// The leases that are held.
#[utoipa::path(get, path = "/safety/inhibitors", tag = "safety", operation_id = "list_inhibitors",
    responses((status = 200, body = InhibitorList)))]
async fn list(State(app): State<App>) -> Answer<InhibitorList> {
    let inhibitors = app.engine.safety().inhibitors.iter().map(Inhibitor::from).collect();
    Answer::new(InhibitorList { inhibitors })
}

/// Holds updates back for a while, or lets a lease last longer. Who stops renewing loses it.
#[utoipa::path(post, path = "/safety/inhibitors", tag = "safety", request_body = InhibitRequest, responses(
    (status = 200, body = Inhibitor),
    (status = 404, description = "The lease to renew is not held; it may have run out"),
    (status = 429, description = "Too many leases are held"),
))]
async fn inhibit(
    State(app): State<App>,
    caller: Caller,
    Json(body): Json<InhibitRequest>,
) -> Result<Answer<Inhibitor>, Refusal> {
    let inhibitors = port(&app)?;
    let ttl = Duration::from_secs(body.ttl);
    if let Some(id) = body.id {
        check_holder(&app, &caller, id)?;
        let renewed = inhibitors.renew(id, ttl).map_err(|why| refused(&why))?;
        let note = format!("renewed {id}: {}", renewed.reason);
        return Ok(Answer::noted(Inhibitor::from(&renewed), None, Some(note)));
    }
    let reason = body.reason.ok_or_else(|| Refusal::field("$.reason", "is needed for a new inhibitor"))?;
    let but_download = || SafetyStep::ALL.into_iter().filter(|step| *step != SafetyStep::Download).collect();
    let request = ports::InhibitRequest {
        owner: plain(body.owner.unwrap_or_else(|| caller.person().to_owned())),
        holder: caller.person().to_owned(),
        reason: plain(reason),
        blocks: body.scope.map_or_else(but_download, |scope| scope.into_iter().map(Into::into).collect()),
        ttl,
    };
    let taken = inhibitors.take(request).map_err(|why| refused(&why))?;
    let note = format!("{} for {}: {}", taken.id, taken.owner, taken.reason);
    Ok(Answer::noted(Inhibitor::from(&taken), None, Some(note)))
}

/// Gives a lease back; that of somebody else needs the role admin.
#[utoipa::path(delete, path = "/safety/inhibitors", tag = "safety", params(ReleaseInhibitorQuery), responses(
    (status = 200, body = Done),
    (status = 403, description = "Somebody else holds it"),
    (status = 404, description = "It is not held; it may have run out"),
))]
async fn release(
    State(app): State<App>,
    caller: Caller,
    Params(query): Params<ReleaseInhibitorQuery>,
) -> Result<Answer<Done>, Refusal> {
    let inhibitors = port(&app)?;
    check_holder(&app, &caller, query.id)?;
    if !inhibitors.release(query.id) {
        return Err(refused(&InhibitError::Unknown { id: query.id }));
    }
    let done = Done { status: "released".into(), message: format!("Inhibitor {} released", query.id) };
    Ok(Answer::noted(done, None, Some(query.id.to_string())))
}

/// A lease is its holder's; admins may touch any.
fn check_holder(app: &App, caller: &Caller, id: u64) -> Result<(), Refusal> {
    let report = app.engine.safety();
    let lease = report.inhibitors.iter().find(|lease| lease.id == id);
    let lease = lease.ok_or_else(|| refused(&InhibitError::Unknown { id }))?;
    if lease.holder == caller.person() || caller.role >= Some(Role::Admin) {
        return Ok(());
    }
    Err(Transport::Forbidden(format!(
        "inhibitor {id} is held by {}; this needs the role admin",
        lease.holder
    ))
    .into())
}

fn plain(text: String) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn refused(why: &InhibitError) -> Refusal {
    match why {
        InhibitError::BadDuration { .. } => Refusal::field("$.ttl", why.to_string()),
        InhibitError::Incomplete => Transport::InvalidRequest { path: None, what: why.to_string() }.into(),
        InhibitError::Unknown { .. } => Transport::NotFound(why.to_string()).into(),
        InhibitError::TooMany => Transport::TooManyRequests {
            what: "too many inhibitors are held",
            retry_after: Duration::from_secs(60),
        }
        .into(),
    }
}
