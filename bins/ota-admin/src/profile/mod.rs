//! Profiles: connections to gateways that an operator has given a name.
//!
//! Owns the file, which of its profiles counts, and what is refused about it. What the values become is `connect`'s; the file is
//! changed in [`edit`] only. Flag before environment before profile, everywhere.

pub(crate) mod edit;

use std::{
    collections::BTreeMap,
    fmt, fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use ota_client::{BaseUrl, Token};
use serde::{Deserialize, Deserializer, de::Error as _};

use crate::{
    connect::{Connection, Environment},
    exit::Failure,
    output::Format,
};

/// Seconds that `timeout` may be, here and on the command line.
pub(crate) const TIMEOUT: std::ops::RangeInclusive<u64> = 1..=3600;

/// The file as it stands.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Profiles {
    /// The one that counts when none is named.
    pub(crate) default: Option<String>,
    /// By name.
    #[serde(default, rename = "profile")]
    pub(crate) all: BTreeMap<String, Profile>,
}

/// How one gateway is reached. What is not set is asked of nobody: the built-in default counts.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, try_from = "Keys")]
pub(crate) struct Profile {
    /// Base URL.
    pub(crate) url: Option<BaseUrl>,
    /// Who asks, and where that is kept.
    pub(crate) token: Option<Secret>,
    /// PEM file of the only authorities that are believed.
    pub(crate) ca: Option<PathBuf>,
    /// PEM file of the certificate to show.
    pub(crate) client_cert: Option<PathBuf>,
    /// PEM file of its key; in the file of the certificate otherwise.
    pub(crate) client_key: Option<PathBuf>,
    /// Seconds to wait for one answer.
    pub(crate) timeout: Option<u64>,
    /// How results are printed.
    pub(crate) output: Option<Format>,
}

/// Where the token of a profile is.
#[derive(Clone, Debug)]
pub(crate) enum Secret {
    /// In the file of profiles itself, which then nobody else may read.
    Here(Token),
    /// In a file of its own.
    File(PathBuf),
}

impl PartialEq for Secret {
    /// Two tokens are not told apart: nobody compares profiles for their secrets.
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::File(one), Self::File(other)) => one == other,
            (Self::Here(_), Self::Here(_)) => true,
            _ => false,
        }
    }
}

/// A profile as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    #[serde(default, deserialize_with = "url")]
    url: Option<BaseUrl>,
    #[serde(default, deserialize_with = "token")]
    token: Option<Token>,
    token_file: Option<PathBuf>,
    ca: Option<PathBuf>,
    client_cert: Option<PathBuf>,
    client_key: Option<PathBuf>,
    #[serde(default, deserialize_with = "timeout")]
    timeout: Option<u64>,
    output: Option<Format>,
}

impl TryFrom<Keys> for Profile {
    type Error = &'static str;

    fn try_from(keys: Keys) -> Result<Self, Self::Error> {
        let token = match (keys.token, keys.token_file) {
            (Some(_), Some(_)) => return Err("token and token_file exclude one another"),
            (Some(token), None) => Some(Secret::Here(token)),
            (None, file) => file.map(Secret::File),
        };
        if keys.client_key.is_some() && keys.client_cert.is_none() {
            return Err("client_key needs client_cert");
        }
        let Keys { url, ca, client_cert, client_key, timeout, output, .. } = keys;
        Ok(Self { url, token, ca, client_cert, client_key, timeout, output })
    }
}

fn url<'de, D: Deserializer<'de>>(from: D) -> Result<Option<BaseUrl>, D::Error> {
    String::deserialize(from)?.parse().map(Some).map_err(D::Error::custom)
}

/// Its errors do not show what stands there.
fn token<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Token>, D::Error> {
    let text = String::deserialize(from).map_err(|_| D::Error::custom("a token is a string"))?;
    Token::parse(&text).map(Some).map_err(D::Error::custom)
}

fn timeout<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    let seconds = u64::deserialize(from)?;
    let (least, most) = (TIMEOUT.start(), TIMEOUT.end());
    let told = || D::Error::custom(format!("{seconds} is not in {least} to {most} seconds"));
    TIMEOUT.contains(&seconds).then_some(Some(seconds)).ok_or_else(told)
}

/// Why the file does not say how to reach a gateway. All of them are for the person who keeps it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadProfiles {
    /// It is there and cannot be read.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// No TOML, an unknown key, a value that cannot be.
    #[error("{}:{why}", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// `line: key: what is wrong`.
        why: String,
    },
    /// It holds a token, and others may read it.
    #[error(
        "{}: profile.{profile}.token: others can read this file (mode {mode:04o}); chmod 600 it, or put the token into a file of its \
         own and name that with token_file",
        path.display()
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// The first profile with a token.
        profile: String,
        /// Its permissions.
        mode: u32,
    },
    /// It has no such profile.
    #[error("{} has no profile {wanted}; {}", path.display(), Known(known))]
    Unknown {
        /// The file.
        path: PathBuf,
        /// What was asked for.
        wanted: String,
        /// What there is.
        known: Vec<String>,
    },
    /// There is no file, and a profile was asked for.
    #[error("no profile {wanted}: there is no {}; ota-admin profile add {wanted} --url URL makes it", path.display())]
    Absent {
        /// Where it would be.
        path: PathBuf,
        /// What was asked for.
        wanted: String,
    },
    /// Neither `XDG_CONFIG_HOME` nor `HOME` is set.
    #[error("no folder for profiles: neither XDG_CONFIG_HOME nor HOME is set")]
    Nowhere,
    /// A name was typed, and the environment names another gateway.
    #[error(
        "OTA_URL ({environment}) is another gateway than that of profile {profile} ({theirs}); unset OTA_URL, or say which with --url"
    )]
    Contradiction {
        /// The profile that was typed.
        profile: String,
        /// Its URL.
        theirs: String,
        /// That of the environment.
        environment: String,
    },
}

