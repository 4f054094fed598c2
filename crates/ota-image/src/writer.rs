//! The port's adapter that gets packed images into slots. What is not packed is the inner writer's.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
};

use ota_core::{
    ByteCount, Sha256Digest, Slot,
    error::PortError,
    ports::{
        Flow, ImageExpectation, ImageReader, Observer, PackedImage, SlotClaim, SlotWriter, WriteProgress,
    },
    release::ImageKind,
};

use crate::{
    archive::{ArchivePolicy, walk},
    error::ImageError,
    filesystem::{self, FileSystemSpec, Mounted},
    packing::{Unpacking, go_on},
    tree::Tree,
};

/// Unpacks into slots.
pub struct UnpackingWriter {
    inner: Arc<dyn SlotWriter>,
    work: PathBuf,
    label: String,
    device_nodes: bool,
}

impl UnpackingWriter {
    /// `inner` writes plain bytes; `work` is a folder of our own in which a slot is mounted meanwhile; `label` begins the
    /// label of the file systems that are made.
    #[must_use]
    pub fn new(inner: Arc<dyn SlotWriter>, work: impl Into<PathBuf>, label: &str) -> Self {
        Self { inner, work: work.into(), label: label.into(), device_nodes: false }
    }

    /// Also makes the device nodes that an archive has.
    #[must_use]
    pub const fn with_device_nodes(mut self, allowed: bool) -> Self {
        self.device_nodes = allowed;
        self
    }

    /// A compressed file system image: the inner writer's promises hold for what comes out.
    fn write_unpacked(
        &self,
        slot: Slot,
        image: PackedImage<'_>,
        observer: Observer<'_>,
    ) -> Result<ImageExpectation, PortError> {
        let expect = ImageExpectation { size: image.unpacked.size, sha256: image.unpacked.sha256 };
        let mut reader = Unpacking::new(image.unpacked.packing, (image.open)()?, go_on);
        let scale = Scale { packed: image.expect.size, unpacked: expect.size };
        let mut scaled = |progress| observer(scale.of(progress));
        self.inner.write(slot, &mut reader, expect, &mut scaled)?;
        Ok(expect)
    }

    fn write_archive(
        &self,
        slot: Slot,
        image: PackedImage<'_>,
        observer: Observer<'_>,
    ) -> Result<ImageExpectation, PortError> {
        let claim = self.inner.claim(slot)?;
        let capacity = claim.capacity();
        let space = (image.unpacked.space, capacity);
        let failed = |error: ImageError| error.into_port(Some(slot), Some(space));
        if space.0 > space.1 {
            return Err(failed(ImageError::TooLarge { required: space.0, available: space.1 }));
        }
        fs::create_dir_all(&self.work).map_err(ImageError::system("make", &self.work)).map_err(failed)?;
        let spec = FileSystemSpec::of(&self.label, slot, &image.expect.sha256);
        let policy = ArchivePolicy { device_nodes: self.device_nodes, capacity };
        let point = self.work.join(format!("slot-{}", slot.as_str()));
        let stop = AtomicBool::new(false);
        let (news, told) = sync_channel(1);
        thread::scope(|scope| {
            let job = Job { image, claim: &*claim, policy, spec: &spec, point: &point, stop: &stop, news };
            let worker = scope.spawn(move || job.run());
            follow(told, &stop, observer);
            worker.join().map_err(|_| ImageError::Thread)?
        })
        .map_err(failed)?;
        drop(claim);
        let mut scaled = |_| observer(WriteProgress::ReadBack(image.expect.size));
        let sha256 = self.inner.digest(slot, capacity, &mut scaled)?;
        Ok(ImageExpectation { size: capacity, sha256 })
    }
}

impl SlotWriter for UnpackingWriter {
    fn capacity(&self, slot: Slot) -> Result<ByteCount, PortError> {
        self.inner.capacity(slot)
    }

    fn write(
        &self,
        slot: Slot,
        image: &mut dyn ImageReader,
        expect: ImageExpectation,
        observer: Observer<'_>,
    ) -> Result<(), PortError> {
        self.inner.write(slot, image, expect, observer)
    }

