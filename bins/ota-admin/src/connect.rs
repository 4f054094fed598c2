//! Where the gateway is and who asks: options, environment and profile become a client.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use clap::{ArgMatches, parser::ValueSource};
use ota_client::{BaseUrl, Client, ClientError, Identity, Options, TlsRefusal, Token, Trust};

use crate::{
    exit::Failure,
    output::Output,
    profile::{Chosen, Profile, Secret, TIMEOUT},
};

/// Where a gateway is when nobody says.
const HERE: &str = "http://127.0.0.1:8080";
/// Seconds for one answer when nobody says.
const PATIENCE: u64 = 30;

/// Options of every command that talks to a gateway.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Connection {
    /// Profile of the gateway, in ~/.config/ota-admin/profiles.toml; options and variables win over what it says.
    #[arg(long, env = "OTA_PROFILE", value_name = "NAME", global = true, hide_env_values = true)]
    pub(crate) profile: Option<String>,

    /// Base URL of the gateway, with or without the prefix of its API [default: http://127.0.0.1:8080].
    #[arg(long, env = "OTA_URL", global = true, hide_env_values = true)]
    pub(crate) url: Option<BaseUrl>,

    /// File that holds the access token; otherwise OTA_TOKEN, otherwise the file that OTA_TOKEN_FILE names.
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) token_file: Option<PathBuf>,

    /// Seconds to wait for one answer [default: 30].
    #[arg(long, env = "OTA_TIMEOUT", value_name = "SECONDS", global = true, hide_env_values = true)]
    #[arg(value_parser = clap::value_parser!(u64).range(TIMEOUT))]
    pub(crate) timeout: Option<u64>,

    /// Believe only the certificate authorities in this PEM file.
    #[arg(long, env = "OTA_CA", value_name = "FILE", global = true, hide_env_values = true)]
    pub(crate) ca: Option<PathBuf>,

    /// Show the certificate in this PEM file to the gateway.
    #[arg(long, env = "OTA_CLIENT_CERT", value_name = "FILE", global = true, hide_env_values = true)]
    pub(crate) client_cert: Option<PathBuf>,

    /// Its private key (PEM), when it is not in the same file.
    #[arg(long, env = "OTA_CLIENT_KEY", value_name = "FILE", global = true, hide_env_values = true)]
    pub(crate) client_key: Option<PathBuf>,

    /// Names of the options that were typed and do not come from the environment.
    #[arg(skip)]
    typed: Vec<String>,
}

impl Connection {
    /// Nothing but a profile.
    pub(crate) fn named(profile: Option<String>) -> Self {
        Self { profile, ..Self::default() }
    }

    /// Remembers which options were typed.
    pub(crate) fn trace(&mut self, matches: &ArgMatches) {
        let is_typed = |id: &&clap::Id| matches.value_source(id.as_str()) == Some(ValueSource::CommandLine);
        self.typed = matches.ids().filter(is_typed).map(ToString::to_string).collect();
    }

    /// Whether an option was typed.
    pub(crate) fn is_typed(&self, id: &str) -> bool {
        self.typed.iter().any(|typed| typed == id)
    }
}

/// What the environment says beside the options. A token is never an option: command lines are seen by every process.
#[derive(Clone, Debug, Default)]
pub(crate) struct Environment {
    /// `OTA_TOKEN`.
    pub(crate) token: Option<String>,
    /// `OTA_TOKEN_FILE`.
    pub(crate) token_file: Option<PathBuf>,
    /// The file of profiles: below `XDG_CONFIG_HOME`, otherwise below `~/.config`.
    pub(crate) profiles: Option<PathBuf>,
    /// `HOME`.
    pub(crate) home: Option<PathBuf>,
}

