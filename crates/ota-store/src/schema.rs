//! The versions of the schema. Only ever appended to: a migration that has shipped never changes.

use rusqlite::Connection;
use rusqlite_migration::{M, Migrations};

use crate::StoreError;

/// Marks the file as ours: `OTAg`.
pub(crate) const APPLICATION_ID: i32 = 0x4F54_4167;

const STEPS: &[M<'static>] = &[M::up(include_str!("../migrations/1-first.sql"))];

/// All versions, oldest first.
pub(crate) const MIGRATIONS: Migrations<'static> = Migrations::from_slice(STEPS);

/// Newest version known to this program.
#[expect(clippy::cast_possible_truncation, reason = "a handful of migrations")]
pub const SCHEMA_VERSION: u32 = STEPS.len() as u32;

/// Version of an open database; `None` when the number cannot be one of ours.
pub(crate) fn version(conn: &Connection) -> Result<Option<u32>, StoreError> {
    let number: i64 = conn
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .map_err(StoreError::sql("read the schema version"))?;
    // A flipped bit in the upper bytes is not software from the far future.
    Ok(u32::try_from(number).ok().filter(|version| *version < 10_000))
}

/// Brings the schema to the newest of `migrations`, in one transaction each.
pub(crate) fn migrate(conn: &mut Connection, migrations: &Migrations<'_>) -> Result<u32, StoreError> {
    let from = version(conn)?.unwrap_or(0);
    migrations.to_latest(conn).map_err(|source| StoreError::Migrate { from, source })?;
    Ok(from)
}
