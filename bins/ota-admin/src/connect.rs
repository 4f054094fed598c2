//! Where the gateway is and who asks: options and environment become a client.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf, time::Duration};

use anyhow::Context as _;
use ota_client::{BaseUrl, Client, Options, Token, Trust};

use crate::{exit::Failure, output::Output};

/// Options of every command that talks to a gateway.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Connection {
    /// Base URL of the gateway, with or without the prefix of its API.
    #[arg(
        long,
        env = "OTA_URL",
        default_value = "http://127.0.0.1:8080",
        global = true,
        hide_env_values = true
    )]
    pub(crate) url: BaseUrl,

    /// File that holds the access token; otherwise OTA_TOKEN, otherwise the file that OTA_TOKEN_FILE names.
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) token_file: Option<PathBuf>,

    /// Seconds to wait for one answer.
    #[arg(long, env = "OTA_TIMEOUT", default_value = "30", value_name = "SECONDS", global = true)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=3600), hide_env_values = true)]
    pub(crate) timeout: u64,

    /// Believe only the certificate authorities in this PEM file.
    #[arg(long, env = "OTA_CA", value_name = "FILE", global = true, hide_env_values = true)]
    pub(crate) ca: Option<PathBuf>,
}

/// What the environment says about the token. Never an option: command lines are seen by every process.
#[derive(Clone, Debug, Default)]
pub(crate) struct Environment {
    /// `OTA_TOKEN`.
    pub(crate) token: Option<String>,
    /// `OTA_TOKEN_FILE`.
    pub(crate) token_file: Option<PathBuf>,
}

impl Environment {
    /// Of this process. Empty variables count as absent.
    pub(crate) fn of_process() -> Self {
        #[expect(clippy::disallowed_methods, reason = "ota-admin owns its environment variables")]
        let set = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
        Self { token: set("OTA_TOKEN"), token_file: set("OTA_TOKEN_FILE").map(PathBuf::from) }
    }
}

/// A client as the options and the environment say.
pub(crate) fn client(
    connection: &Connection,
    environment: &Environment,
    out: &mut Output,
) -> Result<Client, Failure> {
    let mut options = Options::new(connection.url.clone());
    options.timeout = Duration::from_secs(connection.timeout);
    options.token = token(connection, environment, out)?;
    if let Some(path) = &connection.ca {
        options.trust = Some(Trust::from_pem_file(path).map_err(anyhow::Error::new)?);
    }
    let base = &connection.url;
    if options.token.is_some() && !base.is_encrypted() && !base.is_loopback() {
        out.note("the token travels unencrypted; use an https URL")?;
    }
    Ok(Client::new(options)?)
}

fn token(
    connection: &Connection,
    environment: &Environment,
    out: &mut Output,
) -> Result<Option<Token>, Failure> {
    let text = match (&connection.token_file, &environment.token, &environment.token_file) {
        (None, Some(text), _) => text.clone(),
        (Some(path), _, _) | (None, None, Some(path)) => {
            let text = fs::read_to_string(path)
                .with_context(|| format!("cannot read the token file {}", path.display()))?;
            let mode = fs::metadata(path).map(|m| m.permissions().mode()).unwrap_or(0);
            if mode & 0o044 != 0 {
                out.note(&format!("others can read the token file {}; chmod 600 it", path.display()))?;
            }
            text
        }
        (None, None, None) => return Ok(None),
    };
    Ok(Some(Token::parse(&text).map_err(anyhow::Error::new)?))
}
