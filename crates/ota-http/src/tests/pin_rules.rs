//! `pin.require_for`: the configuration says what needs the PIN; one that is given is always checked.

use ota_core::{job::JobStatus, ports::Settings as _};
use serde_json::json;

use super::harness::{ADMIN, Gateway, OPERATOR};
use crate::{PinOperation, hash_pin, pin};

async fn gateway(required: &[PinOperation]) -> Gateway {
    let gateway = Gateway::with(|config| config.pin.require_for = required.iter().copied().collect()).await;
    let hash = serde_json::to_string(&hash_pin("4711", false).unwrap()).unwrap();
    gateway.store.set_value(pin::HASH, Some(&hash)).unwrap();
    gateway
}

#[tokio::test]
async fn an_install_needs_the_pin_where_the_configuration_says_so() {
    let gateway = gateway(&[PinOperation::Install]).await;
    let id = gateway.downloaded().await;
    for body in [json!({"job_id": id}), json!({"job_id": id, "pin": "0815"})] {
        let (status, refused) = gateway.post("/updates/install", OPERATOR, body).await;
        assert_eq!((status.as_u16(), &refused["code"]), (403, &json!("OTA_010")));
    }
    let (status, _) = gateway.post("/updates/install", OPERATOR, json!({"job_id": id, "pin": "4711"})).await;
    assert_eq!(status.as_u16(), 200);
    gateway.until(JobStatus::Rebooting).await;
}

#[tokio::test]
async fn a_wrong_pin_counts_also_where_none_is_needed() {
    let gateway = gateway(&[]).await;
    let id = gateway.downloaded().await;
    let (status, body) =
        gateway.post("/updates/install", OPERATOR, json!({"job_id": id, "pin": "0815"})).await;
    assert_eq!((status.as_u16(), &body["details"]["attempts_left"]), (403, &json!(4)));
    let (status, _) = gateway.post("/updates/install", OPERATOR, json!({"job_id": id})).await;
    assert_eq!(status.as_u16(), 200);
}

#[tokio::test]
async fn a_rollback_and_an_override_go_without_the_pin_where_the_configuration_says_so() {
    let gateway = gateway(&[]).await;
    let (_, body) = gateway.post("/updates/rollback", ADMIN, json!({})).await;
    assert_eq!(body["code"], "OTA_012", "{body}");
    let enable = json!({"enable": true, "reason": "test", "duration": 60, "acknowledge_risks": true});
    assert_eq!(gateway.post("/safety/override", ADMIN, enable).await.0.as_u16(), 200);
    let (_, body) = gateway.post("/updates/rollback", ADMIN, json!({"pin": "0815"})).await;
    assert_eq!(body["code"], "OTA_010", "{body}");
}

#[test]
fn what_the_contract_lists_needs_the_pin_by_default() {
    let rules = crate::PinRules::default();
    let listed: Vec<_> = rules.require_for.into_iter().collect();
    use PinOperation::{DeployUnverified, FactoryReset, Override, Rollback};
    assert_eq!(listed, [Rollback, FactoryReset, Override, DeployUnverified]);
}
