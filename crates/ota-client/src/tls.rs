//! Which certificate authorities are believed, and which certificate the client shows of itself.

use std::{fmt, path::Path, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    sign::{CertifiedKey, SingleCertAndKey},
};

/// Certificate authorities instead of those of the operating system.
#[derive(Clone, Debug)]
pub struct Trust(Arc<RootCertStore>);

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
        Ok(Self(Arc::new(roots)))
    }
}

/// The client's own certificate with its key, for gateways that ask for one (`http.client_ca`).
#[derive(Clone)]
pub struct Identity(Arc<CertifiedKey>);

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity(***)")
    }
}

/// The files cannot serve as a client certificate.
#[derive(Debug, thiserror::Error)]
pub enum BadIdentity {
    /// A file cannot be read or is not PEM.
    #[error("cannot read a {what} from {path}")]
    Unreadable {
        /// `client certificate` or `private key`.
        what: &'static str,
        /// The file.
        path: String,
        /// Why.
        source: rustls::pki_types::pem::Error,
    },
    /// The file of the certificate holds none.
    #[error("{path} holds no client certificate")]
    Empty {
        /// The file.
        path: String,
    },
    /// The key is of another certificate, or of a kind that TLS does not take.
    #[error("the key in {key} does not go with the certificate in {certificate}")]
    Mismatch {
        /// File of the certificate.
        certificate: String,
        /// File of the key.
        key: String,
        /// Why.
        source: rustls::Error,
    },
}

impl Identity {
    /// The certificate, with the chain up to its authority, and its unencrypted key; both PEM. Without `key` the key stands in the
    /// file of the certificate.
    ///
    /// # Errors
    /// [`BadIdentity`] when a file cannot be read, holds none, or the two do not belong together.
    pub fn from_pem_files(certificate: &Path, key: Option<&Path>) -> Result<Self, BadIdentity> {
        let name = |path: &Path| path.display().to_string();
        let of_key = key.unwrap_or(certificate);
        let unreadable =
            |what, path| move |source| BadIdentity::Unreadable { what, path: name(path), source };
        let chain =
            CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let chain = chain.map_err(unreadable("client certificate", certificate))?;
        if chain.is_empty() {
            return Err(BadIdentity::Empty { path: name(certificate) });
        }
        let private = PrivateKeyDer::from_pem_file(of_key).map_err(unreadable("private key", of_key))?;
        let provider = rustls::crypto::ring::default_provider();
        let pair = CertifiedKey::from_der(chain, private, &provider).map_err(|source| {
            BadIdentity::Mismatch { certificate: name(certificate), key: name(of_key), source }
        })?;
        Ok(Self(Arc::new(pair)))
    }
}

/// TLS of requests and events alike; `None` where the libraries' own will do: the system's authorities, and nothing to show.
pub(crate) fn config(
    trust: Option<&Trust>,
    identity: Option<&Identity>,
) -> Result<Option<Arc<ClientConfig>>, rustls::Error> {
    if trust.is_none() && identity.is_none() {
        return Ok(None);
    }
    let roots = trust.map_or_else(|| Arc::new(of_the_system()), |trust| Arc::clone(&trust.0));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    Ok(Some(Arc::new(match identity {
        None => builder.with_no_client_auth(),
        Some(Identity(pair)) => {
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(pair))))
        }
    })))
}

/// The system's authorities; none is no error before somebody has to be believed.
fn of_the_system() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
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

    fn made(dir: &Path, name: &str) -> (std::path::PathBuf, std::path::PathBuf) {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        let (certificate, key) = (dir.join(format!("{name}.pem")), dir.join(format!("{name}.key")));
        std::fs::write(&certificate, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        (certificate, key)
    }

    #[test]
    fn a_certificate_is_taken_with_its_key_beside_it_or_in_the_same_file_and_with_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let (ada, ada_key) = made(dir.path(), "ada");
        let (_, bob_key) = made(dir.path(), "bob");
        assert_eq!(format!("{:?}", Identity::from_pem_files(&ada, Some(&ada_key)).unwrap()), "Identity(***)");
        let error = Identity::from_pem_files(&ada, Some(&bob_key)).unwrap_err();
        assert!(matches!(error, BadIdentity::Mismatch { .. }), "{error:?}");
        let error = Identity::from_pem_files(&ada, None).unwrap_err();
        assert!(error.to_string().starts_with("cannot read a private key from "), "{error}");
        let error = Identity::from_pem_files(&ada_key, None).unwrap_err();
        assert!(matches!(error, BadIdentity::Empty { .. }), "{error:?}");
        let both = dir.path().join("both.pem");
        let text = [&ada, &ada_key].map(|path| std::fs::read_to_string(path).unwrap()).concat();
        std::fs::write(&both, text).unwrap();
        Identity::from_pem_files(&both, None).unwrap();
    }
}
