//! `safety/…`: status, windows, override.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use http::StatusCode;
use ota_api::{
    safety::{OverrideRequest, OverrideResponse, SafetyStatus},
    text,
    windows::{WindowList, WindowOpening, WindowsQuery},
};
use ota_core::{
    OtaError,
    event::EventKind,
    ports::{AuditOutcome, OverrideGranted, OverrideRefused, Role, SafetyOverrides},
    safety::{Block, OverrideReport},
};
use utoipa_axum::routes;

use crate::{
    app::{App, blocking},
    auth::Caller,
    config::PinOperation,
    extract::{Answer, Json, Params, page_limit},
    handlers::updates::reason,
    router::Routes,
    status::{Refusal, Transport},
};

/// How often an active override is looked at, so that its end is announced.
const LOOK: Duration = Duration::from_millis(500);

pub(crate) fn routes() -> Routes {
    Routes::new().read(Role::Viewer, routes!(status)).read(Role::Viewer, routes!(windows)).change(
        Role::Admin,
        "safety.override",
        routes!(switch_override),
    )
}

/// Every safety constraint as it stands.
#[utoipa::path(get, path = "/safety/status", tag = "safety", operation_id = "safety_status",
    responses((status = 200, body = SafetyStatus)))]
async fn status(State(app): State<App>) -> Answer<SafetyStatus> {
    Answer::new(SafetyStatus::from(&app.engine.safety()))
}

/// The next openings of all windows, those that are open now first.
#[utoipa::path(get, path = "/safety/windows", tag = "safety", params(WindowsQuery),
    responses((status = 200, body = WindowList)))]
async fn windows(
    State(app): State<App>,
    Params(query): Params<WindowsQuery>,
) -> Result<Answer<WindowList>, Refusal> {
    let limit = page_limit(query.limit, 10, 100)?;
    let count = usize::try_from(limit).unwrap_or(usize::MAX);
    let engine = app.engine.clone();
    // Looks through the rules of two years.
    let (openings, report) = blocking(move || (engine.windows(count), engine.safety())).await?;
    let windows = openings.iter().map(WindowOpening::from).collect();
    Ok(Answer::new(WindowList { clock_trusted: report.clock_trusted, windows }))
}

/// Overrides the constraints that are violated now, for a limited time; needs the PIN. Turning it off does not.
#[utoipa::path(post, path = "/safety/override", tag = "safety", request_body = OverrideRequest, responses(
    (status = 200, body = OverrideResponse),
    (status = 202, body = OverrideResponse, description = "Proposed: a second person has to agree"),
    (status = 400, description = "INVALID_REQUEST; OTA_002: what is violated may not be overridden"),
    (status = 403, description = "FORBIDDEN, OTA_010"),
    (status = 429, description = "Too many wrong PINs"),
))]
async fn switch_override(
    State(app): State<App>,
    caller: Caller,
    Json(body): Json<OverrideRequest>,
) -> Result<Response, Refusal> {
    let overrides = app.overrides.clone().ok_or_else(|| Transport::Unavailable {
        reason: "no_overrides",
        what: "this gateway has no safety engine that could be overridden".into(),
    })?;
    if body.enable {
        enable(&app, &caller, overrides, body).await
    } else {
        disable(&app, overrides, body).await
    }
}

/// The safe direction: no PIN, no record that must come first.
async fn disable(
    app: &App,
    overrides: Arc<dyn SafetyOverrides>,
    body: OverrideRequest,
) -> Result<Response, Refusal> {
    if overrides.disable() {
        announce(app, "override_disabled", "Safety override disabled").await?;
    }
    let response = OverrideResponse {
        status: "override_disabled".into(),
        duration: None,
        expires_at: None,
        constraints_overridden: Vec::new(),
        warning: None,
    };
    Ok(Answer::noted(response, None, reason(body.reason)).into_response())
}

