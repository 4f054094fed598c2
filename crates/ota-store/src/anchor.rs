//! The audit's key and its anchor: the count and last hash of the chain, beside the database, so that a truncated tail
//! shows. Both carry a MAC, so that whoever can edit the files but not read the key cannot make them fit again.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use ring::{
    hmac,
    rand::{SecureRandom as _, SystemRandom},
};
use rusqlite::{Connection, OptionalExtension as _};
use serde::{Deserialize, Serialize};

use crate::{StoreError, durable};

pub(crate) const ANCHOR_FILE: &str = "audit.anchor";
const KEY_FILE: &str = "audit.key";

/// A SHA-256 hash in the chain.
pub(crate) type Hash = [u8; 32];

/// Key of the MACs. Generated on the device, never leaves it.
#[derive(Debug)]
pub(crate) struct AuditKey(hmac::Key);

impl AuditKey {
    fn new(bytes: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, bytes))
    }

    /// The key of this folder; `None` when there is none.
    pub(crate) fn load(folder: &Path) -> Result<Option<Self>, StoreError> {
        let path = folder.join(KEY_FILE);
        match fs::read(&path) {
            Ok(bytes) => {
                durable::restrict(&path, 0o600)?;
                Ok(Some(Self::new(&bytes)))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StoreError::file("read", path)(error)),
        }
    }

    fn generate() -> Result<(Self, [u8; 32]), StoreError> {
        let mut bytes = [0; 32];
        SystemRandom::new().fill(&mut bytes).map_err(|_| StoreError::Random)?;
        Ok((Self::new(&bytes), bytes))
    }

    /// The key of this folder, or one that fits nothing: for looking only.
    pub(crate) fn load_or_none(folder: &Path) -> Result<Self, StoreError> {
        Self::load(folder)?.map_or_else(|| Ok(Self::generate()?.0), Ok)
    }

    /// MAC over the hash of a record.
    pub(crate) fn seal(&self, hash: &Hash) -> Hash {
        let mut mac = [0; 32];
        mac.copy_from_slice(hmac::sign(&self.0, hash).as_ref());
        mac
    }

    /// MAC over the end of what was cut off: another message than any record's.
    pub(crate) fn seal_cut(&self, seq: u64, hash: &Hash) -> String {
        hex::encode(hmac::sign(&self.0, &cut_message(seq, hash)))
    }

    /// Whether `mac` is [`seal_cut`](Self::seal_cut) of these.
    pub(crate) fn sealed_cut(&self, seq: u64, hash: &Hash, mac: &str) -> bool {
        hex::decode(mac).is_ok_and(|mac| hmac::verify(&self.0, &cut_message(seq, hash), &mac).is_ok())
    }

    /// Whether `mac` is [`seal`](Self::seal) of `hash`.
    pub(crate) fn sealed(&self, hash: &Hash, mac: &Hash) -> bool {
        hmac::verify(&self.0, hash, mac).is_ok()
    }
}

fn cut_message(seq: u64, hash: &Hash) -> Vec<u8> {
    format!("audit cut\n{seq}\n{}", hex::encode(hash)).into_bytes()
}

/// What the chain has to end in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Anchor {
    /// Number of records.
    pub(crate) count: u64,
    /// Hash of the last one, zeros when there is none.
    pub(crate) hash: Hash,
    /// First record that was once found not to fit. Never forgotten: going on must not cover it up.
    pub(crate) broken: Option<u64>,
}

/// The file.
#[derive(Serialize, Deserialize)]
struct Sealed {
    count: u64,
    hash: String,
    broken: Option<u64>,
    mac: String,
}

impl Anchor {
    /// Of an empty chain.
    pub(crate) const EMPTY: Self = Self { count: 0, hash: [0; 32], broken: None };

    fn message(&self) -> Vec<u8> {
        format!("audit anchor\n{}\n{}\n{:?}", self.count, hex::encode(self.hash), self.broken).into_bytes()
    }

    /// Content of the file.
    pub(crate) fn encode(&self, key: &AuditKey) -> Result<Vec<u8>, StoreError> {
        let mac = hex::encode(hmac::sign(&key.0, &self.message()));
        let sealed = Sealed { count: self.count, hash: hex::encode(self.hash), broken: self.broken, mac };
        serde_json::to_vec(&sealed).map_err(StoreError::record("audit", ANCHOR_FILE))
    }

