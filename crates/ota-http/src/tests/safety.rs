//! What safety holds back over HTTP: each operation by itself, by a constraint (OTA_002) and by people at the machine
//! (OTA_015).

use http::StatusCode;
use ota_core::{Slot, Timestamp, job::JobStatus, ports::SlotState, safety::SafetyStep};
use serde_json::{Value, json};

use super::{
    harness::{ADMIN, Gateway},
    uploads::{NAME, PIN, image, other_slot, send, set_pin, signed},
};

/// What holds back.
#[derive(Clone, Copy, Debug)]
enum Obstacle {
    Crane,
    People,
}

impl Obstacle {
    fn set(self, gateway: &Gateway, steps: &[SafetyStep]) {
        match self {
            Self::Crane => gateway.gate.violate("crane_motion", steps),
            Self::People => gateway.gate.set_service(Some(Timestamp::from_secs(1_768_500_000))),
        }
        gateway.gate_changes.send_modify(|n| *n += 1);
    }

    fn gone(self, gateway: &Gateway) {
        match self {
            Self::Crane => gateway.gate.clear("crane_motion"),
            Self::People => gateway.gate.set_service(None),
        }
        gateway.gate_changes.send_modify(|n| *n += 1);
    }

    fn check(self, path: &str, (status, body): (StatusCode, Value)) {
        let (wanted, detail) = match self {
            Self::Crane => ((400, "OTA_002"), ("constraint", "crane_motion")),
            Self::People => ((409, "OTA_015"), ("window", "shift")),
        };
        let got = (status.as_u16(), body["code"].as_str().unwrap_or_default());
        assert_eq!(got, wanted, "{path}, {self:?}: {body}");
        assert_eq!(body["details"][detail.0], detail.1, "{path}, {self:?}: {body}");
    }
}

const OBSTACLES: [Obstacle; 2] = [Obstacle::Crane, Obstacle::People];

#[tokio::test]
async fn rollback_deploy_and_reset_are_refused_while_they_are_not_safe() {
    let gateway = Gateway::start().await;
    set_pin(&gateway).await;
    other_slot(&gateway, SlotState::Good);
    assert_eq!(send(&gateway, "/upload/verify", signed(image())).await.0, StatusCode::OK);
    let sentence = "I understand this will erase all data";
    for (step, path, body) in [
        (SafetyStep::Rollback, "/updates/rollback", json!({"pin": PIN})),
        (SafetyStep::Deploy, "/upload/deploy", json!({"filename": NAME})),
        (SafetyStep::Reset, "/factory-reset", json!({"pin": PIN, "confirmation": sentence})),
    ] {
        for obstacle in OBSTACLES {
            // A constraint that blocks other steps holds nothing back here.
            obstacle.set(&gateway, &[step]);
            obstacle.check(path, gateway.post(path, ADMIN, body.clone()).await);
            assert!(gateway.engine.active().borrow().is_none(), "{path}, {obstacle:?}");
            obstacle.gone(&gateway);
        }
    }
    assert_eq!(gateway.boot.writes(), 0);
    assert_eq!(gateway.slots.writes(), 0);
}

#[tokio::test]
async fn what_is_not_there_is_not_told_before_safety_is_asked() {
    let gateway = Gateway::start().await;
    set_pin(&gateway).await;
    for obstacle in OBSTACLES {
        obstacle.set(&gateway, &[SafetyStep::Rollback]);
        let path = "/updates/rollback";
        obstacle.check(path, gateway.post(path, ADMIN, json!({"pin": PIN})).await);
        obstacle.gone(&gateway);
    }
    let (_, body) = gateway.post("/updates/rollback", ADMIN, json!({"pin": PIN})).await;
    assert_eq!(body["code"], "OTA_012");
}

#[tokio::test]
async fn an_install_and_the_reboot_that_was_left_to_people_are_refused_while_they_are_not_safe() {
    let gateway = Gateway::start().await;
    let job = gateway.downloaded().await;
    let ask = |reboot: bool| {
        let body = json!({"job_id": job, "reboot_after": reboot});
        gateway.post("/updates/install", ADMIN, body)
    };
    for obstacle in OBSTACLES {
        obstacle.set(&gateway, &[SafetyStep::Write]);
        obstacle.check("install", ask(false).await);
        obstacle.gone(&gateway);
    }
    assert_eq!(ask(false).await.0, StatusCode::OK);
    gateway.until(JobStatus::Rebooting).await;
    for obstacle in OBSTACLES {
        obstacle.set(&gateway, &[SafetyStep::Reboot]);
        obstacle.check("reboot", ask(true).await);
        obstacle.gone(&gateway);
    }
    assert!(gateway.rebooter.reasons().is_empty());
    assert_eq!(ask(true).await.0, StatusCode::OK);
    gateway.rebooter.until_reboots(1).await;
}

#[tokio::test]
async fn the_switch_and_the_reboot_of_a_job_under_way_wait_for_the_crane_and_for_people() {
    for obstacle in OBSTACLES {
        for step in [SafetyStep::Switch, SafetyStep::Reboot] {
            let gateway = Gateway::start().await;
            let job = gateway.downloaded().await;
            // It comes right after the install was allowed to start, before the step in question is asked about.
            match obstacle {
                Obstacle::Crane => gateway.gate.violate("crane_motion", &[step]),
                Obstacle::People => gateway.gate.people_come_before(step),
            }
            let body = json!({"job_id": job, "reboot_after": true});
            assert_eq!(gateway.post("/updates/install", ADMIN, body).await.0, StatusCode::OK);
            let held =
                |job: &Option<ota_core::job::Job>| job.as_ref().is_some_and(|job| job.state.held().is_some());
            gateway.engine.active().wait_for(held).await.unwrap();
            let switched = (step == SafetyStep::Reboot).then_some(Slot::B);
            assert_eq!(gateway.boot.env().trial, switched, "{obstacle:?} {step:?}");
            assert!(gateway.rebooter.reasons().is_empty(), "{obstacle:?} {step:?}");
            let (_, shown) = gateway.get("/updates/progress").await;
            assert_eq!(shown["waiting_for"]["reason"], "safety", "{shown}");
            obstacle.gone(&gateway);
            gateway.rebooter.until_reboots(1).await;
        }
    }
}
