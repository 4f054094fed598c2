//! Small named values.

use ota_core::{error::PortError, ports::Settings};
use rusqlite::OptionalExtension as _;

use crate::{SqliteStore, StoreError};

impl Settings for SqliteStore {
    fn value(&self, name: &str) -> Result<Option<String>, PortError> {
        self.read(|conn| {
            conn.query_row("SELECT value FROM settings WHERE name = ?1", [name], |row| row.get(0))
                .optional()
                .map_err(StoreError::sql("read a setting"))
        })
    }

    fn set_value(&self, name: &str, value: Option<&str>) -> Result<(), PortError> {
        Ok(self.write(|tx| {
            let done = match value {
                Some(value) => {
                    let sql = "INSERT INTO settings (name, value) VALUES (?1, ?2)
                               ON CONFLICT (name) DO UPDATE SET value = ?2";
                    tx.execute(sql, [name, value])
                }
                None => tx.execute("DELETE FROM settings WHERE name = ?1", [name]),
            };
            done.map_err(StoreError::sql("store a setting"))?;
            Ok(())
        })?)
    }
}
