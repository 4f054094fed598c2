//! Opening the store: new, as it was, damaged and set aside, of a newer schema, or on a medium that takes no writes.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use ota_core::{
    Timestamp,
    error::chain,
    ports::{AuditEntry, AuditLog as _, AuditOutcome},
};
use rusqlite::{Connection, OpenFlags, config::DbConfig};

use crate::{
    SqliteStore, StoreError,
    anchor::{self, ANCHOR_FILE, Anchor, AuditKey},
    durable, look,
    schema::{self, SCHEMA_VERSION},
    sift::sift,
};

pub(crate) const DATABASE: &str = "state.db";
const ASIDE: &str = "state.db.damaged-";

/// Longest wait for another process that holds the database, such as `ota-admin`.
const BUSY: Duration = Duration::from_secs(5);

/// Numbers restart above this after a damage, so that none is given twice; no device gets here by counting.
const AFTER_DAMAGE: i64 = 1 << 40;

/// An open store, and what was found.
#[derive(Debug)]
pub struct Opened {
    /// The store.
    pub store: SqliteStore,
    /// What was found.
    pub condition: Condition,
    /// First audit record that does not fit what the log ended in when it was last written. To be reported; the log
    /// goes on. The whole chain is checked by `verify_chain`.
    pub audit_broken_at: Option<u64>,
    /// How many single records did not read and were moved to the table `set_aside`.
    pub records_set_aside: u32,
}

/// What was found when the store was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// There was none; it is empty.
    Fresh,
    /// It was there, whole.
    Normal,
    /// It was there in an older schema and was brought up to date.
    Migrated {
        /// Version it had.
        from: u32,
    },
    /// It was damaged and is kept under another name; this one is empty.
    Damaged {
        /// Where the damaged database is.
        aside: PathBuf,
        /// What was wrong with it.
        why: String,
    },
    /// It was written by newer software: only read, every write gives `Unavailable` with `store_read_only`.
    NewerSchema {
        /// Version it has.
        found: u32,
    },
    /// Its files cannot be written, since their file system is read-only or full: what was acknowledged is read, every
    /// write gives `Unavailable` with `store_read_only`.
    Unwritable {
        /// Why, and what the operator should do.
        why: String,
    },
}

pub(crate) enum Found {
    Absent,
    Usable,
    Newer(u32),
}

impl SqliteStore {
    /// Opens the store in `folder`, which is made for us alone (mode 0700) if need be. `now` names a damaged database
    /// that is set aside.
    ///
    /// # Errors
    /// When the folder is not there and cannot be made, the files cannot be read, or not be written for another reason than
    /// a file system that takes nothing, or another process holds the database for more than five seconds. Damage is not
    /// an error.
    pub fn open(folder: &Path, now: Timestamp) -> Result<Opened, StoreError> {
        let folder = durable::own_folder(folder)?;
        match open_for_writing(&folder, now) {
            Ok(opened) => Ok(opened),
            Err(error) => match look::why_unwritable(&folder, &error) {
                Some(why) => look::look(folder, now, why, look::COPIED),
                None => Err(error),
            },
        }
    }
}

fn open_for_writing(folder: &Path, now: Timestamp) -> Result<Opened, StoreError> {
    let opened = match inspect(&folder.join(DATABASE)) {
        Ok(Found::Newer(found)) => return look_at_newer(folder.into(), found),
        Ok(Found::Absent) => attach(folder, now, true),
        Ok(Found::Usable) => attach(folder, now, false),
        Err(error) => Err(error),
    };
    match opened {
        Err(error) if error.is_damage() => start_anew(folder, now, &error),
        opened => opened,
    }
}

/// Looks at the database without writing to it.
fn inspect(path: &Path) -> Result<Found, StoreError> {
    if !is_there(path)? {
        return Ok(Found::Absent);
    }
    // A journal is there only when the very first start was cut off, before the write-ahead log: it has to be rolled back.
    let hot = beside(path, "-journal").exists();
    let flags = if hot { OpenFlags::SQLITE_OPEN_READ_WRITE } else { OpenFlags::SQLITE_OPEN_READ_ONLY };
    judge(&connect(path, flags)?)
}

