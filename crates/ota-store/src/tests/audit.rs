//! The audit shows any edit, deletion, swap or truncation (A6).

use std::{fs, path::Path, sync::OnceLock};

use ota_core::ports::{AuditEntry, AuditLog as _, Settings as _};
use ota_testkit::samples;
use proptest::prelude::*;
use rusqlite::{Connection, params};
use tempfile::TempDir;

use crate::{
    Cut, SqliteStore,
    anchor::{self, Anchor},
};

use super::{copy, folder, intruder, now, open, store, unavailable};

const RECORDS: u64 = 10_000;

/// A store with [`RECORDS`] audit records, made once; all but the ends in one transaction, because filling is not what is
/// tested.
fn filled() -> &'static Path {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    FOLDER
        .get_or_init(|| {
            let folder = folder();
            let store = store(folder.path());
            let mut entries = Vec::new();
            for n in 1..=RECORDS - 1 {
                entries.push(entry(n));
            }
            fill(&store, folder.path(), &entries);
            assert_eq!(store.append(now(), &entry(RECORDS)).unwrap(), RECORDS);
            folder
        })
        .path()
}

fn entry(n: u64) -> AuditEntry {
    let mut entry = samples::audit_entry("updates.install");
    entry.reason = Some(format!("reason {n}"));
    entry
}

/// Appends as the store does, with one sync at the end.
fn fill(store: &SqliteStore, folder: &Path, entries: &[AuditEntry]) {
    let mut anchor = Anchor::load(folder, &store.key).unwrap().unwrap();
    let conn = store.lock();
    let tx = conn.unchecked_transaction().unwrap();
    for entry in entries {
        anchor.count += 1;
        let text = serde_json::json!({"seq": anchor.count, "at": now(), "entry": entry}).to_string();
        anchor.hash = crate::audit::chained(&anchor.hash, &text);
        let mac = store.key.seal(&anchor.hash);
        let sql = "INSERT INTO audit (seq, record, hash, mac) VALUES (?1, ?2, ?3, ?4)";
        tx.execute(sql, params![anchor.count, text, anchor.hash, mac]).unwrap();
    }
    tx.commit().unwrap();
    anchor.store(folder, &store.key).unwrap();
}

