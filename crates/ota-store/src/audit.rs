//! The record of who did what, as a chain.
//!
//! `hash(n) = SHA-256(hash(n-1) ‖ text(n))`, `hash(0)` = 32 zero bytes; `text(n)` is the compact JSON of `seq`, `at` (ms)
//! and `entry` in this order, kept as it was hashed. The end of the chain is held by [`crate::anchor`]; where records were
//! cut off by age or number, [`crate::retention`] holds its beginning.

use ota_core::{
    Sha256Digest, Timestamp,
    error::PortError,
    ports::{AuditEntry, AuditLog, AuditRecord},
};
use rusqlite::{Connection, Row, params};
use serde::{Deserialize, Serialize};

use crate::{
    SqliteStore, StoreError,
    anchor::{self, ANCHOR_FILE, Anchor, AuditKey, Hash},
    durable,
    retention::Found,
};

/// What is hashed, to write.
#[derive(Serialize)]
struct Text<'a> {
    seq: u64,
    at: Timestamp,
    entry: &'a AuditEntry,
}

/// What is hashed, to read.
#[derive(Deserialize)]
struct Read {
    seq: u64,
    at: Timestamp,
    entry: AuditEntry,
}

impl AuditLog for SqliteStore {
    fn append(&self, at: Timestamp, entry: &AuditEntry) -> Result<u64, PortError> {
        let appended = self.write_with(
            |tx| {
                let mut anchor = anchor::reconcile(tx, &self.folder, &self.key)?;
                anchor.count += 1;
                let text = Text { seq: anchor.count, at, entry };
                let text = serde_json::to_string(&text).map_err(StoreError::record("audit", "new"))?;
                anchor.hash = chained(&anchor.hash, &text);
                let mac = self.key.seal(&anchor.hash);
                tx.prepare_cached("INSERT INTO audit (seq, record, hash, mac) VALUES (?1, ?2, ?3, ?4)")
                    .and_then(|mut insert| insert.execute(params![anchor.count, text, anchor.hash, mac]))
                    .map_err(StoreError::sql("append to the audit log"))?;
                Ok(anchor)
            },
            // Where the disk is full it shows here, while the record can still be taken back.
            |anchor| durable::stage(&self.folder, ANCHOR_FILE, &anchor.encode(&self.key)?),
            durable::Staged::publish,
        );
        Ok(appended.map_err(StoreError::into_audit_error)?.count)
    }

    fn records(&self, after: u64, limit: u32) -> Result<Vec<AuditRecord>, PortError> {
        // No sequence number is above what SQLite can hold.
        let after = i64::try_from(after).unwrap_or(i64::MAX);
        let rows = self.read(|conn| {
            let sql = "SELECT seq, record, hash, mac FROM audit WHERE seq > ?1 ORDER BY seq LIMIT ?2";
            conn.prepare_cached(sql)
                .and_then(|mut select| select.query_map(params![after, limit], Link::from_row)?.collect())
                .map_err(StoreError::sql("read the audit log"))
        });
        let rows: Vec<Link> = rows?;
        // One that does not read must not hide the others; `verify_chain` names it.
        Ok(rows.iter().filter_map(Link::to_record).collect())
    }

    fn newest(&self) -> Result<u64, PortError> {
        self.read(|conn| {
            conn.query_row("SELECT coalesce(max(seq), 0) FROM audit", [], |row| row.get(0))
                .map_err(StoreError::sql("read the end of the audit log"))
        })
    }

    fn verify_chain(&self) -> Result<Result<u64, u64>, PortError> {
        self.read(|conn| {
            // The anchor first: it is never ahead of what is committed.
            let anchor = Anchor::load(&self.folder, &self.key)?;
            let cut = Found::load(conn, &self.key)?;
            if let Found::Forged = cut {
                return Ok(Err(oldest(conn)?));
            }
            let start = cut.link();
            let walked = walk(conn, &self.key, anchor.as_ref(), start)?.map(|last| (last, last - start.0));
            let broken = anchor.as_ref().and_then(|anchor| anchor.broken);
            Ok(match (walked, broken) {
                (Ok((last, _)), _) if anchor.as_ref().is_none_or(|anchor| anchor.count > last) => {
                    Err(last + 1)
                }
                (Ok(_), Some(seq)) => Err(seq),
                (Err(seq), broken) => Err(broken.map_or(seq, |before| before.min(seq))),
                (Ok((_, count)), None) => Ok(count),
            })
        })
    }
}

/// Goes along the chain from the record after `start`: the number of the last one, or of the first that does not fit.
fn walk(
    conn: &Connection,
    key: &AuditKey,
    anchor: Option<&Anchor>,
    start: (u64, Hash),
) -> Result<Result<u64, u64>, StoreError> {
    let failed = StoreError::sql("walk along the audit log");
    let mut links = conn.prepare("SELECT seq, record, hash, mac FROM audit ORDER BY seq").map_err(failed)?;
    let links = links.query_map([], Link::from_row).map_err(StoreError::sql("walk along the audit log"))?;
    let (mut count, mut previous) = start;
    for link in links {
        let expected = count + 1;
        match link {
            Ok(link) if link.fits(expected, &previous, key, anchor) => {
                (count, previous) = (expected, link.hash)
            }
            Err(error) if error.sqlite_error_code().is_some() => {
                return Err(StoreError::sql("walk along the audit log")(error));
            }
            _ => return Ok(Err(expected)),
        }
    }
    Ok(Ok(count))
}

fn oldest(conn: &Connection) -> Result<u64, StoreError> {
    conn.query_row("SELECT coalesce(min(seq), 1) FROM audit", [], |row| row.get(0))
        .map_err(StoreError::sql("read the beginning of the audit log"))
}

pub(crate) fn chained(previous: &Hash, text: &str) -> Hash {
    Sha256Digest::of(&[previous, text.as_bytes()].concat()).0
}

#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) seq: u64,
    pub(crate) text: String,
    pub(crate) hash: Hash,
    mac: Hash,
}

impl Link {
    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self { seq: row.get(0)?, text: row.get(1)?, hash: row.get(2)?, mac: row.get(3)? })
    }

    pub(crate) fn fits(&self, seq: u64, previous: &Hash, key: &AuditKey, anchor: Option<&Anchor>) -> bool {
        self.seq == seq
            && self.hash == chained(previous, &self.text)
            && key.sealed(&self.hash, &self.mac)
            && self.to_record().is_some()
            && anchor.is_none_or(|anchor| anchor.count != seq || anchor.hash == self.hash)
    }

    fn to_record(&self) -> Option<AuditRecord> {
        let Read { seq, at, entry } = serde_json::from_str(&self.text).ok()?;
        (seq == self.seq).then(|| AuditRecord { seq, at, entry, hash: hex::encode(self.hash) })
    }
}

/// Every link, as it is stored.
#[cfg(test)]
pub(crate) fn links(conn: &Connection) -> rusqlite::Result<Vec<Link>> {
    conn.prepare("SELECT seq, record, hash, mac FROM audit ORDER BY seq")?
        .query_map([], Link::from_row)?
        .collect()
}
