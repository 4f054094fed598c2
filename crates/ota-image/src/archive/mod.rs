//! Archives: which entries may be unpacked, decided before any of them acts.
//!
//! Pure: reads a stream, touches nothing. [`walk`] gives each entry that is allowed, in order; the first that is not ends
//! it. Looking an archive through and unpacking it go the same way, so both refuse the same.
//!
//! - Names: relative, without `..`, up to 4096 bytes. What lies above a name must be a folder of this archive (or not stand
//!   in it at all; it is made then), so nothing goes through a link.
//! - Hard links: to an entry of this archive that came before. Symbolic links: an absolute target begins at the root of the
//!   new file system, a relative one must not climb above it.
//! - Nothing twice; device nodes only where [`ArchivePolicy::device_nodes`] says so; the sizes together within
//!   [`ArchivePolicy::capacity`].
//! - A size is the header's; where that is zero, the one of the extended header (`size`), which is how a POSIX archive has a file of
//!   8 GiB and more. Two sizes that differ are refused: two readers would unpack two things.
//! - What cannot be kept is refused and not dropped: sparse files, ACLs in text form, changed files of incremental backups.

mod blocks;
mod entry;
mod ledger;
mod name;
mod pax;

use std::io::{self, Read};

use ota_core::ByteCount;
use tar::{EntryType, Header};

pub use entry::{Entry, EntryKind};
pub use name::InnerPath;

use self::{blocks::Blocks, entry::Extended, ledger::Ledger};
use crate::error::ImageError;

/// Longest extended header.
const MAX_EXTENDED: u64 = 1 << 20;
/// Most entries.
const MAX_ENTRIES: u64 = 1_000_000;
/// What an entry takes at least, beside its data: an inode.
const INODE: u64 = 128;
/// What data takes at least: whole blocks of the smallest size.
const BLOCK: u64 = 1024;

/// What an archive may bring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArchivePolicy {
    /// Whether character and block devices are made.
    pub device_nodes: bool,
    /// What the slot holds: the contents of all files together are not more.
    pub capacity: ByteCount,
}

/// What was in an archive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Entries, folders and links included.
    pub entries: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// What a file system needs for it, at least.
    pub space: u64,
}

/// Gives each entry of the archive in `stream` with its data to `act`, once it is known to be allowed.
///
/// # Errors
/// `Archive` with the entry's name; `TooLarge`; what `act` gives; what the reader carried.
pub fn walk<R: Read>(
    stream: R,
    policy: ArchivePolicy,
    mut act: impl FnMut(&Entry, &mut dyn Read) -> Result<(), ImageError>,
) -> Result<Contents, ImageError> {
    let mut blocks = Blocks::new(stream);
    let (mut ledger, mut extended) = (Ledger::default(), Extended::default());
    let mut contents = Contents::default();
    while let Some(header) = blocks.header()? {
        if let Some(place) = extended.place(header.entry_type()) {
            *place = Some(small(&mut blocks, &header)?);
            continue;
        }
        if header.entry_type() == EntryType::XGlobalHeader {
            pax::check_global(&small(&mut blocks, &header)?)?;
            continue;
        }
        let entry = Entry::read(&header, std::mem::take(&mut extended))?;
        contents.add(&entry, policy)?;
        ledger.admit(&entry)?;
        act(&entry, &mut blocks.data(entry.kind.size()))?;
    }
    if !extended.is_empty() {
        return Err(ImageError::archive("the archive is cut short: an extended header without its entry"));
    }
    Ok(contents)
}

impl Contents {
    fn add(&mut self, entry: &Entry, policy: ArchivePolicy) -> Result<(), ImageError> {
        self.entries += 1;
        if self.entries > MAX_ENTRIES {
            return Err(ImageError::archive(format!("the archive has more than {MAX_ENTRIES} entries")));
        }
        match entry.kind {
            EntryKind::Device { .. } if !policy.device_nodes => {
                return Err(entry.refused("is a device node, which this device does not unpack"));
            }
            EntryKind::File { size } => {
                let blocks = size.checked_next_multiple_of(BLOCK);
                let total = (self.bytes.checked_add(size), blocks.and_then(|b| self.space.checked_add(b)));
                let (Some(bytes), Some(space)) = total else {
                    return Err(entry.refused("has a size beyond all bounds"));
                };
                (self.bytes, self.space) = (bytes, space);
            }
            _ => {}
        }
        self.space = self.space.saturating_add(INODE);
        let (required, available) = (ByteCount(self.bytes), policy.capacity);
        if required > available { Err(ImageError::TooLarge { required, available }) } else { Ok(()) }
    }
}

fn unreadable(error: io::Error) -> ImageError {
    ImageError::of_reading(error, |what| ImageError::archive(format!("the archive is damaged: {what}")))
}

/// All of an extended header.
fn small<R: Read>(blocks: &mut Blocks<R>, header: &Header) -> Result<Vec<u8>, ImageError> {
    let size = header.entry_size().map_err(unreadable)?;
    if size > MAX_EXTENDED {
        return Err(ImageError::archive(format!("an extended header of {size} bytes")));
    }
    let mut bytes = Vec::new();
    blocks.data(size).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 == size {
        Ok(bytes)
    } else {
        Err(ImageError::archive("the archive is cut short in an extended header"))
    }
}

/// Copies exactly `size` bytes of an entry's data to `take`.
pub(crate) fn each_piece(
    entry: &Entry,
    size: u64,
    data: &mut dyn Read,
    mut take: impl FnMut(&[u8]) -> Result<(), ImageError>,
) -> Result<(), ImageError> {
    let mut buffer = vec![0; 128 * 1024];
    let mut left = size;
    loop {
        let read = data.read(&mut buffer).map_err(unreadable)?;
        if read == 0 {
            break;
        }
        left =
            left.checked_sub(read as u64).ok_or_else(|| entry.refused("is longer than its header says"))?;
        take(buffer.get(..read).unwrap_or_default())?;
    }
    if left == 0 { Ok(()) } else { Err(entry.refused("is cut short")) }
}

#[cfg(test)]
pub(crate) mod tests;
