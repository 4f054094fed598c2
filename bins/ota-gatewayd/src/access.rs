//! How an update server is reached: what the section of a source names, read and understood, each by its key.

use std::{fs, path::Path};

use anyhow::{Context as _, anyhow};
use ota_fetch::{ClientIdentity, Proxy, Url, check_access, tuf::check_root};

use crate::config::{AtKey as _, Misfit, SourceSection};

/// What a source is made of.
pub(crate) struct Access {
    pub(crate) metadata_url: Url,
    pub(crate) targets_url: Url,
    pub(crate) root: Vec<u8>,
    pub(crate) ca: Option<Vec<u8>>,
    pub(crate) client_cert: Option<ClientIdentity>,
    pub(crate) proxy: Proxy,
    pub(crate) headers: Vec<(String, String)>,
}

impl Access {
    /// Of the `index`-th source.
    ///
    /// # Errors
    /// The key of what cannot be read, or is no address.
    pub(crate) fn of(section: &SourceSection, index: usize) -> Result<Self, Misfit> {
        let key = |field: &str| format!("source[{index}].{field}");
        let file = |path: Option<&Path>, field: &str| path.map(read).transpose().at_key(key(field));
        Ok(Self {
            metadata_url: address(&section.metadata_url).at_key(key("metadata_url"))?,
            targets_url: address(&section.targets_url).at_key(key("targets_url"))?,
            root: read(&section.initial_root).at_key(key("initial_root"))?,
            ca: file(section.ca.as_deref(), "ca")?,
            client_cert: file(section.client_cert.as_deref(), "client_cert")?
                .map(|pem| ClientIdentity { pem }),
            proxy: match section.proxy.as_deref() {
                None | Some("system") => Proxy::System,
                Some("direct") => Proxy::Direct,
                Some(text) => Proxy::Via(address(text).at_key(key("proxy"))?),
            },
            headers: match &section.headers_file {
                Some(path) => headers(path).at_key(key("headers_file"))?,
                None => Vec::new(),
            },
        })
    }

    /// Whether a server can be asked with it, and whether trust can begin with its root. No server is asked.
    ///
    /// # Errors
    /// The key of what cannot be used.
    pub(crate) fn check(&self, index: usize) -> Result<(), Misfit> {
        let key = |field: &str| format!("source[{index}].{field}");
        let direct = &Proxy::Direct;
        check_root(&self.root).at_key(key("initial_root"))?;
        check_access(self.ca.as_deref(), None, &[], direct).at_key(key("ca"))?;
        check_access(None, self.client_cert.as_ref(), &[], direct).at_key(key("client_cert"))?;
        check_access(None, None, &self.headers, direct).at_key(key("headers_file"))?;
        check_access(None, None, &[], &self.proxy).at_key(key("proxy"))
    }
}

fn address(text: &str) -> anyhow::Result<Url> {
    // Without the text: it may hold a password.
    text.parse().context("this is not an address")
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("reading {}", path.display()))
}

/// The lines of a file of `Name: value`; its values are secrets and are not repeated.
fn headers(path: &Path) -> anyhow::Result<Vec<(String, String)>> {
    let text = String::from_utf8(read(path)?).map_err(|_| anyhow!("{} is not text", path.display()))?;
    text.lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| {
            let (name, value) =
                line.split_once(':').ok_or_else(|| anyhow!("{}: a line without a colon", path.display()))?;
            Ok((name.trim().to_owned(), value.trim().to_owned()))
        })
        .collect()
}