#[test]
fn an_untouched_chain_holds_and_is_read_in_order() {
    let folder = folder();
    copy(filled(), folder.path());
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
    copy(filled(), folder.path());
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
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn every_tampering_is_found_where_it_starts_and_stays_found(what in tampering(), live: bool) {
        let folder = folder();
        copy(filled(), folder.path());
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
    for to in [0, 1, 5_000, 9_999] {
        let folder = folder();
        copy(filled(), folder.path());
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
            fs::write(path, text.replace("\"count\":10000", "\"count\":9999")).unwrap();
        }),
        ("empty", |path| fs::write(path, "").unwrap()),
    ];
    for (name, spoil) in cases {
        let folder = folder();
        copy(filled(), folder.path());
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
        copy(filled(), folder.path());
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

#[test]
fn the_newest_record_is_numbered_by_what_was_ever_written_also_behind_one_that_does_not_read() {
    let dir = folder();
    let store = store(dir.path());
    assert_eq!(store.newest().unwrap(), 0);
    for n in 1..=5 {
        store.append(now(), &entry(n)).unwrap();
    }
    assert_eq!(store.newest().unwrap(), 5);
    intruder(dir.path()).execute("UPDATE audit SET record = 'x' WHERE seq > 3", []).unwrap();
    assert_eq!((store.newest().unwrap(), store.records(0, 10).unwrap().len()), (5, 3));
}

/// 100 % of the records: the whole-store walks above would take hours for each of them, so every link is spoiled in its
/// place and the same check of a link is asked.
#[test]
fn each_of_10_000_records_shows_an_edit_a_deletion_a_swap_and_a_new_hash() {
    let folder = folder();
    copy(filled(), folder.path());
    let store = store(folder.path());
    let links = crate::audit::links(&store.lock()).unwrap();
    assert_eq!(links.len() as u64, RECORDS);
    let mut previous = [0; 32];
    let mut shown = 0;
    for (at, link) in links.iter().enumerate() {
        let seq = at as u64 + 1;
        let fits = |link: &crate::audit::Link| link.fits(seq, &previous, &store.key, None);
        assert!(fits(link), "{seq}");
        let mut edited = link.clone();
        edited.text = edited.text.replace("crane-ops", "crane-ups");
        assert_ne!(edited.text, link.text);
        assert!(!fits(&edited), "{seq} edited");
        edited.hash = crate::audit::chained(&previous, &edited.text);
        assert!(!fits(&edited), "{seq} edited, with its hash made to fit");
        let next = links.get(at + 1).or_else(|| links.first()).unwrap();
        assert!(!fits(next), "{seq} deleted");
        let mut swapped = links[links.len() - 1 - at].clone();
        swapped.seq = seq;
        assert!(!fits(&swapped) || links.len() - 1 - at == at, "{seq} swapped");
        previous = link.hash;
        shown += 1;
    }
    assert_eq!(shown, RECORDS);
}

#[test]
fn each_of_10_000_truncations_is_told() {
    let folder = folder();
    copy(filled(), folder.path());
    let store = store(folder.path());
    let conn = store.lock();
    let tx = conn.unchecked_transaction().unwrap();
    for to in (0..RECORDS).rev() {
        tx.execute("DELETE FROM audit WHERE seq > ?1", [to]).unwrap();
        let found = anchor::reconcile(&tx, folder.path(), &store.key).unwrap();
        assert_eq!(found.broken, Some(to + 1));
    }
}

#[test]
fn a_cut_keeps_the_rest_verifiable_and_everything_else_still_shows() {
    let folder = folder();
    copy(filled(), folder.path());
    let store = store(folder.path());
    let cut = Cut { keep: 4_000, before: None, newest: 1_000 };
    let (first, to, hash) = store.would_cut(cut).unwrap().unwrap();
    assert_eq!((first, to), (1, 6_000));
    assert_eq!(hash, store.records(5_999, 1).unwrap()[0].hash);
    store.cut_audit(to).unwrap();
    assert_eq!(store.verify_chain().unwrap(), Ok(4_000));
    assert_eq!(store.records(0, 1).unwrap()[0].seq, 6_001);
    assert_eq!(store.append(now(), &entry(1)).unwrap(), RECORDS + 1);
    assert_eq!(store.would_cut(Cut { keep: 5_000, ..cut }).unwrap(), None);
    // Again, by age: everything is as old as everything else, but the newest stay.
    let later = ota_core::Timestamp::from_secs(now().as_secs() + 1);
    let by_age = Cut { keep: u32::MAX, before: Some(later), newest: 1_000 };
    assert_eq!(store.would_cut(Cut { before: Some(now()), ..by_age }).unwrap(), None);
    drop(store);
    let opened = open(folder.path());
    assert_eq!((opened.audit_broken_at, opened.store.verify_chain().unwrap()), (None, Ok(4_001)));
    let spoil = |sql: &str, first: u64| {
        let other = super::folder();
        copy(folder.path(), other.path());
        intruder(other.path()).execute_batch(sql).unwrap();
        assert_eq!(open(other.path()).store.verify_chain().unwrap(), Err(first), "{sql}");
    };
    spoil("DELETE FROM audit WHERE seq = 6001", 6_001);
    spoil("DELETE FROM audit WHERE seq = 8000", 8_000);
    spoil("DELETE FROM settings WHERE name = 'audit.cut'", 1);
    spoil(
        "UPDATE settings SET value = replace(value, '6000', '6500') WHERE name = 'audit.cut'; DELETE FROM audit WHERE seq <= 6500",
        6_501,
    );
    // Who holds back a broken chain holds back the evidence, too.
    intruder(folder.path()).execute_batch("UPDATE audit SET record = 'x' WHERE seq = 9000").unwrap();
    assert_eq!(opened.store.would_cut(cut).unwrap(), None);
}

#[test]
fn a_clock_that_is_far_ahead_leaves_the_newest_records() {
    let folder = folder();
    copy(filled(), folder.path());
    let store = store(folder.path());
    let far = ota_core::Timestamp::from_secs(now().as_secs() * 2);
    let cut = Cut { keep: u32::MAX, before: Some(far), newest: 1_000 };
    // No record is young enough to say where to stop: nothing goes.
    assert_eq!(store.would_cut(cut).unwrap(), None);
    store.append(far, &entry(1)).unwrap();
    assert_eq!(store.would_cut(cut).unwrap().map(|(_, to, _)| to), Some(RECORDS + 1 - 1_000));
}

#[test]
fn old_jobs_go_and_active_ones_stay() {
    use ota_core::{job::JobState, ports::JobJournal as _};
    let folder = folder();
    let store = store(folder.path());
    for n in 1..=10 {
        let mut job = samples::job(n, samples::release("v2.0.0", b"x"));
        job.state = if n == 2 { JobState::Downloaded } else { JobState::Succeeded };
        job.updated = job.created + std::time::Duration::from_secs(n);
        store.save(&job).unwrap();
    }
    let ended = || {
        let ended = store.ended().unwrap();
        ended.into_iter().map(|sum| (sum.state.as_str(), sum.jobs, sum.took.as_secs())).collect::<Vec<_>>()
    };
    assert_eq!(ended(), [("succeeded", 9, 55 - 2)]);
    assert_eq!(store.forget_jobs(3).unwrap(), 6);
    assert_eq!(ended(), [("succeeded", 9, 55 - 2)], "also those that were forgotten");
    let left: Vec<_> = store.page(0, 50).unwrap().jobs.iter().map(|job| job.id.to_string()).collect();
    let expected = [10, 9, 8, 2].map(|n| ota_core::JobId::from_number(n).to_string());
    assert_eq!(left, expected);
    assert_eq!(store.forget_jobs(3).unwrap(), 0);
    assert_eq!(store.forget_jobs(1).unwrap(), 2);
    assert_eq!(ended(), [("succeeded", 9, 55 - 2)]);
}
