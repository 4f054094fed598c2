//! TLS: only the named authority is believed, for requests and events alike.

use std::sync::Arc;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use crate::{
    Client, ClientError, Options, Trust, install_crypto_provider,
    ws::{EventStream, Patience},
};

/// A server with a certificate of its own for `localhost`; answers every request with the same empty check.
async fn server() -> (u16, String) {
    install_crypto_provider();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // A client that does not believe the certificate breaks the handshake.
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let _ = stream.read(&mut [0; 4096]).await;
            let body = r#"{"available":false,"updates":[]}"#;
            let head = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length";
            let _ = stream.write_all(format!("{head}: {}\r\n\r\n{body}", body.len()).as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    (port, made.cert.pem())
}

fn client(port: u16, trust: Option<Trust>) -> Client {
    let options = Options::new(format!("https://localhost:{port}").parse().unwrap());
    Client::new(Options { trust, ..options }).unwrap()
}

#[tokio::test]
async fn the_named_authority_is_believed_and_the_systems_are_not_enough() {
    let (port, pem) = server().await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), pem).unwrap();
    let trust = Trust::from_pem_file(file.path()).unwrap();

    assert!(!client(port, Some(trust.clone())).check().await.unwrap().available);
    // Past TLS, the event stream finds that this server does not upgrade.
    let error = EventStream::open(&client(port, Some(trust)), None, Patience::default()).await.unwrap_err();
    assert!(matches!(error, ClientError::NotAGateway { status: 200, .. }), "{error:?}");

    let error = client(port, None).check().await.unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { .. }), "{error:?}");
    assert!(error.chain().contains("certificate"), "{}", error.chain());
}
