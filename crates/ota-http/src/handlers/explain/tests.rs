//! What is told of a job in each of its states.

use ota_core::{
    ByteCount,
    job::{End, Failure, Held, table},
    safety::Block,
};
use ota_engine::WindowView;

use super::*;

fn crane() -> Block {
    Block {
        constraint: "crane_motion".into(),
        status: "moving".into(),
        message: "Crane movement detected".into(),
        detected_at: None,
        resolution: "Wait for crane to stop".into(),
        estimated_wait: None,
        on_violation: ota_core::safety::OnViolation::HoldReboot,
    }
}

/// A job whose install was asked for, or not; `blocked`: the steps that the crane holds back.
fn view(state: JobState, asked: bool, blocked: &[SafetyStep]) -> ota_engine::Explanation {
    let mut job = table::sample(JobKind::Update, state);
    job.install = job.install.filter(|_| asked);
    let verdict = |step: SafetyStep| Verdict {
        blocks: if blocked.contains(&step) { vec![crane()] } else { Vec::new() },
        ..Verdict::default()
    };
    let downloads =
        matches!(job.state, JobState::Queued | JobState::Downloading { .. } | JobState::Paused { .. });
    let download = downloads.then_some(SafetyStep::Download);
    let steps = download.into_iter().chain([SafetyStep::Write, SafetyStep::Switch, SafetyStep::Reboot]);
    ota_engine::Explanation {
        job: Some(job),
        strategy: ota_core::job::Strategy::Seamless,
        steps: steps.map(|step| (step, verdict(step))).collect(),
        work: None,
        window: WindowView { needed: false, open: None, fits: false, next: None, clock_trusted: true },
        obstacles: Vec::new(),
        alone: None,
    }
}

fn failed() -> Failure {
    Failure::internal("the modem does not answer")
}

#[test]
fn every_state_says_whether_it_goes_on_by_itself_or_who_must_do_what() {
    use Forecast::{AwaitPeople, Nothing, Start, StartThenWait};
    let have = ByteCount(1);
    let end = || End::Failed { why: failed() };
    let rows = [
        (JobState::Queued, false, StartThenWait, "has not been asked for", ""),
        (JobState::Downloading { have, held: None }, false, StartThenWait, "has not been asked for", ""),
        (JobState::Paused { have }, false, AwaitPeople, "was paused by hand", "updates/resume"),
        (JobState::Verifying, false, StartThenWait, "has not been asked for", ""),
        (JobState::Downloaded, false, Start, "would run to its end", ""),
        (JobState::Scheduled, true, Start, "would run to its end", ""),
        (JobState::Fencing { held: None }, true, Start, "would run to its end", ""),
        (JobState::Writing { written: have, held: None }, true, Start, "would run to its end", ""),
        (JobState::Installed { held: None }, true, Start, "would run to its end", ""),
        (JobState::Armed { held: None }, true, Start, "would run to its end", ""),
        (
            JobState::Armed { held: Some(Held::ExternalReboot) },
            true,
            AwaitPeople,
            "waits for somebody to reboot",
            "Reboot the gateway",
        ),
        (JobState::Rebooting, true, Start, "would run to its end", ""),
        (JobState::Confirming { unhealthy: None }, true, Start, "would run to its end", ""),
        (
            JobState::Confirming { unhealthy: Some(failed()) },
            true,
            AwaitPeople,
            "waits for somebody to judge it",
            "updates/confirm",
        ),
        (JobState::Committing, true, Start, "would run to its end", ""),
        (JobState::FallingBack { end: end() }, true, Start, "is being undone", ""),
        (JobState::Undoing { end: end() }, true, Start, "is being undone", ""),
        (JobState::Succeeded, true, Nothing, "has ended", ""),
        (JobState::Failed { why: failed() }, true, Nothing, "has ended", ""),
        (JobState::Cancelled { reason: "x".into() }, true, Nothing, "has ended", ""),
        (JobState::RolledBack { why: failed() }, true, Nothing, "has ended", ""),
    ];
    for (state, asked, forecast, message, action) in rows {
        let name = state.name();
        let told = told(&view(state, asked, &[]));
        assert_eq!(told.forecast, forecast, "{name}");
        assert!(told.message.contains(message), "{name}: {}", told.message);
        let actions = told.suggested_actions.join(" ");
        assert!(actions.contains(action) && actions.is_empty() == action.is_empty(), "{name}: {actions}");
    }
}

#[test]
fn what_holds_back_a_step_is_told_beside_what_people_have_to_do() {
    let waits = view(JobState::Armed { held: Some(Held::ExternalReboot) }, true, &[SafetyStep::Reboot]);
    let waits = told(&waits);
    assert_eq!(waits.forecast, Forecast::AwaitPeople);
    assert!(waits.message.ends_with("Reboot is held back by crane_motion (moving)."), "{}", waits.message);
    assert_eq!(waits.suggested_actions.len(), 2, "{:?}", waits.suggested_actions);
    let held = JobState::Armed { held: Some(Held::Safety(vec![crane()])) };
    assert_eq!(told(&view(held, true, &[SafetyStep::Write])).forecast, Forecast::Wait);
    let downloading = || JobState::Downloading { have: ByteCount(1), held: None };
    assert_eq!(told(&view(downloading(), false, &[SafetyStep::Write])).forecast, Forecast::StartThenWait);
    assert_eq!(told(&view(downloading(), false, &[SafetyStep::Download])).forecast, Forecast::Wait);
    assert_eq!(
        told(&view(JobState::Verifying, false, &[SafetyStep::Write])).forecast,
        Forecast::StartThenWait
    );
}

#[test]
fn a_scheduled_job_waits_for_what_has_the_gateway_to_itself() {
    let mut scheduled = view(JobState::Scheduled, true, &[]);
    scheduled.alone = Some("a snapshot is being made".into());
    let told = told(&scheduled);
    assert_eq!(told.forecast, Forecast::Wait);
    assert!(told.message.contains("Meanwhile a snapshot is being made."), "{}", told.message);
}