    fn decode(bytes: &[u8], key: &AuditKey) -> Option<Self> {
        let sealed: Sealed = serde_json::from_slice(bytes).ok()?;
        let mut hash = [0; 32];
        hex::decode_to_slice(&sealed.hash, &mut hash).ok()?;
        let anchor = Self { count: sealed.count, hash, broken: sealed.broken };
        hmac::verify(&key.0, &anchor.message(), &hex::decode(&sealed.mac).ok()?).ok()?;
        Some(anchor)
    }

    /// The anchor in `folder`; `None` when it is absent or does not carry our MAC.
    pub(crate) fn load(folder: &Path, key: &AuditKey) -> Result<Option<Self>, StoreError> {
        let path = folder.join(ANCHOR_FILE);
        match fs::read(&path) {
            Ok(bytes) => Ok(Self::decode(&bytes, key)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StoreError::file("read", path)(error)),
        }
    }

    pub(crate) fn store(&self, folder: &Path, key: &AuditKey) -> Result<(), StoreError> {
        durable::replace(folder, ANCHOR_FILE, &self.encode(key)?)
    }

    /// Remembers that `seq` does not fit.
    fn mark(&mut self, seq: u64) {
        self.broken = Some(self.broken.map_or(seq, |before| before.min(seq)));
    }
}

/// The anchor as it ought to be for the chain in `conn`, given the one in `folder`. The chain may be longer than the
/// anchor by records that carry our MAC: a cut between commit and anchor. Everything else is marked as broken.
pub(crate) fn reconcile(conn: &Connection, folder: &Path, key: &AuditKey) -> Result<Anchor, StoreError> {
    let (count, hash) = tail(conn)?;
    let Some(found) = Anchor::load(folder, key)? else {
        return Ok(Anchor { count, hash, broken: Some(count + 1) });
    };
    let mut anchor = Anchor { count, hash, broken: found.broken };
    if found.count > count {
        anchor.mark(count + 1);
    } else if found.count > 0 && link(conn, found.count)?.is_none_or(|(hash, _)| hash != found.hash) {
        anchor.mark(found.count);
    }
    for seq in found.count + 1..=count {
        if link(conn, seq)?.is_none_or(|(hash, mac)| !key.sealed(&hash, &mac)) {
            anchor.mark(seq);
            break;
        }
    }
    Ok(anchor)
}

fn tail(conn: &Connection) -> Result<(u64, Hash), StoreError> {
    conn.query_row("SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1", [], |row| {
        Ok((row.get(0)?, row.get(1)?))
    })
    .optional()
    .map_err(StoreError::sql("read the end of the audit log"))
    .map(|tail| tail.unwrap_or((0, [0; 32])))
}

fn link(conn: &Connection, seq: u64) -> Result<Option<(Hash, Hash)>, StoreError> {
    conn.query_row("SELECT hash, mac FROM audit WHERE seq = ?1", [seq], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()
        .map_err(StoreError::sql("read a link of the audit log"))
}

/// Key and anchor for the chain in `conn`, both durable. Without a key the device is new: the anchor is written before
/// the key, so that a key without an anchor always means that the anchor was taken away.
pub(crate) fn prepare(conn: &Connection, folder: &Path) -> Result<(AuditKey, Anchor), StoreError> {
    if let Some(key) = AuditKey::load(folder)? {
        let anchor = reconcile(conn, folder, &key)?;
        if Anchor::load(folder, &key)?.as_ref() != Some(&anchor) {
            anchor.store(folder, &key)?;
        }
        return Ok((key, anchor));
    }
    let (key, bytes) = AuditKey::generate()?;
    let (count, hash) = tail(conn)?;
    let anchor = Anchor { count, hash, broken: (count > 0).then_some(1) };
    anchor.store(folder, &key)?;
    durable::replace(folder, KEY_FILE, &bytes)?;
    Ok((key, anchor))
}

/// Starts a new chain beside a damaged database: the old anchor goes to `aside`. What it said, if it was good.
pub(crate) fn restart(folder: &Path, aside: PathBuf) -> Result<Option<Anchor>, StoreError> {
    let Some(key) = AuditKey::load(folder)? else { return Ok(None) };
    let old = Anchor::load(folder, &key)?;
    match fs::rename(folder.join(ANCHOR_FILE), &aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(StoreError::file("set aside the anchor as", aside)(error));
        }
        _ => {}
    }
    Anchor::EMPTY.store(folder, &key)?;
    Ok(old)
}
