//! Forgetting old records: ended jobs, and the beginning of the audit.
//!
//! Where the audit was cut stands under a MAC in the settings, written in the transaction that removes the records: number
//! and hash of the last one that went. The rest of the chain is verified from there. Without the key nobody can move it, so
//! records that were taken away otherwise still show.

use ota_core::{Timestamp, error::PortError};
use rusqlite::{Connection, OptionalExtension as _, params};
use serde::{Deserialize, Serialize};

use crate::{
    SqliteStore, StoreError,
    anchor::{AuditKey, Hash},
    ended,
};

/// Where the cut is kept. In the settings, so that software that knows nothing of it can still open the store.
const CUT: &str = "audit.cut";

/// Which audit records may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// So many stay.
    pub keep: u32,
    /// Older ones go, also within `keep`.
    pub before: Option<Timestamp>,
    /// So many of the newest stay in any case; at least 1.
    pub newest: u32,
}

/// The cut as it was found.
pub(crate) enum Found {
    /// Nothing was ever cut off.
    None,
    /// Number and hash of the last record that went.
    At(u64, Hash),
    /// It does not carry our MAC.
    Forged,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    seq: u64,
    hash: String,
    mac: String,
}

impl Found {
    pub(crate) fn load(conn: &Connection, key: &AuditKey) -> Result<Self, StoreError> {
        let text: Option<String> = conn
            .query_row("SELECT value FROM settings WHERE name = ?1", [CUT], |row| row.get(0))
            .optional()
            .map_err(StoreError::sql("read where the audit log was cut"))?;
        let Some(text) = text else { return Ok(Self::None) };
        let Ok(Kept { seq, hash: digits, mac }) = serde_json::from_str(&text) else {
            return Ok(Self::Forged);
        };
        let mut hash = [0; 32];
        let fits = hex::decode_to_slice(&digits, &mut hash).is_ok() && key.sealed_cut(seq, &hash, &mac);
        Ok(if fits { Self::At(seq, hash) } else { Self::Forged })
    }

    /// What the chain goes on from.
    pub(crate) const fn link(&self) -> (u64, Hash) {
        match self {
            Self::At(seq, hash) => (*seq, *hash),
            Self::None | Self::Forged => (0, [0; 32]),
        }
    }
}

impl SqliteStore {
    /// Removes the oldest ended jobs until `keep` jobs are left, all but their sum ([`JobJournal::ended`]); how many went.
    ///
    /// [`JobJournal::ended`]: ota_core::ports::JobJournal::ended
    ///
    /// # Errors
    /// `Unavailable`, `Io`.
    pub fn forget_jobs(&self, keep: u32) -> Result<usize, PortError> {
        Ok(self.write(|tx| ended::forget(tx, keep))?)
    }

    /// The audit records that `cut` lets go: first, last, and the last one's hash. `None` when there are none, or when
    /// the chain is broken: what somebody has touched is kept.
    ///
    /// # Errors
    /// `Io`.
    pub fn would_cut(&self, cut: Cut) -> Result<Option<(u64, u64, String)>, PortError> {
        if ota_core::ports::AuditLog::verify_chain(self)?.is_err() {
            return Ok(None);
        }
        self.read(|conn| {
            let ends = "SELECT coalesce(min(seq), 1), coalesce(max(seq), 0) FROM audit";
            let (first, last): (u64, u64) = conn
                .query_row(ends, [], |row| Ok((row.get(0)?, row.get(1)?)))
                .map_err(StoreError::sql("look at the ends of the audit log"))?;
            let most = last.saturating_sub(cut.newest.max(1).into());
            let by_count = last.saturating_sub(cut.keep.into());
            let by_age = cut.before.map(|before| old(conn, before)).transpose()?.unwrap_or(0);
            let to = by_count.max(by_age).min(most);
            if to < first {
                return Ok(None);
            }
            let hash = hash_of(conn, to)?;
            Ok(hash.map(|hash| (first, to, hex::encode(hash))))
        })
    }

    /// Removes the audit records up to number `to`; the rest stays verifiable. The newest one is never removed.
    ///
    /// # Errors
    /// `Unavailable`, `Io`.
    pub fn cut_audit(&self, to: u64) -> Result<(), PortError> {
        Ok(self.write(|tx| {
            let failed = || StoreError::sql("cut the audit log");
            let newest: u64 =
                tx.query_row("SELECT coalesce(max(seq), 0) FROM audit", [], |row| row.get(0)).map_err(failed())?;
            let Some(hash) = hash_of(tx, to)?.filter(|_| to < newest) else { return Ok(()) };
            let kept = Kept { seq: to, hash: hex::encode(hash), mac: self.key.seal_cut(to, &hash) };
            let kept = serde_json::to_string(&kept).map_err(StoreError::record("settings", CUT))?;
            let sql = "INSERT INTO settings (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = ?2";
            tx.execute(sql, params![CUT, kept]).map_err(failed())?;
            tx.execute("DELETE FROM audit WHERE seq <= ?1", [to]).map_err(failed())?;
            Ok(())
        })?)
    }
}

fn hash_of(conn: &Connection, seq: u64) -> Result<Option<Hash>, StoreError> {
    conn.query_row("SELECT hash FROM audit WHERE seq = ?1", [seq], |row| row.get(0))
        .optional()
        .map_err(StoreError::sql("read a link of the audit log"))
}

/// Number of the last record before the first one that is not older than `before`: the wall clock may have jumped.
fn old(conn: &Connection, before: Timestamp) -> Result<u64, StoreError> {
    let sql = "SELECT coalesce(min(seq), 0) FROM audit WHERE json_extract(record, '$.at') >= ?1";
    let first: u64 = conn
        .query_row(sql, [before.as_millis()], |row| row.get(0))
        .map_err(StoreError::sql("look for old audit records"))?;
    Ok(first.saturating_sub(1))
}
