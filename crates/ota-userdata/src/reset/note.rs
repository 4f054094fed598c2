//! What the first start after a reset takes note of, in a fresh store.

use ota_core::{
    Timestamp,
    error::PortError,
    ports::{AuditEntry, AuditLog, AuditOutcome, ResetOrder, Settings, SlotFacts},
};

use super::{Marker, ResetFolder, Step};

/// What a reset is called in the audit.
pub const ACTION: &str = "factory-reset";

/// The store that the reset left empty.
#[expect(missing_docs, reason = "each field is named like the port it holds")]
pub struct FreshStore<'a> {
    pub audit: &'a dyn AuditLog,
    pub settings: &'a dyn Settings,
    pub facts: &'a dyn SlotFacts,
    /// Jobs and events get numbers above these from now on. Durable on return.
    pub raise_numbers: &'a dyn Fn(u64, u64) -> Result<(), PortError>,
}

impl ResetFolder {
    /// Takes note of a reset that was carried out before this start: in the audit first, then what it must not set back,
    /// then the order is forgotten. A start that is cut off in between begins again. Gives the order, if there was one. Where
    /// the store is the old one, the order is as if no boot had carried it out.
    ///
    /// # Errors
    /// Those of the store, and of the medium that the order lies on. The order then stays, and the next start tries again.
    pub fn take_note(&self, store: &FreshStore<'_>, now: Timestamp) -> Result<Option<ResetOrder>, PortError> {
        let marker = self.marker().inspect_err(|error| {
            // The engine refuses to write anything then; the gateway must answer all the same.
            tracing::error!(%error, "the order of a factory reset does not read");
        });
        let Ok(Some(marker)) = marker else { return Ok(None) };
        let Step::Done { at } = marker.step else { return Ok(None) };
        if outlived(store.audit, &marker.order)? {
            // What was erased was not this: the order is open again, and people see that no boot has carried it out.
            tracing::error!(
                "a factory reset is recorded as done, and the audit log it was to erase is still there"
            );
            self.open_again(marker)?;
            return Ok(None);
        }
        let Marker { order, attempts, .. } = marker;
        let entry = entry(&order, at, attempts);
        let recorded =
            store.audit.records(0, 1)?.into_iter().next().is_some_and(|first| first.entry == entry);
        if !recorded {
            store.audit.append(now, &entry)?;
        }
        for (name, value) in &order.carried.settings {
            store.settings.set_value(name, Some(value))?;
        }
        for (slot, record) in &order.carried.slots {
            store.facts.set_slot(*slot, record)?;
        }
        if let Some(last) = &order.carried.last_update {
            store.facts.set_last_update(last)?;
        }
        (store.raise_numbers)(order.carried.job_number, order.carried.event_number)?;
        self.forget()?;
        Ok(Some(order))
    }
}

/// Whether the log still has the record that it ended with when the reset was asked for.
fn outlived(audit: &dyn AuditLog, order: &ResetOrder) -> Result<bool, PortError> {
    let Some((seq, hash)) = &order.audit_end else { return Ok(false) };
    let found = audit.records(seq.saturating_sub(1), 1)?.into_iter().next();
    Ok(found.is_some_and(|record| (record.seq, &record.hash) == (*seq, hash)))
}

/// The first record of the fresh log.
fn entry(order: &ResetOrder, done: Timestamp, attempts: u32) -> AuditEntry {
    let end = order
        .audit_end
        .as_ref()
        .map_or_else(|| "is not known".into(), |(seq, hash)| format!("ended with record {seq}, hash {hash}"));
    let backup = order.backup.as_ref().map_or_else(String::new, |id| format!("; settings in {id}"));
    AuditEntry {
        actor: order.by.clone(),
        role: order.role,
        address: order.address.clone(),
        action: ACTION.into(),
        outcome: AuditOutcome::Ok,
        request_id: order.request_id.clone(),
        job: None,
        reason: Some(format!(
            "all data and settings were erased, asked for at {} ms and done at {} ms after 1970 in {attempts} \
             attempt(s); the erased audit log, when it was asked for, {end}{backup}",
            order.at.as_millis(),
            done.as_millis()
        )),
    }
}