async fn enable(
    app: &App,
    caller: &Caller,
    overrides: Arc<dyn SafetyOverrides>,
    body: OverrideRequest,
) -> Result<Response, Refusal> {
    let reason =
        reason(body.reason).ok_or_else(|| Refusal::field("$.reason", "is needed to enable an override"))?;
    let seconds =
        body.duration.ok_or_else(|| Refusal::field("$.duration", "is needed to enable an override"))?;
    if !body.acknowledge_risks {
        return Err(Refusal::field("$.acknowledge_risks", "must be true to enable an override"));
    }
    app.pin.demand(&[PinOperation::Override], body.pin.as_ref()).await?;
    app.auditor.intent(caller, "safety.override", Some(format!("{reason} ({seconds} s)"))).await?;
    let asked = app.clock.monotonic();
    let granted = overrides
        .request(caller.person(), &reason, Duration::from_secs(seconds))
        .map_err(|why| refused(app, &why))?;
    let note = format!("{reason} ({seconds} s)");
    match granted {
        OverrideGranted::Enabled(report) => {
            let until = asked + report.remaining;
            tokio::spawn(watch_end(app.clone(), report.reason.clone(), until));
            announce(app, "override_enabled", &format!("Safety override enabled: {reason}")).await?;
            Ok(Answer::noted(enabled(&report, seconds), None, Some(note)).into_response())
        }
        OverrideGranted::Proposed { constraints, expires_in } => {
            let expires_at = text::time(app.clock.wall() + expires_in);
            let who = caller.person();
            let asks = format!("{who} asks for a safety override, a second person must agree: {reason}");
            announce(app, "override_proposed", &asks).await?;
            let response = OverrideResponse {
                status: "override_proposed".into(),
                duration: None,
                expires_at: Some(expires_at),
                constraints_overridden: Vec::new(),
                warning: Some(format!("A second person must agree to override {}", constraints.join(", "))),
            };
            // Nothing is overridden yet, and the record says so.
            let note = Some(format!("proposed: {note}"));
            Ok((StatusCode::ACCEPTED, Answer::noted(response, None, note)).into_response())
        }
    }
}

fn enabled(report: &OverrideReport, seconds: u64) -> OverrideResponse {
    OverrideResponse {
        status: "override_enabled".into(),
        // Two people get the shorter of their durations.
        duration: Some(
            seconds.min(report.remaining.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX)),
        ),
        expires_at: Some(text::time(report.expires_at)),
        constraints_overridden: report.constraints.clone(),
        warning: Some("Safety constraints overridden. Proceed with caution.".into()),
    }
}

fn refused(app: &App, why: &OverrideRefused) -> Refusal {
    match why {
        OverrideRefused::NothingViolated => {
            Transport::InvalidRequest { path: None, what: why.to_string() }.into()
        }
        OverrideRefused::BadDuration { .. } => Refusal::field("$.duration", why.to_string()),
        OverrideRefused::NotOverridable { constraints } => {
            let report = app.engine.safety();
            let named = report.constraints.iter().filter(|c| constraints.contains(&c.name));
            OtaError::UpdateBlocked(named.map(Block::from).collect()).into()
        }
    }
}

async fn announce(app: &App, event: &'static str, message: &str) -> Result<(), Refusal> {
    let (bus, message) = (Arc::clone(app.engine.bus()), message.to_owned());
    blocking(move || bus.publish(EventKind::System { event: event.into(), message, countdown: None }))
        .await?;
    Ok(())
}

/// Announces the end of an override that ran out; one that was ended or replaced by hand has been announced there.
/// `until`: when it ends, on the monotonic clock, and not later than the engine ends it.
async fn watch_end(app: App, reason: String, until: Duration) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = app.stopping.cancelled() => return,
        }
        // The clock second: what has run out by then ran out before the look.
        let active = app.engine.safety().active_override.filter(|active| active.reason == reason);
        match after_look(active.map(|active| active.remaining), app.clock.monotonic() >= until) {
            Watch::On => {}
            Watch::Over => return,
            Watch::RanOut => {
                let _ = announce(&app, "override_expired", "Safety override has run out").await;
                app.auditor.by_itself("safety.override.expired", AuditOutcome::Ok, reason).await;
                return;
            }
        }
    }
}

/// What a look at an override says.
#[derive(Debug, PartialEq, Eq)]
enum Watch {
    /// It goes on.
    On,
    /// It has run out, and nobody else tells of it.
    RanOut,
    /// It was ended, or asked for once more: whoever did that tells of it.
    Over,
}

/// `remaining`: of the override, where it is on; `due`: it should have ended by now.
fn after_look(remaining: Option<Duration>, due: bool) -> Watch {
    match remaining {
        Some(remaining) if due && remaining > LOOK => Watch::Over,
        Some(_) => Watch::On,
        None if due => Watch::RanOut,
        None => Watch::Over,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_override_that_is_gone_when_it_is_due_ran_out_and_one_that_is_gone_before_was_ended() {
        let (blink, hour) = (Some(Duration::from_millis(1)), Some(Duration::from_secs(3600)));
        assert_eq!(after_look(None, true), Watch::RanOut);
        assert_eq!(after_look(None, false), Watch::Over);
        assert_eq!((after_look(hour, false), after_look(blink, false)), (Watch::On, Watch::On));
        // Due by our reckoning and not yet by the engine's; or another one with the same reason.
        assert_eq!((after_look(blink, true), after_look(hour, true)), (Watch::On, Watch::Over));
    }
}
