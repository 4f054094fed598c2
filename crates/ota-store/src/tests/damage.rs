//! Damaged, newer and older databases: never deleted, never written to, never a panic.

use std::{fs, path::Path, sync::OnceLock};

use ota_core::{
    Slot, Timestamp,
    job::JobState,
    ports::{AuditLog as _, JobJournal as _, Settings as _, SlotFacts as _, SlotRecord, Tokens as _},
};
use ota_testkit::samples;
use proptest::prelude::*;
use rusqlite::Connection;
use rusqlite_migration::{M, Migrations};
use tempfile::TempDir;

use super::{copy, folder, intruder, now, open, store, unavailable};
use crate::{Condition, SCHEMA_VERSION, SqliteStore, schema};

/// A closed store with something in every table.
pub(super) fn filled() -> &'static Path {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    FOLDER
        .get_or_init(|| {
            let folder = folder();
            fill(&store(folder.path()));
            folder
        })
        .path()
}

pub(super) fn fill(store: &SqliteStore) {
    for n in 0..20 {
        let mut job = samples::job(store.next_number().unwrap(), samples::release("v5.1.0", b"image"));
        if n < 19 {
            job.state = JobState::Succeeded;
        }
        store.save(&job).unwrap();
        store.append(now(), &samples::audit_entry("updates.install")).unwrap();
        store.set_value(&format!("name.{n}"), Some("value")).unwrap();
    }
    store.set_slot(Slot::A, &SlotRecord::default()).unwrap();
    store.reserve_events(1000).unwrap();
}

