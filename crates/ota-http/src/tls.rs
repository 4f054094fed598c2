//! TLS: certificate and key from PEM, reload while running, a self-signed certificate for the first start.

use std::sync::{Arc, PoisonError, RwLock};

use rustls::{RootCertStore, ServerConfig, crypto::ring::default_provider, server::WebPkiClientVerifier};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio_rustls::TlsAcceptor;

/// Why TLS cannot be spoken with this material.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The certificate chain is not PEM or holds none.
    #[error("the certificate chain cannot be read: {0}")]
    Certificate(String),
    /// The key is not PEM or of an unknown kind.
    #[error("the private key cannot be read: {0}")]
    Key(String),
    /// The CA of client certificates cannot be used.
    #[error("the client CA cannot be used: {0}")]
    ClientCa(String),
    /// Certificate and key do not belong together, or are not accepted.
    #[error("certificate and key cannot be used")]
    Unusable(#[source] rustls::Error),
    /// A self-signed certificate could not be made.
    #[error("a self-signed certificate could not be made")]
    SelfSigned(#[source] rcgen::Error),
}

/// What the server proves itself with, as PEM.
#[derive(Clone)]
pub struct TlsMaterial {
    /// Certificates, the server's own first.
    pub chain: Vec<u8>,
    /// The private key.
    pub key: Vec<u8>,
    /// CA of client certificates; with it clients are asked for one.
    pub client_ca: Option<ClientCa>,
}

/// Which client certificates are believed.
#[derive(Clone)]
pub struct ClientCa {
    /// The CAs, as PEM.
    pub pem: Vec<u8>,
    /// Whether a client without one is turned away in the handshake; else it may still show a token.
    pub required: bool,
}

impl std::fmt::Debug for TlsMaterial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsMaterial")
            .field("chain", &self.chain.len())
            .field("key", &"***")
            .finish_non_exhaustive()
    }
}

impl TlsMaterial {
    /// Whether a server can prove itself with it.
    ///
    /// # Errors
    /// What cannot be read, or does not belong together.
    pub fn check(&self) -> Result<(), TlsError> {
        acceptor(self).map(drop)
    }
}

/// Makes a certificate for `names` (host names and addresses) that signs itself. Valid from 1970 to 2049, so that
/// a gateway whose clock is not set yet can use it.
///
/// # Errors
/// `SelfSigned` when a name cannot stand in a certificate.
pub fn self_signed(names: &[String]) -> Result<TlsMaterial, TlsError> {
    let key = rcgen::KeyPair::generate().map_err(TlsError::SelfSigned)?;
    let mut params = rcgen::CertificateParams::new(names.to_vec()).map_err(TlsError::SelfSigned)?;
    params.not_before = rcgen::date_time_ymd(1970, 1, 1);
    params.not_after = rcgen::date_time_ymd(2049, 12, 31);
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, names.first().map_or("ota-gateway", String::as_str));
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    let certificate = params.self_signed(&key).map_err(TlsError::SelfSigned)?;
    Ok(TlsMaterial {
        chain: certificate.pem().into_bytes(),
        key: key.serialize_pem().into_bytes(),
        client_ca: None,
    })
}

/// The acceptor in use, exchangeable while connections run.
#[derive(Clone)]
pub(crate) struct SharedAcceptor(Arc<RwLock<TlsAcceptor>>);

impl SharedAcceptor {
    pub(crate) fn new(material: &TlsMaterial) -> Result<Self, TlsError> {
        Ok(Self(Arc::new(RwLock::new(acceptor(material)?))))
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// New connections use `material`; when it cannot be used, the old one stays.
    pub(crate) fn replace(&self, material: &TlsMaterial) -> Result<(), TlsError> {
        let fresh = acceptor(material)?;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }
}

fn acceptor(material: &TlsMaterial) -> Result<TlsAcceptor, TlsError> {
    let chain = certificates(&material.chain).map_err(TlsError::Certificate)?;
    let key =
        PrivateKeyDer::from_pem_slice(&material.key).map_err(|error| TlsError::Key(error.to_string()))?;
    let provider = Arc::new(default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Unusable)?;
    let builder = match &material.client_ca {
        None => builder.with_no_client_auth(),
        Some(ClientCa { pem, required }) => {
            let mut roots = RootCertStore::empty();
            for ca in certificates(pem).map_err(TlsError::ClientCa)? {
                roots.add(ca).map_err(|error| TlsError::ClientCa(error.to_string()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = if *required { verifier } else { verifier.allow_unauthenticated() };
            let verifier = verifier.build().map_err(|error| TlsError::ClientCa(error.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_single_cert(chain, key).map_err(TlsError::Unusable)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if found.is_empty() => Err("no certificate in it".into()),
        Ok(found) => Ok(found),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_self_signed_certificate_is_usable_and_its_key_does_not_print() {
        let material = self_signed(&["gw.example".into(), "192.0.2.1".into()]).unwrap();
        assert!(SharedAcceptor::new(&material).is_ok());
        assert!(!format!("{material:?}").contains("PRIVATE"));
    }

    #[test]
    fn a_bad_replacement_leaves_the_old_certificate_in_use() {
        let good = self_signed(&["gw.example".into()]).unwrap();
        let other = self_signed(&["gw.example".into()]).unwrap();
        let shared = SharedAcceptor::new(&good).unwrap();
        let mixed = TlsMaterial { key: other.key.clone(), ..good.clone() };
        assert!(matches!(shared.replace(&mixed), Err(TlsError::Unusable(_))));
        assert!(matches!(
            shared.replace(&TlsMaterial { chain: Vec::new(), ..other.clone() }),
            Err(TlsError::Certificate(_))
        ));
        assert!(shared.replace(&other).is_ok());
    }
}
