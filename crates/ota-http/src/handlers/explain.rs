//! `updates/explain`: a dry run, told in words.

use axum::extract::State;
use ota_api::{
    explain::{ExplainRequest, Explanation, Forecast, Obstacle, StepForecast, StepOutcome, WindowForecast},
    jobs::Blocking,
    text,
    windows::WindowOpening,
    words::Step,
};
use ota_core::{
    job::{Held, Job, JobKind, JobState},
    ports::Role,
    safety::{SafetyStep, Verdict},
};
use ota_engine::JobRef;
use utoipa_axum::routes;

use crate::{
    app::App,
    extract::{Answer, OptionalJson},
    router::Routes,
    status::Refusal,
};

pub(crate) fn routes() -> Routes {
    Routes::new().change(Role::Viewer, "updates.explain", routes!(explain))
}

/// What would happen now, what holds it back, until when, and what to do. Changes nothing.
#[utoipa::path(post, path = "/updates/explain", tag = "updates", request_body(content = Option<ExplainRequest>), responses(
    (status = 200, body = Explanation),
    (status = 404, description = "OTA_013"),
))]
async fn explain(
    State(app): State<App>,
    OptionalJson(body): OptionalJson<ExplainRequest>,
) -> Result<Answer<Explanation>, Refusal> {
    let request = ota_engine::ExplainRequest {
        job: body.job_id.as_deref().map(JobRef::parse).transpose()?,
        strategy: body.strategy.map(Into::into),
    };
    let view = app.engine.explain(request).await?;
    Ok(Answer::noted(told(&view), view.job.map(|job| job.id), None))
}

fn told(view: &ota_engine::Explanation) -> Explanation {
    let forecast = forecast(view);
    let seconds = view.work.map(|work| work.as_secs());
    Explanation {
        forecast,
        message: sentence(view, forecast),
        job_id: view.job.as_ref().map(|job| job.id.to_string()),
        status: view.job.as_ref().map(|job| job.state.status().into()),
        strategy: view.strategy.into(),
        steps: view.steps.iter().map(|(step, verdict)| step_forecast(*step, verdict)).collect(),
        estimated_duration: seconds.map(text::hms),
        estimated_duration_seconds: seconds,
        window: WindowForecast {
            needed: view.window.needed,
            open: view.window.open.as_ref().map(WindowOpening::from),
            fits: view.window.fits,
            next: view.window.next.as_ref().map(WindowOpening::from),
            clock_trusted: view.window.clock_trusted,
        },
        obstacles: view.obstacles.iter().map(|(name, message)| obstacle(name, message)).collect(),
        suggested_actions: actions(view),
    }
}

fn obstacle(name: &str, message: &str) -> Obstacle {
    Obstacle { name: name.into(), message: message.into() }
}

fn step_forecast(step: SafetyStep, verdict: &Verdict) -> StepForecast {
    StepForecast {
        step: step.into(),
        outcome: match (&verdict.service, verdict.allowed()) {
            (Some(_), _) => StepOutcome::Deny,
            (None, true) => StepOutcome::Allow,
            (None, false) => StepOutcome::Wait,
        },
        not_before: verdict.earliest.filter(|_| !verdict.allowed()).map(text::time),
        reasons: verdict.blocks.iter().map(Blocking::from).collect(),
    }
}

/// Steps of an update in their order; the others are asked for by themselves.
fn of_an_update(view: &ota_engine::Explanation) -> impl Iterator<Item = &(SafetyStep, Verdict)> {
    let other = [SafetyStep::Reset, SafetyStep::Rollback, SafetyStep::Deploy];
    let whole = view.job.is_none();
    view.steps.iter().filter(move |(step, _)| !whole || !other.contains(step))
}

fn forecast(view: &ota_engine::Explanation) -> Forecast {
    if view.job.as_ref().is_some_and(|job| job.state.is_end()) {
        return Forecast::Nothing;
    }
    if awaited(view).is_some() {
        return Forecast::AwaitPeople;
    }
    // Nothing refuses a job that is under way: it may fail of what stands in its way, or that may be gone by then.
    if !view.obstacles.is_empty() && !view.job.as_ref().is_some_and(is_under_way) {
        return Forecast::Refuse;
    }
    let mut steps = of_an_update(view).map(|(_, verdict)| verdict.allowed());
    let (next, later) = (steps.next().unwrap_or(true), steps.all(|allowed| allowed));
    let under_way = view.job.as_ref().is_some_and(is_under_way);
    let waits_for_window =
        view.window.needed && !(under_way && view.window.open.is_some()) && !view.window.fits;
    match (next, later) {
        _ if view.job.as_ref().is_some_and(only_downloads) && !download_held(view) => Forecast::StartThenWait,
        _ if waits_for_window || waits_for_its_turn(view) => Forecast::Wait,
        (true, true) => Forecast::Start,
        (true, false) => Forecast::StartThenWait,
        (false, _) if under_way || view.window.needed => Forecast::Wait,
        (false, _) => Forecast::Refuse,
    }
}

/// Whether the job goes on by itself: then what is not allowed waits instead of being refused.
fn is_under_way(job: &Job) -> bool {
    !matches!(job.state, JobState::Queued | JobState::Paused { .. } | JobState::Downloaded)
}

/// Whether the job ends its way in staging for now.
fn only_downloads(job: &Job) -> bool {
    let before = matches!(job.state, JobState::Queued | JobState::Downloading { .. } | JobState::Verifying);
    before && job.kind == JobKind::Update && job.install.is_none()
}

