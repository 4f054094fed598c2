//! Snapshots and factory reset beside jobs: who excludes whom, and what a reset leaves to be carried out.

use ota_core::ports::{
    AuditEntry, AuditLog as _, AuditOutcome, FactoryReset as _, Settings as _, SnapshotCause, Snapshots as _,
};

use super::*;

fn ada() -> Actor {
    Actor { name: "ada".into(), address: Some("192.0.2.7".into()), ..Actor::gateway() }
}

#[tokio::test]
async fn a_reset_is_ordered_with_all_that_it_must_not_set_back_and_the_gateway_reboots() {
    let gateway = Gateway::start().await;
    let entry = AuditEntry {
        actor: "ada".into(),
        role: None,
        address: None,
        action: "factory-reset.requested".into(),
        outcome: AuditOutcome::Ok,
        request_id: None,
        job: None,
        reason: None,
    };
    let seq = gateway.journal.append(Default::default(), &entry).unwrap();
    gateway.journal.set_value("floor.version", Some("5.0.0")).unwrap();
    gateway.journal.set_value("rolled_back.versions", Some("5.0.4\n")).unwrap();
    let backup = gateway.engine().factory_reset(&ada(), true).await.unwrap().unwrap();
    assert_eq!(backup.cause, Some(SnapshotCause::FactoryReset));
    let order = gateway.reset.pending().unwrap().unwrap();
    assert_eq!((order.by.as_str(), order.address.as_deref()), ("ada", Some("192.0.2.7")));
    assert_eq!((order.backup, order.audit_end.map(|end| end.0)), (Some(backup.id), Some(seq)));
    let carried = [("floor.version", "5.0.0"), ("rolled_back.versions", "5.0.4\n")];
    assert_eq!(order.carried.settings, carried.map(|(name, value)| (name.to_owned(), value.to_owned())));
    assert_eq!(order.carried.slots.len(), 2);
    assert_eq!(gateway.rebooter.until_reboots(1).await, [RebootReason::FactoryReset]);
}

#[tokio::test]
async fn with_a_reset_scheduled_nothing_else_begins_also_after_a_restart_of_the_daemon() {
    let mut gateway = Gateway::start().await;
    gateway.engine().factory_reset(&ada(), false).await.unwrap();
    for _ in 0..2 {
        assert_eq!(code(gateway.download().await.unwrap_err()), ErrorCode::SystemBusy);
        let again = gateway.engine().factory_reset(&ada(), false).await.unwrap_err();
        assert_eq!(code(again), ErrorCode::SystemBusy);
        let snapshot = gateway.engine().create_snapshot(&ada(), None).await.unwrap_err();
        assert_eq!(code(snapshot), ErrorCode::SystemBusy);
        gateway.restart_daemon().await;
    }
    gateway.rebooter.until_reboots(2).await;
}

#[tokio::test]
async fn a_reset_is_refused_beside_a_job_by_safety_and_by_policy_and_saves_nothing() {
    let gateway = Gateway::start().await;
    gateway.source.script([FetchScript::HoldAt(0)]);
    let job = gateway.download().await.unwrap();
    let by = ada();
    let reset = || gateway.engine().factory_reset(&by, true);
    let busy = reset().await.unwrap_err();
    assert!(busy.to_string().contains(job.id.as_str()), "{busy}");
    assert_eq!(code(busy), ErrorCode::SystemBusy);
    gateway.cancel(&job).await.unwrap();
    gateway.until(&job, JobStatus::Cancelled).await;
    gateway.gate.violate("crane_motion", &[SafetyStep::Reset]);
    assert_eq!(code(reset().await.unwrap_err()), ErrorCode::UpdateBlocked);
    gateway.gate.clear("crane_motion");
    gateway.gate.set_service(Some(Timestamp::from_secs(4_000_000_000)));
    assert_eq!(code(reset().await.unwrap_err()), ErrorCode::MaintenanceActive);
    gateway.gate.set_service(None);
    let why = OtaError::FactoryResetNotAllowed { why: "policy".into() };
    gateway.reset.policy.fail_next(PortErrorKind::Ota(why));
    assert_eq!(code(reset().await.unwrap_err()), ErrorCode::FactoryResetNotAllowed);
    assert!(gateway.snapshots.list().unwrap().is_empty());
    // A backup that fails, and an order that fails, leave nothing scheduled.
    let full = || OtaError::InsufficientSpace {
        place: "keep".into(),
        required: ByteCount(2),
        available: ByteCount(1),
    };
    gateway.snapshots.faults.fail_next(PortErrorKind::Ota(full()));
    assert_eq!(code(reset().await.unwrap_err()), ErrorCode::InsufficientSpace);
    gateway.reset.faults.fail_next(PortErrorKind::Ota(full()));
    assert_eq!(code(reset().await.unwrap_err()), ErrorCode::InsufficientSpace);
    assert!(gateway.reset.pending().unwrap().is_none());
    assert!(gateway.rebooter.reasons().is_empty());
    gateway.download().await.unwrap();
}

