//! A store whose files take no writes: everything in it is read, nothing is changed, no file is touched.

use std::{collections::BTreeMap, fs, io, path::Path};

use ota_core::ports::{AuditLog as _, JobJournal as _, Settings as _, SlotFacts as _, Tokens as _};
use ota_testkit::samples;
use tempfile::TempDir;

use super::{
    copy,
    damage::{fill, filled, spoil},
    folder, now, store, unavailable,
};
use crate::{
    Condition, Opened, SCHEMA_VERSION, StoreError,
    look::{COPIED, look, why_unwritable},
};

const WHY: &str = "the medium takes nothing";

fn looked(folder: &Path, copied: u64) -> Opened {
    look(folder.to_owned(), now(), WHY.into(), copied).unwrap()
}

/// Every file with its content.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = fs::read_dir(folder).unwrap().map(Result::unwrap);
    files.map(|file| (file.file_name().into_string().unwrap(), fs::read(file.path()).unwrap())).collect()
}

/// What a cut of a running store leaves: its newest commits stand in the log alone.
fn cut_off() -> TempDir {
    let running = folder();
    let writer = store(running.path());
    fill(&writer);
    let cut = folder();
    copy(running.path(), cut.path());
    assert!(fs::metadata(cut.path().join("state.db-wal")).unwrap().len() > 0, "a log with commits in it");
    cut
}

#[test]
fn all_that_was_acknowledged_is_read_with_a_log_without_its_index_and_without_a_log_and_no_file_is_touched() {
    let whole = cut_off();
    let without_index = cut_off();
    fs::remove_file(without_index.path().join("state.db-shm")).unwrap();
    let ended = folder();
    copy(filled(), ended.path());
    assert!(!ended.path().join("state.db-wal").exists(), "an orderly end leaves no log");
    for folder in [&whole, &without_index, &ended] {
        // In memory, and where it lies.
        for copied in [COPIED, 0] {
            let before = files(folder.path());
            let opened = looked(folder.path(), copied);
            assert_eq!(opened.condition, Condition::Unwritable { why: WHY.into() });
            assert_eq!((opened.audit_broken_at, opened.records_set_aside), (None, 0));
            let store = &opened.store;
            assert!(store.is_read_only());
            assert!(store.active().unwrap().is_some());
            assert_eq!(store.page(0, 200).unwrap().total, 20);
            assert_eq!(store.value("name.19").unwrap().as_deref(), Some("value"));
            assert_eq!(store.verify_chain().unwrap(), Ok(20));
            let refused = store.next_number().unwrap_err();
            assert_eq!(unavailable(&refused), "store_read_only");
            assert!(refused.to_string().contains(WHY), "{refused}");
            assert_eq!(unavailable(&store.ready().unwrap_err()), "store_read_only");
            assert_eq!(unavailable(&store.set_value("a", Some("b")).unwrap_err()), "store_read_only");
            let refused = store.append(now(), &samples::audit_entry("x")).unwrap_err();
            assert_eq!(unavailable(&refused), "audit_not_writable");
            // 1000 are recorded.
            let events = [store.reserve_events(10).unwrap(), store.reserve_events(1).unwrap()];
            assert_eq!(events, [1001, 1011], "above what readers have seen");
            drop(opened);
            assert!(files(folder.path()) == before, "{copied}");
        }
    }
}

#[test]
fn a_database_that_is_missing_cut_off_or_damaged_is_stood_in_for_by_an_empty_one_and_left_alone() {
    let missing = folder();
    let first_start_cut_off = folder();
    copy(filled(), first_start_cut_off.path());
    fs::write(first_start_cut_off.path().join("state.db-journal"), "hot").unwrap();
    let damaged = folder();
    copy(filled(), damaged.path());
    spoil(damaged.path());
    for (folder, says) in [(&missing, WHY), (&first_start_cut_off, WHY), (&damaged, "damaged")] {
        let before = files(folder.path());
        let opened = looked(folder.path(), COPIED);
        let Condition::Unwritable { why } = &opened.condition else { panic!("{:?}", opened.condition) };
        assert!(why.contains(says) && why.ends_with(WHY), "{why}");
        assert_eq!((opened.store.active().unwrap(), opened.store.page(0, 1).unwrap().total), (None, 0));
        assert!(opened.store.list().unwrap().is_empty() && opened.store.last_update().unwrap().is_none());
        assert_eq!(unavailable(&opened.store.next_number().unwrap_err()), "store_read_only");
        drop(opened);
        assert!(files(folder.path()) == before);
    }
}

#[test]
fn a_newer_schema_is_told_as_such_where_nothing_can_be_written_either() {
    let newer = folder();
    copy(filled(), newer.path());
    let conn = super::intruder(newer.path());
    conn.pragma_update(None, "user_version", SCHEMA_VERSION + 1).unwrap();
    drop(conn);
    for copied in [COPIED, 0] {
        let opened = looked(newer.path(), copied);
        assert_eq!(opened.condition, Condition::NewerSchema { found: SCHEMA_VERSION + 1 });
        let refused = opened.store.ready().unwrap_err();
        assert!(refused.to_string().contains("newer software"), "{refused}");
        assert!(opened.store.active().unwrap().is_some());
    }
}

#[test]
fn only_a_file_system_that_takes_nothing_makes_a_store_unwritable_and_what_to_do_is_said() {
    let folder = folder();
    let failed = |kind: io::ErrorKind| StoreError::file("create", folder.path())(kind.into());
    let why = |error: &StoreError| why_unwritable(folder.path(), error);
    let read_only = why(&failed(io::ErrorKind::ReadOnlyFilesystem)).unwrap();
    assert!(read_only.contains("is read-only") && read_only.ends_with("restart ota-gatewayd"), "{read_only}");
    let full = why(&failed(io::ErrorKind::StorageFull)).unwrap();
    assert!(full.contains("is full: make room"), "{full}");
    assert_eq!(why(&failed(io::ErrorKind::PermissionDenied)), None);
    // SQLite only says that something went wrong; the folder takes what it is given.
    let sqlite = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CANTOPEN);
    let sqlite = StoreError::sql("open")(rusqlite::Error::SqliteFailure(sqlite, None));
    assert_eq!(why(&sqlite), None);
    assert!(files(folder.path()).is_empty(), "the try leaves nothing behind");
}

#[test]
fn a_write_that_the_medium_did_not_take_is_told_until_one_is_taken() {
    let folder = folder();
    let store = store(folder.path());
    store.ready().unwrap();
    let pages: u32 = store.lock().query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
    let limit = |pages: u32| {
        store.lock().query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(())).unwrap();
    };
    limit(pages);
    store.set_value("new", Some(&"x".repeat(100_000))).unwrap_err();
    let told = store.ready().unwrap_err();
    assert!(told.to_string().contains("is full"), "{told}");
    limit(pages + 1000);
    store.set_value("new", Some("x")).unwrap();
    store.ready().unwrap();
}
