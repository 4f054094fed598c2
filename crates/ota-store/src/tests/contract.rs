//! What the ports promise, call by call.

use std::{collections::BTreeSet, os::unix::fs::PermissionsExt as _, sync::Barrier, thread};

use ota_core::{
    ByteCount, OtaError, Sha256Digest, Slot, Timestamp,
    error::PortErrorKind,
    job::{Failure, JobState},
    ports::{
        JobJournal as _, LastUpdate, Role, Settings as _, SlotFacts as _, SlotRecord, SlotState, TokenRecord,
        Tokens as _,
    },
};
use ota_testkit::samples;

use super::{folder, intruder, now, open, store};
use crate::Condition;

#[test]
fn a_new_store_is_for_its_owner_alone() {
    let folder = folder();
    let state = folder.path().join("deep/state");
    assert_eq!(open(&state).condition, Condition::Fresh);
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&state), 0o700);
    for file in std::fs::read_dir(&state).unwrap().map(Result::unwrap) {
        assert_eq!(mode(&file.path()), 0o600, "{:?}", file.file_name());
    }
    assert_eq!(open(&state).condition, Condition::Normal);
}

#[test]
fn a_job_comes_back_as_it_was_saved_and_ends_being_active() {
    let folder = folder();
    let store = store(folder.path());
    let mut job = samples::job(store.next_number().unwrap(), samples::release("v5.1.0", b"image"));
    store.save(&job).unwrap();
    job.state = JobState::Writing { written: ByteCount(7), held: None };
    store.save(&job).unwrap();
    assert_eq!(store.job(&job.id).unwrap(), Some(job.clone()));
    assert_eq!(store.active().unwrap(), Some(job.clone()));
    job.state = JobState::RolledBack { why: Failure::internal("it hung") };
    store.save(&job).unwrap();
    assert_eq!(store.active().unwrap(), None);
    assert_eq!(store.page(0, 10).unwrap().jobs, [job]);
}

#[test]
fn the_history_is_paged_newest_first() {
    let folder = folder();
    let store = store(folder.path());
    for n in 1..=25 {
        let mut job = samples::job(n, samples::release("v5.1.0", b"image"));
        job.state = JobState::Succeeded;
        store.save(&job).unwrap();
    }
    let ids = |offset, limit| -> Vec<_> {
        store.page(offset, limit).unwrap().jobs.into_iter().map(|job| job.id).collect()
    };
    let expect = |numbers: std::ops::RangeInclusive<u64>| -> Vec<_> {
        numbers.rev().map(ota_core::JobId::from_number).collect()
    };
    assert_eq!(ids(0, 10), expect(16..=25));
    assert_eq!(ids(20, 10), expect(1..=5));
    assert!(ids(u64::MAX, 200).is_empty());
    assert_eq!(store.page(20, 1).unwrap().total, 25);
}

#[test]
fn numbers_and_events_are_given_once_also_across_openings() {
    let folder = folder();
    let first = store(folder.path());
    assert_eq!((first.next_number().unwrap(), first.next_number().unwrap()), (1, 2));
    assert_eq!((first.reserve_events(100).unwrap(), first.reserve_events(1).unwrap()), (1, 101));
    drop(first);
    let second = store(folder.path());
    assert_eq!((second.next_number().unwrap(), second.reserve_events(5).unwrap()), (3, 102));
    assert!(second.reserve_events(u64::MAX).is_err());
    assert!(second.reserve_events(u64::MAX / 2).is_err());
    assert_eq!(second.reserve_events(1).unwrap(), 107);
}

