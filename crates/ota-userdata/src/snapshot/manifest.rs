//! The list inside an archive: what is in it, with the digest of each file.

use ota_core::{Sha256Digest, Timestamp};
use serde::{Deserialize, Serialize};

use crate::folder::Owner;

/// Name of the list in the archive, behind everything else; files stand below [`FILES`].
pub(crate) const MANIFEST: &str = "manifest.json";
/// Folder in the archive that stands for `/`.
pub(crate) const FILES: &str = "files/";
/// The shape described here.
pub(crate) const SCHEMA: u32 = 1;

/// What is in an archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    pub(crate) schema: u32,
    /// Milliseconds since the epoch.
    pub(crate) created: Timestamp,
    /// The configured paths at the time.
    pub(crate) paths: Vec<String>,
    pub(crate) entries: Vec<Listed>,
}

/// A file or folder in the list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Listed {
    /// Relative to `/`.
    pub(crate) path: String,
    pub(crate) kind: ListedKind,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ListedKind {
    File { size: u64, sha256: Sha256Digest },
    Folder,
}

impl Listed {
    pub(crate) fn new(path: &str, kind: ListedKind, owner: Owner) -> Self {
        Self { path: path.into(), kind, mode: owner.mode, uid: owner.uid, gid: owner.gid }
    }

    pub(crate) const fn owner(&self) -> Owner {
        Owner { mode: self.mode, uid: self.uid, gid: self.gid }
    }
}
