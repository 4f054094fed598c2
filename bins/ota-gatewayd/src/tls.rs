//! Where the HTTP interface's certificate comes from: the configuration, or one made at the first start.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use anyhow::Context as _;
use ota_http::{ClientCa, TlsMaterial};

use crate::config::{ClientAuth, Config};

/// The certificate to serve with; `None` for plain HTTP, on loopback or where the configuration says so.
pub(crate) fn material(config: &Config) -> anyhow::Result<Option<TlsMaterial>> {
    let section = &config.http;
    let client_ca = section.client_ca.as_deref().map(read).transpose()?;
    let client_ca =
        client_ca.map(|pem| ClientCa { pem, required: section.client_auth == ClientAuth::Required });
    if let (Some(certificate), Some(key)) = (&section.certificate, &section.key) {
        return Ok(Some(TlsMaterial { chain: read(certificate)?, key: read(key)?, client_ca }));
    }
    if section.listen.ip().is_loopback() || section.allow_plain {
        return Ok(None);
    }
    let (certificate, key) = (config.state.dir.join("tls.pem"), config.state.dir.join("tls.key"));
    if certificate.exists() && key.exists() {
        return Ok(Some(TlsMaterial { chain: read(&certificate)?, key: read(&key)?, client_ca }));
    }
    let mut names = section.hosts.clone();
    names.retain(|name| name != "*");
    names.push(config.gateway.name.clone());
    let made = ota_http::self_signed(&names)?;
    // The certificate last: its presence says that the key beside it is whole.
    keep(&key, &made.key)?;
    keep(&certificate, &made.chain)?;
    tracing::warn!(certificate = %certificate.display(), "no certificate is configured: a self-signed one was made");
    Ok(Some(TlsMaterial { client_ca, ..made }))
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("reading {}", path.display()))
}

fn keep(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("writing {}", path.display()))?;
    file.write_all(bytes)?;
    Ok(file.sync_all()?)
}
