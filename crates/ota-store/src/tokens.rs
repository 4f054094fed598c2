//! Bearer tokens by the digest of their secret.

use std::collections::HashSet;

use ota_core::{
    Sha256Digest, Timestamp,
    error::PortError,
    ports::{Role, TokenRecord, Tokens},
};
use rusqlite::{Connection, OptionalExtension as _, Row, params, types::Type};

use crate::{SqliteStore, StoreError};

const COLUMNS: &str = "name, role, created, expires, last_used";

impl Tokens for SqliteStore {
    fn find(&self, digest: &Sha256Digest, now: Timestamp) -> Result<Option<TokenRecord>, PortError> {
        let found = self.read(|conn| by_digest(conn, digest))?;
        let Some(mut token) = found.filter(|token| token.expires.is_none_or(|end| now < end)) else {
            return Ok(None);
        };
        let minute = Timestamp::from_secs(now.as_secs().div_euclid(60) * 60);
        if token.last_used != Some(minute) && !self.is_read_only() {
            token.last_used = Some(minute);
            // A full disk must not lock people out who come to see what is wrong.
            if let Err(error) = self.note_use(&token.name, minute) {
                tracing::warn!(error = %PortError::from(error).chain(), "the use of a token is not recorded");
            }
        }
        Ok(Some(token))
    }

    fn add(&self, digest: &Sha256Digest, record: &TokenRecord) -> Result<(), PortError> {
        Ok(self.write(|tx| {
            let taken = tx
                .query_row("SELECT 1 FROM tokens WHERE name = ?1", [&record.name], |_| Ok(()))
                .optional()
                .map_err(StoreError::sql("look for a token"))?;
            if taken.is_some() {
                return Err(StoreError::TokenName(record.name.clone()));
            }
            let sql = "INSERT INTO tokens (name, digest, role, created, expires, last_used)
                       VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
            let millis = |time: Option<Timestamp>| time.map(Timestamp::as_millis);
            let params = params![
                record.name,
                digest.as_bytes(),
                record.role.as_str(),
                record.created.as_millis(),
                millis(record.expires),
                millis(record.last_used)
            ];
            tx.execute(sql, params).map_err(StoreError::sql("add a token"))?;
            Ok(())
        })?)
    }

    fn revoke(&self, name: &str) -> Result<bool, PortError> {
        Ok(self.write(|tx| {
            let sql = "UPDATE tokens SET revoked = 1 WHERE name = ?1 AND revoked = 0";
            Ok(tx.execute(sql, [name]).map_err(StoreError::sql("revoke a token"))? > 0)
        })?)
    }

    fn list(&self) -> Result<Vec<TokenRecord>, PortError> {
        self.read(|conn| {
            conn.prepare_cached(&format!(
                "SELECT {COLUMNS} FROM tokens WHERE revoked = 0 ORDER BY created, name"
            ))
            .and_then(|mut select| select.query_map([], token)?.collect())
            .map_err(StoreError::sql("list the tokens"))
        })
    }
}

impl SqliteStore {
    /// `wanted`, or the first of `wanted-2`, `wanted-3`, … that no token has or had: a name is used once.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn free_token_name(&self, wanted: &str) -> Result<String, PortError> {
        let used: HashSet<String> = self.read(|conn| {
            conn.prepare_cached("SELECT name FROM tokens")
                .and_then(|mut select| select.query_map([], |row| row.get(0))?.collect())
                .map_err(StoreError::sql("list the names of the tokens"))
        })?;
        let (mut name, mut number) = (wanted.to_owned(), 1_u64);
        while used.contains(&name) {
            number += 1;
            name = format!("{wanted}-{number}");
        }
        Ok(name)
    }

    fn note_use(&self, name: &str, minute: Timestamp) -> Result<(), StoreError> {
        self.write(|tx| {
            tx.execute("UPDATE tokens SET last_used = ?2 WHERE name = ?1", params![name, minute.as_millis()])
                .map_err(StoreError::sql("note the use of a token"))?;
            Ok(())
        })
    }
}

fn by_digest(conn: &Connection, digest: &Sha256Digest) -> Result<Option<TokenRecord>, StoreError> {
    conn.prepare_cached(&format!("SELECT {COLUMNS} FROM tokens WHERE digest = ?1 AND revoked = 0"))
        .and_then(|mut select| select.query_row([digest.as_bytes()], token).optional())
        .map_err(StoreError::sql("look for a token"))
}

fn token(row: &Row<'_>) -> rusqlite::Result<TokenRecord> {
    let millis = |time: Option<i64>| time.map(Timestamp::from_millis);
    Ok(TokenRecord {
        name: row.get(0)?,
        role: role(&row.get::<_, String>(1)?)?,
        created: Timestamp::from_millis(row.get(2)?),
        expires: millis(row.get(3)?),
        last_used: millis(row.get(4)?),
    })
}

fn role(word: &str) -> rusqlite::Result<Role> {
    [Role::Viewer, Role::Operator, Role::Admin].into_iter().find(|role| role.as_str() == word).ok_or_else(
        || {
            rusqlite::Error::FromSqlConversionFailure(
                1,
                Type::Text,
                format!("no role is named {word:?}").into(),
            )
        },
    )
}
