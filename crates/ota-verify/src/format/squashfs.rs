//! The superblock of squashfs 4.0: the first 96 bytes. Source: Linux `fs/squashfs/squashfs_fs.h`.
//!
//! | Offset | Length | Field |
//! |---|---|---|
//! | 0 | 4 | `hsqs` |
//! | 4 | 4 | number of inodes |
//! | 12 | 4 | block size, a power of two from 4 KiB to 1 MiB |
//! | 20 | 2 | compressor, 1–6 |
//! | 22 | 2 | logarithm of the block size |
//! | 26 | 2 | number of ids |
//! | 28 | 4 | version, 4.0 |
//! | 32 | 8 | root inode: block from the inode table on, offset in it |
//! | 40 | 8 | bytes used |
//! | 48, 56 | 8 each | tables of ids and of extended attributes |
//! | 64, 72 | 8 each | tables of inodes and of folders |
//! | 80, 88 | 8 each | tables of fragments and of exports |

use ota_core::ByteCount;

use super::{Fields, ImageFormat, Inspection, STANDARD};

pub(super) const MAGIC: &[u8] = b"hsqs";

const LEN: u64 = 96;
/// A table that is not there.
const NO_TABLE: u64 = u64::MAX;
/// Longest metadata block, unpacked.
const METADATA: u64 = 8192;

pub(super) fn inspect(head: &[u8], size: ByteCount) -> Result<Inspection, String> {
    let block = Superblock::read(head).ok_or("a squashfs image of less than 96 bytes")?;
    block.check().map_err(|what| format!("a damaged squashfs image: {what}"))?;
    if block.bytes_used > size.get() {
        let used = ByteCount(block.bytes_used);
        return Err(format!("a squashfs image cut short: it has {used}, the file {size}"));
    }
    let compressor = compressor(block.compressor).ok_or("a squashfs image with an unknown compressor")?;
    Ok(Inspection {
        format: ImageFormat::Squashfs(compressor),
        content: Some(ByteCount(block.bytes_used)),
        label: None,
        partition_layout: STANDARD,
    })
}

const fn compressor(id: u16) -> Option<&'static str> {
    match id {
        1 => Some("gzip"),
        2 => Some("lzma"),
        3 => Some("lzo"),
        4 => Some("xz"),
        5 => Some("lz4"),
        6 => Some("zstd"),
        _ => None,
    }
}

struct Superblock {
    inodes: u32,
    block_size: u32,
    compressor: u16,
    block_log: u16,
    ids: u16,
    version: (u16, u16),
    root: u64,
    bytes_used: u64,
    id_table: u64,
    inode_table: u64,
    folder_table: u64,
    /// Attributes, fragments, exports.
    optional_tables: [u64; 3],
}

impl Superblock {
    fn read(head: &[u8]) -> Option<Self> {
        let fields = Fields(head);
        Some(Self {
            inodes: fields.u32(4)?,
            block_size: fields.u32(12)?,
            compressor: fields.u16(20)?,
            block_log: fields.u16(22)?,
            ids: fields.u16(26)?,
            version: (fields.u16(28)?, fields.u16(30)?),
            root: fields.u64(32)?,
            bytes_used: fields.u64(40)?,
            id_table: fields.u64(48)?,
            inode_table: fields.u64(64)?,
            folder_table: fields.u64(72)?,
            optional_tables: [fields.u64(56)?, fields.u64(80)?, fields.u64(88)?],
        })
    }

    fn check(&self) -> Result<(), &'static str> {
        if self.version != (4, 0) {
            return Err("not of version 4.0");
        }
        if !matches!(self.block_log, 12..=20) || self.block_size != 1 << self.block_log {
            return Err("its block size is no power of two from 4 KiB to 1 MiB");
        }
        if self.inodes == 0 || self.ids == 0 {
            return Err("it has no content");
        }
        let inside = |table: u64| (LEN..self.bytes_used).contains(&table);
        let tables = [self.id_table, self.inode_table, self.folder_table];
        let optional = self.optional_tables.into_iter().filter(|table| *table != NO_TABLE);
        if !tables.into_iter().chain(optional).all(inside) || self.inode_table >= self.folder_table {
            return Err("a table lies outside of it");
        }
        if self.root >> 16 >= self.folder_table - self.inode_table || self.root & 0xffff >= METADATA {
            return Err("its root folder lies outside of it");
        }
        Ok(())
    }
}
