//! A device in this process: real environment, slots, verifier and inspector; the rest stands in.

use std::{
    fs,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use ota_boot::{BlockSlotWriter, BootConfig, UbootBootControl};
use ota_core::{
    ByteCount, ImageName, OtaError, Sha256Digest, Slot, Timestamp, Version,
    error::PortError,
    ports::{
        FileEnd, ImageExpectation, ImageReader, ImageVerifier, Observer, SlotFacts as _, SlotRecord, Stated,
        Verification, VerifyPolicy,
    },
    release::{ChecksumFile, DetachedSignature, Evidence, StagedImage, Vouched},
};
use ota_engine::{Actor, Engine, EngineError, ExamineRequest, Ports};
use ota_image::{ArchivePolicy, PackedInspector, UnpackingWriter};
use ota_testkit::{FakeClock, FakeRebooter, MemJournal, MemReader, MemStaging};
use ota_tests::{Layout, environment::BootEnvironment, make, process};
use ota_verify::{HeadInspector, Keyring, KeyringVerifier, Trailer, VerifyConfig};
use tempfile::TempDir;

use super::keys::Keys;
use crate::stack;

const DAY: i64 = 86_400;
const SLOT: u64 = 8 << 20;

/// A file as it is uploaded, with its detached signatures.
#[derive(Clone)]
pub(super) struct Image {
    pub(super) file: Vec<u8>,
    pub(super) signatures: Vec<DetachedSignature>,
    pub(super) checksums: Option<ChecksumFile>,
}

impl Image {
    fn footer(&self, from: usize, to: usize) -> usize {
        let footer = &self.file[self.file.len() - 64..];
        usize::from_str_radix(std::str::from_utf8(&footer[from..to]).unwrap(), 16).unwrap()
    }

    /// Lengths of image, manifest and signature records of a one-file image.
    pub(super) fn parts(&self) -> (usize, usize, usize) {
        (self.footer(35, 51), self.footer(17, 25), self.footer(26, 34))
    }

    fn with_signatures(&self, change: impl Fn(&mut Vec<DetachedSignature>)) -> Self {
        let (mut trailer, length) = Trailer::decode(&self.file, self.file.len() as u64).unwrap().unwrap();
        change(&mut trailer.signatures);
        let image = &self.file[..usize::try_from(length).unwrap()];
        let file = [image, &trailer.encode(length).unwrap()].concat();
        Self { file, signatures: vec![], checksums: None }
    }

    pub(super) fn without_records(&self) -> Self {
        self.with_signatures(Vec::clear)
    }

    pub(super) fn with_empty_record(&self) -> Self {
        self.with_signatures(|signatures| signatures[0].bytes.clear())
    }
}

/// One of several verifiers, as the circumstances are.
struct Switch(Mutex<Arc<KeyringVerifier>>);

impl Switch {
    fn now(&self) -> Arc<KeyringVerifier> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ImageVerifier for Switch {
    fn verify(
        &self,
        image: &mut dyn ImageReader,
        expect: ImageExpectation,
        evidence: &Evidence,
        policy: VerifyPolicy,
        observer: Observer<'_>,
    ) -> Result<Vouched, PortError> {
        self.now().verify(image, expect, evidence, policy, observer)
    }

    fn verify_stated(
        &self,
        image: &mut dyn ImageReader,
        expect: ImageExpectation,
        evidence: &Evidence,
        policy: VerifyPolicy,
        observer: Observer<'_>,
    ) -> Result<(Vouched, Option<Stated>), PortError> {
        self.now().verify_stated(image, expect, evidence, policy, observer)
    }

    fn trust(&self) -> String {
        self.now().trust()
    }

    fn end_len(&self) -> usize {
        self.now().end_len()
    }

    fn guarded(&self, image: Box<dyn ImageReader>, vouched: &Vouched, end: &FileEnd) -> Box<dyn ImageReader> {
        self.now().guarded(image, vouched, end)
    }
}

pub(super) struct Bench {
    dir: TempDir,
    layout: Layout,
    images: Vec<(&'static str, Vec<u8>)>,
    engine: Engine,
    journal: Arc<MemJournal>,
    staging: Arc<MemStaging>,
    rebooter: Arc<FakeRebooter>,
    switch: Arc<Switch>,
    normal: Arc<KeyringVerifier>,
    revoked: Arc<KeyringVerifier>,
    clock: Arc<FakeClock>,
    now: Timestamp,
    before: (Vec<u8>, Sha256Digest, Sha256Digest),
    allow_unsigned: bool,
}

/// Images of one small tree in every format.
fn make_images(dir: &TempDir) -> Vec<(&'static str, Vec<u8>)> {
    let script = "mkdir -p root/etc root/usr; printf 'VERSION_ID=5.0.5\\n' > root/etc/os-release; \
        head -c 150000 /dev/urandom > root/usr/noise; ln -s usr root/lib; export PATH=$PATH:/usr/sbin:/sbin; \
        mksquashfs root rootfs.squashfs -quiet -no-progress > /dev/null; truncate -s 1M rootfs.img; \
        mkfs.ext4 -q -F -d root rootfs.img; tar -C root -cf rootfs.tar .; gzip -kn rootfs.tar rootfs.img; \
        zstd -q rootfs.tar rootfs.img";
    let line = format!("cd {} && {script}", dir.path().display());
    process::read("sh", ["-ec", &line]).unwrap();
    ["img", "squashfs", "tar.gz", "tar.zst", "img.gz", "img.zst"]
        .map(|ending| {
            let name: &'static str = match ending {
                "img" => "raw.img",
                "squashfs" => "rootfs.squashfs",
                "tar.gz" => "rootfs.tar.gz",
                "tar.zst" => "rootfs.tar.zst",
                "img.gz" => "rootfs.img.gz",
                _ => "rootfs.img.zst",
            };
            (name, fs::read(dir.path().join(format!("rootfs.{ending}"))).unwrap())
        })
        .into()
}

fn digest_of(path: PathBuf) -> Sha256Digest {
    Sha256Digest::of(&fs::read(path).unwrap())
}

impl Bench {
    pub(super) async fn new(keys: &Keys) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let images = make_images(&dir);
        Self::with(keys, dir, images, false).await
    }

    /// A device that takes unsigned images.
    pub(super) async fn lax(keys: &Keys) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let images = make_images(&dir);
        Self::with(keys, dir, images, true).await
    }

    /// Another device with the same images.
    pub(super) async fn afresh(self, keys: &Keys) -> Self {
        self.engine.shutdown().await;
        Self::with(keys, self.dir, self.images, self.allow_unsigned).await
    }

    async fn with(
        keys: &Keys,
        dir: TempDir,
        images: Vec<(&'static str, Vec<u8>)>,
        allow_unsigned: bool,
    ) -> Self {
        let layout = make::take_folder(&dir.path().join("device")).unwrap();
        make::make_board(&layout, &dir.path().join("rootfs.squashfs"), SLOT).unwrap();
        fs::write(layout.run("cmdline"), "ota.slot=A\n").unwrap();
        fs::write(layout.run("boot_id"), "6f4a\n").unwrap();
        let mut boot = BootConfig::new(layout.slot(Slot::A), layout.slot(Slot::B));
        boot.fw_env_config = layout.fw_env_config();
        boot.lock = layout.run("lock");
        boot.cmdline = layout.run("cmdline");
        boot.boot_id = layout.run("boot_id");
        // What openssl and gpg date by.
        let now = ota_tests::release::clock();
        let clock = Arc::new(FakeClock::at(now));
        let verifier = |folder: &str| {
            let mut config = VerifyConfig::new(Arc::clone(&clock) as _, Timestamp::from_secs(0));
            config.model = Some("IGW-5000".into());
            Arc::new(KeyringVerifier::new(Keyring::load(&keys.dir.path().join(folder)).unwrap(), config))
        };
        let (normal, revoked) = (verifier("keys"), verifier("revoked"));
        let switch = Arc::new(Switch(Mutex::new(Arc::clone(&normal))));
        let (journal, staging) = (Arc::new(MemJournal::default()), Arc::new(MemStaging::default()));
        let rebooter = Arc::new(FakeRebooter::default());
        let slots = BlockSlotWriter::new(layout.slot(Slot::A), layout.slot(Slot::B), Some(Slot::A));
        let policy = ArchivePolicy { device_nodes: false, capacity: ByteCount(SLOT) };
        let ports = Ports {
            boot: Arc::new(UbootBootControl::open(boot).unwrap()),
            slots: Arc::new(UnpackingWriter::new(Arc::new(slots), layout.state().join("unpack"), "rootfs")),
            images: Arc::clone(&staging) as _,
            verifier: Arc::clone(&switch) as _,
            inspector: Arc::new(PackedInspector::new(Arc::new(HeadInspector), policy)),
            rebooter: Arc::clone(&rebooter) as _,
            clock: Arc::clone(&clock) as _,
            ..stack::ports(&journal)
        };
        let config = ota_engine::EngineConfig { allow_unsigned, ..stack::config() };
        let engine = Engine::start(ports, config).await.unwrap();
        let before = state(&layout);
        Self {
            dir,
            layout,
            images,
            engine,
            journal,
            staging,
            rebooter,
            switch,
            normal,
            revoked,
            clock,
            now,
            before,
            allow_unsigned,
        }
    }

    pub(super) fn images(&self) -> &[(&'static str, Vec<u8>)] {
        &self.images
    }

    /// How things stand: `now`, `expired`, `not yet valid`, `revoked`.
    pub(super) fn circumstances(&self, case: &str) {
        let days = match case {
            "expired" => 11,
            "not yet valid" => -2,
            _ => 0,
        };
        self.clock.set_wall(Timestamp::from_secs(self.now.as_secs() + days * DAY));
        let verifier = if case == "revoked" { &self.revoked } else { &self.normal };
        *self.switch.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(verifier);
    }

    async fn examine(&self, name: &str, image: &Image) -> Result<Verification, EngineError> {
        let reader = || Box::new(MemReader::new(image.file.as_slice())) as Box<dyn ImageReader>;
        let request = ExamineRequest {
            image: staged(name, image),
            version: version(),
            bytes: Some([reader(), reader()]),
            evidence: Some(Evidence {
                signatures: image.signatures.clone(),
                checksums: image.checksums.clone(),
            }),
            verify_signature: true,
            check_compatibility: true,
        };
        self.engine.examine(request).await
    }

    pub(super) async fn taken(&self, name: &str, image: &Image) -> Verification {
        let verification =
            self.examine(name, image).await.unwrap_or_else(|error| panic!("{name}: {error:?}"));
        assert!(verification.signed() != self.allow_unsigned && verification.facts.is_some(), "{name}");
        verification
    }

    pub(super) async fn refused(&self, name: &str, image: &Image) -> OtaError {
        let refused = match self.examine(name, image).await {
            Err(EngineError::Ota(error)) => error,
            other => panic!("{name}: {other:?}"),
        };
        assert_eq!(fs::read(self.layout.uboot_env()).unwrap(), self.before.0, "the environment changed");
        refused
    }

    /// That no refusal has left anything behind.
    pub(super) fn is_untouched(&self) {
        assert!(state(&self.layout) == self.before);
        assert!(BootEnvironment::new(&self.layout).printed().is_ok());
    }

    /// Deploys it; gives what is recorded of the slot, and what is in it.
    pub(super) async fn installed(&self, name: &str, image: &Image) -> (SlotRecord, Vec<u8>) {
        let verification = self.taken(name, image).await;
        let file: ImageName = name.parse().unwrap();
        self.staging.put(&file, &image.file);
        let request = stack::deployment(file, version(), verification, true);
        let job = self.engine.deploy(&Actor::gateway(), request).await.unwrap();
        let mut active = self.engine.active();
        let ended = |job: &Option<ota_core::job::Job>| job.is_none();
        tokio::select! {
            _ = self.rebooter.until_reboots(1) => {}
            _ = active.wait_for(ended) => panic!("{name}: ended before its reboot: {:?}", ota_core::ports::JobJournal::job(&*self.journal, &job.id)),
        }
        (self.journal.slot(Slot::B).unwrap(), fs::read(self.layout.slot(Slot::B)).unwrap())
    }
}

fn version() -> Version {
    "v5.0.5".parse().unwrap()
}

fn staged(name: &str, image: &Image) -> StagedImage {
    StagedImage {
        name: name.parse().unwrap(),
        size: ByteCount(image.file.len() as u64),
        sha256: Sha256Digest::of(&image.file),
    }
}

fn state(layout: &Layout) -> (Vec<u8>, Sha256Digest, Sha256Digest) {
    let environment = fs::read(layout.uboot_env()).unwrap();
    (environment, digest_of(layout.slot(Slot::A)), digest_of(layout.slot(Slot::B)))
}
