//! TLS: only the named authority is believed and the named certificate shown, for requests and events alike.

use std::sync::Arc;

use rustls::{RootCertStore, server::WebPkiClientVerifier};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use crate::{
    Client, ClientError, Identity, Options, TlsRefusal, Trust, install_crypto_provider,
    ws::{EventStream, Patience},
};

/// A server with a certificate of its own for `localhost`; answers every request with the same empty check. It lets in who shows
/// the certificate `guest`, when there is one.
async fn server(guest: Option<&rcgen::Certificate>) -> (u16, String) {
    install_crypto_provider();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let builder = match guest {
        None => rustls::ServerConfig::builder().with_no_client_auth(),
        Some(guest) => {
            let mut roots = RootCertStore::empty();
            roots.add(guest.der().clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap();
            rustls::ServerConfig::builder().with_client_cert_verifier(verifier)
        }
    };
    let config = builder.with_single_cert(vec![made.cert.der().clone()], key.into()).unwrap();
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

fn client(port: u16, trust: Option<Trust>, identity: Option<Identity>) -> Client {
    let options = Options::new(format!("https://localhost:{port}").parse().unwrap());
    Client::new(Options { trust, identity, ..options }).unwrap()
}

fn trust(pem: &str) -> Trust {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), pem).unwrap();
    Trust::from_pem_file(file.path()).unwrap()
}

#[tokio::test]
async fn a_server_that_wants_a_certificate_is_shown_the_named_one_and_lets_nobody_else_in() {
    let made = rcgen::generate_simple_self_signed(["ada".to_owned()]).unwrap();
    let (port, pem) = server(Some(&made.cert)).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), made.cert.pem() + &made.signing_key.serialize_pem()).unwrap();
    let ada = Identity::from_pem_files(file.path(), None).unwrap();

    assert!(!client(port, Some(trust(&pem)), Some(ada.clone())).check().await.unwrap().available);
    let known = client(port, Some(trust(&pem)), Some(ada.clone()));
    let error = EventStream::open(&known, None, Patience::default()).await.unwrap_err();
    assert!(matches!(error, ClientError::NotAGateway { status: 200, .. }), "{error:?}");

    client(port, Some(trust(&pem)), None).check().await.unwrap_err();
    // A certificate to show is no reason to believe the server.
    let error = client(port, None, Some(ada)).check().await.unwrap_err();
    assert_eq!((error.tls(), error.may_pass()), (Some(TlsRefusal::Untrusted), false), "{}", error.chain());
}

#[tokio::test]
async fn the_named_authority_is_believed_and_the_systems_are_not_enough() {
    let (port, pem) = server(None).await;
    let trust = trust(&pem);

    assert!(!client(port, Some(trust.clone()), None).check().await.unwrap().available);
    // Past TLS, the event stream finds that this server does not upgrade.
    let client_of = |trust| client(port, trust, None);
    let error = EventStream::open(&client_of(Some(trust)), None, Patience::default()).await.unwrap_err();
    assert!(matches!(error, ClientError::NotAGateway { status: 200, .. }), "{error:?}");

    let error = client_of(None).check().await.unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { .. }), "{error:?}");
    assert!(error.chain().contains("certificate"), "{}", error.chain());
    assert_eq!((error.tls(), error.may_pass()), (Some(TlsRefusal::Untrusted), false));
}

#[tokio::test]
async fn a_certificate_for_another_name_is_told_from_one_that_nobody_vouches_for() {
    let (port, pem) = server(None).await;
    let options = Options::new(format!("https://127.0.0.1:{port}").parse().unwrap());
    let client = Client::new(Options { trust: Some(trust(&pem)), ..options }).unwrap();
    let asked = client.check().await.unwrap_err();
    let streamed = EventStream::open(&client, None, Patience::default()).await.unwrap_err();
    for error in [asked, streamed] {
        let why = (error.tls(), error.may_pass());
        assert_eq!(why, (Some(TlsRefusal::OtherName), false), "{}", error.chain());
    }
}

#[tokio::test]
async fn a_port_without_tls_is_told_from_a_closed_one() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let answering = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.read(&mut [0; 4096]).await;
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        let _ = stream.shutdown().await;
    });
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let options = Options::new(format!("https://127.0.0.1:{port}").parse().unwrap());
    let client = Client::new(Options { trust: Some(trust(&made.cert.pem())), ..options }).unwrap();
    let error = client.check().await.unwrap_err();
    assert_eq!((error.tls(), error.may_pass()), (Some(TlsRefusal::Plain), false), "{}", error.chain());
    // The port is closed now.
    answering.await.unwrap();
    let error = client.check().await.unwrap_err();
    assert_eq!((error.tls(), error.may_pass()), (None, true), "{}", error.chain());
}