/// The profiles that there are, as a sentence.
struct Known<'a>(&'a [String]);

impl fmt::Display for Known<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { f.write_str("it has none") } else { write!(f, "it has {}", self.0.join(", ")) }
    }
}

impl From<BadProfiles> for Failure {
    fn from(error: BadProfiles) -> Self {
        let mut text = error.to_string();
        if let Some(source) = std::error::Error::source(&error) {
            text = format!("{text}: {source}");
        }
        Self::Usage(text)
    }
}

impl Profiles {
    /// The file; `None` when there is none. Paths in it are made absolute: they start at its folder, or at home after `~/`.
    pub(crate) fn load(path: &Path, home: Option<&Path>) -> Result<Option<Self>, BadProfiles> {
        let unreadable = |source| BadProfiles::Unreadable { path: path.to_owned(), source };
        let text = match fs::read_to_string(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            text => text.map_err(unreadable)?,
        };
        let mut profiles = Self::parse(path, &text)?;
        let mode = fs::metadata(path).map_err(unreadable)?.permissions().mode() & 0o777;
        let secret = profiles.all.iter().find(|(_, profile)| matches!(profile.token, Some(Secret::Here(_))));
        if let Some((name, _)) = secret.filter(|_| mode & 0o077 != 0) {
            return Err(BadProfiles::Open { path: path.to_owned(), profile: name.clone(), mode });
        }
        let folder = path.parent().unwrap_or(Path::new("/"));
        for profile in profiles.all.values_mut() {
            profile.anchor(folder, home);
        }
        Ok(Some(profiles))
    }

    fn parse(path: &Path, text: &str) -> Result<Self, BadProfiles> {
        let wrong = |why| BadProfiles::Wrong { path: path.to_owned(), why };
        let document = toml::Deserializer::parse(text).map_err(|error| wrong(place(text, "", &error)))?;
        let profiles: Self = serde_path_to_error::deserialize(document)
            .map_err(|error| wrong(place(text, &error.path().to_string(), error.inner())))?;
        match &profiles.default {
            Some(name) if !profiles.all.contains_key(name) => {
                let line =
                    1 + text.lines().position(|line| line.trim_start().starts_with("default")).unwrap_or(0);
                Err(wrong(format!(
                    "{line}: default: there is no profile {name}; {}",
                    Known(&profiles.names())
                )))
            }
            _ => Ok(profiles),
        }
    }

    /// Names, sorted.
    pub(crate) fn names(&self) -> Vec<String> {
        self.all.keys().cloned().collect()
    }
}

impl Profile {
    fn anchor(&mut self, folder: &Path, home: Option<&Path>) {
        let token = match &mut self.token {
            Some(Secret::File(path)) => Some(path),
            _ => None,
        };
        let paths = [token, self.ca.as_mut(), self.client_cert.as_mut(), self.client_key.as_mut()];
        for path in paths.into_iter().flatten() {
            *path = match (path.strip_prefix("~"), home) {
                (Ok(rest), Some(home)) => home.join(rest),
                _ => folder.join(&path),
            };
        }
    }
}

/// `line: key: what is wrong`.
fn place(text: &str, key: &str, error: &toml::de::Error) -> String {
    let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
    let key = if key.is_empty() || key == "." { String::new() } else { format!("{key}: ") };
    format!("{line}: {key}{}", error.message())
}

/// The profile that counts.
#[derive(Clone, Debug)]
pub(crate) struct Chosen {
    /// Its name.
    pub(crate) name: String,
    /// What it says.
    pub(crate) profile: Profile,
}

/// The profile that `--profile`, `OTA_PROFILE` or the file itself names; `None` when nobody does.
pub(crate) fn choose(
    connection: &Connection,
    environment: &Environment,
) -> Result<Option<Chosen>, BadProfiles> {
    let wanted = connection.profile.as_ref().filter(|name| !name.is_empty());
    let (path, wanted) = match (&environment.profiles, wanted) {
        (Some(path), wanted) => (path, wanted),
        (None, None) => return Ok(None),
        (None, Some(_)) => return Err(BadProfiles::Nowhere),
    };
    let Some(mut profiles) = Profiles::load(path, environment.home.as_deref())? else {
        let absent = |wanted: &String| BadProfiles::Absent { path: path.clone(), wanted: wanted.clone() };
        return wanted.map_or(Ok(None), |wanted| Err(absent(wanted)));
    };
    let Some(name) = wanted.cloned().or_else(|| profiles.default.clone()) else { return Ok(None) };
    let Some(profile) = profiles.all.remove(&name) else {
        return Err(BadProfiles::Unknown { path: path.clone(), wanted: name, known: profiles.names() });
    };
    let chosen = Chosen { name, profile };
    contradiction(connection, &chosen).map_or(Ok(Some(chosen)), Err)
}

/// A person who types the name of a gateway means that gateway: a variable left over from yesterday does not turn an order to
/// another one.
fn contradiction(connection: &Connection, chosen: &Chosen) -> Option<BadProfiles> {
    let (theirs, other) = (chosen.profile.url.as_ref()?, connection.url.as_ref()?);
    let typed = connection.is_typed("profile") && !connection.is_typed("url");
    (typed && theirs != other).then(|| BadProfiles::Contradiction {
        profile: chosen.name.clone(),
        theirs: theirs.to_string(),
        environment: other.to_string(),
    })
}
