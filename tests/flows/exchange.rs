//! What was verified is what is written (S2): a staged file is exchanged or changed at 500 random moments, under the real
//! engine, verifier and slot writer, and never is anything but the verified bytes switched to.
//!
//! The same with a packed image, whose content is found once, when it is verified, and held against what is written later.
//!
//! Only moments between two looks at the file can tell. So half of the changes are made after the n-th read of it, with n
//! anywhere from before the first to after the last; the other half by a thread that races with the whole deployment.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use crate::stack;
use ota_boot::BlockSlotWriter;
use ota_core::{
    ByteCount, ImageName, Slot,
    error::PortError,
    job::{Job, JobState},
    ports::{FileEnd, ImageInspector as _, ImageReader, ImageStore, UploadLabel, UploadStore as _},
    release::{DetachedSignature, Evidence, SignatureKind, StagedImage},
};
use ota_engine::{Actor, CancelRequest, Engine, ExamineRequest, JobRef, Ports};
use ota_fetch::{StagedUploads, Staging};
use ota_image::{ArchivePolicy, PackedInspector, UnpackingWriter};
use ota_release::{CodeSigningOptions, SignMethod, make_code_signing_ca, sign_detached};
use ota_testkit::{FakeBootControl, FakeClock, MemJournal};
use ota_tests::{
    images::{self, Behaviour, ImageSpec, Payload},
    process,
    release::MODEL,
};
use ota_verify::{HeadInspector, Keyring, KeyringVerifier, VerifyConfig};

const ROUNDS: u64 = 500;
/// Of these each unpacks the image.
const PACKED_ROUNDS: u64 = 150;
/// Reads of the staged file give at most so many bytes, so that there are moments between them.
const READ: usize = 8 << 10;
const NAME: &str = "image.squashfs";

/// What is done to the staged file.
#[derive(Clone, Copy, Debug)]
enum Change {
    /// Another file in its place.
    Exchange,
    /// Other bytes in the same file, with its length and its times.
    Overwrite,
    /// The rest is cut off.
    Truncate,
    /// Something behind it.
    Append,
    /// Another file in its place, and back.
    ThereAndBack,
}

const CHANGES: [Change; 5] =
    [Change::Exchange, Change::Overwrite, Change::Truncate, Change::Append, Change::ThereAndBack];

impl Change {
    fn make(self, file: &Path, evil: &[u8], at: usize) {
        let beside = file.with_extension("evil");
        let exchange = |bytes: &[u8]| {
            let written = fs::write(&beside, bytes).and_then(|()| fs::rename(&beside, file));
            // The job may be over, and the file gone with it.
            let _ = written;
        };
        // Whoever comes too late finds nothing to change.
        let Ok(opened) = fs::OpenOptions::new().write(true).open(file) else { return };
        let times = opened.metadata().and_then(|meta| meta.modified());
        match self {
            Self::Exchange => exchange(evil),
            Self::ThereAndBack => {
                let good = fs::read(file).unwrap_or_default();
                exchange(evil);
                exchange(&good);
            }
            Self::Overwrite => {
                use std::os::unix::fs::FileExt as _;
                let _ = opened.write_all_at(&evil[at..], at as u64);
                if let Ok(times) = times {
                    let _ = opened.set_modified(times);
                }
            }
            Self::Truncate => drop(opened.set_len(at as u64)),
            Self::Append => {
                let appended = fs::OpenOptions::new().append(true).open(file);
                drop(appended.and_then(|mut file| file.write_all(b"more")));
            }
        }
    }
}

/// Numbers that look random and are the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end.max(1)
    }
}

type Plan = Box<dyn FnOnce() + Send>;

/// The real staging folder, and a change after the n-th read of it.
struct Meddled {
    inner: Staging,
    reads: Arc<AtomicU64>,
    bytes: Arc<AtomicU64>,
    plan: Arc<Mutex<Option<(u64, Plan)>>>,
}

