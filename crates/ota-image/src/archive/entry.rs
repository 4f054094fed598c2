//! One entry, read from its header and the extended headers in front of it.

use std::ffi::CString;

use tar::{EntryType, Header};

use super::{name::InnerPath, pax::Records};
use crate::error::ImageError;

/// Most bytes of extended attributes on one entry; ext4 keeps them in one block and the inode, or in inodes of their own.
const MAX_ATTRIBUTES: usize = 64 * 1024;

/// An entry that may be unpacked as far as it itself is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it goes.
    pub path: InnerPath,
    /// What it is.
    pub kind: EntryKind,
    /// Permissions, with set-user-id, set-group-id and sticky: `0o7777`.
    pub mode: u32,
    /// Numeric owner; names are not looked up, the new system has its own.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// Time of change: seconds since 1970, nanoseconds.
    pub mtime: (i64, i64),
    /// Extended attributes by name.
    pub attributes: Vec<(CString, Vec<u8>)>,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A file of so many bytes.
    File {
        /// Length of its data.
        size: u64,
    },
    /// A folder.
    Folder,
    /// A symbolic link to this target, as it stands in the archive.
    Symlink(Vec<u8>),
    /// Another name of an entry that came before.
    Hardlink(InnerPath),
    /// A named pipe.
    Fifo,
    /// A device node.
    Device {
        /// A block device; else a character device.
        block: bool,
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
}

impl EntryKind {
    /// How much data there is behind its header.
    pub(super) const fn size(&self) -> u64 {
        match self {
            Self::File { size } => *size,
            _ => 0,
        }
    }
}

/// Extended headers that wait for their entry.
#[derive(Debug, Default)]
pub(super) struct Extended {
    pax: Option<Vec<u8>>,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

impl Extended {
    /// Where the data of such an entry belongs; `None` when it is an entry of its own.
    pub(super) fn place(&mut self, kind: EntryType) -> Option<&mut Option<Vec<u8>>> {
        match kind {
            EntryType::XHeader => Some(&mut self.pax),
            EntryType::GNULongName => Some(&mut self.long_name),
            EntryType::GNULongLink => Some(&mut self.long_link),
            _ => None,
        }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.pax.is_none() && self.long_name.is_none() && self.long_link.is_none()
    }
}

/// GNU's long names end with a zero byte.
fn without_zero(mut name: Vec<u8>) -> Vec<u8> {
    if name.last() == Some(&0) {
        name.pop();
    }
    name
}

impl Entry {
    pub(super) fn read(header: &Header, extended: Extended) -> Result<Self, ImageError> {
        let records = Records::parse(extended.pax.as_deref().unwrap_or_default())?;
        let name = match (records.path, extended.long_name) {
            (Some(path), _) => path.to_vec(),
            (None, Some(long)) => without_zero(long),
            (None, None) => header.path_bytes().into_owned(),
        };
        let refused = |why: &str| ImageError::archive(format!("entry {} {why}", name.escape_ascii()));
        let path = InnerPath::parse(&name).map_err(refused)?;
        if let Some(why) = records.refused {
            return Err(refused(&why));
        }
        let number = |what: std::io::Result<u64>, pax: Option<u64>| {
            let value = pax.map_or(what, Ok).map_err(|error| refused(&format!("is damaged: {error}")))?;
            u32::try_from(value).map_err(|_| refused("has a number beyond all bounds"))
        };
        let told = header.entry_size().map_err(|error| refused(&format!("is damaged: {error}")))?;
        let size = match records.size {
            // GNU tar, Python and Go leave zero where the field has no room.
            Some(stated) if told == 0 || told == stated => stated,
            Some(_) => return Err(refused("has two sizes")),
            None => told,
        };
        let link = match (records.linkpath, extended.long_link) {
            (Some(link), _) => link.to_vec(),
            (None, Some(long)) => without_zero(long),
            (None, None) => header.link_name_bytes().map(|link| link.into_owned()).unwrap_or_default(),
        };
        let kind = kind_of(header, &path, &name, size, link).map_err(|why| refused(&why))?;
        if size > 0 && !matches!(kind, EntryKind::File { .. }) {
            return Err(refused("has data, which its kind has not"));
        }
        if records.attributes.iter().map(|(name, value)| name.as_bytes().len() + value.len()).sum::<usize>()
            > MAX_ATTRIBUTES
        {
            return Err(refused("has more extended attributes than a file system takes"));
        }
        let seconds = header.mtime().map_err(|error| refused(&format!("is damaged: {error}")))?;
        let seconds = i64::try_from(seconds).map_err(|_| refused("has a time beyond all bounds"))?;
        Ok(Self {
            mode: number(header.mode().map(u64::from), None)? & 0o7777,
            uid: number(header.uid(), records.uid)?,
            gid: number(header.gid(), records.gid)?,
            mtime: records.mtime.unwrap_or((seconds, 0)),
            attributes: records.attributes,
            path,
            kind,
        })
    }

    /// Why it is not unpacked; `why` is the end of the sentence.
    pub(crate) fn refused(&self, why: &str) -> ImageError {
        ImageError::archive(format!("entry {} {why}", self.path))
    }
}

fn kind_of(
    header: &Header,
    path: &InnerPath,
    name: &[u8],
    size: u64,
    link: Vec<u8>,
) -> Result<EntryKind, String> {
    let device = |block| {
        let number = |what: std::io::Result<Option<u32>>| {
            what.ok().flatten().ok_or_else(|| "has no device number".to_owned())
        };
        let (major, minor) = (number(header.device_major())?, number(header.device_minor())?);
        Ok::<_, String>(EntryKind::Device { block, major, minor })
    };
    let kind = match header.entry_type() {
        // Archives from before POSIX have no kind for folders.
        EntryType::Regular | EntryType::Continuous if name.ends_with(b"/") => EntryKind::Folder,
        EntryType::Regular | EntryType::Continuous => EntryKind::File { size },
        EntryType::Directory => EntryKind::Folder,
        EntryType::Symlink => {
            path.check_link(&link)?;
            EntryKind::Symlink(link)
        }
        EntryType::Link => {
            let target =
                InnerPath::parse(&link).map_err(|why| format!("is a hard link whose target {why}"))?;
            EntryKind::Hardlink(target)
        }
        EntryType::Fifo => EntryKind::Fifo,
        EntryType::Char => device(false)?,
        EntryType::Block => device(true)?,
        EntryType::GNUSparse => return Err("is a sparse file; pack it without --sparse".into()),
        other => {
            let letter = char::from(other.as_byte()).escape_default().to_string();
            return Err(format!("is of kind '{letter}', which is not unpacked here"));
        }
    };
    if path.is_root() && kind != EntryKind::Folder {
        return Err("is the root, but no folder".into());
    }
    Ok(kind)
}
