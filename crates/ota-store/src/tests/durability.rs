//! What was acknowledged is there after a cut; what cannot be written says so.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use ota_core::{
    error::PortErrorKind,
    ports::{AuditLog as _, JobJournal as _, Settings as _},
};
use ota_testkit::samples;

use super::{copy, folder, now, open, store, unavailable};

#[test]
fn what_was_acknowledged_is_in_the_files_while_the_store_is_still_open() {
    let running = folder();
    let store = store(running.path());
    for n in 1..=10 {
        let job = samples::job(store.next_number().unwrap(), samples::release("v5.1.0", b"image"));
        store.save(&job).unwrap();
        store.set_value("n", Some(&n.to_string())).unwrap();
        store.append(now(), &samples::audit_entry("x")).unwrap();
        let cut = folder();
        copy(running.path(), cut.path());
        let after = open(cut.path());
        assert_eq!(after.audit_broken_at, None);
        assert_eq!(after.store.active().unwrap(), Some(job));
        assert_eq!(after.store.value("n").unwrap(), Some(n.to_string()));
        assert_eq!(after.store.verify_chain().unwrap(), Ok(n));
        assert_eq!(after.store.next_number().unwrap(), n + 1);
    }
}

#[test]
fn every_commit_is_synced() {
    let folder = folder();
    let store = store(folder.path());
    let conn = store.lock();
    let synchronous: u32 = conn.query_row("PRAGMA synchronous", [], |row| row.get(0)).unwrap();
    let journal: String = conn.query_row("PRAGMA journal_mode", [], |row| row.get(0)).unwrap();
    assert_eq!((synchronous, journal.as_str()), (2, "wal"), "FULL, with a write-ahead log");
}

/// Set for the child of the test below: the folder it writes to.
const CHILD: &str = "OTA_STORE_TEST_CHILD";

#[test]
fn a_killed_process_loses_nothing_that_it_acknowledged() {
    #[expect(clippy::disallowed_methods, reason = "tells the child from the parent")]
    if let Ok(folder) = std::env::var(CHILD) {
        write_for_ever(Path::new(&folder));
    }
    for round in [1, 7, 30] {
        let folder = folder();
        let acknowledged = kill_after(folder.path(), round);
        let after = open(folder.path());
        assert_eq!(after.audit_broken_at, None);
        let count = after.store.verify_chain().unwrap().unwrap();
        assert!(count >= acknowledged, "{count} records, {acknowledged} acknowledged");
        assert!(after.store.next_number().unwrap() > acknowledged);
    }
}

fn write_for_ever(folder: &Path) -> ! {
    let store = store(folder);
    loop {
        let number = store.next_number().unwrap();
        store.append(now(), &samples::audit_entry("x")).unwrap();
        println!("\nacknowledged {number}");
    }
}

/// The last number that a child acknowledged, out of at least `lines`, before it was killed.
fn kill_after(folder: &Path, lines: u64) -> u64 {
    #[expect(clippy::disallowed_methods, reason = "the process to be killed is this test")]
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "--nocapture",
            "tests::durability::a_killed_process_loses_nothing_that_it_acknowledged",
        ])
        .env(CHILD, folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let mut numbers =
        output.lines().filter_map(|line| line.unwrap().strip_prefix("acknowledged ")?.parse().ok());
    let last = numbers.find(|number: &u64| *number >= lines).expect("the child acknowledged its writes");
    child.kill().unwrap();
    child.wait().unwrap();
    numbers.last().unwrap_or(last)
}

#[test]
fn a_full_disk_is_named_keeps_old_records_and_is_over_when_there_is_room() {
    let folder = folder();
    let store = store(folder.path());
    store.set_value("old", Some("1")).unwrap();
    let pages: u32 = store.lock().query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
    let limit = |pages: u32| {
        store.lock().query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(())).unwrap();
    };
    limit(pages);
    let big = "x".repeat(100_000);
    let refused = store.set_value("new", Some(&big)).unwrap_err();
    assert_eq!(refused.kind(), &PortErrorKind::Io("the disk that holds the state store is full".into()));
    let mut entry = samples::audit_entry("x");
    entry.reason = Some(big.clone());
    assert_eq!(unavailable(&store.append(now(), &entry).unwrap_err()), "audit_not_writable");
    assert_eq!((store.value("old").unwrap().as_deref(), store.value("new").unwrap()), (Some("1"), None));
    limit(pages + 1000);
    store.set_value("new", Some(&big)).unwrap();
    store.append(now(), &entry).unwrap();
    assert_eq!(store.verify_chain().unwrap(), Ok(1));
}

#[test]
fn a_store_that_cannot_be_written_is_named() {
    let folder = folder();
    let store = store(folder.path());
    store.set_value("old", Some("1")).unwrap();
    store.lock().pragma_update(None, "query_only", true).unwrap();
    assert_eq!(unavailable(&store.set_value("old", Some("2")).unwrap_err()), "store_read_only");
    assert_eq!(
        unavailable(&store.append(now(), &samples::audit_entry("x")).unwrap_err()),
        "audit_not_writable"
    );
    assert_eq!(store.value("old").unwrap().as_deref(), Some("1"));
}

#[test]
fn a_folder_that_cannot_be_made_is_named_with_its_path() {
    let folder = folder();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = crate::SqliteStore::open(&file.join("state"), now()).unwrap_err();
    assert!(error.to_string().contains("file/state"), "{error}");
}

#[test]
fn after_a_failed_sync_nothing_is_acknowledged_any_more() {
    let folder = folder();
    let store = store(folder.path());
    let failed = store.write(|_| -> Result<(), _> {
        let error = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_IOERR_FSYNC);
        Err(crate::StoreError::sql("commit a write")(rusqlite::Error::SqliteFailure(error, None)))
    });
    assert!(failed.is_err());
    let refused = store.set_value("a", Some("b")).unwrap_err();
    assert!(refused.to_string().contains("sync"), "{refused}");
    assert_eq!(store.value("a").unwrap(), None);
}
