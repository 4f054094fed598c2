//! Puts the files of a checked archive back, each one durably and whole. Source: `durable-steps.md` section 1.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    io::{self, Read},
};

use ota_core::{ByteCount, ports::Restored};

use super::{
    manifest::{Listed, ListedKind, Manifest},
    pack::Metered,
    roots::{EntryPath, Roots, TEMP},
    unpack::{Item, same, scan},
};
use crate::{UserDataError, folder::give};

/// Replaces what is in the archive; what is not stays. `manifest` is what [`super::unpack::check`] found: bytes that are
/// not those any more replace nothing.
///
/// May be asked for again at any time: a file is the old or the new one.
pub(crate) fn restore(
    source: impl Read,
    roots: &Roots,
    limit: ByteCount,
    manifest: &Manifest,
) -> Result<Restored, UserDataError> {
    let mut listed: BTreeMap<&str, &Listed> = manifest.entries.iter().map(|e| (&*e.path, e)).collect();
    let mut done = Restored { files: 0, content: ByteCount::ZERO };
    scan(source, limit, &mut |item, reader| {
        let Some(expected) = listed.remove(item.path.as_str()) else {
            return Err(UserDataError::Changed(item.path.as_str().into()));
        };
        match item.size {
            None => make_folder(roots, &item),
            Some(size) => {
                put(roots, &item, expected, reader)?;
                done = Restored { files: done.files + 1, content: done.content + ByteCount(size) };
                Ok(())
            }
        }
    })?;
    // Last, and the innermost first: rights that are taken away must not stand in the way of what comes later.
    let folders = manifest.entries.iter().filter(|entry| entry.kind == ListedKind::Folder);
    for folder in folders.rev() {
        let path = EntryPath::parse(folder.path.as_bytes())?;
        let (parent, name) = roots.open_parent(&path)?;
        parent.enter(name)?.give(folder.owner())?;
    }
    Ok(done)
}

fn make_folder(roots: &Roots, item: &Item) -> Result<(), UserDataError> {
    let (parent, name) = roots.open_parent(&item.path)?;
    let (_, made) = parent.enter_or_make(name)?;
    if made { parent.sync() } else { Ok(()) }
}

/// Temp file, digest, owner, sync, rename, folder sync.
fn put(roots: &Roots, item: &Item, expected: &Listed, reader: &mut dyn Read) -> Result<(), UserDataError> {
    let (parent, name) = roots.open_parent(&item.path)?;
    let temp = OsStr::new(TEMP);
    let write = || {
        let mut file = parent.create(temp)?;
        let mut metered = Metered::new(reader);
        let place = parent.path().join(name);
        io::copy(&mut metered, &mut file).map_err(UserDataError::file("write", &place))?;
        let (length, sha256) = metered.end();
        if Some(length) != item.size {
            return Err(UserDataError::Archive("a file in it ends early".into()));
        }
        same(expected, &item.listed(sha256))?;
        give(&file, item.owner).map_err(UserDataError::file("change the owner of", &place))?;
        file.sync_all().map_err(UserDataError::file("sync", &place))?;
        parent.rename(temp, name)?;
        parent.sync()
    };
    write().inspect_err(|_| {
        let _ = parent.remove(temp);
    })
}
