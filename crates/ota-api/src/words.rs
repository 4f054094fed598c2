//! The closed sets of words on the wire, each the twin of a type in `ota-core`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

macro_rules! twin {
    ($(#[$doc:meta])* $name:ident, $core:ty, $case:tt { $($variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
        #[serde(rename_all = $case)]
        #[expect(missing_docs, reason = "the names are the words of the contract")]
        pub enum $name {
            $($variant),+
        }

        impl $name {
            /// Every value.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word on the wire.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word),+
                }
            }
        }

        impl From<$core> for $name {
            fn from(core: $core) -> Self {
                match core {
                    $(<$core>::$variant => Self::$variant),+
                }
            }
        }

        impl From<$name> for $core {
            fn from(wire: $name) -> Self {
                match wire {
                    $($name::$variant => Self::$variant),+
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}

twin! {
    /// Where a job stands.
    JobStatus, ota_core::job::JobStatus, "snake_case" {
        Queued = "queued", Downloading = "downloading", Paused = "paused", Verifying = "verifying",
        Downloaded = "downloaded", Scheduled = "scheduled", Installing = "installing", Rebooting = "rebooting",
        Confirming = "confirming", Succeeded = "succeeded", Failed = "failed", Cancelled = "cancelled",
        RolledBack = "rolled_back",
    }
}

twin! {
    /// Share of speed and IO.
    Priority, ota_core::job::Priority, "snake_case" {
        Low = "low", Normal = "normal", High = "high", Critical = "critical",
    }
}

twin! {
    /// When and how an install runs.
    Strategy, ota_core::job::Strategy, "snake_case" {
        Seamless = "seamless", MaintenanceWindow = "maintenance_window", Immediate = "immediate",
    }
}

twin! {
    /// Where the image of a job comes from.
    JobKind, ota_core::job::JobKind, "snake_case" {
        Update = "update", Deployment = "deployment", Rollback = "rollback",
    }
}

twin! {
    /// A root partition.
    Partition, ota_core::Slot, "UPPERCASE" { A = "A", B = "B" }
}

twin! {
    /// What a partition is good for.
    PartitionState, ota_core::ports::SlotState, "snake_case" {
        Good = "good", Bad = "bad", Trial = "trial", Empty = "empty",
    }
}

twin! {
    /// Whether a safety constraint holds. `unknown` counts as violated.
    ConstraintStatus, ota_core::safety::ConstraintState, "snake_case" {
        Ok = "ok", Violated = "violated", Unknown = "unknown",
    }
}

twin! {
    /// How much something matters.
    Severity, ota_core::safety::Severity, "snake_case" {
        Info = "info", Warning = "warning", Error = "error", Critical = "critical",
    }
}

twin! {
    /// A step of an update that a constraint may hold back.
    Step, ota_core::safety::SafetyStep, "snake_case" {
        Download = "download", Write = "write", Switch = "switch", Reboot = "reboot", Rollback = "rollback",
        Reset = "reset", Deploy = "deploy",
    }
}

twin! {
    /// What a violation does to work that is under way. The switch and the reboot wait in any case.
    OnViolation, ota_core::safety::OnViolation, "snake_case" {
        HoldReboot = "hold_reboot", PauseWrite = "pause_write", Abort = "abort",
    }
}

twin! {
    /// What a window is for.
    WindowKind, ota_core::safety::WindowKind, "snake_case" { Update = "update", Service = "service" }
}

twin! {
    /// The gateway as a whole.
    SystemStatusWord, ota_core::event::SystemState, "snake_case" {
        Idle = "idle", Downloading = "downloading", Updating = "updating", RebootPending = "reboot_pending",
        Rebooting = "rebooting", Confirming = "confirming", Degraded = "degraded",
    }
}

twin! {
    /// A part of a job that a client asks for as one.
    Phase, ota_core::event::Phase, "snake_case" { Download = "download", Install = "install" }
}

twin! {
    /// How a phase ended.
    Outcome, ota_core::event::Outcome, "snake_case" {
        Success = "success", Failed = "failed", Cancelled = "cancelled", RolledBack = "rolled_back",
    }
}

twin! {
    /// What a token lets its holder do; each includes the ones before it.
    Role, ota_core::ports::Role, "snake_case" {
        Viewer = "viewer", Operator = "operator", Admin = "admin",
    }
}

twin! {
    /// How an audited action ended.
    AuditOutcome, ota_core::ports::AuditOutcome, "snake_case" {
        Ok = "ok", Refused = "refused", Failed = "failed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<T: Serialize + Copy>(all: &[T], word: fn(T) -> &'static str) {
        for value in all {
            assert_eq!(serde_json::to_value(value).unwrap(), word(*value));
        }
    }

    #[test]
    fn every_word_is_serialised_as_it_is_named() {
        check(JobStatus::ALL, JobStatus::as_str);
        check(Priority::ALL, Priority::as_str);
        check(Strategy::ALL, Strategy::as_str);
        check(JobKind::ALL, JobKind::as_str);
        check(Partition::ALL, Partition::as_str);
        check(PartitionState::ALL, PartitionState::as_str);
        check(ConstraintStatus::ALL, ConstraintStatus::as_str);
        check(Severity::ALL, Severity::as_str);
        check(Step::ALL, Step::as_str);
        check(OnViolation::ALL, OnViolation::as_str);
        check(WindowKind::ALL, WindowKind::as_str);
        check(SystemStatusWord::ALL, SystemStatusWord::as_str);
        check(Phase::ALL, Phase::as_str);
        check(Outcome::ALL, Outcome::as_str);
        check(Role::ALL, Role::as_str);
        check(AuditOutcome::ALL, AuditOutcome::as_str);
    }
}
