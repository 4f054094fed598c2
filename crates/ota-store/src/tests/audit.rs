//! The audit shows any edit, deletion, swap or truncation (A6).

use std::{fs, path::Path, sync::OnceLock};

use ota_core::ports::{AuditLog as _, Settings as _};
use ota_testkit::samples;
use proptest::prelude::*;
use rusqlite::{Connection, params};
use tempfile::TempDir;

use super::{copy, folder, intruder, now, open, store, unavailable};

const RECORDS: u64 = 1_000;

/// A store with [`RECORDS`] audit records, made once.
fn thousand() -> &'static Path {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    FOLDER
        .get_or_init(|| {
            let folder = folder();
            let store = store(folder.path());
            // Filling is not what is tested: no syncs of the database here.
            store.lock().pragma_update(None, "synchronous", "OFF").unwrap();
            for n in 1..=RECORDS {
                let mut entry = samples::audit_entry("updates.install");
                entry.reason = Some(format!("reason {n}"));
                assert_eq!(store.append(now(), &entry).unwrap(), n);
            }
            folder
        })
        .path()
}

#[test]
fn an_untouched_chain_holds_and_is_read_in_order() {
    let folder = folder();
    copy(thousand(), folder.path());
    let opened = open(folder.path());
    assert_eq!(opened.audit_broken_at, None);
    assert_eq!(opened.store.verify_chain().unwrap(), Ok(RECORDS));
    let records = opened.store.records(990, 5).unwrap();
    assert_eq!(records.iter().map(|record| record.seq).collect::<Vec<_>>(), [991, 992, 993, 994, 995]);
    assert_eq!(records[0].entry.reason.as_deref(), Some("reason 991"));
    assert!(opened.store.records(u64::MAX, 5).unwrap().is_empty());
}

#[test]
fn an_outsider_can_recompute_the_hashes_from_the_text() {
    let folder = folder();
    copy(thousand(), folder.path());
    let conn = intruder(folder.path());
    let mut previous = [0; 32];
    for record in store(folder.path()).records(0, 50).unwrap() {
        let text: String = conn
            .query_row("SELECT record FROM audit WHERE seq = ?1", [record.seq], |row| row.get(0))
            .unwrap();
        previous = ota_core::Sha256Digest::of(&[&previous, text.as_bytes()].concat()).0;
        assert_eq!(record.hash, hex::encode(previous));
    }
}

/// What somebody with access to the database can do to it.
#[derive(Clone, Debug)]
enum Tampering {
    Edit { at: u64, byte: usize },
    EditAndRechain { at: u64 },
    Delete { at: u64 },
    DeleteAndCloseUp { at: u64 },
    Swap { at: u64, other: u64 },
    Truncate { to: u64 },
    Insert,
}

fn tampering() -> impl Strategy<Value = Tampering> {
    let at = 1..=RECORDS;
    prop_oneof![
        (at.clone(), 0..100usize).prop_map(|(at, byte)| Tampering::Edit { at, byte }),
        at.clone().prop_map(|at| Tampering::EditAndRechain { at }),
        at.clone().prop_map(|at| Tampering::Delete { at }),
        at.clone().prop_map(|at| Tampering::DeleteAndCloseUp { at }),
        (at.clone(), at)
            .prop_filter("two", |(a, b)| a != b)
            .prop_map(|(at, other)| Tampering::Swap { at, other }),
        (0..RECORDS).prop_map(|to| Tampering::Truncate { to }),
        Just(Tampering::Insert),
    ]
}

/// Does it; the first record that can no longer fit.
fn tamper(conn: &Connection, what: &Tampering) -> u64 {
    match *what {
        Tampering::Edit { at, byte } => {
            let mut text = text(conn, at).into_bytes();
            text[byte] ^= 1;
            conn.execute(
                "UPDATE audit SET record = CAST(?2 AS TEXT) WHERE seq = ?1",
                params![at, text.as_slice()],
            )
            .unwrap();
            at
        }
        Tampering::EditAndRechain { at } => {
            let edited = text(conn, at).replace("crane-ops", "somebody");
            conn.execute("UPDATE audit SET record = ?2 WHERE seq = ?1", params![at, edited]).unwrap();
            rechain(conn, at);
            at
        }
        Tampering::Delete { at } => {
            conn.execute("DELETE FROM audit WHERE seq = ?1", [at]).unwrap();
            at
        }
        Tampering::DeleteAndCloseUp { at } => {
            conn.execute("DELETE FROM audit WHERE seq = ?1", [at]).unwrap();
            conn.execute("UPDATE audit SET seq = -seq WHERE seq > ?1", [at]).unwrap();
            conn.execute("UPDATE audit SET seq = -seq - 1 WHERE seq < 0", []).unwrap();
            rechain(conn, at);
            at
        }
        Tampering::Swap { at, other } => {
            conn.execute("UPDATE audit SET seq = -1 WHERE seq = ?1", [at]).unwrap();
            conn.execute("UPDATE audit SET seq = ?1 WHERE seq = ?2", [at, other]).unwrap();
            conn.execute("UPDATE audit SET seq = ?1 WHERE seq = -1", [other]).unwrap();
            at.min(other)
        }
        Tampering::Truncate { to } => {
            conn.execute("DELETE FROM audit WHERE seq > ?1", [to]).unwrap();
            to + 1
        }
        Tampering::Insert => {
            let sql = "INSERT INTO audit SELECT seq + 1, record, hash, mac FROM audit WHERE seq = ?1";
            conn.execute(sql, [RECORDS]).unwrap();
            RECORDS + 1
        }
    }
}

