//! Snapshots and factory reset as the daemon and the early boot use them.

use anyhow::Context as _;
use ota_core::{Timestamp, ports::Clock as _};
use ota_engine::UserData;
use ota_store::SqliteStore;
use ota_userdata::{
    ResetFolder, SnapshotFolder, UserDataError,
    reset::{Applied, Durable, FreshStore},
};

use crate::{
    clock::SystemClock,
    config::{ClockTrust, Config},
    tokens,
};

/// The ports of the engine.
pub(crate) fn ports(config: &Config) -> anyhow::Result<UserData> {
    let snapshots = config.snapshots()?;
    let configured = !snapshots.roots.is_empty();
    let reset: std::sync::Arc<dyn ota_core::ports::FactoryReset> =
        std::sync::Arc::new(ResetFolder::new(config.reset()));
    Ok(UserData {
        snapshots: configured.then(|| std::sync::Arc::new(SnapshotFolder::new(snapshots)) as _),
        reset: Some(reset),
        before_install: config.snapshot.before_install,
        reboot_for_reset: config.factory_reset.reboot,
    })
}

/// Takes note of a reset that was carried out before this start, once.
pub(crate) fn take_note(config: &Config, store: &SqliteStore) -> anyhow::Result<()> {
    let fresh = FreshStore {
        audit: store,
        settings: store,
        facts: store,
        raise_numbers: &|jobs, events| store.raise_numbers(jobs, events),
    };
    let noted = ResetFolder::new(config.reset()).take_note(&fresh, now());
    if let Some(order) = noted.context("taking note of the factory reset")? {
        tracing::warn!(by = order.by, "the gateway was reset to its factory state");
    }
    Ok(())
}

fn now() -> Timestamp {
    SystemClock::new(ClockTrust::Always, std::path::PathBuf::new()).wall()
}

/// `factory-reset --apply`: carries out what was ordered. `cut_after`: ends the process as a power cut would, after so
/// many durable steps.
pub(crate) fn apply(config: &Config, cut_after: Option<u32>) -> anyhow::Result<String> {
    let mut steps = 0_u32;
    let mut watch = |step: Durable| -> Result<(), UserDataError> {
        tracing::info!(?step, "factory reset");
        steps += 1;
        if Some(steps) == cut_after {
            // No destructor runs, nothing is flushed.
            std::process::abort();
        }
        Ok(())
    };
    let applied = ResetFolder::new(config.reset()).apply(now(), &mut watch).context("factory reset")?;
    Ok(match applied {
        Applied::Nothing => "no factory reset was asked for".into(),
        Applied::Erased => format!("the gateway is in its factory state, after {steps} step(s)"),
        Applied::Before => "the gateway is in its factory state".into(),
    })
}

/// `factory-reset --cancel`: takes an order back that has not begun.
pub(crate) fn cancel(config: &Config) -> anyhow::Result<String> {
    if !ResetFolder::new(config.reset()).cancel()? {
        return Ok("no factory reset was asked for".into());
    }
    // Not before: to keep the data must not depend on the audit.
    let recorded =
        tokens::open(config).and_then(|store| tokens::note(&store, "factory-reset.cancel", "on the device"));
    recorded.context("the factory reset is taken back, and the audit could not be told")?;
    Ok("the factory reset is taken back".into())
}

#[cfg(test)]
mod tests {
    use ota_core::{
        Slot,
        ports::{
            AuditEntry, AuditLog as _, Carried, FactoryReset as _, JobJournal as _, ResetOrder, Role,
            Settings as _, SlotFacts as _, SlotRecord, SlotState,
        },
    };
    use ota_userdata::reset::ACTION;

    use super::*;

    fn order() -> ResetOrder {
        let record = SlotRecord { state: SlotState::Good, boot_count: 42, ..SlotRecord::default() };
        ResetOrder {
            by: "ada".into(),
            role: Some(Role::Admin),
            address: Some("192.0.2.7".into()),
            request_id: Some("req_1".into()),
            at: Timestamp::from_secs(1),
            boot_id: "boot-1".into(),
            backup: None,
            audit_end: Some((7, "ab".into())),
            carried: Carried {
                settings: vec![("floor.version".into(), "5.0.0".into())],
                slots: vec![(Slot::A, record)],
                last_update: None,
                job_number: 900,
                event_number: 70_000,
            },
        }
    }

