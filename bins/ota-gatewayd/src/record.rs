//! Audit records of what is done without a request.

use ota_core::ports::{AuditEntry, AuditOutcome};

/// A record of what `actor` (`gateway`, or `cli` for a person on the device) does.
pub(crate) fn by(actor: &str, action: &str, reason: String) -> AuditEntry {
    AuditEntry {
        actor: actor.into(),
        role: None,
        address: None,
        action: action.into(),
        outcome: AuditOutcome::Ok,
        request_id: None,
        job: None,
        reason: Some(reason),
    }
}