/// Whether there is something that starts like a database; an empty file is as good as none.
pub(crate) fn is_there(path: &Path) -> Result<bool, StoreError> {
    let damaged = |why: &str| Err(StoreError::Damaged(why.into()));
    match fs::symlink_metadata(path) {
        Ok(meta) if !meta.is_file() => return damaged("it is not a file"),
        Ok(meta) if meta.len() > 0 => {}
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(StoreError::file("look at", path)(error));
        }
        _ if fs::metadata(beside(path, "-wal")).is_ok_and(|wal| wal.len() > 0) => {
            return damaged("it is gone while its log is there");
        }
        _ => return Ok(false),
    }
    check_header(path)?;
    Ok(true)
}

/// What can be done with an open database.
pub(crate) fn judge(conn: &Connection) -> Result<Found, StoreError> {
    let damaged = |why: &str| Err(StoreError::Damaged(why.into()));
    match schema::version(conn)? {
        None => return damaged("its schema number is absurd"),
        Some(version) if version > SCHEMA_VERSION => return Ok(Found::Newer(version)),
        Some(version) if version > 0 && application(conn)? != schema::APPLICATION_ID => {
            return damaged("it belongs to another program");
        }
        Some(_) => {}
    }
    let verdict: String = conn
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .map_err(StoreError::sql("check the database"))?;
    if verdict == "ok" { Ok(Found::Usable) } else { Err(StoreError::Damaged(verdict)) }
}

/// What SQLite would take as "read only" or "cannot open" although the medium is well.
fn check_header(path: &Path) -> Result<(), StoreError> {
    let mut header = Vec::new();
    File::open(path)
        .and_then(|file| file.take(20).read_to_end(&mut header))
        .map_err(StoreError::file("read", path))?;
    let versions = header.get(18..20).is_some_and(|bytes| bytes.iter().all(|b| matches!(b, 1 | 2)));
    if header.starts_with(b"SQLite format 3\0") && versions {
        return Ok(());
    }
    Err(StoreError::Damaged("it does not start like a database".into()))
}

fn application(conn: &Connection) -> Result<i32, StoreError> {
    conn.query_row("PRAGMA application_id", [], |row| row.get(0)).map_err(StoreError::sql("read whose it is"))
}

fn connect(path: &Path, flags: OpenFlags) -> Result<Connection, StoreError> {
    let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let conn = Connection::open_with_flags(path, flags).map_err(StoreError::sql("open the database"))?;
    configure(&conn).map_err(StoreError::sql("set up the connection"))?;
    Ok(conn)
}

pub(crate) fn configure(conn: &Connection) -> rusqlite::Result<()> {
    conn.busy_timeout(BUSY)?;
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    conn.pragma_update(None, "trusted_schema", false)?;
    conn.pragma_update(None, "cell_size_check", true)?;
    conn.pragma_update(None, "foreign_keys", true)?;
    // Full: a commit returns after the write-ahead log was synced.
    conn.pragma_update(None, "synchronous", "FULL")
}

/// Opens a database of our schema, or an empty one, for writing.
fn attach(folder: &Path, now: Timestamp, fresh: bool) -> Result<Opened, StoreError> {
    let path = folder.join(DATABASE);
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(StoreError::file("create", &path))?;
    durable::restrict(&path, 0o600)?;
    let mut conn = connect(&path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    conn.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))
        .map_err(StoreError::sql("switch to the write-ahead log"))?;
    let from = schema::migrate(&mut conn, &schema::MIGRATIONS)?;
    check_counters(&conn, folder, now)?;
    let records_set_aside = sift(&mut conn, now)?;
    let (key, anchor) = anchor::prepare(&conn, folder)?;
    durable::sync_folder(folder)?;
    let condition = match from {
        0 => Condition::Fresh,
        _ if fresh => Condition::Fresh,
        SCHEMA_VERSION => Condition::Normal,
        from => Condition::Migrated { from },
    };
    let store = SqliteStore::new(folder.into(), key, conn, None);
    Ok(Opened { store, condition, audit_broken_at: anchor.broken, records_set_aside })
}

