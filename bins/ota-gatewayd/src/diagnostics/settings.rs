//! The configuration without its secrets, and the secrets themselves, so that they can be looked for elsewhere.

use std::{fs, path::Path};

use anyhow::Context as _;
use toml::{Table, Value};

/// What stands in the place of a secret.
const STARS: &str = "***";

/// A name with one of these in it names a secret; those that end in `_file` name a file that holds one.
const NAMES: [&str; 9] =
    ["password", "passwd", "passphrase", "secret", "psk", "token", "api_key", "authorization", "credential"];

/// Files whose whole content is a secret, or consists of `Name: value` lines of them.
const FILES: [&str; 3] = ["password_file", "token_file", "headers_file"];

/// A configuration that may be shown.
pub(super) struct Cleaned {
    pub(super) text: String,
    pub(super) secrets: Vec<String>,
}

impl Cleaned {
    /// Reads a configuration file and the secrets that it names.
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        // What is wrong with it could quote it.
        let table: Table = text.parse().ok().with_context(|| format!("{} is not TOML", path.display()))?;
        Ok(Self::of(table))
    }

    fn of(mut table: Table) -> Self {
        let mut secrets = Vec::new();
        for (name, value) in &mut table {
            clean(name, value, &mut secrets);
        }
        let text = toml::to_string_pretty(&table).unwrap_or_else(|error| error.to_string());
        secrets.retain(|secret| !secret.is_empty());
        Self { text, secrets }
    }
}

fn names_a_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase().replace('-', "_");
    !name.ends_with("_file") && (name == "pin" || NAMES.iter().any(|word| name.contains(word)))
}

fn clean(name: &str, value: &mut Value, secrets: &mut Vec<String>) {
    match value {
        Value::Table(table) => {
            for (name, value) in table.iter_mut() {
                clean(name, value, secrets);
            }
        }
        // Arguments of programs may hold anything.
        Value::Array(words) if name == "command" => {
            for word in words.iter_mut().skip(1) {
                secrets.extend(word.as_str().filter(|word| word.len() >= 12).map(str::to_owned));
                *word = STARS.into();
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| clean(name, value, secrets)),
        Value::String(text) if names_a_secret(name) => {
            secrets.push(std::mem::replace(text, STARS.into()));
        }
        Value::String(text) => {
            if FILES.contains(&name) {
                secrets.extend(held_by(Path::new(text)));
            }
            *text = clean_url(text, secrets);
        }
        other if names_a_secret(name) => *other = STARS.into(),
        _ => {}
    }
}

/// Lines of a file of secrets, and what stands behind a name in them.
fn held_by(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines = text.lines().map(str::trim);
    lines
        .flat_map(|line| [Some(line), line.split_once(':').map(|(_, value)| value.trim())])
        .flatten()
        .map(str::to_owned)
        .collect()
}

/// An address without user, password and query; everything else as it is.
fn clean_url(text: &str, secrets: &mut Vec<String>) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let (rest, query) = rest.split_once('?').map_or((rest, None), |(rest, query)| (rest, Some(query)));
    let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let mut shown = format!("{scheme}://");
    match authority.rsplit_once('@') {
        None => shown += authority,
        Some((user, host)) => {
            let password = user.split_once(':').map(|(_, password)| password);
            secrets.extend([Some(user), password].into_iter().flatten().flat_map(both));
            shown += &format!("{STARS}@{host}");
        }
    }
    shown += path;
    if let Some(query) = query {
        let values = query.split('&').filter_map(|pair| pair.split_once('=').map(|(_, value)| value));
        secrets.extend(values.chain([query]).flat_map(both));
        shown += &format!("?{STARS}");
    }
    shown
}

/// A part of an address as it stands there, and what it means.
fn both(part: &str) -> [String; 2] {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digits = (*first == b'%').then(|| after.get(..2)).flatten();
        let byte =
            digits.and_then(|d| std::str::from_utf8(d).ok()).and_then(|d| u8::from_str_radix(d, 16).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &after[2..] } else { after };
    }
    [part.to_owned(), String::from_utf8_lossy(&bytes).into_owned()]
}

/// A line `name=value` of the boot environment, without the value when the name says that it is a secret.
pub(super) fn clean_variable(line: &str) -> String {
    match line.split_once('=') {
        Some((name, _)) if names_a_secret(name) => format!("{name}={STARS}"),
        _ => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_taken_out_of_a_configuration_and_known_afterwards() {
        let folder = tempfile::tempdir().unwrap();
        let (headers, password) = (folder.path().join("headers"), folder.path().join("password"));
        fs::write(&headers, "X-Api-Key: header-canary\nX-Other: second-canary\n").unwrap();
        fs::write(&password, "broker-canary\n").unwrap();
        let text = format!(
            "[[source]]\nmetadata_url = 'https://u:url%20canary@h.example/m?sig=query-canary'\n\
             proxy = 'http://user:proxy-canary@p.example:3128'\nheaders_file = {:?}\n\
             [[safety.sources]]\nmqtt = {{ host = 'b', password_file = {:?}, token = 'token-canary' }}\n\
             [[health.check]]\ncommand = ['curl', '--header', 'Authorization: Bearer command-canary']\n\
             [pin]\nrequire_for = ['install']\n",
            headers, password
        );
        let cleaned = Cleaned::of(text.parse().unwrap());
        assert!(!cleaned.text.contains("canary"), "{}", cleaned.text);
        for kept in ["https://***@h.example/m?***", "http://***@p.example:3128", "curl", "install", "\"b\""] {
            assert!(cleaned.text.contains(kept), "{kept}: {}", cleaned.text);
        }
        for secret in [
            "url canary",
            "url%20canary",
            "query-canary",
            "proxy-canary",
            "header-canary",
            "second-canary",
            "broker-canary",
            "token-canary",
        ] {
            assert!(cleaned.secrets.iter().any(|known| known == secret), "{secret}: {:?}", cleaned.secrets);
        }
        assert!(cleaned.secrets.iter().any(|known| known.contains("command-canary")));
        assert!(cleaned.text.parse::<Table>().is_ok());
    }

    #[test]
    fn a_variable_that_names_a_secret_is_shown_without_it() {
        assert_eq!(clean_variable("wifi_psk=abc"), "wifi_psk=***");
        assert_eq!(clean_variable("BOOT_ORDER=A B"), "BOOT_ORDER=A B");
        assert_eq!(clean_variable("mender_password=x=y"), "mender_password=***");
    }
}
