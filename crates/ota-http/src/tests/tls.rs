//! TLS with a self-signed certificate, and what is refused without it.

use serde_json::json;

use super::harness::{API, Gateway, VIEWER};
use crate::{HttpConfig, Server, ServerError, self_signed};

#[tokio::test]
async fn a_self_signed_certificate_serves_http2_and_marks_the_cookie_secure() {
    let material = self_signed(&["localhost".into(), "127.0.0.1".into()]).unwrap();
    let ca = reqwest::Certificate::from_pem(&material.chain).unwrap();
    let gateway = Gateway::with(|config| config.tls = Some(material)).await;
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([ca]).build().unwrap();
    let url = format!("https://{}{API}", gateway.address);
    let response = client.get(format!("{url}/system/status")).bearer_auth(VIEWER).send().await.unwrap();
    assert_eq!((response.status().as_u16(), response.version()), (200, http::Version::HTTP_2));
    let login =
        client.post(format!("{url}/auth/session")).json(&json!({"token": VIEWER})).send().await.unwrap();
    assert!(login.headers()["set-cookie"].to_str().unwrap().ends_with("; Secure"));
    assert!(gateway.http.get(format!("{url}/system/status")).send().await.is_err());
}

#[tokio::test]
async fn plain_http_is_refused_off_loopback() {
    let gateway = Gateway::start().await;
    let state = crate::AppState {
        engine: gateway.engine.clone(),
        tokens: gateway.store.clone() as _,
        settings: gateway.store.clone() as _,
        audit: gateway.store.clone() as _,
        clock: gateway.clock.clone() as _,
        uploads: std::sync::Arc::new(ota_testkit::MemUploads::new(std::sync::Arc::default())),
        overrides: None,
        inhibitors: None,
        bandwidth: None,
        diagnostics: std::sync::Arc::new(crate::NoDiagnostics),
    };
    let mut config = HttpConfig::new(([0, 0, 0, 0], 0).into());
    let refused = Server::bind(config.clone(), state.clone()).await;
    assert!(matches!(refused, Err(ServerError::PlainRefused { .. })));
    config.allow_plain = true;
    assert!(Server::bind(config, state).await.is_ok());
}
