//! Two slots in files, and what it takes to install a packed image into the second.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use ota_boot::BlockSlotWriter;
use ota_core::{
    ByteCount, OtaError, Sha256Digest, Slot,
    error::{PortError, PortErrorKind},
    ports::{Flow, ImageExpectation, ImageFacts, ImageInspector, PackedImage, SlotWriter, WriteProgress},
    release::Vouched,
};
use ota_testkit::MemReader;
use ota_verify::HeadInspector;
use tempfile::TempDir;

use crate::{ArchivePolicy, PackedInspector, UnpackingWriter};

pub(super) struct Board {
    dir: TempDir,
    writer: UnpackingWriter,
    inspector: PackedInspector,
}

impl Board {
    /// With slots of `mib` MiB, filled with what was there before.
    pub(super) fn new(mib: usize) -> Self {
        Self::with(mib, false)
    }

    pub(super) fn with(mib: usize, device_nodes: bool) -> Self {
        let dir = TempDir::new().unwrap();
        for name in ["a.img", "b.img"] {
            fs::write(dir.path().join(name), vec![0xbb; mib << 20]).unwrap();
        }
        let inner = BlockSlotWriter::new(dir.path().join("a.img"), dir.path().join("b.img"), Some(Slot::A));
        let work = dir.path().join("unpack");
        let writer = UnpackingWriter::new(Arc::new(inner), work, "rootfs").with_device_nodes(device_nodes);
        let policy = ArchivePolicy { device_nodes, capacity: ByteCount((mib as u64) << 20) };
        Self { inspector: PackedInspector::new(Arc::new(HeadInspector), policy), writer, dir }
    }

    pub(super) fn slot(&self) -> PathBuf {
        self.dir.path().join("b.img")
    }

    pub(super) fn work(&self) -> PathBuf {
        self.dir.path().join("unpack")
    }

    /// What the image is, as the engine asks for it.
    pub(super) fn facts(&self, image: &[u8]) -> Result<ImageFacts, OtaError> {
        self.facts_of(image, &vouched(image), None)
    }

    pub(super) fn facts_of(
        &self,
        image: &[u8],
        vouched: &Vouched,
        signed: Option<ByteCount>,
    ) -> Result<ImageFacts, OtaError> {
        let head = &image[..image.len().min(self.inspector.head_len())];
        let facts = self.inspector.inspect(vouched, head)?;
        let looked =
            self.inspector
                .look_inside(facts, vouched, &mut MemReader::new(image), signed, &mut |_| Flow::Continue);
        looked.map_err(condition)
    }

    pub(super) fn install(&self, image: &[u8]) -> Result<ImageExpectation, PortError> {
        self.install_watched(image, &mut |_| Flow::Continue)
    }

    pub(super) fn install_watched(
        &self,
        image: &[u8],
        observer: &mut dyn FnMut(WriteProgress) -> Flow,
    ) -> Result<ImageExpectation, PortError> {
        let facts = self.facts(image).expect("the image is sound");
        let Vouched { size, sha256, .. } = vouched(image);
        let unpacked = facts.unpacked.expect("the image is packed");
        let open = || Ok(Box::new(MemReader::new(image)) as Box<_>);
        let expect = ImageExpectation { size, sha256 };
        let packed = PackedImage { expect, kind: facts.kind, unpacked: &unpacked, open: &open };
        self.writer.write_packed(Slot::B, packed, observer)
    }
}

pub(super) fn vouched(image: &[u8]) -> Vouched {
    Vouched {
        sha256: Sha256Digest::of(image),
        size: ByteCount(image.len() as u64),
        signers: vec![],
        checksummed: false,
        trust: String::new(),
    }
}

pub(super) fn condition(error: PortError) -> OtaError {
    match error.kind() {
        PortErrorKind::Ota(condition) => condition.clone(),
        other => panic!("no condition of the table: {other}: {}", error.chain()),
    }
}

/// Digest of a file by the independent tool.
pub(super) fn sha256sum(path: &Path) -> String {
    let said = super::tools::run("coreutils", "sha256sum", &[path.to_str().unwrap()], Path::new("/"));
    said.split(' ').next().unwrap().to_owned()
}
