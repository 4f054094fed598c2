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

#[tokio::test]
async fn a_factory_reset_goes_without_the_pin_where_the_configuration_says_so() {
    let gateway = gateway(&[]).await;
    let ask = |pin: Option<&str>| {
        let mut body = json!({"confirmation": "I understand this will erase all data"});
        if let Some(pin) = pin {
            body["pin"] = json!(pin);
        }
        gateway.post("/factory-reset", ADMIN, body)
    };
    assert_eq!(ask(Some("0815")).await.1["code"], "OTA_010", "one that is given is checked");
    assert_eq!(ask(None).await.0.as_u16(), 200);
}

#[tokio::test]
async fn a_restore_needs_the_pin_where_the_configuration_says_so_and_tells_nothing_before() {
    let gateway = gateway(&[PinOperation::Restore]).await;
    let (_, made) = gateway.post("/snapshots", ADMIN, json!({})).await;
    for path in
        [format!("/snapshots/{}/restore", made["id"].as_str().unwrap()), "/snapshots/SNAP-9/restore".into()]
    {
        for body in [json!({}), json!({"pin": "0815"})] {
            let (status, refused) = gateway.post(&path, ADMIN, body).await;
            assert_eq!((status.as_u16(), &refused["code"]), (403, &json!("OTA_010")), "{path}");
        }
        assert!(gateway.snapshots.restored().is_empty());
    }
    let path = format!("/snapshots/{}/restore", made["id"].as_str().unwrap());
    assert_eq!(gateway.post(&path, ADMIN, json!({"pin": "4711"})).await.0.as_u16(), 200);
    assert_eq!(gateway.snapshots.restored().len(), 1);
}

#[test]
fn what_the_contract_lists_needs_the_pin_by_default() {
    let rules = crate::PinRules::default();
    let listed: Vec<_> = rules.require_for.into_iter().collect();
    use PinOperation::{DeployUnverified, FactoryReset, Override, Rollback};
    assert_eq!(listed, [Rollback, FactoryReset, Override, DeployUnverified]);
}
