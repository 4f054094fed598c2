//! Ready-made releases, jobs and audit entries that tests change to their needs.

use ota_core::{
    ByteCount, ImageName, JobId, Sha256Digest, Slot, Timestamp,
    job::{Counters, Job, JobKind, JobState, Priority},
    ports::{AuditEntry, AuditOutcome, Role},
    release::{ImageKind, Release},
};

/// A release of `version` whose size and digest are those of `image`; its id is `rel-<version>`.
///
/// # Panics
/// When `version` is not a version.
#[must_use]
pub fn release(version: &str, image: &[u8]) -> Release {
    Release {
        id: format!("rel-{version}").parse().expect("a version makes an update id"),
        version: version.parse().expect("a version"),
        description: "Fixes the limit switch".into(),
        size: ByteCount(image.len() as u64),
        sha256: Sha256Digest::of(image),
        release_date: Some(Timestamp::from_secs(1_768_000_000)),
        critical: false,
        requires_reboot: true,
        kind: ImageKind::Raw,
        source: "test".into(),
        deltas: Vec::new(),
        unpacked_size: None,
    }
}

/// A name in staging for the image of `release`.
///
/// # Panics
/// When the id of `release` does not make a file name.
#[must_use]
pub fn image_name(release: &Release) -> ImageName {
    let base = release.id.as_str().replace([':', '+'], "-");
    format!("{base}.img").parse().expect("an update id makes a file name")
}

/// The `number`-th job: an update to `release`, queued, from slot A to slot B.
#[must_use]
pub fn job(number: u64, release: Release) -> Job {
    Job {
        id: JobId::from_number(number),
        deployment: None,
        kind: JobKind::Update,
        release,
        source: Slot::A,
        target: Slot::B,
        priority: Priority::Normal,
        verify_signature: true,
        image: None,
        vouched: None,
        install: None,
        state: JobState::Queued,
        confirmed_by_hand: false,
        by_itself: false,
        request_id: None,
        counters: Counters::default(),
        boot_id: "boot-0".into(),
        created: Timestamp::from_secs(1_768_478_400),
        install_started: None,
        updated: Timestamp::from_secs(1_768_478_400),
    }
}

/// An operator who did `action`, and it worked.
#[must_use]
pub fn audit_entry(action: &str) -> AuditEntry {
    AuditEntry {
        actor: "crane-ops".into(),
        role: Some(Role::Operator),
        address: Some("192.0.2.7".into()),
        action: action.into(),
        outcome: AuditOutcome::Ok,
        request_id: Some("3f6c".into()),
        job: None,
        reason: None,
    }
}
