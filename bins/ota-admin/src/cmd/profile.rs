//! `ota-admin profile`: gateways by name. Talks to none of them.

use std::path::PathBuf;

use anyhow::Context as _;
use serde::Serialize;

use super::Context;
use crate::{
    connect::Connection,
    exit::Failure,
    output::{Format, facts, table},
    profile::{
        self, BadProfiles, Profile, Profiles, Secret,
        edit::{Book, is_name},
    },
};

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) what: What,
}

#[derive(Clone, Debug, clap::Subcommand)]
pub(crate) enum What {
    /// List the profiles.
    List,
    /// Show a profile, the one in use when none is named.
    Show {
        /// Name of the profile.
        name: Option<String>,
    },
    /// Keep the options of this command line (--url, --token-file, --ca, --client-cert, --client-key, --timeout, -o) under a name.
    Add {
        /// Name of the profile: letters, digits, - _ and dots.
        name: String,
    },
    /// Remove a profile. The files that it names stay.
    Remove {
        /// Name of the profile.
        name: String,
    },
    /// Use this profile from now on where none is named.
    Use {
        /// Name of the profile.
        name: String,
    },
}

/// All profiles, for programs.
#[derive(Serialize)]
struct List {
    file: PathBuf,
    default: Option<String>,
    profiles: Vec<Shown>,
}

/// One profile without its secret, for programs.
#[derive(Serialize)]
struct Shown {
    name: String,
    default: bool,
    url: Option<String>,
    token_file: Option<PathBuf>,
    /// Whether the token itself stands in the file.
    has_token: bool,
    ca: Option<PathBuf>,
    client_cert: Option<PathBuf>,
    client_key: Option<PathBuf>,
    timeout: Option<u64>,
    output: Option<Format>,
}

pub(crate) fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let home = context.environment.home.clone();
    let path = context.environment.profiles.clone().ok_or(BadProfiles::Nowhere)?;
    match args.what {
        What::List => {
            let profiles = Profiles::load(&path, home.as_deref())?.unwrap_or_default();
            let list = List { default: profiles.default.clone(), profiles: shown(&profiles), file: path };
            context.out.show(&list, rows)
        }
        What::Show { name } => {
            let connection = Connection::named(name.or_else(|| context.connection.profile.take()));
            let chosen = profile::choose(&connection, &context.environment)?;
            let chosen = chosen.ok_or_else(|| Failure::Usage("no profile is in use: name one".into()))?;
            let profiles = Profiles::load(&path, home.as_deref())?.unwrap_or_default();
            let found = shown(&profiles).into_iter().find(|shown| shown.name == chosen.name);
            let found = found.context("the profile has gone meanwhile")?;
            context.out.show(&found, detail)
        }
        What::Add { name } => {
            let added = typed(&name, &context.connection, context.typed_format)?;
            Book::open(&path, home.as_deref())?.add(&name, &added)?;
            done(context, &name, &path, "is in")
        }
        What::Remove { name } => {
            Book::open(&path, home.as_deref())?.remove(&name)?;
            done(context, &name, &path, "is no longer in")
        }
        What::Use { name } => {
            Book::open(&path, home.as_deref())?.make_default(&name)?;
            done(context, &name, &path, "is the default of")
        }
    }
}

/// What a change has done, for programs.
#[derive(Serialize)]
struct Done {
    name: String,
    file: PathBuf,
}

fn done(context: &mut Context, name: &str, path: &std::path::Path, what: &str) -> Result<(), Failure> {
    let done = Done { name: name.to_owned(), file: path.to_owned() };
    context.out.show(&done, |done| format!("{} {what} {}", done.name, done.file.display()))
}

/// The profile that the command line spells out. The environment has no part in it: it may be of another gateway.
fn typed(name: &str, connection: &Connection, output: Option<Format>) -> Result<Profile, Failure> {
    if !is_name(name) {
        return Err(Failure::Usage(format!("{name:?} cannot be a name: letters, digits, - _ and dots can")));
    }
    let file = |id: &str, path: &Option<PathBuf>| -> Result<Option<PathBuf>, Failure> {
        let path = path.as_ref().filter(|_| connection.is_typed(id));
        // The profile is used from other folders than this one.
        Ok(path.map(std::path::absolute).transpose().context("cannot tell the working folder")?)
    };
    let url = connection.url.clone().filter(|_| connection.is_typed("url"));
    let added = Profile {
        url: Some(url.ok_or_else(|| Failure::Usage("a profile needs --url URL".into()))?),
        token: file("token_file", &connection.token_file)?.map(Secret::File),
        ca: file("ca", &connection.ca)?,
        client_cert: file("client_cert", &connection.client_cert)?,
        client_key: file("client_key", &connection.client_key)?,
        timeout: connection.timeout.filter(|_| connection.is_typed("timeout")),
        output: output.filter(|_| connection.is_typed("output")),
    };
    if added.client_key.is_some() && added.client_cert.is_none() {
        return Err(Failure::Usage("--client-key needs --client-cert".into()));
    }
    Ok(added)
}

fn shown(profiles: &Profiles) -> Vec<Shown> {
    let one = |(name, profile): (&String, &Profile)| Shown {
        name: name.clone(),
        default: profiles.default.as_ref() == Some(name),
        url: profile.url.as_ref().map(ToString::to_string),
        token_file: match &profile.token {
            Some(Secret::File(path)) => Some(path.clone()),
            Some(Secret::Here(_)) | None => None,
        },
        has_token: matches!(profile.token, Some(Secret::Here(_))),
        ca: profile.ca.clone(),
        client_cert: profile.client_cert.clone(),
        client_key: profile.client_key.clone(),
        timeout: profile.timeout,
        output: profile.output,
    };
    profiles.all.iter().map(one).collect()
}

fn rows(list: &List) -> String {
    if list.profiles.is_empty() {
        return format!("no profiles in {}", list.file.display());
    }
    let rows = list.profiles.iter().map(|profile| {
        let used = if profile.default { "default" } else { "" };
        [profile.name.clone(), profile.url.clone().unwrap_or_default(), token(profile), used.to_owned()]
    });
    table(["PROFILE", "URL", "TOKEN", ""], rows)
}

fn token(profile: &Shown) -> String {
    match &profile.token_file {
        Some(path) => path.display().to_string(),
        None if profile.has_token => "in the file of profiles".to_owned(),
        None => "none".to_owned(),
    }
}

fn detail(profile: &Shown) -> String {
    let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
    let optional = [
        ("URL", profile.url.clone()),
        ("Token", Some(token(profile))),
        ("CA", path(&profile.ca)),
        ("Certificate", path(&profile.client_cert)),
        ("Key", path(&profile.client_key)),
        ("Timeout", profile.timeout.map(|seconds| format!("{seconds} s"))),
        ("Output", profile.output.map(|format| format.word().to_owned())),
        ("Default", profile.default.then(|| "yes".to_owned())),
    ];
    let rows = optional.into_iter().filter_map(|(name, value)| Some((name, value?)));
    facts(std::iter::once(("Profile", profile.name.clone())).chain(rows))
}
