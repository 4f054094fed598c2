//! Whole disks with a partition table of their own. A slot takes one file system; the text says how to get it out.

use super::Fields;

const SECTOR_SIZES: [usize; 2] = [512, 4096];
const GPT_MAGIC: &[u8] = b"EFI PART";
const GPT_ENTRY: usize = 128;

/// A partition as far as it matters here, in sectors.
#[derive(Clone, Copy)]
struct Partition {
    number: usize,
    start: u64,
    sectors: u64,
}

/// The refusal when there is a GUID partition table in the second sector.
pub(super) fn gpt(head: &[u8]) -> Option<String> {
    let sector = SECTOR_SIZES
        .into_iter()
        .find(|at| head.get(*at..).is_some_and(|rest| rest.starts_with(GPT_MAGIC)))?;
    let first = head.get(2 * sector..).unwrap_or_default();
    let partitions: Vec<Partition> = first
        .chunks_exact(GPT_ENTRY)
        .take(128)
        .enumerate()
        .filter_map(|(index, entry)| gpt_partition(index + 1, entry))
        .collect();
    Some(refusal("a GUID partition table", sector, &partitions))
}

fn gpt_partition(number: usize, entry: &[u8]) -> Option<Partition> {
    let used = entry.iter().take(16).any(|byte| *byte != 0);
    let fields = Fields(entry);
    let (start, last) = (fields.u64(32)?, fields.u64(40)?);
    let sectors = last.checked_sub(start)?.checked_add(1)?;
    used.then_some(Partition { number, start, sectors })
}

/// The refusal when the first sector is a boot record with partitions that make sense.
pub(super) fn mbr(head: &[u8]) -> Option<String> {
    if head.get(510..512)? != [0x55, 0xaa] {
        return None;
    }
    let entries: Vec<&[u8]> = head.get(446..510)?.chunks_exact(16).collect();
    if !entries.iter().all(|entry| matches!(entry.first(), Some(0 | 0x80))) {
        return None;
    }
    let partitions: Vec<Partition> =
        entries.iter().enumerate().filter_map(|(index, entry)| mbr_partition(index + 1, entry)).collect();
    (!partitions.is_empty()).then(|| refusal("a boot record (MBR)", 512, &partitions))
}

fn mbr_partition(number: usize, entry: &[u8]) -> Option<Partition> {
    let fields = Fields(entry);
    let (start, sectors) = (u64::from(fields.u32(8)?), u64::from(fields.u32(12)?));
    let used = *entry.get(4)? != 0 && start > 0 && sectors > 0;
    used.then_some(Partition { number, start, sectors })
}

fn refusal(table: &str, sector: usize, partitions: &[Partition]) -> String {
    let mut text = format!(
        "a whole disk with {table} and {} partition(s), while a slot takes one file system",
        partitions.len()
    );
    // The largest one is most likely the root file system.
    if let Some(Partition { number, start, sectors }) =
        partitions.iter().copied().max_by_key(|part| part.sectors)
    {
        text += &format!(
            "; upload the partition that holds the root file system, number {number} perhaps: \
             dd if=DISK of=rootfs.img bs={sector} skip={start} count={sectors}"
        );
    }
    text
}
