//! Views of the engine in the words of the API.

use ota_api::{
    jobs::{Waiting, failure_of},
    system::{
        BootInfo, Degradation, Gateway, LastUpdateInfo, PartitionInfo, Partitions, ResourceNumbers,
        ScheduledReset, SystemStatus,
    },
    text,
    updates::{ProgressNumbers, ProgressResponse, operation_sentence, state_sentence},
};
use ota_core::{
    ByteCount,
    event::Progress,
    job::{Job, JobState},
};
use ota_engine::{JobView, LiveProgress, PendingReset, SlotView, SystemView};

/// `updates/progress`.
pub(crate) fn progress(view: &JobView) -> ProgressResponse {
    let job = &view.job;
    let (current, total) = numbers(view);
    let speed = view.live.and_then(|live| live.bytes_per_second).filter(|_| moves(&job.state)).unwrap_or(0);
    let left = if moves(&job.state) { total.saturating_sub(current) } else { ByteCount::ZERO };
    ProgressResponse {
        job_id: job.id.to_string(),
        deployment_id: job.deployment.as_ref().map(ToString::to_string),
        status: job.state.status().into(),
        progress: ProgressNumbers {
            percentage: text::percent(current, total),
            bytes_downloaded: current.get(),
            bytes_total: total.get(),
            speed: text::speed(speed),
            bytes_per_second: speed,
        },
        current_operation: sentence(view).into(),
        eta: text::hms(text::seconds_for(left, Some(speed))),
        eta_seconds: (speed > 0 || left == ByteCount::ZERO).then(|| text::seconds_for(left, Some(speed))),
        version: job.release.version.to_string(),
        target_partition: job.target.into(),
        ended: job.state.is_end(),
        waiting_for: Waiting::of(&job.state),
        failure: failure_of(job),
        updated_at: text::time(job.updated),
    }
}

/// Whether bytes are being moved, or will be without anybody asking.
const fn moves(state: &JobState) -> bool {
    matches!(
        state,
        JobState::Queued
            | JobState::Downloading { .. }
            | JobState::Paused { .. }
            | JobState::Verifying
            | JobState::Fencing { .. }
            | JobState::Writing { .. }
    )
}

fn live(view: &JobView) -> Option<LiveProgress> {
    view.live.filter(|live| moves(&view.job.state) && live.total.get() > 0)
}

fn sentence(view: &JobView) -> &'static str {
    let paused = matches!(view.job.state, JobState::Paused { .. });
    live(view)
        .filter(|_| !paused)
        .map_or_else(|| state_sentence(&view.job.state), |live| operation_sentence(live.operation))
}

/// Bytes done and to do in the current phase.
fn numbers(view: &JobView) -> (ByteCount, ByteCount) {
    let size = view.job.release.size;
    if let Some(live) = live(view) {
        return (live.current, live.total);
    }
    let current = match view.job.state {
        JobState::Downloading { have, .. } | JobState::Paused { have } => have,
        JobState::Writing { written, .. } => written,
        JobState::Queued | JobState::Verifying | JobState::Fencing { .. } => ByteCount::ZERO,
        JobState::Failed { .. } | JobState::Cancelled { .. } if view.job.image.is_none() => ByteCount::ZERO,
        _ => size,
    };
    (current, size)
}

/// The last progress of a job, as the stream would say it.
pub(crate) fn last_progress(job: &Job, live: &LiveProgress) -> Progress {
    Progress {
        job: job.id.clone(),
        operation: live.operation,
        current: live.current,
        total: live.total,
        bytes_per_second: live.bytes_per_second,
        last: false,
    }
}

/// `system/status`.
pub(crate) fn system(view: &SystemView) -> SystemStatus {
    SystemStatus {
        gateway: Gateway {
            name: view.identity.name.clone(),
            model: view.identity.model.clone(),
            serial: view.identity.serial.clone(),
        },
        partitions: Partitions {
            active: view.active.as_ref().map(partition),
            inactive: view.inactive.as_ref().map(partition),
        },
        resources: ResourceNumbers::from(view.resources),
        last_update: view.last_update.as_ref().map(LastUpdateInfo::from),
        system_status: view.state.into(),
        degraded: view
            .degraded
            .iter()
            .map(|(reason, message)| Degradation { reason: reason.clone(), message: message.clone() })
            .collect(),
        boot: view.boot.as_ref().map(BootInfo::from),
        active_job: view.active_job.as_ref().map(|job| job.id.to_string()),
        factory_reset: view.reset.as_ref().map(reset),
        allow_unsigned: view.allow_unsigned,
        last_good_check: view.last_good_check.map(text::time),
        timestamp: text::time(view.now),
    }
}

fn reset(pending: &PendingReset) -> ScheduledReset {
    let order = pending.order.as_ref();
    ScheduledReset {
        message: pending.message.clone(),
        requested_by: order.map(|order| order.by.clone()),
        requested_at: order.map(|order| text::time(order.at)),
        backup: order.and_then(|order| order.backup.as_ref()).map(ToString::to_string),
    }
}

fn partition(slot: &SlotView) -> PartitionInfo {
    PartitionInfo {
        name: slot.slot.into(),
        version: slot.record.version.as_ref().map(ToString::to_string),
        boot_count: slot.record.boot_count,
        last_boot: slot.record.last_boot.map(text::time),
        state: slot.state.into(),
        checksum: slot.record.sha256.as_ref().map(|digest| format!("sha256:{digest}")),
        image_size: slot.record.size.map(ByteCount::get),
        capacity: slot.capacity.map(ByteCount::get),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ota_core::event::Operation;
    use ota_testkit::samples;

    fn view(state: JobState, live: Option<LiveProgress>) -> JobView {
        let mut job = samples::job(1, samples::release("v5.0.5", &[0; 1000]));
        job.state = state;
        JobView { job, live }
    }

    #[test]
    fn a_running_download_shows_its_own_numbers() {
        let live = LiveProgress {
            operation: Operation::Downloading,
            current: ByteCount(655),
            total: ByteCount(1000),
            bytes_per_second: Some(5),
        };
        let shown = progress(&view(JobState::Downloading { have: ByteCount(0), held: None }, Some(live)));
        assert!((shown.progress.percentage - 65.5).abs() < 0.01);
        assert_eq!((shown.eta.as_str(), shown.eta_seconds), ("00:01:09", Some(69)));
        assert_eq!(shown.current_operation, "Downloading update package");
    }

    #[test]
    fn a_downloaded_job_is_at_a_hundred_and_needs_no_time() {
        let shown = progress(&view(JobState::Downloaded, None));
        assert!((shown.progress.percentage - 100.0).abs() < f64::EPSILON);
        assert_eq!((shown.eta.as_str(), shown.eta_seconds), ("00:00:00", Some(0)));
    }

    #[test]
    fn without_a_measured_speed_the_estimate_has_no_twin() {
        let shown = progress(&view(JobState::Queued, None));
        assert_eq!((shown.eta.as_str(), shown.eta_seconds), ("00:00:01", None));
    }
}
