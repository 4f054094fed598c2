//! The order for a reset as a file.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use ota_core::{Timestamp, ports::ResetOrder};
use serde::{Deserialize, Serialize};

use crate::{UserDataError, folder::Folder};

const FILE: &str = "factory-reset.json";
const SCHEMA: u32 = 1;

/// An order, and how far it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    schema: u32,
    /// Who asked for what.
    pub order: ResetOrder,
    /// How far it is.
    pub step: Step,
    /// How often it was begun.
    pub attempts: u32,
    /// Where that was mounted, when it was asked for, which held each path that is emptied: where it is not, a bare mount
    /// point would be emptied instead.
    #[serde(default)]
    pub(super) mounts: BTreeMap<PathBuf, PathBuf>,
}

/// How far a reset is. Recorded before the step begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Asked for; nothing is erased yet.
    Requested,
    /// Being erased; may be erased again.
    Erasing {
        /// What the data partition was called, where there is one: once erased it cannot be read there any more.
        filesystem: Option<Filesystem>,
    },
    /// All is erased; the daemon has yet to take note.
    Done {
        /// When, as the clock was at the boot.
        at: Timestamp,
    },
}

/// By what a file system is found at the boot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filesystem {
    /// Its label, up to 16 bytes.
    pub label: Option<String>,
    /// Its UUID in the usual text form.
    pub uuid: Option<String>,
}

impl Marker {
    pub(super) const fn new(order: ResetOrder, mounts: BTreeMap<PathBuf, PathBuf>) -> Self {
        Self { schema: SCHEMA, order, step: Step::Requested, attempts: 0, mounts }
    }

    pub(super) fn read(dir: &Path) -> Result<Option<Self>, UserDataError> {
        if !dir.exists() {
            return Ok(None);
        }
        let Some(text) = Folder::open(dir)?.content(FILE.as_ref())? else { return Ok(None) };
        let bad = |why: String| UserDataError::Marker { path: dir.join(FILE), why };
        let marker: Self = serde_json::from_slice(&text).map_err(|error| bad(error.to_string()))?;
        if marker.schema == SCHEMA {
            Ok(Some(marker))
        } else {
            Err(bad(format!("it has the shape {}, this program knows {SCHEMA}", marker.schema)))
        }
    }

    pub(super) fn write(&self, dir: &Path) -> Result<(), UserDataError> {
        let failed = |error: serde_json::Error| {
            UserDataError::file("write", dir.join(FILE))(std::io::Error::other(error.to_string()))
        };
        let text = serde_json::to_vec_pretty(self).map_err(failed)?;
        let folder = Folder::open_or_make(dir, 0o700)?;
        folder.replace(FILE, &text).map_err(|error| {
            if !error.is_full() {
                return error;
            }
            let required = ota_core::ByteCount(text.len() as u64);
            let available = folder.free().unwrap_or_default();
            UserDataError::Space { place: dir.display().to_string(), required, available }
        })
    }

    pub(super) fn remove(dir: &Path) -> Result<bool, UserDataError> {
        if !dir.exists() {
            return Ok(false);
        }
        let folder = Folder::open(dir)?;
        let there = folder.remove(FILE.as_ref())?;
        folder.sync()?;
        Ok(there)
    }
}
