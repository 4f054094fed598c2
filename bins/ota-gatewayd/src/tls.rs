//! Where the HTTP interface's certificate comes from: the configuration, or one made at the first start.

use std::{fs, path::Path};

use anyhow::Context as _;
use ota_http::{ClientCa, TlsError, TlsMaterial};
use ota_store::StoreError;

use crate::config::{AtKey as _, ClientAuth, Config, Misfit};

/// The certificate to serve with; `None` for plain HTTP, on loopback or where the configuration says so.
pub(crate) fn material(config: &Config) -> anyhow::Result<Option<TlsMaterial>> {
    let client_ca = client_ca(config)?;
    if let Some(configured) = configured(config)? {
        return Ok(Some(TlsMaterial { client_ca, ..configured }));
    }
    if is_plain(config) {
        return Ok(None);
    }
    let own = match own(&config.state.dir)? {
        Some(own) => own,
        None => make(config)?,
    };
    Ok(Some(TlsMaterial { client_ca, ..own }))
}

/// Whether there is no TLS where no certificate is configured.
fn is_plain(config: &Config) -> bool {
    config.http.listen.ip().is_loopback() || config.http.allow_plain
}

fn client_ca(config: &Config) -> Result<Option<ClientCa>, Misfit> {
    let pem = config.http.client_ca.as_deref().map(read).transpose().at_key("http.client_ca")?;
    let required = config.http.client_auth == ClientAuth::Required;
    Ok(pem.map(|pem| ClientCa { pem, required }))
}

/// The pair that the configuration names.
fn configured(config: &Config) -> Result<Option<TlsMaterial>, Misfit> {
    let (Some(certificate), Some(key)) = (&config.http.certificate, &config.http.key) else {
        return Ok(None);
    };
    let chain = read(certificate).at_key("http.certificate")?;
    Ok(Some(TlsMaterial { chain, key: read(key).at_key("http.key")?, client_ca: None }))
}

/// Whether what the configuration names can be used; makes nothing.
///
/// # Errors
/// The key of the file that cannot.
pub(crate) fn check(config: &Config) -> Result<(), Misfit> {
    let (pair, client_ca) = (configured(config)?, client_ca(config)?);
    let pair = match pair {
        Some(pair) => pair,
        None if is_plain(config) => return Ok(()),
        // As it would be made at the first start.
        None => self_signed(config).at_key("http.hosts")?,
    };
    TlsMaterial { client_ca, ..pair }.check().map_err(|error| {
        let key = match error {
            TlsError::Certificate(_) => "http.certificate",
            TlsError::ClientCa(_) => "http.client_ca",
            TlsError::SelfSigned(_) => "http.hosts",
            TlsError::Key(_) | TlsError::Unusable(_) => "http.key",
        };
        Misfit::new(key, format!("{:#}", anyhow::Error::from(error)))
    })
}

/// Files of the pair that an earlier start made, in the state folder.
const OWN: [&str; 2] = ["tls.pem", "tls.key"];

/// That pair, where it can be used. One that a cut between its two files tore apart is as good as none.
fn own(folder: &Path) -> anyhow::Result<Option<TlsMaterial>> {
    let [certificate, key] = OWN.map(|name| folder.join(name));
    if !(certificate.exists() && key.exists()) {
        return Ok(None);
    }
    let found = TlsMaterial { chain: read(&certificate)?, key: read(&key)?, client_ca: None };
    match found.check() {
        Ok(()) => Ok(Some(found)),
        Err(error) => {
            let error = anyhow::Error::from(error);
            tracing::error!(error = format!("{error:#}"), "the self-signed certificate is of no use");
            Ok(None)
        }
    }
}

fn self_signed(config: &Config) -> Result<TlsMaterial, TlsError> {
    let mut names = config.http.hosts.clone();
    names.retain(|name| name != "*");
    names.push(config.gateway.name.clone());
    ota_http::self_signed(&names)
}

fn make(config: &Config) -> anyhow::Result<TlsMaterial> {
    let made = self_signed(config)?;
    let [certificate, key] = OWN;
    let kept = [(key, &made.key), (certificate, &made.chain)]
        .into_iter()
        .try_for_each(|(name, bytes)| ota_store::replace_file(&config.state.dir, name, bytes));
    let path = config.state.dir.join(certificate);
    match kept {
        Ok(()) => {
            tracing::warn!(certificate = %path.display(), "no certificate is configured: a self-signed one was made");
        }
        // Or nobody could ask what is wrong.
        Err(StoreError::File { source, .. }) if ota_store::takes_nothing(&source) => {
            tracing::error!(
                certificate = %path.display(),
                error = %source,
                "a self-signed certificate was made that cannot be kept: the next start makes another one"
            );
        }
        Err(error) => return Err(error.into()),
    }
    Ok(made)
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("reading {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_pair_that_the_gateway_made_stays_and_one_that_is_torn_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let text = format!(
            "[gateway]\nname='gw'\nmodel='M'\nserial='S'\n[slots]\na='/dev/a'\nb='/dev/b'\n[state]\ndir='{}'\n\
             [http]\nlisten='0.0.0.0:8443'\n",
            dir.path().display()
        );
        let config = Config::parse(&text).unwrap();
        let start = || material(&config).unwrap().expect("no loopback");
        let first = start();
        first.check().unwrap();
        assert_eq!(start().chain, first.chain, "made once");
        let [certificate, key] = OWN.map(|name| dir.path().join(name));
        assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
        // As earlier versions left it: cut off or without space while one was written, or between the two.
        let half = first.chain[..first.chain.len() / 2].to_vec();
        let other = ota_http::self_signed(&["gw".into()]).unwrap();
        for (file, bytes) in
            [(&certificate, Vec::new()), (&certificate, half), (&key, Vec::new()), (&key, other.key)]
        {
            let before = start().chain;
            fs::write(file, bytes).unwrap();
            let again = start();
            again.check().unwrap();
            assert_ne!(again.chain, before);
            assert_eq!(start().chain, again.chain);
        }
        fs::remove_file(&key).unwrap();
        start().check().unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "nothing else is left");
    }
}
