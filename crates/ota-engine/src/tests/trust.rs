//! Keys that change between the verification of an image and its installation.

use ota_core::{
    error::{ErrorCode, SignatureFault},
    job::{JobState, JobStatus},
};

use super::{Gateway, SEAMLESS};

/// A downloaded job in a daemon that was started again with other keys.
async fn downloaded_before_the_keys_changed() -> (Gateway, ota_core::job::Job) {
    let mut gateway = Gateway::start().await;
    let job = gateway.downloaded().await;
    gateway.verifier.set_trust("other keys");
    gateway.restart_daemon().await;
    (gateway, job)
}

#[tokio::test]
async fn an_image_whose_key_was_revoked_since_its_verification_touches_nothing() {
    let (gateway, job) = downloaded_before_the_keys_changed().await;
    gateway.verifier.refuse(SignatureFault::Revoked);
    let before = gateway.boot.env();
    gateway.install(&job, SEAMLESS).await.unwrap();
    let ended = gateway.until(&job, JobStatus::Failed).await;
    let JobState::Failed { why } = &ended.state else { panic!("{:?}", ended.state) };
    assert_eq!(why.code, Some(ErrorCode::SignatureInvalid), "{why:?}");
    assert_eq!(gateway.boot.env(), before);
    assert!(gateway.staging.names().is_empty());
}

#[tokio::test]
async fn an_image_that_other_keys_vouch_for_too_is_installed_after_they_were_asked() {
    let (gateway, job) = downloaded_before_the_keys_changed().await;
    let asked = gateway.verifier.faults.calls();
    gateway.install(&job, SEAMLESS).await.unwrap();
    gateway.rebooter.until_reboots(1).await;
    assert_eq!(gateway.verifier.faults.calls(), asked + 1);
}

#[tokio::test]
async fn with_the_same_keys_an_image_is_verified_once() {
    let mut gateway = Gateway::start().await;
    let job = gateway.downloaded().await;
    let asked = gateway.verifier.faults.calls();
    gateway.restart_daemon().await;
    gateway.install(&job, SEAMLESS).await.unwrap();
    gateway.rebooter.until_reboots(1).await;
    assert_eq!(gateway.verifier.faults.calls(), asked);
}
