//! API tokens on the device itself: the first one, and the local commands.

use std::{
    fs::OpenOptions,
    io::{IsTerminal as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use ota_core::{
    Sha256Digest, Timestamp,
    ports::{AuditLog as _, Clock as _, Role, TokenRecord, Tokens},
};
use ota_store::SqliteStore;
use ring::rand::{SecureRandom as _, SystemRandom};

use crate::{clock::SystemClock, config::Config, record::by};

/// 256 random bits, in hexadecimal, behind a prefix by which a leaked one is recognised.
fn fresh_token() -> anyhow::Result<String> {
    let mut bytes = [0_u8; 32];
    SystemRandom::new().fill(&mut bytes).map_err(|_| anyhow::anyhow!("the system gives no random bytes"))?;
    Ok(format!("ota_{}", hex::encode(bytes)))
}

fn now(config: &Config) -> Timestamp {
    SystemClock::new(config.clock.trust, PathBuf::new()).wall()
}

/// The store of a daemon that may be running at the same time.
pub(crate) fn open(config: &Config) -> anyhow::Result<SqliteStore> {
    let folder = &config.state.dir;
    Ok(SqliteStore::open(folder, now(config)).with_context(|| format!("opening {}", folder.display()))?.store)
}

/// Makes a token. `actor`: who does.
pub(crate) fn create(
    store: &SqliteStore,
    actor: &str,
    name: &str,
    role: Role,
    days: Option<u32>,
) -> anyhow::Result<String> {
    if name.is_empty() || name.len() > 64 || name.chars().any(char::is_control) {
        bail!("a token's name has 1 to 64 printable characters");
    }
    let created = SystemClock::new(crate::config::ClockTrust::Always, PathBuf::new()).wall();
    let expires = days.map(|days| Timestamp::from_secs(created.as_secs() + i64::from(days) * 86_400));
    let token = fresh_token()?;
    // Nothing of this kind happens unrecorded: the record comes first.
    store.append(created, &by(actor, "auth.token.create", format!("{name} as {}", role.as_str())))?;
    let record = TokenRecord { name: name.into(), role, created, expires, last_used: None };
    store.add(&Sha256Digest::of(token.as_bytes()), &record)?;
    Ok(token)
}

pub(crate) fn list(store: &SqliteStore) -> anyhow::Result<String> {
    let mut text = String::new();
    for token in store.list()? {
        text.push_str(&format!("{}\t{}\n", token.name, token.role.as_str()));
    }
    Ok(text)
}

pub(crate) fn revoke(store: &SqliteStore, name: &str) -> anyhow::Result<String> {
    note(store, "auth.token.revoke", name)?;
    if store.revoke(name)? {
        Ok(format!("token {name} is revoked"))
    } else {
        bail!("there is no token {name}")
    }
}

/// Records what a person on the device is about to do.
pub(crate) fn note(store: &SqliteStore, action: &str, what: &str) -> anyhow::Result<()> {
    let now = SystemClock::new(crate::config::ClockTrust::Always, PathBuf::new()).wall();
    store.append(now, &by("cli", action, what.into()))?;
    Ok(())
}

/// On the first start there is nobody who could ask for a token: make one admin token, readable by root alone.
pub(crate) fn first(store: &SqliteStore, folder: &Path) -> anyhow::Result<()> {
    if !store.list()?.is_empty() {
        return Ok(());
    }
    let path = folder.join("admin.token");
    let token = create(store, "gateway", "admin", Role::Admin, None)?;
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&path)
        .with_context(|| format!("writing {}", path.display()))?;
    file.write_all(token.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    // Once, to whoever sits there; what is no terminal keeps what it is told, and a log is no place for it.
    let shown = if std::io::stdout().is_terminal() { format!(" and is {token}") } else { String::new() };
    crate::cli::say(&format!("first start: the admin token is in {}{shown}", path.display()))
}