#[test]
fn concurrent_callers_never_get_the_same_number() {
    let folder = folder();
    let (store, start) = (store(folder.path()), Barrier::new(8));
    let numbers: Vec<u64> = thread::scope(|scope| {
        let work = || {
            start.wait();
            (0..20).map(|_| store.next_number().unwrap()).collect::<Vec<_>>()
        };
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(numbers.iter().collect::<BTreeSet<_>>().len(), 160);
}

#[test]
fn slots_and_the_last_update_come_back_as_they_were_recorded() {
    let folder = folder();
    let store = store(folder.path());
    assert_eq!(store.slot(Slot::A).unwrap(), SlotRecord::default());
    let record = SlotRecord {
        version: Some("v5.0.5".parse().unwrap()),
        sha256: Some(Sha256Digest::of(b"x")),
        size: Some(ByteCount(9)),
        boot_count: 3,
        last_boot: Some(now()),
        last_boot_id: Some("boot-1".into()),
        state: SlotState::Good,
    };
    store.set_slot(Slot::B, &SlotRecord::default()).unwrap();
    store.set_slot(Slot::B, &record).unwrap();
    assert_eq!(store.slot(Slot::B).unwrap(), record);
    assert_eq!(store.last_update().unwrap(), None);
    let last =
        LastUpdate { version: "v5.0.5".parse().unwrap(), at: now(), status: "success".into(), job: None };
    store.set_last_update(&last).unwrap();
    store.set_last_update(&last).unwrap();
    assert_eq!(store.last_update().unwrap(), Some(last));
}

#[test]
fn settings_are_replaced_and_removed() {
    let folder = folder();
    let store = store(folder.path());
    assert_eq!(store.value("pin.tries").unwrap(), None);
    store.set_value("pin.tries", Some("1")).unwrap();
    store.set_value("pin.tries", Some("2")).unwrap();
    assert_eq!(store.value("pin.tries").unwrap().as_deref(), Some("2"));
    store.set_value("pin.tries", None).unwrap();
    assert_eq!(store.value("pin.tries").unwrap(), None);
}

fn token(name: &str, expires: Option<Timestamp>) -> TokenRecord {
    TokenRecord { name: name.into(), role: Role::Operator, created: now(), expires, last_used: None }
}

#[test]
fn a_token_is_found_until_it_expires_or_is_revoked() {
    let folder = folder();
    let store = store(folder.path());
    let (digest, other) = (Sha256Digest::of(b"secret"), Sha256Digest::of(b"other"));
    let end = Timestamp::from_secs(now().as_secs() + 3600);
    store.add(&digest, &token("ops", Some(end))).unwrap();
    assert_eq!(store.find(&digest, now()).unwrap().unwrap().role, Role::Operator);
    assert_eq!(store.find(&other, now()).unwrap(), None);
    assert_eq!(store.find(&digest, end).unwrap(), None);
    assert!(store.revoke("ops").unwrap());
    assert!(!store.revoke("ops").unwrap());
    assert_eq!(store.find(&digest, now()).unwrap(), None);
    assert!(store.list().unwrap().is_empty());
}

#[test]
fn a_name_of_a_token_is_never_used_again() {
    let folder = folder();
    let store = store(folder.path());
    store.add(&Sha256Digest::of(b"1"), &token("ops", None)).unwrap();
    store.revoke("ops").unwrap();
    let refused = store.add(&Sha256Digest::of(b"2"), &token("ops", None)).unwrap_err();
    assert!(matches!(refused.kind(), PortErrorKind::Ota(OtaError::SystemBusy { .. })));
    assert!(store.add(&Sha256Digest::of(b"1"), &token("new", None)).is_err(), "the secret is known already");
}

#[test]
fn the_use_of_a_token_is_written_once_a_minute() {
    let folder = folder();
    let store = store(folder.path());
    let digest = Sha256Digest::of(b"secret");
    store.add(&digest, &token("ops", None)).unwrap();
    let observer = intruder(folder.path());
    let writes = || observer.query_row("PRAGMA data_version", [], |row| row.get::<_, i64>(0)).unwrap();
    let at = |seconds| Timestamp::from_secs(now().as_secs() + seconds);
    store.find(&digest, at(1)).unwrap();
    let before = writes();
    for second in 2..60 {
        store.find(&digest, at(second)).unwrap();
    }
    assert_eq!(writes(), before);
    assert_eq!(store.find(&digest, at(61)).unwrap().unwrap().last_used, Some(at(60)));
    assert_ne!(writes(), before);
    assert_eq!(store.list().unwrap()[0].last_used, Some(at(60)));
}
