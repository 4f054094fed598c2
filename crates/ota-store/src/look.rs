//! Looking at a store whose files take no writes: on a read-only file system, or on a full one.
//!
//! What was acknowledged may stand in the write-ahead log alone. SQLite reads that log only where it can make the log's
//! index beside it, and opened as `immutable` it leaves the log out. So the file is opened without locks and with the index
//! in memory. That is right as long as nobody writes; what is small enough is therefore copied into memory, so that
//! whoever mends the file system under a running daemon does not change what it reads.

use std::{fmt::Write as _, fs, io, os::unix::ffi::OsStrExt as _, path::Path, path::PathBuf};

use ota_core::Timestamp;
use rusqlite::{
    Connection, ErrorCode, OpenFlags,
    backup::{Backup, StepResult},
    config::DbConfig,
    ffi,
};

use crate::{
    Condition, Opened, SqliteStore, StoreError,
    anchor::{self, AuditKey},
    durable,
    open::{DATABASE, Found, beside, configure, is_there, judge},
    schema,
    sift::sift,
};

/// Most bytes of database and log that are copied: with them the daemon is still no larger than during an install.
pub(crate) const COPIED: u64 = 16 << 20;

/// Why `folder` takes no writes and what the operator should do, if that is what `error` comes from.
pub(crate) fn why_unwritable(folder: &Path, error: &StoreError) -> Option<String> {
    let place = folder.display();
    match cause(folder, error)? {
        io::ErrorKind::ReadOnlyFilesystem => Some(format!(
            "the file system of {place} is read-only: look for its errors in the kernel log, check and mount it again, then \
             restart ota-gatewayd"
        )),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Some(format!("the file system of {place} is full: make room on it, then restart ota-gatewayd"))
        }
        _ => None,
    }
}

/// What the operating system said. SQLite does not pass it on: the folder is asked once more.
fn cause(folder: &Path, error: &StoreError) -> Option<io::ErrorKind> {
    let asked = match (error, error.code()) {
        (StoreError::File { source, .. }, _) => return Some(source.kind()),
        (_, Some(ErrorCode::DiskFull)) => return Some(io::ErrorKind::StorageFull),
        (_, Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::SystemIoFailure)) => {
            durable::try_write(folder).err()?
        }
        _ => return None,
    };
    if let StoreError::File { source, .. } = asked { Some(source.kind()) } else { None }
}

/// The store in `folder`, to be read only; `why` is what people are told. Where there is none, or it is damaged and cannot be
/// set aside, an empty one in memory stands in for it. What is longer than `copied` is read where it lies.
pub(crate) fn look(folder: PathBuf, now: Timestamp, why: String, copied: u64) -> Result<Opened, StoreError> {
    let (why, found) = match content(&folder.join(DATABASE), now, copied) {
        Err(error) if error.is_damage() => {
            let damage = ota_core::error::chain(&error);
            (format!("{damage}; and {why}"), Content { conn: empty()?, newer: None, set_aside: 0 })
        }
        found => (why, found?),
    };
    let Content { conn, newer, set_aside } = found;
    let audit_broken_at = match AuditKey::load(&folder)? {
        Some(key) if newer.is_none() => anchor::reconcile(&conn, &folder, &key)?.broken,
        _ => None,
    };
    let key = AuditKey::load_or_none(&folder)?;
    let store = SqliteStore::new(folder, key, conn, newer);
    let condition = match newer {
        Some(found) => Condition::NewerSchema { found },
        None => {
            store.withhold(why.clone());
            Condition::Unwritable { why }
        }
    };
    Ok(Opened { store, condition, audit_broken_at, records_set_aside: set_aside })
}

struct Content {
    conn: Connection,
    /// The schema version that is too new to be brought up to date, or down.
    newer: Option<u32>,
    set_aside: u32,
}

fn content(path: &Path, now: Timestamp, copied: u64) -> Result<Content, StoreError> {
    // With a journal the very first start was cut off: it has acknowledged nothing.
    if !is_there(path)? || beside(path, "-journal").exists() {
        return Ok(Content { conn: empty()?, newer: None, set_aside: 0 });
    }
    let mut conn = without_locks(path)?;
    let fits = length(path)? <= copied;
    if fits {
        conn = copy(&conn)?;
    }
    let newer = if let Found::Newer(version) = judge(&conn)? { Some(version) } else { None };
    let mut set_aside = 0;
    if fits && newer.is_none() {
        schema::migrate(&mut conn, &schema::MIGRATIONS)?;
        set_aside = sift(&mut conn, now)?;
    }
    Ok(Content { conn, newer, set_aside })
}

fn length(path: &Path) -> Result<u64, StoreError> {
    let file = fs::metadata(path).map_err(StoreError::file("look at", path))?.len();
    let log = fs::metadata(beside(path, "-wal")).map_or(0, |log| log.len());
    Ok(file.saturating_add(log))
}

/// A store that has never been written to.
fn empty() -> Result<Connection, StoreError> {
    let mut conn = in_memory()?;
    schema::migrate(&mut conn, &schema::MIGRATIONS)?;
    Ok(conn)
}

fn in_memory() -> Result<Connection, StoreError> {
    let conn = Connection::open_in_memory().map_err(StoreError::sql("make a database in memory"))?;
    configure(&conn).map_err(StoreError::sql("set up the connection"))?;
    Ok(conn)
}

fn copy(source: &Connection) -> Result<Connection, StoreError> {
    let failed = || StoreError::sql("copy the database");
    let mut copy = in_memory()?;
    let step = Backup::new(source, &mut copy).and_then(|backup| backup.step(-1)).map_err(failed())?;
    if step != StepResult::Done {
        // Nobody is asked for a lock.
        let busy = rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_BUSY), None);
        return Err(failed()(busy));
    }
    Ok(copy)
}

/// The database with its log, read without a write to either, at the end as well.
fn without_locks(path: &Path) -> Result<Connection, StoreError> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let open = || -> rusqlite::Result<Connection> {
        if !beside(path, "-wal").exists() {
            // An orderly end has taken the log away: the file is everything.
            let conn = Connection::open_with_flags(immutable(path), flags | OpenFlags::SQLITE_OPEN_URI)?;
            configure(&conn)?;
            return Ok(conn);
        }
        let conn = Connection::open_with_flags_and_vfs(path, flags, "unix-none")?;
        // Before the first read: then the index of the log is made in memory.
        conn.query_row("PRAGMA locking_mode = EXCLUSIVE", [], |_| Ok(()))?;
        conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        configure(&conn)?;
        Ok(conn)
    };
    open().map_err(StoreError::sql("open the database for reading"))
}

fn immutable(path: &Path) -> String {
    let mut uri = String::from("file:");
    for byte in path.as_os_str().as_bytes() {
        if byte.is_ascii_alphanumeric() || b"/-_.".contains(byte) {
            uri.push(char::from(*byte));
        } else {
            // Writing to a String does not fail.
            let _ = write!(uri, "%{byte:02X}");
        }
    }
    uri + "?immutable=1"
}