impl Meddled {
    fn plan(&self, after: u64, plan: Plan) {
        self.reads.store(0, Ordering::SeqCst);
        *self.plan.lock().unwrap_or_else(PoisonError::into_inner) = Some((after, plan));
    }

    /// Carries the change out that did not come to pass.
    fn late(&self) {
        if let Some((_, plan)) = self.plan.lock().unwrap_or_else(PoisonError::into_inner).take() {
            plan();
        }
    }
}

struct Counted {
    inner: Box<dyn ImageReader>,
    reads: Arc<AtomicU64>,
    bytes: Arc<AtomicU64>,
    plan: Arc<Mutex<Option<(u64, Plan)>>>,
}

fn count(reads: &AtomicU64, plan: &Mutex<Option<(u64, Plan)>>) {
    let reads = reads.fetch_add(1, Ordering::SeqCst);
    let mut plan = plan.lock().unwrap_or_else(PoisonError::into_inner);
    if plan.as_ref().is_some_and(|(after, _)| *after <= reads)
        && let Some((_, change)) = plan.take()
    {
        change();
    }
}

impl ImageReader for Counted {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize, PortError> {
        count(&self.reads, &self.plan);
        let length = buf.len().min(READ);
        let read = self.inner.read(&mut buf[..length])?;
        self.bytes.fetch_add(read as u64, Ordering::SeqCst);
        Ok(read)
    }
}

impl ImageStore for Meddled {
    fn open(&self, name: &ImageName) -> Result<Box<dyn ImageReader>, PortError> {
        count(&self.reads, &self.plan);
        let inner = self.inner.open(name)?;
        let (reads, bytes, plan) = (Arc::clone(&self.reads), Arc::clone(&self.bytes), Arc::clone(&self.plan));
        Ok(Box::new(Counted { inner, reads, bytes, plan }))
    }

    fn end(&self, name: &ImageName, most: usize) -> Result<FileEnd, PortError> {
        count(&self.reads, &self.plan);
        self.inner.end(name, most)
    }

    fn evidence(&self, name: &ImageName) -> Result<Evidence, PortError> {
        count(&self.reads, &self.plan);
        self.inner.evidence(name)
    }

    fn remove(&self, name: &ImageName) -> Result<(), PortError> {
        self.inner.remove(name)
    }

    fn free(&self) -> Result<ByteCount, PortError> {
        self.inner.free()
    }
}

struct Bench {
    _folder: tempfile::TempDir,
    images: Arc<Meddled>,
    uploads: StagedUploads,
    staged: PathBuf,
    slot: PathBuf,
    boot: Arc<FakeBootControl>,
    engine: Engine,
    good: Vec<u8>,
    /// What the slot holds when `good` is installed.
    content: Vec<u8>,
    evil: Vec<u8>,
    signature: Vec<u8>,
}

/// How a round ended.
#[derive(Debug, PartialEq, Eq)]
enum Ended {
    /// Refused or failed; the slot is not bootable.
    Refused,
    /// Switched to, with the verified bytes in the slot.
    Switched,
}