impl Environment {
    /// Of this process. Empty variables count as absent.
    pub(crate) fn of_process() -> Self {
        #[expect(clippy::disallowed_methods, reason = "ota-admin owns its environment variables")]
        let set = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
        let home = set("HOME").map(PathBuf::from);
        // The specification of XDG: a relative path is to be ignored.
        let config = set("XDG_CONFIG_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
        let config = config.or_else(|| home.as_ref().map(|home| home.join(".config")));
        Self {
            token: set("OTA_TOKEN"),
            token_file: set("OTA_TOKEN_FILE").map(PathBuf::from),
            profiles: config.map(|config| config.join("ota-admin/profiles.toml")),
            home,
        }
    }
}

/// A client as options, environment and profile say, in this order.
pub(crate) fn client(
    connection: &Connection,
    environment: &Environment,
    chosen: Option<&Chosen>,
    out: &mut Output,
) -> Result<Client, Failure> {
    let nothing = Profile::default();
    let profile = chosen.map_or(&nothing, |chosen| &chosen.profile);
    let base = match connection.url.as_ref().or(profile.url.as_ref()) {
        Some(url) => url.clone(),
        None => HERE.parse().context("the built-in URL")?,
    };
    let mut options = Options::new(base.clone());
    options.timeout = Duration::from_secs(connection.timeout.or(profile.timeout).unwrap_or(PATIENCE));
    let token = token(connection, environment, profile);
    let lent = token.as_ref().is_some_and(|(_, lent)| *lent).then_some(chosen).flatten();
    options.token = token.map(|(place, _)| read(&place, out)).transpose()?;
    if let Some(path) = connection.ca.as_ref().or(profile.ca.as_ref()) {
        options.trust = Some(Trust::from_pem_file(path).map_err(anyhow::Error::new)?);
    }
    options.identity = identity(connection, profile, out)?;
    let elsewhere = |chosen: &&Chosen| chosen.profile.url.as_ref().is_some_and(|theirs| *theirs != base);
    if let Some(chosen) = lent.filter(elsewhere) {
        out.note(&format!("the token is that of profile {}, and {base} is not its gateway", chosen.name))?;
    }
    if options.token.is_some() && !base.is_encrypted() && !base.is_loopback() {
        out.note("the token travels unencrypted; use an https URL")?;
    }
    Ok(Client::new(options)?)
}

/// Where the token is, and whether it is the profile's.
fn token(connection: &Connection, environment: &Environment, profile: &Profile) -> Option<(Place, bool)> {
    if let Some(path) = &connection.token_file {
        return Some((Place::File(path.clone()), false));
    }
    if let Some(text) = &environment.token {
        return Some((Place::Text(text.clone()), false));
    }
    if let Some(path) = &environment.token_file {
        return Some((Place::File(path.clone()), false));
    }
    let place = match profile.token.as_ref()? {
        Secret::Here(token) => Place::Parsed(token.clone()),
        Secret::File(path) => Place::File(path.clone()),
    };
    Some((place, true))
}

/// Where a token stands.
enum Place {
    Text(String),
    Parsed(Token),
    File(PathBuf),
}

fn read(place: &Place, out: &mut Output) -> Result<Token, Failure> {
    let text = match place {
        Place::Parsed(token) => return Ok(token.clone()),
        Place::Text(text) => text.clone(),
        Place::File(path) => {
            let text = fs::read_to_string(path)
                .with_context(|| format!("cannot read the token file {}", path.display()))?;
            note_readers(path, "token file", out)?;
            text
        }
    };
    Ok(Token::parse(&text).map_err(anyhow::Error::new)?)
}

fn identity(
    connection: &Connection,
    profile: &Profile,
    out: &mut Output,
) -> Result<Option<Identity>, Failure> {
    let (certificate, key) = match (&connection.client_cert, &profile.client_cert) {
        // A key goes with its certificate, from wherever that is.
        (Some(certificate), _) => (certificate, connection.client_key.as_ref()),
        (None, Some(certificate)) => {
            (certificate, connection.client_key.as_ref().or(profile.client_key.as_ref()))
        }
        (None, None) if connection.client_key.is_some() => {
            return Err(Failure::Usage("--client-key needs --client-cert".into()));
        }
        (None, None) => return Ok(None),
    };
    let identity = Identity::from_pem_files(certificate, key.map(PathBuf::as_path));
    let identity = identity.map_err(anyhow::Error::new)?;
    note_readers(key.unwrap_or(certificate), "private key", out)?;
    Ok(Some(identity))
}

fn note_readers(path: &Path, what: &str, out: &mut Output) -> Result<(), Failure> {
    let mode = fs::metadata(path).map(|m| m.permissions().mode()).unwrap_or(0);
    if mode & 0o044 != 0 {
        out.note(&format!("others can read the {what} {}; chmod 600 it", path.display()))?;
    }
    Ok(())
}

/// What to do when something else than a gateway's answer came, or nothing.
pub(crate) fn next_step(error: &ClientError) -> Option<&'static str> {
    if let Some(refusal) = error.tls() {
        return Some(match refusal {
            TlsRefusal::Untrusted => {
                "name the authority of its certificate with --ca (OTA_CA); one that the gateway made for itself is tls.pem in its \
                 state folder: copy that file"
            }
            TlsRefusal::OtherName => {
                "use a name in --url that the certificate is for; for one that the gateway makes for itself, http.hosts names them"
            }
            TlsRefusal::OutOfTime => {
                "compare the clocks of both machines; if they are right, renew the gateway's certificate"
            }
            TlsRefusal::ClientCertificate => {
                "the gateway wants a certificate that it believes: name it with --client-cert, its key with --client-key"
            }
            TlsRefusal::Plain => "what answers there does not speak TLS: is it http:// in --url?",
        });
    }
    match error {
        ClientError::Setup(_) => {
            Some("install the system's ca-certificates, or name the gateway's authority with --ca (OTA_CA)")
        }
        ClientError::NotAGateway { .. } => Some(
            "a proxy or another service answers there: is --url (OTA_URL, or that of the profile) right?",
        ),
        // What a server that speaks TLS answers to plain HTTP is no HTTP.
        ClientError::Broken { url, .. } if url.starts_with("http://") => {
            Some("is the gateway running, and does it speak TLS there? Then it is https:// in --url")
        }
        ClientError::Unreachable { .. }
        | ClientError::TimedOut { .. }
        | ClientError::Broken { .. }
        | ClientError::Answer { .. }
        | ClientError::TooLarge { .. }
        | ClientError::Stream { .. }
        | ClientError::StreamEnded { .. } => {
            Some("is the gateway running, and is --url (OTA_URL, or that of the profile) right?")
        }
        ClientError::Api(_)
        | ClientError::File { .. }
        | ClientError::Sink(_)
        | ClientError::Encode(_)
        | ClientError::Tls(_) => None,
    }
}
