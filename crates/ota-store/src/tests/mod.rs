//! Tests of the whole store, by what it promises.

mod audit;
mod contract;
mod damage;
mod durability;
mod look;

use std::{fs, path::Path};

use ota_core::{Timestamp, error::PortError, error::PortErrorKind};
use tempfile::TempDir;

use crate::{Opened, SqliteStore};

fn now() -> Timestamp {
    Timestamp::from_secs(1_768_478_400)
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn open(folder: &Path) -> Opened {
    SqliteStore::open(folder, now()).unwrap()
}

fn store(folder: &Path) -> SqliteStore {
    open(folder).store
}

/// A second connection, as somebody with root rights has it.
fn intruder(folder: &Path) -> rusqlite::Connection {
    rusqlite::Connection::open(folder.join("state.db")).unwrap()
}

fn copy(from: &Path, to: &Path) {
    for file in fs::read_dir(from).unwrap().map(Result::unwrap) {
        fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

fn unavailable(error: &PortError) -> &'static str {
    match error.kind() {
        PortErrorKind::Unavailable { reason, .. } => reason,
        other => panic!("not unavailable but {other:?}"),
    }
}
