//! The JSON examples of the user's API, read into our types and written back: every field keeps its name and value.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{
    ErrorEnvelope, safety, system, updates, upload,
    ws::{self, Message},
};

/// Fills what the spec leaves out with `extra`, then demands that everything of `example` comes back unchanged.
fn check<T: Serialize + DeserializeOwned>(example: Value, extra: Value) {
    let mut given = example.clone();
    merge(&mut given, extra);
    let read: T = serde_json::from_value(given).unwrap();
    covers(&serde_json::to_value(&read).unwrap(), &example, "$");
}

fn merge(into: &mut Value, extra: Value) {
    match (into, extra) {
        (Value::Object(into), Value::Object(extra)) => {
            for (key, value) in extra {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (Value::Array(into), Value::Array(extra)) => {
            for (item, value) in into.iter_mut().zip(extra) {
                merge(item, value);
            }
        }
        (into, extra) => *into = extra,
    }
}

fn covers(written: &Value, example: &Value, path: &str) {
    match (written, example) {
        (Value::Object(written), Value::Object(example)) => {
            for (key, value) in example {
                let path = format!("{path}.{key}");
                covers(written.get(key).unwrap_or_else(|| panic!("{path} is lost")), value, &path);
            }
        }
        (Value::Array(written), Value::Array(example)) => {
            assert_eq!(written.len(), example.len(), "{path}");
            for (n, value) in example.iter().enumerate() {
                covers(&written[n], value, &format!("{path}[{n}]"));
            }
        }
        (Value::Number(written), Value::Number(example)) => {
            assert_eq!(written.as_f64(), example.as_f64(), "{path}")
        }
        _ => assert_eq!(written, example, "{path}"),
    }
}

#[test]
fn requests_are_read_as_the_spec_writes_them() {
    check::<updates::DownloadRequest>(
        json!({"update_id": "update_12345", "target_partition": "B", "priority": "normal", "verify_signature": true}),
        json!({}),
    );
    check::<updates::InstallRequest>(
        json!({"job_id": "OTA-JOB-8821X", "strategy": "seamless", "reboot_after": true, "rollback_on_failure": true}),
        json!({}),
    );
    check::<updates::CancelRequest>(
        json!({"job_id": "OTA-JOB-8821X", "reason": "User requested cancellation"}),
        json!({}),
    );
    check::<updates::RollbackRequest>(
        json!({"target_version": "v5.0.4", "reason": "New version has compatibility issues", "pin": "7392"}),
        json!({}),
    );
    check::<updates::FactoryResetRequest>(
        json!({"pin": "7392", "backup_settings": true, "confirmation": "I understand this will erase all data"}),
        json!({}),
    );
    check::<upload::VerifyRequest>(
        json!({"filename": "custom-v5.1.0.img", "verify_signature": true, "check_compatibility": true}),
        json!({}),
    );
    check::<upload::DeployRequest>(
        json!({"filename": "custom-v5.1.0.img", "target_partition": "B", "strategy": "seamless", "pin": "7392"}),
        json!({}),
    );
    check::<safety::OverrideRequest>(
        json!({"enable": true, "pin": "7392", "reason": "Emergency security update", "duration": 1800, "acknowledge_risks": true}),
        json!({}),
    );
}

#[test]
fn what_the_examples_leave_out_has_the_defaults_of_the_contract() {
    let download: updates::DownloadRequest = serde_json::from_value(json!({"update_id": "u"})).unwrap();
    assert!(download.verify_signature && download.priority.is_none() && download.target_partition.is_none());
    let install: updates::InstallRequest = serde_json::from_value(json!({"job_id": "x"})).unwrap();
    assert!(!install.reboot_after && install.rollback_on_failure && install.strategy.is_none());
}

#[test]
fn answers_of_updates_keep_the_fields_of_the_spec() {
    check::<updates::CheckResponse>(
        json!({"available": true, "updates": [{"id": "update_12345", "version": "v5.0.5",
            "description": "Security patches and performance improvements", "size": 452_000_000,
            "release_date": "2025-03-10T14:30:00Z", "critical": true, "requires_reboot": true}]}),
        json!({}),
    );
    check::<updates::DownloadResponse>(
        json!({"status": "started", "job_id": "OTA-JOB-8821X", "estimated_duration": "00:05:30",
            "message": "Download started successfully"}),
        json!({"estimated_duration_seconds": 330}),
    );
    check::<updates::ProgressResponse>(
        json!({"job_id": "OTA-JOB-8821X", "status": "downloading", "progress": {"percentage": 65.5,
            "bytes_downloaded": 295_000_000, "bytes_total": 452_000_000, "speed": "5.2MB/s"},
            "current_operation": "Downloading update package", "eta": "00:02:15"}),
        json!({"progress": {"bytes_per_second": 5_200_000}, "version": "v5.0.5", "target_partition": "B", "ended": false,
            "updated_at": "2025-03-15T10:30:45Z"}),
    );
    check::<updates::InstallResponse>(
        json!({"status": "installing", "message": "Update installation in progress", "requires_reboot": true,
            "estimated_duration": "00:03:00"}),
        json!({"estimated_duration_seconds": 180, "job_id": "OTA-JOB-8821X"}),
    );
    check::<updates::JobResponse>(
        json!({"status": "cancelled", "message": "Update operation cancelled successfully"}),
        json!({"job_id": "OTA-JOB-8821X"}),
    );
    check::<updates::RollbackResponse>(
        json!({"status": "rollback_started", "message": "Rolling back to version v5.0.4", "estimated_duration": "00:04:00"}),
        json!({"estimated_duration_seconds": 240, "job_id": "OTA-JOB-8821X"}),
    );
    check::<updates::FactoryResetResponse>(
        json!({"status": "reset_scheduled", "message": "Factory reset scheduled for next boot", "reboot_required": true}),
        json!({}),
    );
}

#[test]
fn answers_of_uploads_keep_the_fields_of_the_spec() {
    check::<upload::UploadResponse>(
        json!({"status": "uploaded", "file": {"name": "custom-v5.1.0.img", "size": 452_000_000, "version": "v5.1.0-custom",
            "checksum": "sha256:abc123..."}, "verification_required": true}),
        json!({}),
    );
    check::<upload::VerifyResponse>(
        json!({"status": "verified", "file": {"name": "custom-v5.1.0.img", "version": "v5.1.0-custom",
            "signature_valid": true, "compatible": true, "partition_layout": "standard"}, "ready_for_deployment": true}),
        json!({"file": {"checksum": "sha256:00", "size": 1}}),
    );
    check::<upload::DeployResponse>(
        json!({"status": "deployment_started", "deployment_id": "DEP-12345", "message": "Custom image deployment in progress"}),
        json!({"job_id": "OTA-JOB-8821X"}),
    );
}

#[test]
fn answers_of_safety_and_system_keep_the_fields_of_the_spec() {
    let more = json!({"reading": "moving", "severity": "warning", "overridable": true, "overridden": false, "blocks": ["reboot"],
        "resolution": "wait"});
    check::<safety::SafetyStatus>(
        json!({"update_allowed": false, "constraints": [
            {"name": "crane_motion", "status": "violated", "message": "Crane movement detected", "since": "2025-03-15T10:25:30Z"},
            {"name": "high_temperature", "status": "ok", "message": "Temperature within limits"}],
            "maintenance_window": {"active": false, "next_window": "2025-03-16T02:00:00Z"}}),
        json!({"constraints": [more, more]}),
    );
    check::<safety::OverrideResponse>(
        json!({"status": "override_enabled", "duration": 1800, "expires_at": "2025-03-15T11:00:30Z",
            "constraints_overridden": ["crane_motion"], "warning": "Safety constraints overridden. Proceed with caution."}),
        json!({}),
    );
    check::<system::SystemStatus>(
        json!({"gateway": {"name": "iot-gateway-01", "model": "IGW-5000", "serial": "SN123456789"},
            "partitions": {
                "active": {"name": "A", "version": "v5.0.4", "boot_count": 42, "last_boot": "2025-03-15T08:00:00Z"},
                "inactive": {"name": "B", "version": "v5.0.3", "boot_count": 38}},
            "resources": {"disk_free": 15_000_000_000_u64, "memory_free": 800_000_000, "cpu_load": 0.25},
            "last_update": {"version": "v5.0.4", "timestamp": "2025-03-10T14:30:00Z", "status": "success"}}),
        json!({"partitions": {"active": {"state": "good"}, "inactive": {"state": "good"}}, "system_status": "idle",
            "allow_unsigned": false, "timestamp": "2025-03-15T08:00:00Z"}),
    );
    check::<ErrorEnvelope>(
        json!({"error": true, "code": "UPDATE_BLOCKED", "message": "Update blocked by safety constraints",
            "details": {"constraint": "crane_motion", "status": "moving", "detected_at": "2025-03-15T10:30:45Z",
                "resolution": "Wait for crane to stop or use force override with PIN", "estimated_wait": "00:02:30"},
            "suggested_actions": ["Wait for operations to complete"], "request_id": "req_abc123",
            "timestamp": "2025-03-15T10:30:45Z"}),
        json!({"name": "UPDATE_BLOCKED"}),
    );
}

#[test]
fn messages_of_the_web_socket_keep_the_fields_of_the_spec() {
    let messages = [
        json!({"type": "progress_update", "job_id": "OTA-JOB-8821X", "progress": 85, "current_operation": "writing_partition",
            "eta": "00:05:00", "details": {"bytes_written": "385MB", "bytes_total": "452MB", "speed": "5.2MB/s"}}),
        json!({"type": "status_change", "system_status": "updating", "message": "Update installation in progress",
            "severity": "info", "timestamp": "2025-03-15T10:25:30Z"}),
        json!({"type": "safety_alert", "constraint": "crane_motion", "status": "violated",
            "message": "Crane movement detected during update", "severity": "warning", "action_required": true,
            "suggested_action": "Pause update or override safety"}),
        json!({"type": "job_complete", "job_id": "OTA-JOB-8821X", "status": "success", "message": "Update downloaded successfully",
            "details": {"version": "v5.0.5", "size": "452MB", "duration": "5m 30s"}}),
        json!({"type": "system_event", "event": "reboot_scheduled", "message": "System reboot scheduled in 60 seconds",
            "timestamp": "2025-03-15T10:26:00Z", "countdown": 60}),
    ];
    for example in messages {
        let read = ws::parse(&example.to_string()).unwrap();
        covers(&serde_json::to_value(read).unwrap(), &example, "$");
        check::<Message>(example, json!({}));
    }
    assert_eq!(ws::parse(r#"{"type": "of_the_future", "x": 1}"#).unwrap(), None);
    assert!(ws::parse(r#"{"type": "status_change"}"#).is_err());
}

#[test]
fn secrets_do_not_print() {
    let request: safety::OverrideRequest =
        serde_json::from_value(json!({"enable": true, "pin": "7392"})).unwrap();
    assert!(!format!("{request:?}").contains("7392"));
}