    fn digest(&self, slot: Slot, size: ByteCount, observer: Observer<'_>) -> Result<Sha256Digest, PortError> {
        self.inner.digest(slot, size, observer)
    }

    fn write_packed(
        &self,
        slot: Slot,
        image: PackedImage<'_>,
        observer: Observer<'_>,
    ) -> Result<ImageExpectation, PortError> {
        match image.kind {
            ImageKind::Raw | ImageKind::Squashfs => self.write_unpacked(slot, image, observer),
            ImageKind::TarGz => self.write_archive(slot, image, observer),
        }
    }

    fn claim(&self, slot: Slot) -> Result<Box<dyn SlotClaim>, PortError> {
        self.inner.claim(slot)
    }
}

/// Tells progress in bytes of the packed image: those are what is shown against its length.
#[derive(Clone, Copy)]
struct Scale {
    packed: ByteCount,
    unpacked: ByteCount,
}

impl Scale {
    fn of(self, progress: WriteProgress) -> WriteProgress {
        let scaled = |bytes: ByteCount| {
            let part = u128::from(bytes.get()) * u128::from(self.packed.get());
            let part = part / u128::from(self.unpacked.get().max(1));
            ByteCount(u64::try_from(part).unwrap_or(u64::MAX))
        };
        match progress {
            WriteProgress::Written(bytes) => WriteProgress::Written(scaled(bytes)),
            WriteProgress::ReadBack(bytes) => WriteProgress::ReadBack(scaled(bytes)),
        }
    }
}

/// On the caller's thread, because the observer cannot leave it. Ends with the worker.
fn follow(told: Receiver<WriteProgress>, stop: &AtomicBool, observer: Observer<'_>) {
    for progress in told {
        if observer(progress) == Flow::Stop {
            stop.store(true, Ordering::Relaxed);
        }
    }
}

/// The work on a claimed slot, on a thread with a mount table of its own.
struct Job<'a> {
    image: PackedImage<'a>,
    claim: &'a dyn SlotClaim,
    policy: ArchivePolicy,
    spec: &'a FileSystemSpec,
    point: &'a Path,
    stop: &'a AtomicBool,
    news: SyncSender<WriteProgress>,
}

impl Job<'_> {
    fn run(self) -> Result<(), ImageError> {
        filesystem::enter_own_mount_table()?;
        filesystem::make(self.claim, self.spec)?;
        let mounted = Mounted::new(self.claim, self.point, false)?;
        let tree = mounted.tree()?;
        self.pass(WriteProgress::Written, &tree, Tree::make)?;
        tree.sync()?;
        drop(tree);
        mounted.unmount()?;
        self.settle()?;
        filesystem::check(self.claim)?;
        self.settle()?;
        let mounted = Mounted::new(self.claim, self.point, true)?;
        let tree = mounted.tree()?;
        self.pass(WriteProgress::ReadBack, &tree, Tree::compare)?;
        drop(tree);
        mounted.unmount()
    }

    fn settle(&self) -> Result<(), ImageError> {
        self.claim.settle().map_err(ImageError::Source)
    }

    /// Goes through the archive once, and that it was the one that was vouched for.
    fn pass(
        &self,
        progress: fn(ByteCount) -> WriteProgress,
        tree: &Tree,
        act: fn(&Tree, &crate::archive::Entry, &mut dyn std::io::Read) -> Result<(), ImageError>,
    ) -> Result<(), ImageError> {
        let tell = |read| {
            let told = self.news.send(progress(ByteCount(read)));
            if told.is_err() || self.stop.load(Ordering::Relaxed) { Flow::Stop } else { Flow::Continue }
        };
        let image = (self.image.open)().map_err(ImageError::Source)?;
        let mut unpacking = Unpacking::new(self.image.unpacked.packing, image, tell);
        walk(&mut unpacking, self.policy, |entry, data| act(tree, entry, data))?;
        let (expected, actual) = (self.image.expect, unpacking.finish()?);
        if expected == actual { Ok(()) } else { Err(ImageError::Unlike { expected, actual }) }
    }
}