impl Bench {
    async fn make(packed: bool) -> Self {
        // In memory where there is room: 500 times every sync of a deployment.
        let memory = Path::new("/dev/shm");
        let folder =
            if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        let dir = folder.path().to_owned();
        let mut image = dir.join("made.squashfs");
        let spec =
            ImageSpec { version: "5.1.0", payload: Payload::Noise(64 << 10), behaviour: Behaviour::Good };
        images::build(&spec, &dir.join("tree"), &image).unwrap();
        let content = fs::read(&image).unwrap();
        if packed {
            process::read("gzip", ["-n", image.to_str().unwrap()]).unwrap();
            image = dir.join("made.squashfs.gz");
        }
        let ca = make_code_signing_ca(&CodeSigningOptions::new(dir.join("keys"))).unwrap();
        let method = SignMethod::Cms { key: ca.signer_key, certificate: ca.signer_certificate, chain: None };
        let signature = fs::read(sign_detached(&image, &method, None).unwrap()).unwrap();
        let trusted = dir.join("trusted");
        fs::create_dir(&trusted).unwrap();
        fs::copy(&ca.ca_certificate, trusted.join("ca.pem")).unwrap();
        let good = fs::read(&image).unwrap();
        // Well-formed at its front, other bytes behind: what a signature check that is done too early lets through.
        let evil = good.iter().enumerate().map(|(at, byte)| if at < 96 { *byte } else { !*byte }).collect();

        let staging = Staging::open(dir.join("staging")).unwrap();
        let uploads = StagedUploads::open(staging.clone(), None).unwrap();
        for slot in ["a.img", "b.img"] {
            fs::write(dir.join(slot), vec![0; 1 << 20]).unwrap();
        }
        let clock = Arc::new(FakeClock::default());
        #[expect(clippy::disallowed_methods, reason = "certificates that openssl made just now must hold")]
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        clock.set_wall(ota_core::Timestamp::from_secs(i64::try_from(now).unwrap()));
        let mut strict = VerifyConfig::new(Arc::clone(&clock) as _, ota_core::Timestamp::from_secs(0));
        strict.model = Some(MODEL.into());
        let verifier = KeyringVerifier::new(Keyring::load(&trusted).unwrap(), strict);
        let images = Arc::new(Meddled {
            inner: staging.clone(),
            reads: Arc::default(),
            bytes: Arc::default(),
            plan: Arc::default(),
        });
        let boot = Arc::new(FakeBootControl::running(Slot::A));
        let slots = BlockSlotWriter::new(dir.join("a.img"), dir.join("b.img"), Some(Slot::A));
        let policy = ArchivePolicy { device_nodes: false, capacity: ByteCount(1 << 20) };
        let ports = Ports {
            boot: Arc::clone(&boot) as _,
            slots: Arc::new(UnpackingWriter::new(Arc::new(slots), dir.join("unpack"), "rootfs")),
            images: Arc::clone(&images) as _,
            verifier: Arc::new(verifier),
            clock: clock as _,
            inspector: Arc::new(PackedInspector::new(Arc::new(HeadInspector), policy)),
            ..stack::ports(&Arc::new(MemJournal::default()))
        };
        let engine = Engine::start(ports, stack::config()).await.unwrap();
        let (staged, slot) = (staging.path().join(NAME), dir.join("b.img"));
        Self { _folder: folder, images, uploads, staged, slot, boot, engine, good, content, evil, signature }
    }

    fn upload(&self) -> StagedImage {
        let name: ImageName = NAME.parse().unwrap();
        let mut writer = self.uploads.begin(&name, None).unwrap();
        writer.append(&self.good).unwrap();
        let image = writer.seal().unwrap();
        let signature = DetachedSignature { kind: SignatureKind::Cms, bytes: self.signature.clone() };
        let label = UploadLabel {
            version: "v5.1.0".parse().unwrap(),
            description: None,
            signatures: vec![signature],
            checksums: None,
            verification: None,
            stored: ota_core::Timestamp::from_secs(0),
        };
        writer.commit(label).unwrap();
        image
    }

    /// Uploads, verifies and deploys as the HTTP interface does, to the job's rest; what came of it.
    async fn deploy(&self) -> Result<Job, String> {
        let image = self.upload();
        let examine = ExamineRequest {
            image: image.clone(),
            version: "v5.1.0".parse().unwrap(),
            bytes: None,
            evidence: None,
            verify_signature: true,
            check_compatibility: true,
        };
        let found = self.engine.examine(examine).await.map_err(|error| error.to_string())?;
        assert!(found.signed());
        let noted = self.uploads.record_verification(&image, &found).map_err(|error| error.to_string())?;
        if !noted {
            return Err("the upload is another one".into());
        }
        let upload = self.uploads.find(&image.name).map_err(|error| error.to_string())?;
        let verification = upload.and_then(|upload| upload.verification).ok_or("call upload/verify first")?;
        if verification.facts.is_none() {
            return Err("not compatible".into());
        }
        let request = stack::deployment(image.name, "v5.1.0".parse().unwrap(), verification, false);
        let job = self.engine.deploy(&Actor::gateway(), request).await.map_err(|error| error.to_string())?;
        let mut active = self.engine.active();
        let rests = |job: &Option<Job>| {
            job.as_ref().is_none_or(|job| matches!(job.state, JobState::Armed { held: Some(_) }))
        };
        active.wait_for(rests).await.unwrap();
        let job = self.engine.progress(Some(JobRef::Job(job.id))).await.map_err(|error| error.to_string())?;
        Ok(job.job)
    }