fn download_held(view: &ota_engine::Explanation) -> bool {
    view.steps.iter().any(|(step, verdict)| *step == SafetyStep::Download && !verdict.allowed())
}

/// Whether the job would begin to write, but for what has the gateway to itself.
fn waits_for_its_turn(view: &ota_engine::Explanation) -> bool {
    view.alone.is_some() && view.job.as_ref().is_some_and(|job| job.state == JobState::Scheduled)
}

/// Why the job stands still until somebody does something, and what that is.
fn awaited(view: &ota_engine::Explanation) -> Option<(&'static str, &'static str)> {
    let state = &view.job.as_ref()?.state;
    match state {
        JobState::Paused { .. } => Some((
            "was paused by hand and waits for somebody to resume it",
            "Resume the download (updates/resume), or cancel it",
        )),
        _ if matches!(state.held(), Some(Held::ExternalReboot)) => Some((
            "is installed and waits for somebody to reboot the gateway",
            "Reboot the gateway, or ask for the install again with reboot_after (updates/install)",
        )),
        JobState::Confirming { unhealthy: Some(_) } => Some((
            "failed its health check, and its trial waits for somebody to judge it",
            "Confirm the new version (updates/confirm), or reject it (updates/reject)",
        )),
        _ => None,
    }
}

/// What is told of a job that goes on by itself, in other words than those of a request.
fn under_way(job: &Job) -> Option<&'static str> {
    match job.state {
        JobState::FallingBack { .. } | JobState::Undoing { .. } => Some("is being undone and ends by itself"),
        _ if only_downloads(job) => {
            Some("goes on until it is downloaded; its install has not been asked for")
        }
        _ => None,
    }
}

fn sentence(view: &ota_engine::Explanation, forecast: Forecast) -> String {
    let what = view.job.as_ref().map_or_else(|| "An update".to_owned(), |job| format!("Job {}", job.id));
    let held = held(view).map_or_else(String::new, |(step, names)| {
        format!(" {} is held back by {names}.", capital(Step::from(step).as_str()))
    });
    let (window, goes_on) = (window_sentence(view), view.job.as_ref().and_then(under_way));
    let turn = view.alone.as_ref().filter(|_| waits_for_its_turn(view));
    let turn = turn.map_or_else(String::new, |alone| format!(" Meanwhile {alone}."));
    let said = match (forecast, goes_on) {
        (Forecast::Start | Forecast::StartThenWait, Some(goes_on)) => {
            format!("{what} {goes_on}.{window}{held}")
        }
        (Forecast::Start, None) => format!("{what} would run to its end now."),
        (Forecast::StartThenWait, None) => format!("{what} would start now and then wait.{held}"),
        (Forecast::Wait, _) => format!("{what} waits and goes on by itself.{turn}{window}{held}"),
        (Forecast::AwaitPeople, _) => format!("{what} {}.{held}", awaited(view).unwrap_or_default().0),
        (Forecast::Refuse, _) => format!("{what} would be refused now.{held}"),
        (Forecast::Nothing, _) => format!("{what} has ended."),
    };
    view.obstacles.iter().fold(said, |said, (_, why)| format!("{said} {}.", capital(why)))
}

/// The first step that may not happen, and by what.
fn held(view: &ota_engine::Explanation) -> Option<(SafetyStep, String)> {
    let (step, verdict) = of_an_update(view).find(|(_, verdict)| !verdict.allowed())?;
    let name = |block: &ota_core::safety::Block| format!("{} ({})", block.constraint, block.status);
    Some((*step, verdict.blocks.iter().map(name).collect::<Vec<_>>().join(", ")))
}

fn window_sentence(view: &ota_engine::Explanation) -> String {
    let window = &view.window;
    if !window.needed || window.fits {
        return String::new();
    }
    let needs = view.work.map_or_else(String::new, |work| format!(" of {}", text::hms(work.as_secs())));
    match (&window.open, &window.next) {
        _ if !window.clock_trusted => " The clock is not trusted, so no window is open.".into(),
        (Some(open), _) => format!(" Its work{needs} does not fit before {} closes.", open.window),
        (None, Some(next)) => {
            format!(" The next window, {}, opens at {}.", next.window, text::rfc3339(next.opens))
        }
        (None, None) => " No update window is configured.".into(),
    }
}

fn actions(view: &ota_engine::Explanation) -> Vec<String> {
    let mut actions: Vec<String> = Vec::new();
    let mut note = |action: String| {
        if !action.is_empty() && !actions.contains(&action) {
            actions.push(action);
        }
    };
    if let Some((_, action)) = awaited(view) {
        note(action.to_owned());
    }
    for (_, verdict) in of_an_update(view) {
        if let Some(service) = &verdict.service {
            note(format!(
                "Wait until the service window {} closes at {}",
                service.window,
                text::rfc3339(service.closes)
            ));
        }
        verdict.blocks.iter().for_each(|block| note(block.resolution.clone()));
    }
    if view.window.needed && !view.window.fits {
        match (&view.window.open, &view.window.next) {
            _ if !view.window.clock_trusted => note("Let the clock be synchronised".into()),
            (Some(_), _) => note("Configure a longer update window, or install with another strategy".into()),
            (None, Some(_)) => {
                note("Wait for the next update window, or install with another strategy".into())
            }
            (None, None) => note("Configure an update window, or install with another strategy".into()),
        }
    }
    if !view.obstacles.is_empty() {
        note("Look at degraded in system/status".into());
    }
    actions
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
mod tests;
