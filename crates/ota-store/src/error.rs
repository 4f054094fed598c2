//! What can go wrong with the store, and what the domain makes of it.

use std::{io, path::PathBuf};

use ota_core::{
    OtaError,
    error::{PortError, PortErrorKind},
};
use rusqlite::ErrorCode;

/// A failed operation of the store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A file or folder of the store could not be handled.
    #[error("cannot {what} {}", path.display())]
    File {
        /// What was to be done, `create folder`.
        what: &'static str,
        /// With which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// SQLite refused or failed.
    #[error("cannot {what} in the state store")]
    Sql {
        /// What was to be done, `save a job`.
        what: &'static str,
        /// Why not.
        #[source]
        source: rusqlite::Error,
    },
    /// The schema could not be brought up to date.
    #[error("cannot migrate the state store from schema {from}")]
    Migrate {
        /// Version it has.
        from: u32,
        /// Why not.
        #[source]
        source: rusqlite_migration::Error,
    },
    /// A record is not what was once written.
    #[error("the record {key:?} in {place} does not read")]
    Record {
        /// Which table.
        place: &'static str,
        /// Which record.
        key: String,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// The file is not a database of ours, or not whole.
    #[error("the state store is damaged: {0}")]
    Damaged(String),
    /// The database is of a newer schema: nothing is written to it.
    #[error("the state store has schema {found}, this program knows {known}")]
    NewerSchema {
        /// Version it has.
        found: u32,
        /// Newest version known here.
        known: u32,
    },
    /// Nothing is written because what has to be there first is not; the text says what.
    #[error("nothing is written to the state store: {0}")]
    Withheld(String),
    /// An earlier sync failed; nothing is believed to be durable any more until the daemon starts again.
    #[error("an earlier sync of the state store failed")]
    SyncFailed,
    /// The name of a new token is taken.
    #[error("a token is or was named {0:?}")]
    TokenName(String),
    /// The system gives no random bytes for the audit key.
    #[error("no random bytes for the audit key")]
    Random,
}

impl StoreError {
    pub(crate) fn file(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { what, path, source }
    }

    pub(crate) fn sql(what: &'static str) -> impl FnOnce(rusqlite::Error) -> Self {
        move |source| Self::Sql { what, source }
    }

    pub(crate) fn record(
        place: &'static str,
        key: impl Into<String>,
    ) -> impl FnOnce(serde_json::Error) -> Self {
        let key = key.into();
        move |source| Self::Record { place, key, source }
    }

    /// SQLite's code, where SQLite said something.
    pub(crate) fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Sql { source, .. }
            | Self::Migrate {
                source: rusqlite_migration::Error::RusqliteError { err: source, .. }, ..
            } => source.sqlite_error_code(),
            _ => None,
        }
    }

    /// Whether, while opening, the content of the database is at fault and not the medium, the rights or another
    /// process. Our own statements are right, so what SQLite does not understand then was not written by us.
    pub(crate) fn is_damage(&self) -> bool {
        use ErrorCode as Code;
        let outside = [
            Code::PermissionDenied,
            Code::OperationAborted,
            Code::DatabaseBusy,
            Code::DatabaseLocked,
            Code::OutOfMemory,
            Code::ReadOnly,
            Code::OperationInterrupted,
            Code::SystemIoFailure,
            Code::DiskFull,
            Code::CannotOpen,
            Code::FileLockingProtocolFailed,
            Code::NoLargeFileSupport,
        ];
        match self {
            Self::Sql { .. } | Self::Migrate { .. } => {
                self.code().is_none_or(|code| !outside.contains(&code))
            }
            Self::Damaged(_) => true,
            _ => false,
        }
    }

    /// Whether a sync failed: what was written before is then unknown.
    pub(crate) fn is_failed_sync(&self) -> bool {
        let Self::Sql { source: rusqlite::Error::SqliteFailure(error, _), .. } = self else { return false };
        matches!(
            error.extended_code,
            rusqlite::ffi::SQLITE_IOERR_FSYNC | rusqlite::ffi::SQLITE_IOERR_DIR_FSYNC
        )
    }

    /// Whether the medium did not take a write.
    pub(crate) fn is_of_the_medium(&self) -> bool {
        use ErrorCode as Code;
        let code =
            |code| matches!(code, Code::ReadOnly | Code::DiskFull | Code::SystemIoFailure | Code::CannotOpen);
        matches!(self, Self::File { .. }) || self.code().is_some_and(code)
    }

    pub(crate) fn kind(&self) -> PortErrorKind {
        match (self, self.code()) {
            (Self::NewerSchema { .. }, _) => PortErrorKind::Unavailable {
                reason: "store_read_only",
                what: "the state was written by newer software; install that version again".into(),
            },
            (Self::Withheld(why), _) => {
                PortErrorKind::Unavailable { reason: "store_read_only", what: why.clone() }
            }
            (_, Some(ErrorCode::ReadOnly)) => PortErrorKind::Unavailable {
                reason: "store_read_only",
                what: "the state store cannot be written; check how its file system is mounted".into(),
            },
            (_, Some(ErrorCode::DiskFull)) => {
                PortErrorKind::Io("the disk that holds the state store is full".into())
            }
            (Self::TokenName(_), _) => PortErrorKind::Ota(OtaError::SystemBusy { with: self.to_string() }),
            _ => PortErrorKind::Io(self.to_string()),
        }
    }

    /// The same as what an audit record that could not be written means.
    pub(crate) fn into_audit_error(self) -> PortError {
        let what = format!("the audit log cannot be written: {}", self.kind());
        PortError::new(PortErrorKind::Unavailable { reason: "audit_not_writable", what }, self)
    }
}

impl From<StoreError> for PortError {
    fn from(error: StoreError) -> Self {
        Self::new(error.kind(), error)
    }
}