/// Every read and a write; results do not matter, panics do.
fn use_all(store: &SqliteStore) {
    let _ = (store.active(), store.page(0, 200), store.slot(Slot::A), store.last_update(), store.list());
    let _ = (store.records(0, 100), store.verify_chain(), store.value("name.1"));
    let _ = (store.next_number(), store.append(now(), &samples::audit_entry("x")));
    let _ = store.save(&samples::job(7777, samples::release("v5.1.0", b"image")));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_database_damaged_anywhere_is_used_or_set_aside_whole_and_never_deleted(
        spots in prop::collection::vec((any::<prop::sample::Index>(), 1u8..), 1..60),
        cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
        start in any::<bool>(),
    ) {
        let folder = folder();
        copy(filled(), folder.path());
        let path = folder.path().join("state.db");
        let mut bytes = fs::read(&path).unwrap();
        // Every second time only the header and the schema.
        let reach = if start { 4096 } else { bytes.len() };
        for (spot, change) in spots {
            bytes[spot.index(reach)] ^= change;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        fs::write(&path, &bytes).unwrap();
        let opened = SqliteStore::open(folder.path(), now()).unwrap();
        if let Condition::Damaged { aside, .. } = &opened.condition {
            prop_assert!(fs::read(aside).unwrap() == bytes);
            prop_assert_eq!(opened.store.page(0, 1).unwrap().total, 0);
            prop_assert!(opened.store.next_number().unwrap() > 20);
        }
        use_all(&opened.store);
        drop(opened);
        use_all(&SqliteStore::open(folder.path(), now()).unwrap().store);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn a_damaged_log_loses_at_most_what_was_in_it(
        spots in prop::collection::vec((any::<prop::sample::Index>(), 1u8..), 1..20),
    ) {
        let running = folder();
        copy(filled(), running.path());
        let writer = store(running.path());
        (0..5).for_each(|n| writer.set_value("new", Some(&format!("{n}"))).unwrap());
        let cut = folder();
        copy(running.path(), cut.path());
        let path = cut.path().join("state.db-wal");
        let mut bytes = fs::read(&path).unwrap();
        for (spot, change) in spots {
            let at = spot.index(bytes.len());
            bytes[at] ^= change;
        }
        fs::write(&path, &bytes).unwrap();
        let opened = SqliteStore::open(cut.path(), now()).unwrap();
        prop_assert_eq!(&opened.condition, &Condition::Normal);
        prop_assert_eq!(opened.store.page(0, 1).unwrap().total, 20);
        use_all(&opened.store);
    }
}

pub(super) fn spoil(folder: &Path) -> Vec<u8> {
    let path = folder.join("state.db");
    let mut bytes = fs::read(&path).unwrap();
    bytes[..64].fill(0);
    fs::write(&path, &bytes).unwrap();
    bytes
}

#[test]
fn a_damaged_store_is_kept_beside_an_empty_one_and_the_audit_says_so() {
    let folder = folder();
    copy(filled(), folder.path());
    let bytes = spoil(folder.path());
    let opened = open(folder.path());
    let Condition::Damaged { aside, .. } = &opened.condition else { panic!("{:?}", opened.condition) };
    assert_eq!(fs::read(aside).unwrap(), bytes);
    assert_eq!(aside.file_name().unwrap(), "state.db.damaged-1768478400");
    assert_eq!(opened.audit_broken_at, None);
    let records = opened.store.records(0, 10).unwrap();
    assert_eq!(records[0].entry.action, "store.restarted");
    assert!(records[0].entry.reason.as_ref().unwrap().contains("of 20 records"));
    assert!(folder.path().join("audit.anchor.damaged-1768478400").exists());
}

#[test]
fn numbers_go_on_above_all_earlier_ones_after_every_damage() {
    let folder = folder();
    copy(filled(), folder.path());
    let mut last = (20, 1000);
    for round in 1..=3 {
        spoil(folder.path());
        let at = Timestamp::from_secs(now().as_secs() + round);
        let store = SqliteStore::open(folder.path(), at).unwrap().store;
        let next = (store.next_number().unwrap(), store.reserve_events(10).unwrap());
        assert!(next.0 > last.0 && next.1 > last.1, "{next:?} after {last:?}");
        last = next;
    }
    let kept = fs::read_dir(folder.path()).unwrap().map(Result::unwrap);
    assert_eq!(kept.filter(|f| f.file_name().to_string_lossy().starts_with("state.db.damaged-")).count(), 3);
}

#[test]
fn a_single_record_that_does_not_read_is_set_aside_and_the_rest_stays() {
    let folder = folder();
    copy(filled(), folder.path());
    intruder(folder.path()).execute("UPDATE jobs SET record = '{}' WHERE ended = 0", []).unwrap();
    let opened = open(folder.path());
    assert_eq!((opened.condition, opened.records_set_aside), (Condition::Normal, 1));
    assert_eq!(opened.store.active().unwrap(), None);
    assert_eq!(opened.store.page(0, 200).unwrap().jobs.len(), 19);
    let kept: String =
        intruder(folder.path()).query_row("SELECT record FROM set_aside", [], |row| row.get(0)).unwrap();
    assert_eq!(kept, "{}");
}

#[test]
fn a_newer_schema_is_read_and_not_written_to() {
    let folder = folder();
    copy(filled(), folder.path());
    let conn = intruder(folder.path());
    conn.pragma_update(None, "user_version", SCHEMA_VERSION + 1).unwrap();
    // The second time its newest part is still in the write-ahead log, as after a cut.
    let cut = super::folder();
    copy(folder.path(), cut.path());
    drop(conn);
    for folder in [folder.path(), cut.path()] {
        // An empty log and no log are the same.
        let files = |folder: &Path| {
            ["state.db", "state.db-wal", "audit.anchor"]
                .map(|name| fs::read(folder.join(name)).ok().filter(|bytes| !bytes.is_empty()))
        };
        let before = files(folder);
        let opened = open(folder);
        assert_eq!(opened.condition, Condition::NewerSchema { found: SCHEMA_VERSION + 1 });
        assert!(opened.store.is_read_only());
        let store = &opened.store;
        assert_eq!(unavailable(&store.next_number().unwrap_err()), "store_read_only");
        assert_eq!(unavailable(&store.set_value("a", Some("b")).unwrap_err()), "store_read_only");
        let refused = store.append(now(), &samples::audit_entry("x")).unwrap_err();
        assert_eq!(unavailable(&refused), "audit_not_writable");
        assert!(store.active().unwrap().is_some());
        assert_eq!(store.verify_chain().unwrap(), Ok(20));
        drop(opened);
        assert!(files(folder) == before);
    }
}

#[test]
fn every_older_schema_is_brought_up_to_date_with_its_content() {
    for from in 0..=SCHEMA_VERSION {
        let folder = folder();
        let mut conn = intruder(folder.path());
        schema::MIGRATIONS.to_version(&mut conn, from as usize).unwrap();
        if from >= 1 {
            conn.execute("UPDATE counters SET value = 41", []).unwrap();
            conn.execute("INSERT INTO settings VALUES ('floor.version', '\"5.0.0\"')", []).unwrap();
        }
        drop(conn);
        let opened = open(folder.path());
        let expected = match from {
            0 => Condition::Fresh,
            SCHEMA_VERSION => Condition::Normal,
            from => Condition::Migrated { from },
        };
        assert_eq!(opened.condition, expected);
        if from >= 1 {
            assert_eq!(opened.store.next_number().unwrap(), 42);
            assert!(opened.store.value("floor.version").unwrap().is_some());
        }
        fill(&opened.store);
    }
}

#[test]
fn a_migration_that_fails_leaves_the_schema_before_it() {
    let mut conn = Connection::open_in_memory().unwrap();
    let steps =
        vec![M::up("CREATE TABLE one (x) STRICT_NOT"), M::up("CREATE TABLE never (x INTEGER) STRICT;")];
    assert!(schema::migrate(&mut conn, &Migrations::new(steps)).is_err());
    let first = "CREATE TABLE one (x INTEGER) STRICT;";
    assert_eq!(schema::migrate(&mut conn, &Migrations::new(vec![M::up(first)])).unwrap(), 0);
    let steps = vec![M::up(first), M::up("INSERT INTO one VALUES (1); INSERT INTO nowhere VALUES (1);")];
    assert!(schema::migrate(&mut conn, &Migrations::new(steps)).is_err());
    assert_eq!(schema::version(&conn).unwrap(), Some(1));
    assert_eq!(conn.query_row("SELECT count(*) FROM one", [], |row| row.get::<_, u32>(0)).unwrap(), 0);
    let steps = vec![M::up(first), M::up("ALTER TABLE one ADD COLUMN y TEXT;")];
    assert_eq!(schema::migrate(&mut conn, &Migrations::new(steps)).unwrap(), 1);
}

#[test]
fn the_migrations_are_well_formed() {
    schema::MIGRATIONS.validate().unwrap();
}