fn text(conn: &Connection, seq: u64) -> String {
    conn.query_row("SELECT record FROM audit WHERE seq = ?1", [seq], |row| row.get(0)).unwrap()
}

/// Makes the hashes fit again from `from` on, as somebody who knows the rule but not the key.
fn rechain(conn: &Connection, from: u64) {
    let mut previous: [u8; 32] = conn
        .query_row("SELECT hash FROM audit WHERE seq = ?1", [from - 1], |row| row.get(0))
        .unwrap_or([0; 32]);
    let last: u64 = conn.query_row("SELECT max(seq) FROM audit", [], |row| row.get(0)).unwrap();
    for seq in from..=last {
        previous = ota_core::Sha256Digest::of(&[&previous, text(conn, seq).as_bytes()].concat()).0;
        conn.execute("UPDATE audit SET hash = ?2 WHERE seq = ?1", params![seq, previous]).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_tampering_is_found_where_it_starts_and_stays_found(what in tampering(), live: bool) {
        let folder = folder();
        copy(thousand(), folder.path());
        let before = live.then(|| store(folder.path()));
        let conn = intruder(folder.path());
        conn.pragma_update(None, "synchronous", "OFF").unwrap();
        let tx = conn.unchecked_transaction().unwrap();
        let first = tamper(&tx, &what);
        tx.commit().unwrap();
        drop(conn);
        let store = before.unwrap_or_else(|| open(folder.path()).store);
        prop_assert_eq!(store.verify_chain().unwrap(), Err(first));
        store.append(now(), &samples::audit_entry("later")).unwrap();
        let after = store.verify_chain().unwrap();
        prop_assert!(matches!(after, Err(seq) if seq <= first), "{:?}: {:?}", what, after);
        drop(store);
        prop_assert_eq!(open(folder.path()).store.verify_chain().unwrap(), after);
    }
}

#[test]
fn every_truncation_is_told_at_the_next_opening() {
    for to in [0, 1, 500, 999] {
        let folder = folder();
        copy(thousand(), folder.path());
        tamper(&intruder(folder.path()), &Tampering::Truncate { to });
        assert_eq!(open(folder.path()).audit_broken_at, Some(to + 1));
    }
}

#[test]
fn an_anchor_that_was_taken_away_or_edited_is_told() {
    let anchor = |folder: &Path| folder.join("audit.anchor");
    type Spoil = fn(&Path);
    let cases: [(&str, Spoil); 3] = [
        ("gone", |path| fs::remove_file(path).unwrap()),
        ("edited", |path| {
            let text = fs::read_to_string(path).unwrap();
            fs::write(path, text.replace("\"count\":1000", "\"count\":999")).unwrap();
        }),
        ("empty", |path| fs::write(path, "").unwrap()),
    ];
    for (name, spoil) in cases {
        let folder = folder();
        copy(thousand(), folder.path());
        spoil(&anchor(folder.path()));
        let opened = open(folder.path());
        assert_eq!(opened.audit_broken_at, Some(RECORDS + 1), "{name}");
        assert_eq!(opened.store.verify_chain().unwrap(), Err(RECORDS + 1), "{name}");
    }
}

#[test]
fn a_key_or_a_database_that_was_taken_away_is_told() {
    for (file, broken) in [("audit.key", 1), ("state.db", 1)] {
        let folder = folder();
        copy(thousand(), folder.path());
        fs::remove_file(folder.path().join(file)).unwrap();
        if file == "state.db" {
            let _ = fs::remove_file(folder.path().join("state.db-wal"));
        }
        assert_eq!(open(folder.path()).audit_broken_at, Some(broken), "{file}");
    }
}

#[test]
fn a_cut_between_the_record_and_its_anchor_is_no_break() {
    let folder = folder();
    let first = store(folder.path());
    first.append(now(), &samples::audit_entry("one")).unwrap();
    let anchor = fs::read(folder.path().join("audit.anchor")).unwrap();
    first.append(now(), &samples::audit_entry("two")).unwrap();
    drop(first);
    fs::write(folder.path().join("audit.anchor"), anchor).unwrap();
    let opened = open(folder.path());
    assert_eq!((opened.audit_broken_at, opened.store.verify_chain().unwrap()), (None, Ok(2)));
    assert_eq!(opened.store.append(now(), &samples::audit_entry("three")).unwrap(), 3);
    assert_eq!(opened.store.verify_chain().unwrap(), Ok(3));
}

#[test]
fn an_audit_that_cannot_be_written_says_so_and_keeps_no_record() {
    let folder = folder();
    let store = store(folder.path());
    store.append(now(), &samples::audit_entry("one")).unwrap();
    // In the way of the new anchor.
    let obstacle = folder.path().join(format!("audit.anchor.new-{}", std::process::id()));
    fs::create_dir(&obstacle).unwrap();
    let refused = store.append(now(), &samples::audit_entry("two")).unwrap_err();
    assert_eq!(unavailable(&refused), "audit_not_writable");
    store.set_value("reads.and.other.writes", Some("go on")).unwrap();
    fs::remove_dir(&obstacle).unwrap();
    assert_eq!(store.records(0, 10).unwrap().len(), 1);
    assert_eq!(store.append(now(), &samples::audit_entry("two")).unwrap(), 2);
    assert_eq!(store.verify_chain().unwrap(), Ok(2));
}
