//! What the factory knows and the daemon cannot: which version was written to a slot before its first start.

use anyhow::{Context as _, ensure};
use ota_boot::BlockSlotWriter;
use ota_core::{
    ByteCount, Slot, Version,
    ports::{Clock as _, Flow, LastUpdate, SlotFacts as _, SlotRecord, SlotState, SlotWriter as _},
};
use ota_store::SqliteStore;

use crate::{clock::SystemClock, config::Config, tokens};

/// Records that `slot` holds `version`: the first `size` bytes are read and their digest is kept, so that a later rollback to
/// the slot can be checked. With `running`, the factory's write also counts as the last update.
pub(crate) fn record(
    config: &Config,
    store: &SqliteStore,
    slot: Slot,
    version: Version,
    size: ByteCount,
    running: bool,
) -> anyhow::Result<String> {
    ensure!(size > ByteCount::ZERO, "--size is the length of the image in the slot, in bytes");
    let slots = BlockSlotWriter::new(&config.slots.a, &config.slots.b, None);
    let digest =
        slots.digest(slot, size, &mut |_| Flow::Continue).with_context(|| format!("reading slot {slot}"))?;
    let known = store.slot(slot)?;
    let record = SlotRecord {
        version: Some(version.clone()),
        sha256: Some(digest),
        size: Some(size),
        state: SlotState::Good,
        ..known
    };
    tokens::note(store, "slots.provision", &format!("slot {slot} holds {version}, sha256:{digest}"))?;
    store.set_slot(slot, &record)?;
    if running {
        let at = SystemClock::new(config.clock.trust, config.clock.synchronized_file.clone()).wall();
        let last = LastUpdate { version: version.clone(), at, status: "success".into(), job: None };
        store.set_last_update(&last)?;
    }
    Ok(format!("slot {slot} holds {version}, sha256:{digest}"))
}
