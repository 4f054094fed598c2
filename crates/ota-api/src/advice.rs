//! What people can do about a condition, in words: in the envelope of a refusal, and in the failure of a job. Owns the
//! sentences; which condition it is, others decide.

use ota_core::{ErrorCode, job::Failure};

/// What the caller can do about a refusal with this code.
#[must_use]
pub const fn of_code(code: ErrorCode) -> &'static [&'static str] {
    match code {
        ErrorCode::UpdateInProgress => {
            &["Follow the active job with updates/progress", "Cancel the active job"]
        }
        ErrorCode::UpdateBlocked => &[
            "Wait for operations to complete",
            "Schedule update during maintenance window",
            "Use safety override with proper authorization",
        ],
        ErrorCode::InsufficientSpace => &["Free up disk space", "Use an image that fits the partition"],
        ErrorCode::NetworkError => {
            &["Check network connection", "Start the download again; it goes on where it stopped"]
        }
        ErrorCode::InvalidImage => &["Check that the image was made for this model and is complete"],
        ErrorCode::SignatureInvalid => {
            &["Sign the image with a trusted key", "Check the gateway's keys and clock"]
        }
        ErrorCode::ChecksumMismatch => &["Transfer the image again"],
        ErrorCode::InvalidPartition => &["Leave target_partition out: the inactive partition is taken"],
        ErrorCode::ServerUnreachable => &["Verify network settings", "Check that the update server is up"],
        ErrorCode::InvalidPin => &[
            "Enter the PIN again",
            "Unlock or set it on the device: ota-gatewayd pin unlock, ota-gatewayd pin set",
        ],
        ErrorCode::FactoryResetNotAllowed => {
            &["Send the confirmation sentence exactly", "Ask who sets this device's policy"]
        }
        ErrorCode::RollbackNotAvailable => {
            &["Look at the partitions in system/status", "Install the wanted version instead"]
        }
        ErrorCode::JobNotFound => &["List the jobs with updates/jobs"],
        ErrorCode::SystemBusy => {
            &["Wait until the other operation has ended", "Install or cancel a job that waits"]
        }
        ErrorCode::MaintenanceActive => &["Wait until the service window closes"],
    }
}

/// What people can do about a job that failed, or whose trial waits for their judgement.
#[must_use]
pub fn of_failure(failure: &Failure) -> &'static [&'static str] {
    match (failure.code, failure.reason.as_deref()) {
        (Some(code), _) => of_code(code),
        (None, Some("health_check")) => &[
            "Look at what the health check says",
            "Mend the release, or the check in [health], and install again",
        ],
        (None, Some("did_not_boot" | "not_tried")) => &[
            "Look at the boot loader's messages on the console",
            "Check that the image boots on this model, and that the boot loader runs the U-Boot script",
        ],
        (None, Some("trial_lost")) => {
            &["Look into the log of the trial boot for a crash or a watchdog", "Install again"]
        }
        (None, Some("rejected")) => &["Ask who rejected it; their reason is the message"],
        (None, Some("running_slot_changed" | "install_attempts")) => {
            &["Check the gateway's power supply", "Install again"]
        }
        (None, _) => &["Look for the job in the gateway's log", "Start the update again"],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_of_a_job_has_something_to_do_about_it() {
        let reasons = [
            "health_check",
            "did_not_boot",
            "not_tried",
            "trial_lost",
            "rejected",
            "running_slot_changed",
            "install_attempts",
            "loop_guard",
        ];
        for failure in reasons.map(|reason| Failure::because(reason, "example")) {
            assert!(!of_failure(&failure).is_empty(), "{failure:?}");
        }
        for code in ErrorCode::ALL {
            let failure = Failure { code: Some(code), ..Failure::internal("example") };
            assert_eq!(of_failure(&failure), of_code(code));
            assert!(!of_code(code).is_empty(), "{code}");
        }
        assert!(!of_failure(&Failure::internal("example")).is_empty());
    }
}