#[tokio::test]
async fn the_reboot_for_a_reset_waits_for_safety() {
    let gateway = Gateway::start().await;
    gateway.gate.violate("crane_motion", &[SafetyStep::Reboot]);
    gateway.engine().factory_reset(&ada(), false).await.unwrap();
    gateway.gate.until_judged(SafetyStep::Reboot, 1).await;
    assert!(gateway.rebooter.reasons().is_empty());
    gateway.gate.clear("crane_motion");
    gateway.gate_changes.send_modify(|n| *n += 1);
    assert_eq!(gateway.rebooter.until_reboots(1).await, [RebootReason::FactoryReset]);
}

#[tokio::test(start_paused = true)]
async fn what_holds_back_a_reset_ends_the_countdown_to_its_reboot() {
    let mut gateway = Gateway::start().await;
    gateway.countdown = 60;
    gateway.restart_daemon().await;
    gateway.engine().factory_reset(&ada(), false).await.unwrap();
    gateway.gate.until_judged(SafetyStep::Reboot, 1).await;
    gateway.gate.violate("people", &[SafetyStep::Reset]);
    gateway.gate_changes.send_modify(|n| *n += 1);
    // tidy: paused time
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert!(gateway.rebooter.reasons().is_empty());
    gateway.gate.clear("people");
    gateway.gate_changes.send_modify(|n| *n += 1);
    let began = tokio::time::Instant::now();
    assert_eq!(gateway.rebooter.until_reboots(1).await, [RebootReason::FactoryReset]);
    assert!(began.elapsed() >= Duration::from_secs(60), "announced anew: {:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn each_countdown_to_a_reset_that_is_held_back_is_told_to_be() {
    let mut gateway = Gateway::start().await;
    gateway.countdown = 60;
    gateway.restart_daemon().await;
    gateway.engine().factory_reset(&ada(), false).await.unwrap();
    let minute = Duration::from_secs(60);
    for held in 1..=2 {
        // tidy: paused time
        tokio::time::sleep(minute / 2).await;
        gateway.gate.violate("people", &[SafetyStep::Reset]);
        gateway.gate_changes.send_modify(|n| *n += 1);
        // tidy: paused time
        tokio::time::sleep(10 * minute).await;
        let (_, events) = gateway.engine().bus().since(0, 1000);
        let told = |word: &str| {
            let is = |event: &&ota_core::event::Event| matches!(&event.kind, EventKind::System { event, .. } if event == word);
            events.iter().filter(is).count()
        };
        assert_eq!((told("reboot_scheduled"), told("factory_reset_waiting")), (held, held));
        gateway.gate.clear("people");
        gateway.gate_changes.send_modify(|n| *n += 1);
    }
    gateway.rebooter.until_reboots(1).await;
}

#[tokio::test]
async fn what_begins_to_hold_back_a_reset_right_before_its_reboot_does_so() {
    let gateway = Gateway::start().await;
    // Asked at the request, at the start of the countdown, and in the same breath as the reboot.
    gateway.gate.violate_after(3, "people", &[SafetyStep::Reset]);
    gateway.engine().factory_reset(&ada(), false).await.unwrap();
    gateway.gate.until_judged(SafetyStep::Reset, 3).await;
    assert!(gateway.rebooter.reasons().is_empty());
    gateway.gate.clear("people");
    gateway.gate_changes.send_modify(|n| *n += 1);
    gateway.rebooter.until_reboots(1).await;
}

#[tokio::test(start_paused = true)]
async fn a_reset_that_is_taken_back_while_it_waits_frees_the_gateway_and_one_that_does_not_read_does_not() {
    let gateway = Gateway::start().await;
    gateway.gate.violate("crane_motion", &[SafetyStep::Reboot]);
    gateway.engine().factory_reset(&ada(), false).await.unwrap();
    gateway.gate.until_judged(SafetyStep::Reboot, 1).await;
    gateway.reset.reads.fail_next(PortErrorKind::Io("bad block".into()));
    gateway.gate.clear("crane_motion");
    gateway.gate_changes.send_modify(|n| *n += 1);
    // tidy: paused time
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(code(gateway.download().await.unwrap_err()), ErrorCode::SystemBusy);
    assert!(
        gateway.engine().status().await.unwrap().reset.is_some() && gateway.rebooter.reasons().is_empty()
    );
    gateway.reset.forget();
    while gateway.engine().status().await.unwrap().reset.is_some() {
        // tidy: paused time
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(gateway.journal.audited().contains(&"factory-reset.taken_back".to_owned()));
    gateway.download().await.unwrap();
}

#[tokio::test]
async fn a_boot_that_did_not_carry_the_reset_out_is_not_repeated_and_the_order_can_be_taken_back() {
    let mut gateway = Gateway::start().await;
    gateway.engine().factory_reset(&ada(), false).await.unwrap();
    gateway.rebooter.until_reboots(1).await;
    gateway.reboot().await;
    let busy = gateway.download().await.unwrap_err();
    assert!(busy.to_string().contains("did not carry it out"), "{busy}");
    assert_eq!(gateway.rebooter.reasons().len(), 1);
    gateway.reset.forget();
    gateway.restart_daemon().await;
    gateway.downloaded().await;
}

#[tokio::test]
async fn a_restore_and_an_install_exclude_each_other() {
    let gateway = Gateway::start().await;
    let made = gateway.engine().create_snapshot(&ada(), Some("mine".into())).await.unwrap();
    let job = gateway.downloaded().await;
    gateway.snapshots.hold();
    let engine = gateway.engine().clone();
    let id = made.id.clone();
    let restore = tokio::spawn(async move { engine.restore_snapshot(id, None).await });
    gateway.snapshots.until_held().await;
    assert_eq!(code(gateway.install(&job, SEAMLESS).await.unwrap_err()), ErrorCode::SystemBusy);
    let second = gateway.engine().restore_snapshot(made.id.clone(), None).await.unwrap_err();
    assert_eq!(code(second), ErrorCode::SystemBusy);
    gateway.snapshots.release();
    restore.await.unwrap().unwrap();
    gateway.gate.violate("crane_motion", &[SafetyStep::Switch]);
    gateway.install(&job, SEAMLESS).await.unwrap();
    let during = gateway.engine().restore_snapshot(made.id, None).await.unwrap_err();
    assert_eq!(code(during), ErrorCode::SystemBusy);
    assert_eq!(gateway.snapshots.restored().len(), 1);
}

#[tokio::test]
async fn an_unknown_snapshot_and_a_missing_identity_are_told_apart() {
    let gateway = Gateway::start().await;
    let unknown = gateway.engine().restore_snapshot(ota_core::SnapshotId::from_number(9), None).await;
    assert!(matches!(unknown, Err(EngineError::NotFound { .. })));
    let made = gateway.engine().create_snapshot(&ada(), None).await.unwrap();
    gateway.snapshots.encrypt_newest();
    let locked = gateway.engine().restore_snapshot(made.id.clone(), None).await;
    assert!(matches!(locked, Err(EngineError::Invalid { field: "identity", .. })));
    gateway.engine().restore_snapshot(made.id, Some("key".into())).await.unwrap();
}

#[tokio::test]
async fn an_install_begins_with_a_snapshot_where_one_is_wanted() {
    let mut gateway = Gateway::start().await;
    gateway.before_install = true;
    gateway.restart_daemon().await;
    gateway.rebooting().await;
    let made = gateway.snapshots.list().unwrap();
    assert_eq!(made.len(), 1);
    assert_eq!(made[0].cause, Some(SnapshotCause::BeforeInstall));
    assert!(made[0].description.as_ref().unwrap().contains("v5.0.5"));
    let audited = gateway.journal.audited();
    assert!(audited.iter().any(|action| action == "snapshots.create"), "{audited:?}");
}

#[tokio::test]
async fn an_install_whose_snapshot_fails_writes_nothing_and_leaves_the_other_slot_as_it_was() {
    let mut gateway = Gateway::start().await;
    gateway.before_install = true;
    gateway.restart_daemon().await;
    let job = gateway.downloaded().await;
    let (slot, environment) = (gateway.journal.slot(Slot::B).unwrap(), gateway.boot.writes());
    let full = OtaError::InsufficientSpace {
        place: "snapshots".into(),
        required: ByteCount(2),
        available: ByteCount(1),
    };
    gateway.snapshots.faults.fail_next(PortErrorKind::Ota(full));
    gateway.install(&job, SEAMLESS).await.unwrap();
    let end = gateway.until(&job, JobStatus::Failed).await;
    assert_eq!(end.state.failure().unwrap().code, Some(ErrorCode::InsufficientSpace));
    assert_eq!((gateway.boot.writes(), gateway.slots.writes()), (environment, 0));
    if slot.state == SlotState::Good {
        assert_eq!(gateway.journal.slot(Slot::B).unwrap(), slot);
    }
}
