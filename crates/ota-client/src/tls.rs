//! Which certificate authorities are believed.

use std::{path::Path, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject as _},
};

/// Certificate authorities instead of those of the operating system.
#[derive(Clone, Debug)]
pub struct Trust(Arc<ClientConfig>);

/// The file cannot serve as a list of certificate authorities.
#[derive(Debug, thiserror::Error)]
pub enum BadTrust {
    /// It cannot be read or is not PEM.
    #[error("cannot read certificates from {path}")]
    Unreadable {
        /// The file.
        path: String,
        /// Why.
        source: rustls::pki_types::pem::Error,
    },
    /// It holds no certificate, or one that cannot be an authority.
    #[error("{path} holds no usable CA certificate")]
    Unusable {
        /// The file.
        path: String,
    },
    /// The process has no crypto provider, or it lacks what TLS needs.
    #[error("TLS cannot be set up")]
    Setup(#[source] rustls::Error),
}

impl Trust {
    /// Only the authorities in this PEM file.
    ///
    /// # Errors
    /// [`BadTrust`] when the file cannot be read or holds no usable certificate.
    pub fn from_pem_file(path: &Path) -> Result<Self, BadTrust> {
        let name = || path.display().to_string();
        let unreadable = |source| BadTrust::Unreadable { path: name(), source };
        let mut roots = RootCertStore::empty();
        for cert in CertificateDer::pem_file_iter(path).map_err(unreadable)? {
            roots.add(cert.map_err(unreadable)?).map_err(|_| BadTrust::Unusable { path: name() })?;
        }
        if roots.is_empty() {
            return Err(BadTrust::Unusable { path: name() });
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(BadTrust::Setup)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self(Arc::new(config)))
    }

    pub(crate) fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_a_certificate_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "nothing here").unwrap();
        let error = Trust::from_pem_file(file.path()).unwrap_err();
        assert!(error.to_string().ends_with("holds no usable CA certificate"), "{error}");
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = Trust::from_pem_file(Path::new("/no/such.pem")).unwrap_err();
        assert_eq!(error.to_string(), "cannot read certificates from /no/such.pem");
    }
}
