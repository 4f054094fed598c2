//! Which names an archive has made so far: nothing twice, nothing below what is no folder, hard links only to what is there.

use std::collections::HashMap;

use ring::digest::{SHA256, digest};

use super::entry::{Entry, EntryKind};
use crate::error::ImageError;

/// Names are kept by a digest: some 40 bytes each, however long they are.
type Mark = [u8; 16];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Made {
    /// A folder that stands only in the names of others; its own entry may still come.
    Implied,
    Folder,
    Other,
}

#[derive(Debug, Default)]
pub(super) struct Ledger(HashMap<Mark, Made>);

fn mark(path: &[u8]) -> Mark {
    let mut mark = [0; 16];
    mark.iter_mut().zip(digest(&SHA256, path).as_ref()).for_each(|(to, from)| *to = *from);
    mark
}

impl Ledger {
    /// Notes the entry, unless it does not go with those before.
    pub(super) fn admit(&mut self, entry: &Entry) -> Result<(), ImageError> {
        for above in entry.path.above() {
            if *self.0.entry(mark(above)).or_insert(Made::Implied) == Made::Other {
                return Err(
                    entry.refused(&format!("lies below {}, which is no folder", above.escape_ascii()))
                );
            }
        }
        if let EntryKind::Hardlink(target) = &entry.kind
            && self.0.get(&mark(target.as_bytes())) != Some(&Made::Other)
        {
            return Err(entry.refused(&format!("is a hard link to {target}, which did not come before")));
        }
        let made = if entry.kind == EntryKind::Folder { Made::Folder } else { Made::Other };
        match self.0.insert(mark(entry.path.as_bytes()), made) {
            None => Ok(()),
            Some(Made::Implied) if made == Made::Folder => Ok(()),
            Some(_) => Err(entry.refused("is there twice")),
        }
    }
}
