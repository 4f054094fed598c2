//! The lowest version that may be installed or gone back to.

use super::*;

#[tokio::test]
async fn the_security_floor_rises_with_a_confirmed_boot_and_with_nothing_else() {
    let mut gateway = Gateway::start().await;
    gateway.security_floor = SecurityFloor::FollowConfirmed;
    gateway.restart_daemon().await;
    let floor = |gateway: &Gateway| gateway.journal.value("floor.version").unwrap();
    gateway.health.fail("modem does not answer");
    let job = gateway.rebooting().await;
    gateway.reboot().await;
    gateway.rebooter.until_reboots(2).await;
    gateway.reboot().await;
    gateway.until(&job, JobStatus::RolledBack).await;
    assert_eq!(floor(&gateway), None);
    gateway.health.pass();
    let job = gateway.downloaded().await;
    gateway.install(&job, SEAMLESS).await.unwrap();
    gateway.rebooter.until_reboots(3).await;
    assert_eq!(floor(&gateway), None, "written and switched, but not confirmed");
    gateway.reboot().await;
    gateway.until(&job, JobStatus::Succeeded).await;
    // Written down after the job has ended.
    for _ in 0..10_000 {
        if floor(&gateway).is_some() {
            break;
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(floor(&gateway).as_deref(), Some("v5.0.5"));
    let older = RollbackRequest { target_version: None };
    assert_eq!(
        code(gateway.engine().rollback(&Actor::gateway(), older).await.unwrap_err()),
        ErrorCode::RollbackNotAvailable
    );
    assert_eq!(floor(&gateway).as_deref(), Some("v5.0.5"));
}

#[tokio::test]
async fn the_floor_of_the_configuration_counts_for_what_is_installed_and_gone_back_to() {
    let mut gateway = Gateway::start().await;
    gateway.lowest_version = Some("v5.0.6".parse().unwrap());
    gateway.restart_daemon().await;
    assert_eq!(code(gateway.download().await.unwrap_err()), ErrorCode::InvalidImage);
    gateway.lowest_version = None;
    gateway.restart_daemon().await;
    let job = gateway.rebooting().await;
    gateway.reboot().await;
    gateway.until(&job, JobStatus::Succeeded).await;
    gateway.lowest_version = Some("v5.0.5".parse().unwrap());
    gateway.restart_daemon().await;
    let back = RollbackRequest { target_version: None };
    let refused = gateway.engine().rollback(&Actor::gateway(), back).await.unwrap_err();
    let below = |why: &str| why.contains("below the security floor v5.0.5");
    assert!(
        matches!(&refused, EngineError::Ota(OtaError::RollbackNotAvailable { why }) if below(why)),
        "{refused:?}"
    );
}

#[tokio::test]
async fn the_floor_of_the_configuration_stays_once_an_image_was_confirmed_with_it() {
    let mut gateway = Gateway::start().await;
    let floor = |gateway: &Gateway| gateway.journal.value(crate::facts::FLOOR).unwrap();
    gateway.lowest_version = Some("v5.0.5".parse().unwrap());
    gateway.restart_daemon().await;
    let job = gateway.rebooting().await;
    assert_eq!(floor(&gateway), None, "not before");
    gateway.reboot().await;
    gateway.until(&job, JobStatus::Succeeded).await;
    assert_eq!(floor(&gateway).as_deref(), Some("v5.0.5"));
    gateway.lowest_version = None;
    gateway.restart_daemon().await;
    let back = RollbackRequest { target_version: None };
    let refused = gateway.engine().rollback(&Actor::gateway(), back).await.unwrap_err();
    assert_eq!(code(refused), ErrorCode::RollbackNotAvailable);
}
