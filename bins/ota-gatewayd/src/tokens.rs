//! API tokens on the device itself: the first one, and the local commands.

use std::{
    io::IsTerminal as _,
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
    let token = fresh_token()?;
    record(store, actor, &token, name, role, days)?;
    Ok(token)
}

fn record(
    store: &SqliteStore,
    actor: &str,
    token: &str,
    name: &str,
    role: Role,
    days: Option<u32>,
) -> anyhow::Result<()> {
    let created = SystemClock::new(crate::config::ClockTrust::Always, PathBuf::new()).wall();
    let expires = days.map(|days| Timestamp::from_secs(created.as_secs() + i64::from(days) * 86_400));
    // Nothing of this kind happens unrecorded: the record comes first.
    store.append(created, &by(actor, "auth.token.create", format!("{name} as {}", role.as_str())))?;
    let record = TokenRecord { name: name.into(), role, created, expires, last_used: None };
    Ok(store.add(&Sha256Digest::of(token.as_bytes()), &record)?)
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

/// On the first start, or when the last token was revoked on the device, there is nobody who could ask for one: make an admin
/// token, readable by root alone. It is on the disk before it is valid: after a cut in between, the next start makes another.
pub(crate) fn first(store: &SqliteStore, folder: &Path) -> anyhow::Result<()> {
    if !store.list()?.is_empty() {
        return Ok(());
    }
    // A revoked token keeps its name, for the audit's sake.
    let name = store.free_token_name("admin")?;
    let path = folder.join("admin.token");
    let token = fresh_token()?;
    ota_store::replace_file(folder, "admin.token", format!("{token}\n").as_bytes())?;
    record(store, "gateway", &token, &name, Role::Admin, None)?;
    // Once, to whoever sits there; what is no terminal keeps what it is told, and a log is no place for it.
    let shown = if std::io::stdout().is_terminal() { format!(" and is {token}") } else { String::new() };
    crate::cli::say(&format!("there was no token: the admin token {name} is in {}{shown}", path.display()))
}

#[cfg(test)]
mod tests {
    use ota_core::ports::Settings as _;

    use super::*;

    /// A configuration whose state lies below `dir`, and that folder.
    fn config(dir: &Path) -> (Config, PathBuf) {
        let state = dir.join("state");
        let text = format!(
            "[gateway]\nname='g'\nmodel='M'\nserial='S'\n[slots]\na='/dev/a'\nb='/dev/b'\n[state]\ndir='{}'\n",
            state.display()
        );
        (Config::parse(&text).unwrap(), state)
    }

    /// The token that `file` opens the store with, and what stands there.
    #[track_caller]
    fn opens(store: &SqliteStore, file: &Path) -> (TokenRecord, String) {
        let token = std::fs::read_to_string(file).unwrap();
        let digest = Sha256Digest::of(token.trim().as_bytes());
        (store.find(&digest, Timestamp::from_secs(2)).unwrap().expect("it opens nothing"), token)
    }

    #[test]
    fn after_the_last_token_was_revoked_on_the_device_the_next_start_makes_another_one_that_opens() {
        let dir = tempfile::tempdir().unwrap();
        let (config, state) = config(dir.path());
        let start = || crate::wire::open_store(&config, Timestamp::from_secs(1)).unwrap();
        let file = state.join("admin.token");
        let mut known = Vec::new();
        for name in ["admin", "admin-2", "admin-3"] {
            let store = start();
            let (record, token) = opens(&store, &file);
            assert_eq!((record.name.as_str(), record.role), (name, Role::Admin));
            assert!(!known.contains(&token));
            known.push(token);
            store.set_value("floor.version", Some("1.0.0")).expect("it writes");
            revoke(&store, name).unwrap();
            assert!(store.list().unwrap().is_empty());
        }
    }

    #[test]
    fn an_admin_token_that_could_not_be_written_down_is_made_again_and_only_what_lies_there_opens() {
        let dir = tempfile::tempdir().unwrap();
        let (config, state) = config(dir.path());
        let start = || crate::wire::open_store(&config, Timestamp::from_secs(1)).unwrap();
        let path = state.join("admin.token");
        std::fs::create_dir_all(&path).unwrap();
        let store = start();
        assert!(store.list().unwrap().is_empty(), "nobody would ever know it");
        let refused = store.set_value("floor.version", Some("1.0.0")).unwrap_err();
        assert!(
            refused.to_string().contains("restart ota-gatewayd"),
            "it answers and writes nothing: {refused}"
        );
        drop(store);
        std::fs::remove_dir(&path).unwrap();
        let (record, token) = opens(&start(), &path);
        assert_eq!((record.name.as_str(), record.role), ("admin", Role::Admin));
        assert_eq!(opens(&start(), &path).1, token, "made once");
    }
}