/// Both counters have to be there; after a damage they start where no number was ever given.
fn check_counters(conn: &Connection, folder: &Path, now: Timestamp) -> Result<(), StoreError> {
    let sql = "SELECT count(*) FROM counters WHERE name IN ('jobs', 'events')";
    let there: u32 =
        conn.query_row(sql, [], |row| row.get(0)).map_err(StoreError::sql("read the counters"))?;
    if there != 2 {
        return Err(StoreError::Damaged("a counter is missing".into()));
    }
    let mut names = fs::read_dir(folder).map_err(StoreError::file("list", folder))?;
    if names.any(|name| name.is_ok_and(|name| name.file_name().to_string_lossy().starts_with(ASIDE))) {
        let start = AFTER_DAMAGE.saturating_add(now.as_millis().clamp(0, 1 << 45));
        conn.execute("UPDATE counters SET value = ?1 WHERE value < ?2", [start, AFTER_DAMAGE])
            .map_err(StoreError::sql("raise the counters"))?;
    }
    Ok(())
}

fn look_at_newer(folder: PathBuf, found: u32) -> Result<Opened, StoreError> {
    let conn = connect(&folder.join(DATABASE), OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let key = AuditKey::load_or_none(&folder)?;
    let store = SqliteStore::new(folder, key, conn, Some(found));
    let condition = Condition::NewerSchema { found };
    Ok(Opened { store, condition, audit_broken_at: None, records_set_aside: 0 })
}

/// Sets the damaged database aside and starts an empty one.
fn start_anew(folder: &Path, now: Timestamp, error: &StoreError) -> Result<Opened, StoreError> {
    let why = chain(error);
    let aside = free_name(folder, now);
    let suffix = aside.extension().unwrap_or_default().to_string_lossy().into_owned();
    // The chain first: a cut between the two finds the damaged database again.
    let before = anchor::restart(folder, folder.join(format!("{ANCHOR_FILE}.{suffix}")))?;
    for end in ["", "-wal", "-shm"] {
        let (from, to) = (beside(&folder.join(DATABASE), end), beside(&aside, end));
        match fs::rename(&from, &to) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(StoreError::file("set aside", from)(error));
            }
            _ => {}
        }
    }
    durable::sync_folder(folder)?;
    tracing::error!(aside = %aside.display(), why, "the state store was damaged; an empty one is used");
    let mut opened = attach(folder, now, true)?;
    record_restart(&opened.store, now, &aside, &why, before.as_ref());
    opened.condition = Condition::Damaged { aside, why };
    Ok(opened)
}

fn record_restart(store: &SqliteStore, now: Timestamp, aside: &Path, why: &str, before: Option<&Anchor>) {
    let ended = before.map_or_else(
        || "of unknown length".into(),
        |anchor| format!("of {} records ending in {}", anchor.count, hex::encode(anchor.hash)),
    );
    let entry = AuditEntry {
        actor: "gateway".into(),
        role: None,
        address: None,
        action: "store.restarted".into(),
        outcome: AuditOutcome::Failed,
        request_id: None,
        job: None,
        reason: Some(format!(
            "state store damaged ({why}), kept as {} with an audit log {ended}",
            aside.display()
        )),
    };
    if let Err(error) = store.append(now, &entry) {
        tracing::error!(error = %error.chain(), "the restart of the state store is not in the audit log");
    }
}

/// A name under which nothing is yet.
fn free_name(folder: &Path, now: Timestamp) -> PathBuf {
    let name = |seconds: i64| folder.join(format!("{ASIDE}{seconds}"));
    let taken =
        |path: &PathBuf| ["", "-wal", "-shm"].iter().any(|end| beside(path, end).symlink_metadata().is_ok());
    (now.as_secs()..).map(name).find(|path| !taken(path)).unwrap_or_else(|| name(now.as_secs()))
}

/// `state.db` and `-wal` make `state.db-wal`.
pub(crate) fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}
