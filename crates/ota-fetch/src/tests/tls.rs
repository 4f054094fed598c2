//! Trust in the server, shown certificates and proxies.

use std::sync::Arc;

use axum::{Router, serve::Listener};
use ota_core::ErrorCode;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::{RootCertStore, ServerConfig, server::WebPkiClientVerifier};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{World, check, named, server};
use crate::{ClientIdentity, Proxy, TufConfig, Url, install_crypto_provider};

type Issuer = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Issuer {
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn leaf(issuer: &Issuer, purpose: ExtendedKeyUsagePurpose) -> (rcgen::Certificate, KeyPair) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["127.0.0.1".into()]).unwrap();
    params.extended_key_usages = vec![purpose];
    (params.signed_by(&key, issuer).unwrap(), key)
}

struct Tls {
    tcp: TcpListener,
    acceptor: TlsAcceptor,
}

impl Listener for Tls {
    type Io = TlsStream<TcpStream>;
    type Addr = std::net::SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, from) = self.tcp.accept().await.unwrap();
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, from);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.tcp.local_addr()
    }
}

/// Serves the repository over TLS to clients with a certificate of `issuer` and gives back the server's address.
async fn serve(world: &World, issuer: &Issuer) -> String {
    install_crypto_provider();
    let (certificate, key) = leaf(issuer, ExtendedKeyUsagePurpose::ServerAuth);
    let mut roots = RootCertStore::empty();
    roots.add(issuer.der().clone()).unwrap();
    let clients = WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap();
    let config = ServerConfig::builder()
        .with_client_cert_verifier(clients)
        .with_single_cert(vec![certificate.der().clone()], key.serialize_der().try_into().unwrap())
        .unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = tcp.local_addr().unwrap();
    let app: Router = server::app(&world.server);
    tokio::spawn(async move {
        axum::serve(Tls { tcp, acceptor: TlsAcceptor::from(Arc::new(config)) }, app).await
    });
    format!("https://{address}")
}

#[tokio::test]
async fn only_the_configured_ca_is_trusted_and_the_client_certificate_is_shown() {
    let world = World::offering(b"image").await;
    let (issuer, stranger) = (authority(), authority());
    let base = serve(&world, &issuer).await;
    let (certificate, key) = leaf(&issuer, ExtendedKeyUsagePurpose::ClientAuth);
    let identity =
        ClientIdentity { pem: format!("{}{}", key.serialize_pem(), certificate.pem()).into_bytes() };
    assert!(!format!("{identity:?}").contains("PRIVATE"));
    let url = |folder: &str| format!("{base}/{folder}").parse::<Url>().unwrap();
    let config = |ca: &Issuer, client_cert: Option<&ClientIdentity>| TufConfig {
        metadata_url: url("metadata"),
        targets_url: url("targets"),
        ca: Some(ca.pem().into_bytes()),
        client_cert: client_cert.cloned(),
        proxy: Proxy::Direct,
        ..world.config()
    };
    let source = world.source_of(config(&issuer, Some(&identity)));
    assert_eq!(check(&source).await.unwrap().len(), 1);
    for (ca, client) in [(&stranger, Some(&identity)), (&issuer, None)] {
        let error = check(&world.source_of(config(ca, client))).await.unwrap_err();
        assert_eq!(named(&error), (ErrorCode::ServerUnreachable, "tls"), "{error}");
    }
    let system = TufConfig { ca: None, ..config(&issuer, Some(&identity)) };
    let error = check(&world.source_of(system)).await.unwrap_err();
    assert_eq!(named(&error), (ErrorCode::ServerUnreachable, "tls"), "{error}");
}

#[tokio::test]
async fn a_configured_proxy_is_asked_for_what_has_no_address_here() {
    let world = World::offering(b"image").await;
    let url = |folder: &str| format!("http://update-server.invalid/{folder}").parse::<Url>().unwrap();
    let config = TufConfig {
        metadata_url: url("metadata"),
        targets_url: url("targets"),
        proxy: Proxy::Via(world.server.url.parse().unwrap()),
        ..world.config()
    };
    assert_eq!(check(&world.source_of(config)).await.unwrap().len(), 1);
    assert!(world.server.asked().iter().all(|asked| asked.headers["host"] == "update-server.invalid"));
}

#[tokio::test]
async fn certificates_and_proxies_that_cannot_be_read_are_told_at_the_start() {
    let world = World::empty().await;
    for broken in [
        TufConfig { ca: Some(b"no certificate".to_vec()), ..world.config() },
        TufConfig { client_cert: Some(ClientIdentity { pem: b"nor this".to_vec() }), ..world.config() },
        TufConfig { headers: vec![("a b".into(), "c".into())], ..world.config() },
    ] {
        assert!(crate::TufSource::new(broken, world.clock.clone()).is_err());
    }
}
