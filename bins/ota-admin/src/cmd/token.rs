//! `ota-admin token`: access tokens of the gateway. The first one is made on the device by `ota-gatewayd token create`.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use ota_api::{
    auth::{CreateTokenRequest, CreatedToken, TokenInfo},
    words::Role,
};
use ota_core::{error::chain, ports};

use super::Context;
use crate::{exit::Failure, output::table};

/// What a token may do, as it is typed.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum RoleArg {
    /// Reads and watches.
    Viewer,
    /// Also downloads, installs, cancels, pauses, uploads, verifies.
    Operator,
    /// Also deploys, rolls back, overrides, resets, manages tokens, reads the audit.
    Admin,
}

impl From<RoleArg> for Role {
    fn from(arg: RoleArg) -> Self {
        match arg {
            RoleArg::Viewer => ports::Role::Viewer,
            RoleArg::Operator => ports::Role::Operator,
            RoleArg::Admin => ports::Role::Admin,
        }
        .into()
    }
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) what: What,
}

#[derive(Clone, Debug, clap::Subcommand)]
pub(crate) enum What {
    /// Make a token. Its secret is shown once, or goes into a file.
    Create {
        /// Name, unique on the gateway.
        name: String,
        /// What it may do.
        #[arg(long, value_enum)]
        role: RoleArg,
        /// How long it holds: a number with s, m, h or d. For ever when not given.
        #[arg(long, value_name = "TIME", value_parser = seconds)]
        expires_in: Option<u64>,
        /// Write the secret into this new file (mode 0600) and do not show it.
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
    },
    /// List the tokens, without their secrets.
    List,
    /// Show the name, the role and the end of the token that is used.
    Show,
    /// Take a token's rights away.
    Revoke {
        /// Name of the token.
        name: String,
    },
}

pub(crate) async fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let client = context.client()?;
    match args.what {
        What::Create { name, role, expires_in, to } => {
            let request = CreateTokenRequest { name, role: role.into(), expires_in };
            let Some(path) = to else {
                let made = client.create_token(&request).await?;
                let shown = context.out.show(&made, |m| m.token.expose().into());
                // Also where the reader went away: nothing can show it once more.
                return shown.map_err(|failure| lost(&made.info.name, &chain(&failure)).into());
            };
            // Before there is a token: a secret that has no place to go is lost.
            let mut file = new_file(&path)?;
            let made = client.create_token(&request).await.map_err(Failure::from);
            let kept = made.and_then(|made| keep(&mut file, &path, &made).map(|()| made));
            if kept.is_err() {
                let _ = fs::remove_file(&path);
            }
            let made = kept?;
            context
                .out
                .show(&made.info, |info| format!("{} ({}) is in {}", info.name, info.role, path.display()))
        }
        What::List => {
            let list = client.tokens().await?;
            context.out.show(&list, |list| rows(&list.tokens))
        }
        What::Show => {
            let session = client.session().await?;
            context.out.show(&session, |own| {
                let end = own.expires_at.map_or_else(|| "never".into(), |at| at.to_string());
                format!("{} ({}), ends: {end}", own.name, own.role)
            })
        }
        What::Revoke { name } => {
            let done = client.revoke_token(&name).await?;
            context.out.show(&done, |d| d.message.clone())
        }
    }
}

/// A file that nobody else can read, and that was not there before.
fn new_file(path: &Path) -> Result<File, Failure> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Err(Failure::Usage(format!("{} exists already", path.display())))
        }
        opened => Ok(opened.with_context(|| format!("cannot write {}", path.display()))?),
    }
}

fn keep(file: &mut File, path: &Path, made: &CreatedToken) -> Result<(), Failure> {
    let written = writeln!(file, "{}", made.token.expose()).and_then(|()| file.sync_all());
    let told = |error: io::Error| lost(&made.info.name, &format!("cannot write {}: {error}", path.display()));
    Ok(written.map_err(told)?)
}

/// A token whose secret has come to nobody: it cannot be used, only taken away.
fn lost(name: &str, why: &str) -> anyhow::Error {
    anyhow::anyhow!("{why}; nobody has the secret now: `ota-admin token revoke {name}`")
}

fn rows(tokens: &[TokenInfo]) -> String {
    let at = |time: Option<jiff::Timestamp>| time.map_or_else(|| "never".into(), |at| at.to_string());
    let rows = tokens.iter().map(|token| {
        [
            token.name.clone(),
            token.role.to_string(),
            token.created_at.to_string(),
            at(token.expires_at),
            at(token.last_used_at),
        ]
    });
    table(["TOKEN", "ROLE", "CREATED", "EXPIRES", "LAST USED"], rows)
}

/// `90s`, `15m`, `12h`, `30d` in seconds.
fn seconds(text: &str) -> Result<u64, String> {
    let (number, unit) = text.split_at(text.trim_end_matches(char::is_alphabetic).len());
    let unit = match unit {
        "s" | "" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86400,
        _ => return Err("the units are s, m, h and d".into()),
    };
    let number: u64 = number.parse().map_err(|_| "a number with s, m, h or d, like 30d")?;
    number.checked_mul(unit).filter(|n| *n > 0).ok_or_else(|| "out of range".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        assert_eq!(seconds("30d"), Ok(2_592_000));
        assert_eq!(seconds("90"), Ok(90));
        for bad in ["", "d", "0s", "1y", "-1d", "99999999999999999999d", "18446744073709551615d"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_secret_that_cannot_be_kept_is_told_with_how_to_take_its_token_away() {
        let made = serde_json::json!({"token": "0123abcd", "name": "ci", "role": "viewer",
            "created_at": "2025-03-15T10:30:45Z"});
        let made: CreatedToken = serde_json::from_value(made).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut unwritable = File::open(file.path()).unwrap();
        let Err(Failure::Local(error)) = keep(&mut unwritable, file.path(), &made) else { panic!() };
        let told = format!("{error:#}");
        assert!(told.contains("`ota-admin token revoke ci`") && !told.contains("0123abcd"), "{told}");
    }
}
