//! The superblock of ext2, ext3 and ext4, 1024 bytes into the file system. Source: Linux `Documentation/filesystems/ext4`.
//!
//! | Offset from 1024 | Length | Field |
//! |---|---|---|
//! | 0 | 4 | number of inodes |
//! | 4, 336 | 4 each | number of blocks, low and high half |
//! | 24 | 4 | logarithm of the block size, from 1 KiB |
//! | 56 | 2 | 0xef53 |
//! | 92, 96 | 4 each | features: compatible, incompatible |
//! | 120 | 16 | label |

use ota_core::ByteCount;

use super::{Fields, ImageFormat, Inspection, STANDARD};

const AT: usize = 1024;
const MAGIC: u16 = 0xef53;

const HAS_JOURNAL: u32 = 0x4;
const NEEDS_RECOVERY: u32 = 0x4;
const JOURNAL_DEVICE: u32 = 0x8;
const EXTENTS: u32 = 0x40;
const WIDE: u32 = 0x80;

pub(super) fn is_one(head: &[u8]) -> bool {
    Fields(head).u16(AT + 56) == Some(MAGIC)
}

pub(super) fn inspect(head: &[u8], size: ByteCount) -> Result<Inspection, String> {
    let block = Superblock::read(head).ok_or("an ext4 image without a whole superblock")?;
    if block.journal_device {
        return Err("the journal of an ext4 file system, not the file system".into());
    }
    let content = block.content().ok_or("a damaged ext4 image: its size makes no sense")?;
    if content > size {
        return Err(format!("an ext4 image cut short: the file system has {content}, the file {size}"));
    }
    if block.needs_recovery {
        return Err(
            "an ext4 image taken while it was mounted: its journal was not played back (run e2fsck on it)"
                .into(),
        );
    }
    Ok(Inspection {
        format: ImageFormat::Ext(block.name),
        content: Some(content),
        label: Some(block.label).filter(|label| !label.is_empty()),
        partition_layout: STANDARD,
    })
}

struct Superblock {
    inodes: u32,
    blocks: u64,
    block_log: u32,
    needs_recovery: bool,
    journal_device: bool,
    name: &'static str,
    label: String,
}

impl Superblock {
    fn read(head: &[u8]) -> Option<Self> {
        let bytes = head.get(AT..AT + 1024)?;
        let fields = Fields(bytes);
        let (compatible, incompatible) = (fields.u32(92)?, fields.u32(96)?);
        let high = if incompatible & WIDE != 0 { u64::from(fields.u32(336)?) } else { 0 };
        let label = bytes.get(120..136)?.split(|byte| *byte == 0).next().unwrap_or_default();
        Some(Self {
            inodes: fields.u32(0)?,
            blocks: high << 32 | u64::from(fields.u32(4)?),
            block_log: fields.u32(24)?,
            needs_recovery: incompatible & NEEDS_RECOVERY != 0,
            journal_device: incompatible & JOURNAL_DEVICE != 0,
            name: match (incompatible & EXTENTS != 0, compatible & HAS_JOURNAL != 0) {
                (true, _) => "ext4",
                (false, true) => "ext3",
                (false, false) => "ext2",
            },
            label: String::from_utf8_lossy(label).chars().filter(|letter| !letter.is_control()).collect(),
        })
    }

    fn content(&self) -> Option<ByteCount> {
        let sane = self.inodes > 0 && self.blocks > 0 && self.block_log <= 6;
        let block_size = 1024_u64.checked_shl(self.block_log).filter(|_| sane)?;
        self.blocks.checked_mul(block_size).map(ByteCount)
    }
}