    /// A device in `dir` with its state in `state`, which a reset erases, and the order in `keep`.
    fn erasing_its_state(dir: &std::path::Path) -> Config {
        let text = format!(
            "[gateway]\nname='g'\nmodel='M'\nserial='S'\n[slots]\na='/dev/a'\nb='/dev/b'\n[state]\ndir='{0}/state'\n\
             [factory_reset]\nenabled=true\ndir='{0}/keep'\npaths=['{0}/state']\n",
            dir.display(),
        );
        let file = dir.join("gateway.toml");
        std::fs::write(&file, text).unwrap();
        Config::load(&file).unwrap()
    }

    #[test]
    fn the_first_start_after_a_reset_takes_note_of_it_once_however_often_it_is_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        let config = erasing_its_state(dir.path());
        let marker = dir.path().join("keep").join("factory-reset.json");
        ResetFolder::new(config.reset()).schedule(&order()).unwrap();
        assert!(apply(&config, None).unwrap().contains("factory state"));
        let done = std::fs::read(&marker).unwrap();
        let store = tokens::open(&config).unwrap();
        for _ in 0..3 {
            // The order is there again: it was not deleted durably before the cut.
            std::fs::write(&marker, &done).unwrap();
            take_note(&config, &store).unwrap();
            assert!(!marker.exists());
        }
        let records = store.records(0, 10).unwrap();
        assert_eq!(records.len(), 1);
        let AuditEntry { actor, action, reason, .. } = &records[0].entry;
        assert_eq!((actor.as_str(), action.as_str()), ("ada", ACTION));
        assert!(reason.as_ref().unwrap().contains("ended with record 7, hash ab"), "{reason:?}");
        assert_eq!(store.value("floor.version").unwrap().as_deref(), Some("5.0.0"));
        assert_eq!(store.slot(Slot::A).unwrap().boot_count, 42);
        assert!(store.next_number().unwrap() > 900 && store.reserve_events(1).unwrap() > 70_000);
    }

    #[test]
    fn an_order_that_was_not_carried_out_is_left_alone_by_the_daemon() {
        let dir = tempfile::tempdir().unwrap();
        let config = erasing_its_state(dir.path());
        ResetFolder::new(config.reset()).schedule(&order()).unwrap();
        let store = tokens::open(&config).unwrap();
        take_note(&config, &store).unwrap();
        assert!(store.records(0, 10).unwrap().is_empty());
        assert_eq!(cancel(&config).unwrap(), "the factory reset is taken back");
        assert_eq!(cancel(&config).unwrap(), "no factory reset was asked for");
        let records = store.records(0, 10).unwrap();
        let told: Vec<_> =
            records.iter().map(|r| (r.entry.actor.as_str(), r.entry.action.as_str())).collect();
        assert_eq!(told, [("cli", "factory-reset.cancel")]);
    }

    #[test]
    fn a_reset_that_has_erased_another_folder_is_not_recorded_as_done_and_waits_for_the_next_boot() {
        let dir = tempfile::tempdir().unwrap();
        let config = erasing_its_state(dir.path());
        let state = dir.path().join("state");
        let store = tokens::open(&config).unwrap();
        tokens::note(&store, "auth.pin.set", "on the device").unwrap();
        let last = store.records(0, 1).unwrap().remove(0);
        let order = ResetOrder { audit_end: Some((last.seq, last.hash)), ..order() };
        let reset = ResetFolder::new(config.reset());
        reset.schedule(&order).unwrap();
        drop(store);
        // As it is where the state lies on what is mounted after the reset.
        std::fs::rename(&state, dir.path().join("hidden")).unwrap();
        std::fs::create_dir(&state).unwrap();
        assert!(apply(&config, None).unwrap().contains("factory state"));
        assert!(reset.pending().unwrap().is_none());
        std::fs::remove_dir(&state).unwrap();
        std::fs::rename(dir.path().join("hidden"), &state).unwrap();
        let store = tokens::open(&config).unwrap();
        take_note(&config, &store).unwrap();
        assert_eq!(store.records(0, 10).unwrap().len(), 1);
        assert_eq!(store.value("floor.version").unwrap(), None);
        assert_eq!(reset.pending().unwrap(), Some(order));
        assert_eq!(cancel(&config).unwrap(), "the factory reset is taken back");
    }
}
