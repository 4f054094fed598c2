//! Records that do not read any more: moved to the table `set_aside` when the store is opened, and reported, so that one
//! of them does not stop the rest.

use ota_core::{
    Timestamp,
    job::Job,
    ports::{LastUpdate, SlotRecord},
};
use rusqlite::{Connection, Transaction, TransactionBehavior, params};
use serde::de::DeserializeOwned;

use crate::StoreError;

/// Moves what does not read; how many records that were.
pub(crate) fn sift(conn: &mut Connection, now: Timestamp) -> Result<u32, StoreError> {
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed())?;
    let bad = table::<Job>(&tx, "jobs", "id", now)?
        + table::<SlotRecord>(&tx, "slots", "slot", now)?
        + table::<LastUpdate>(&tx, "last_update", "only", now)?;
    tx.commit().map_err(failed())?;
    Ok(bad)
}

fn table<T: DeserializeOwned>(
    tx: &Transaction<'_>,
    name: &'static str,
    key: &str,
    now: Timestamp,
) -> Result<u32, StoreError> {
    let mut bad = 0;
    for (id, record) in rows(tx, name, key).map_err(failed())? {
        let Err(error) = serde_json::from_slice::<T>(&record) else { continue };
        tracing::error!(table = name, key = %String::from_utf8_lossy(&id), %error, "a record is set aside");
        set_aside(tx, name, key, &id, now).map_err(failed())?;
        bad += 1;
    }
    Ok(bad)
}

/// Keys and records as bytes: damaged text need not be text.
fn rows(tx: &Transaction<'_>, name: &str, key: &str) -> rusqlite::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    tx.prepare(&format!("SELECT CAST({key} AS BLOB), CAST(record AS BLOB) FROM {name}"))?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect()
}

fn set_aside(tx: &Transaction<'_>, name: &str, key: &str, id: &[u8], now: Timestamp) -> rusqlite::Result<()> {
    let copy = format!(
        "INSERT INTO set_aside (place, key, record, at)
         SELECT ?1, CAST({key} AS TEXT), record, ?2 FROM {name} WHERE CAST({key} AS BLOB) = ?3"
    );
    tx.execute(&copy, params![name, now.as_millis(), id])?;
    tx.execute(&format!("DELETE FROM {name} WHERE CAST({key} AS BLOB) = ?1"), [id])?;
    Ok(())
}

fn failed() -> impl FnOnce(rusqlite::Error) -> StoreError {
    StoreError::sql("check the records")
}