    async fn round(&self) -> Ended {
        let outcome = self.deploy().await;
        self.images.late();
        let boot = self.boot.env();
        let armed = boot.trial.is_some() || boot.first != Slot::A || boot.b.bootable;
        let slot = fs::read(&self.slot).unwrap();
        if armed {
            assert!(
                slot.starts_with(&self.content),
                "other bytes than the verified ones were switched to: {boot:?}"
            );
            let job = outcome.unwrap();
            let reason = "next round".to_owned();
            let cancel = CancelRequest { job: JobRef::Job(job.id), reason };
            self.engine.cancel(&Actor::gateway(), cancel).await.unwrap();
            self.engine.active().wait_for(Option::is_none).await.unwrap();
            assert!(!self.boot.env().b.bootable);
            return Ended::Switched;
        }
        if let Ok(job) = outcome {
            assert!(matches!(job.state, JobState::Failed { .. }), "{:?}", job.state);
        }
        Ended::Refused
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_exchanged_at_any_of_500_moments_is_never_switched_to() {
    let bench = Bench::make(false).await;
    assert!(HeadInspector.head_len() > 0);
    assert_eq!(bench.round().await, Ended::Switched, "undisturbed");
    meddle(&bench, ROUNDS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_packed_image_is_unpacked_twice_and_nothing_that_it_was_exchanged_for_is_switched_to() {
    let bench = Bench::make(true).await;
    assert!(bench.good != bench.content && bench.good.starts_with(&[0x1f, 0x8b]));
    assert_eq!(bench.round().await, Ended::Switched, "undisturbed");
    // Digest and signature; what is in it; into the slot.
    assert_eq!(bench.images.bytes.load(Ordering::SeqCst), 3 * bench.good.len() as u64);
    meddle(&bench, PACKED_ROUNDS).await;
}

/// After a round that nobody disturbed.
async fn meddle(bench: &Bench, rounds: u64) {
    let reads = bench.images.reads.swap(0, Ordering::SeqCst);
    assert!(reads > 10, "{reads} reads leave too few moments");
    let mut dice = Dice(7);
    let (mut switched, mut refused) = (0, 0);
    for round in 0..rounds {
        let change = CHANGES[usize::try_from(dice.below(5)).unwrap()];
        let (file, evil) = (bench.staged.clone(), bench.evil.clone());
        let at = usize::try_from(dice.below(evil.len() as u64)).unwrap();
        let ended = if round % 2 == 0 {
            bench.images.plan(dice.below(reads + 2), Box::new(move || change.make(&file, &evil, at)));
            bench.round().await
        } else {
            let (turns, over) = (dice.below(3_000), Arc::new(AtomicBool::new(false)));
            let ends = Arc::clone(&over);
            let meddler = std::thread::spawn(move || {
                for _ in 0..turns {
                    if ends.load(Ordering::Relaxed) {
                        return;
                    }
                    std::thread::yield_now();
                }
                change.make(&file, &evil, at);
            });
            let ended = bench.round().await;
            over.store(true, Ordering::Relaxed);
            meddler.join().unwrap();
            ended
        };
        match ended {
            Ended::Switched => switched += 1,
            Ended::Refused => refused += 1,
        }
        let _ = fs::remove_file(bench.staged.with_extension("evil"));
    }
    println!("{rounds} changes: {refused} refused, {switched} with the verified bytes");
    assert!(
        refused > rounds / 10 && switched > rounds / 10,
        "{refused} refused, {switched} switched: the moments are not spread"
    );
}
