//! Image files on this machine, as the ports read them.

use std::{
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
    path::Path,
    sync::Arc,
};

use anyhow::Context as _;
use ota_core::{
    ByteCount, Sha256Digest,
    error::PortError,
    ports::{Flow, Front, ImageExpectation, ImageFacts, ImageInspector as _, ImageReader},
    release::Vouched,
};
use ota_image::{ArchivePolicy, PackedInspector};
use ota_verify::{HeadInspector, digest::ContentHasher, trailer::MAX_TRAILER};

/// An image in a file.
pub(super) struct FileReader(File);

impl FileReader {
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        Ok(Self(File::open(path).with_context(|| format!("opening {}", path.display()))?))
    }
}

impl ImageReader for FileReader {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize, PortError> {
        self.0.read(buf).map_err(|error| PortError::io("the image cannot be read", error))
    }
}

/// Calls `take` with every `length` bytes of the first `size` bytes of a file; the last piece may be shorter.
pub(super) fn pieces(path: &Path, size: u64, length: u64, mut take: impl FnMut(&[u8])) -> anyhow::Result<()> {
    let mut file = File::open(path).with_context(|| format!("opening {}", path.display()))?.take(size);
    let mut piece = Vec::new();
    loop {
        piece.clear();
        let read = file.by_ref().take(length).read_to_end(&mut piece);
        if read.with_context(|| format!("reading {}", path.display()))? == 0 {
            return Ok(());
        }
        take(&piece);
    }
}

/// Length and digest of a whole file.
pub(super) fn measure(path: &Path) -> anyhow::Result<ImageExpectation> {
    measure_front(path, u64::MAX)
}

/// The same of its first `size` bytes.
pub(super) fn measure_front(path: &Path, size: u64) -> anyhow::Result<ImageExpectation> {
    let mut hasher = ContentHasher::new([]);
    pieces(path, size, 1 << 20, |bytes| hasher.update(bytes))?;
    let content = hasher.finish();
    Ok(ImageExpectation { size: content.size, sha256: content.sha256 })
}

/// How long what is in a packed image is; none where it is not packed, or no image that a device takes. `measured`: what the
/// file is, asked for only where it is packed, because that reads all of it.
pub(super) fn unpacked_size(
    path: &Path,
    measured: impl FnOnce() -> anyhow::Result<ImageExpectation>,
) -> anyhow::Result<Option<ByteCount>> {
    let length = std::fs::metadata(path).with_context(|| format!("reading {}", path.display()))?.len();
    let inspector = inspector();
    let head = head(path, inspector.head_len())?;
    // Of the image, its length is all that counts here.
    let of_length = vouched(ImageExpectation { size: ByteCount(length), sha256: Sha256Digest::of(&head) });
    let packed = inspector.inspect(&of_length, &head).is_ok_and(|facts| facts.packing.is_some());
    if !packed {
        return Ok(None);
    }
    Ok(facts(path, measured()?)?.unpacked.map(|unpacked| unpacked.size))
}

/// What the image is that lies at the beginning of a file, and what is in it where it is packed.
pub(super) fn facts(path: &Path, image: ImageExpectation) -> anyhow::Result<ImageFacts> {
    let (inspector, vouched) = (inspector(), vouched(image));
    let facts = inspector.inspect(&vouched, &head(path, inspector.head_len())?)?;
    let mut reader = Front::new(FileReader::open(path)?, image.size);
    let facts = inspector.look_inside(facts, &vouched, &mut reader, None, &mut |_| Flow::Continue);
    facts.with_context(|| format!("unpacking {}", path.display()))
}

fn inspector() -> PackedInspector {
    let archives = ArchivePolicy { device_nodes: true, capacity: ByteCount(u64::MAX) };
    PackedInspector::new(Arc::new(HeadInspector), archives)
}

/// For people who made the image: nobody has vouched for it.
fn vouched(image: ImageExpectation) -> Vouched {
    Vouched {
        sha256: image.sha256,
        size: image.size,
        signers: Vec::new(),
        checksummed: false,
        trust: String::new(),
    }
}

/// Digests of the blocks of a file.
pub(super) fn blocks(path: &Path, size: ByteCount, block: u64) -> anyhow::Result<Vec<Sha256Digest>> {
    let mut digests = Vec::new();
    pieces(path, size.get(), block, |bytes| {
        let mut hasher = ContentHasher::new([]);
        hasher.update(bytes);
        digests.push(hasher.finish().sha256);
    })?;
    Ok(digests)
}

/// The end of a file, as much of it as a trailer may take, and the file's length.
pub(super) fn tail(path: &Path) -> anyhow::Result<(Vec<u8>, u64)> {
    let reading = || format!("reading {}", path.display());
    let mut file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
    let length = file.metadata().with_context(reading)?.len();
    let keep = length.min(MAX_TRAILER as u64);
    file.seek(SeekFrom::Start(length - keep)).with_context(reading)?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail).with_context(reading)?;
    Ok((tail, length))
}

/// The first bytes of a file.
pub(super) fn head(path: &Path, length: usize) -> anyhow::Result<Vec<u8>> {
    let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
    let mut head = Vec::new();
    file.take(length as u64).read_to_end(&mut head).with_context(|| format!("reading {}", path.display()))?;
    Ok(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_not_packed_is_not_read_to_its_end_to_learn_that() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image");
        std::fs::write(&path, [0; 8192]).unwrap();
        let found = unpacked_size(&path, || anyhow::bail!("all of it was read"));
        assert_eq!(found.unwrap(), None);
    }
}
