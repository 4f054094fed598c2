//! What is known of each slot, and how the last update ended.

use ota_core::{
    Slot,
    error::PortError,
    ports::{LastUpdate, SlotFacts, SlotRecord},
};
use rusqlite::{Connection, OptionalExtension as _};

use crate::{SqliteStore, StoreError};

impl SlotFacts for SqliteStore {
    fn slot(&self, slot: Slot) -> Result<SlotRecord, PortError> {
        self.read(|conn| {
            let record = text(conn, "SELECT record FROM slots WHERE slot = ?1", [slot.as_str()])?;
            record.map_or(Ok(SlotRecord::default()), |text| {
                serde_json::from_str(&text).map_err(StoreError::record("slots", slot.as_str()))
            })
        })
    }

    fn set_slot(&self, slot: Slot, record: &SlotRecord) -> Result<(), PortError> {
        let text = serde_json::to_string(record).map_err(StoreError::record("slots", slot.as_str()))?;
        Ok(self.write(|tx| {
            let sql = "INSERT INTO slots (slot, record) VALUES (?1, ?2)
                       ON CONFLICT (slot) DO UPDATE SET record = ?2";
            tx.execute(sql, [slot.as_str(), &text]).map_err(StoreError::sql("record a slot"))?;
            Ok(())
        })?)
    }

    fn last_update(&self) -> Result<Option<LastUpdate>, PortError> {
        self.read(|conn| {
            let record = text(conn, "SELECT record FROM last_update", [])?;
            let parse =
                |text: String| serde_json::from_str(&text).map_err(StoreError::record("last_update", "1"));
            record.map(parse).transpose()
        })
    }

    fn set_last_update(&self, last: &LastUpdate) -> Result<(), PortError> {
        let text = serde_json::to_string(last).map_err(StoreError::record("last_update", "1"))?;
        Ok(self.write(|tx| {
            let sql = "INSERT INTO last_update (only, record) VALUES (1, ?1)
                       ON CONFLICT (only) DO UPDATE SET record = ?1";
            tx.execute(sql, [&text]).map_err(StoreError::sql("record the last update"))?;
            Ok(())
        })?)
    }
}

fn text(conn: &Connection, sql: &str, params: impl rusqlite::Params) -> Result<Option<String>, StoreError> {
    conn.query_row(sql, params, |row| row.get(0)).optional().map_err(StoreError::sql("read a slot record"))
}
