//! What the flow tests share: the publisher with its images and repositories, devices, and the driving of an update.

use std::{
    collections::HashMap,
    fs,
    ops::{Deref, DerefMut},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use ota_api::{
    jobs::{JobInfo, JobsQuery},
    updates::{DownloadRequest, InstallRequest},
    words::{ConstraintStatus, JobStatus},
};
use ota_client::ClientError;
use ota_core::Slot;
use ota_tests::{
    Layout,
    config::Settings,
    device::{Device, PowerOn},
    images::{self, Behaviour, ImageSpec, Payload},
    make,
    release::{NEW_VERSION, OLD_VERSION, Publisher, SignedBy, UPDATE_ID},
};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    api::Api,
    forms::{self, Form},
};

/// Longest wait for anything, on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);
/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(10);
/// Bytes of noise in an ordinary image: more than may be fetched twice after a cut.
pub(crate) const NOISE: u64 = 20 << 20;

/// What the update server has on offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Offer {
    /// A good image, well signed.
    Good,
    /// One that never comes up.
    Hangs,
    /// One that no kernel can be loaded from.
    DoesNotLoad,
    /// Signed bytes that are no image.
    NoImage,
    /// One that fails its health check.
    Unhealthy,
    /// One of which a byte can be flipped quickly.
    Small,
    /// Signed by an authority that the device does not know.
    Stranger,
    /// Signed by all of [`crate::signers::Signers`].
    ManySigners,
    /// Without a signature.
    Unsigned,
    /// So many MiB, mostly zeros.
    Long(u64),
    /// Packed.
    Packed(Form),
    /// One file with its trailer and no other signature, packed or not.
    OneFile(Option<Form>),
    /// A signed archive with an entry that leads out of its root.
    Escapes,
    /// A signed archive that unpacks to one block more than the server has signed.
    LongerThanSigned,
}

/// A repository with one release.
pub(crate) struct Release {
    pub(crate) repo: PathBuf,
    pub(crate) image: PathBuf,
    root: PathBuf,
}

impl Release {
    pub(crate) fn size(&self) -> u64 {
        fs::metadata(&self.image).unwrap().len()
    }

    /// A packed image needs more than its length.
    fn slot_size(&self, offer: Offer) -> u64 {
        let least = if forms::is_packed(offer) { 24 << 20 } else { 0 };
        make::slot_size(self.size()).max(least)
    }

    /// The signature beside the image.
    pub(crate) fn signature(&self) -> PathBuf {
        let mut name = self.image.clone().into_os_string();
        name.push(".p7s");
        name.into()
    }
}

struct World {
    dir: PathBuf,
    gatewayd: PathBuf,
    publisher: Publisher,
    old: PathBuf,
    releases: Mutex<HashMap<Offer, Arc<Release>>>,
    devices: AtomicU32,
}

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(World::make)
}

impl World {
    fn make() -> Self {
        let gatewayd = binary("ota-gatewayd");
        let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
        remove_leftovers(tmp);
        let dir = tmp.join(format!("flows-{}", std::process::id()));
        fs::create_dir_all(dir.join("devices")).unwrap();
        let publisher = Publisher::make(&dir.join("keys")).unwrap();
        let old = dir.join("old.squashfs");
        let spec =
            ImageSpec { version: OLD_VERSION, payload: Payload::Noise(1 << 20), behaviour: Behaviour::Good };
        images::build(&spec, &dir.join("tree-old"), &old).unwrap();
        Self { dir, gatewayd, publisher, old, releases: Mutex::default(), devices: AtomicU32::new(0) }
    }

    fn release(&self, offer: Offer) -> Arc<Release> {
        let mut releases = self.releases.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(releases.entry(offer).or_insert_with(|| Arc::new(self.publish(offer))))
    }

    fn publish(&self, offer: Offer) -> Release {
        let name = format!("{offer:?}").replace(['(', ')'], "");
        let folder = self.dir.join(&name);
        fs::create_dir_all(&folder).unwrap();
        let behaviour = match offer {
            Offer::Hangs => Behaviour::Hangs,
            Offer::DoesNotLoad => Behaviour::DoesNotLoad,
            Offer::NoImage => Behaviour::NoImage,
            Offer::Unhealthy => Behaviour::Unhealthy,
            _ => Behaviour::Good,
        };
        let payload = match offer {
            Offer::Good => Payload::Noise(NOISE),
            Offer::Long(mib) => Payload::Zeros(mib << 20),
            _ => Payload::Noise(1 << 20),
        };
        let signed_by = match offer {
            Offer::Stranger => SignedBy::Stranger,
            Offer::Unsigned => SignedBy::Nobody,
            _ => SignedBy::Us,
        };
        let image = folder.join("rootfs.squashfs");
        images::build(&ImageSpec { version: NEW_VERSION, payload, behaviour }, &folder.join("tree"), &image)
            .unwrap();
        if offer == Offer::ManySigners {
            let repo = crate::signers::signers().publish(&folder, &image);
            return Release { repo: folder.join("repo"), image, root: repo.initial_root() };
        }
        let (image, signed_by, unpacked) = forms::shape(offer, &self.publisher, &image, signed_by);
        let name = format!("tuf-{name}");
        let repo = folder.join("repo");
        let repo = self.publisher.publish_packed(&name, &repo, &image, signed_by, unpacked).unwrap();
        Release { repo: folder.join("repo"), image, root: repo.initial_root() }
    }
}

/// A new folder of the run, for what is no device.
pub(crate) fn folder(name: &str) -> PathBuf {
    let folder = world().dir.join(name);
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// Who signs what is on offer.
pub(crate) fn publisher() -> &'static Publisher {
    &world().publisher
}

/// The same program, for those who run it themselves.
pub(crate) fn program() -> &'static Path {
    &world().gatewayd
}

/// The folder of the checkout; cargo runs a test in the folder of its package.
pub(crate) fn root() -> PathBuf {
    fs::canonicalize("..").unwrap()
}

/// A program of the workspace, built with this binary's target directory.
pub(crate) fn binary(name: &str) -> PathBuf {
    #[expect(clippy::disallowed_methods, reason = "cargo xtask test says where the programs are")]
    let told = std::env::var("OTA_BIN_DIR").ok().map(PathBuf::from);
    // target/debug/deps/flows-….
    let beside = || std::env::current_exe().unwrap().ancestors().nth(2).unwrap().to_owned();
    let program = told.unwrap_or_else(beside).join(name);
    assert!(
        program.is_file(),
        "{} is missing: run `cargo xtask test -p ota-tests`, or `cargo build --workspace --bins` first",
        program.display()
    );
    program
}

/// Folders of runs that were killed.
fn remove_leftovers(tmp: &Path) {
    for entry in fs::read_dir(tmp).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix("flows-"));
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// How the daemon runs in tests: no countdown, nothing by itself, and time for a health check that is to pass.
pub(crate) fn settings() -> Settings {
    let quick =
        Settings { countdown_seconds: 0, health_seconds: 60, debounce: "20ms", ..Settings::new(0, 0) };
    Settings { check_seconds: 0, ..quick }
}

/// A device of its own for one test; its folder goes with it.
pub(crate) struct TestDevice {
    device: Device,
    pub(crate) release: Arc<Release>,
    pub(crate) api: Api,
    /// Longest wait for its jobs.
    patience: Duration,
}

impl Deref for TestDevice {
    type Target = Device;
    fn deref(&self) -> &Device {
        &self.device
    }
}

impl DerefMut for TestDevice {
    fn deref_mut(&mut self) -> &mut Device {
        &mut self.device
    }
}

impl Drop for TestDevice {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(self.device.layout.dir());
        }
    }
}

/// A device on slot A at v5.0.4, with `offer` on the server, ready.
pub(crate) async fn device(offer: Offer) -> TestDevice {
    device_with(offer, settings()).await
}

/// The same with other settings.
pub(crate) async fn device_with(offer: Offer, settings: Settings) -> TestDevice {
    made(None, offer, settings, false, |_| {}).await
}

/// A device whose folder is in `folder`, ready as [`device`] is.
pub(crate) async fn device_in(folder: &Path, offer: Offer) -> TestDevice {
    made(Some(folder.to_owned()), offer, settings(), false, |_| {}).await
}

/// The same, with `prepare` done to its folders before it is switched on.
pub(crate) async fn device_prepared(
    offer: Offer,
    settings: Settings,
    prepare: impl FnOnce(&Layout) + Send + 'static,
) -> TestDevice {
    made(None, offer, settings, false, prepare).await
}

/// The same with the PIN that only simulated devices have.
pub(crate) async fn device_with_pin(offer: Offer, settings: Settings) -> TestDevice {
    made(None, offer, settings, true, |_| {}).await
}

async fn made(
    folder: Option<PathBuf>,
    offer: Offer,
    mut settings: Settings,
    pin: bool,
    prepare: impl FnOnce(&Layout) + Send + 'static,
) -> TestDevice {
    if offer == Offer::Unhealthy {
        // It fails in any case: soon.
        settings.health_seconds = 1;
    }
    let made = tokio::task::spawn_blocking(move || {
        let world = world();
        let release = world.release(offer);
        let number = world.devices.fetch_add(1, Ordering::Relaxed);
        let folder = folder.unwrap_or_else(|| world.dir.join("devices"));
        let layout = make::take_folder(&folder.join(number.to_string())).unwrap();
        make::make_board(&layout, &world.old, release.slot_size(offer)).unwrap();
        fs::copy(world.publisher.certificate(), layout.trusted_keys().join("release-ca.pem")).unwrap();
        fs::copy(&release.root, layout.initial_root()).unwrap();
        prepare(&layout);
        (layout, release)
    });
    let (layout, release) = made.await.unwrap();
    let how = PowerOn {
        gatewayd: world().gatewayd.clone(),
        repo: release.repo.clone(),
        port: 0,
        pin,
        settings,
        watchdog: Duration::from_millis(100),
        restart_pause: Duration::from_millis(20),
        console: Arc::new(|_| {}),
    };
    let device = Device::start(layout, how).await.unwrap();
    let api = Api::of(&device.layout);
    let patience = if matches!(offer, Offer::Long(1024..)) { 4 * PATIENCE } else { PATIENCE };
    let device = TestDevice { device, release, api, patience };
    device.all_is_well().await;
    device
}

/// Driving.
impl TestDevice {
    /// Starts the download of the release on offer.
    pub(crate) async fn start_download(&self) -> Result<String, ClientError> {
        let request = DownloadRequest {
            update_id: UPDATE_ID.into(),
            version: None,
            target_partition: None,
            priority: None,
            verify_signature: true,
        };
        Ok(self.client.download(&request).await?.job_id)
    }

    /// Downloads, and waits for the end of that.
    pub(crate) async fn download(&self) -> String {
        self.client.check().await.unwrap();
        let job = self.start_download().await.unwrap();
        self.until(&job, |job| job.status == JobStatus::Downloaded).await;
        job
    }

    /// Asks for the installation with a reboot.
    pub(crate) async fn install(&self, job: &str) -> Result<(), ClientError> {
        self.install_with(job, true).await
    }

    /// Asks for the installation.
    pub(crate) async fn install_with(&self, job: &str, reboot_after: bool) -> Result<(), ClientError> {
        let request = InstallRequest {
            job_id: job.into(),
            strategy: None,
            reboot_after,
            rollback_on_failure: true,
            pin: None,
        };
        self.client.install(&request).await.map(drop)
    }

    /// A whole update, to the end of its job.
    pub(crate) async fn update(&self) -> JobInfo {
        let job = self.download().await;
        self.safety_is(true).await;
        self.install(&job).await.unwrap();
        self.ended(&job).await
    }

    /// The job once it has ended.
    pub(crate) async fn ended(&self, job: &str) -> JobInfo {
        self.until(job, |job| job.ended).await
    }

    /// The job once `holds`; the daemon may be away meanwhile.
    pub(crate) async fn until(&self, job: &str, holds: impl Fn(&JobInfo) -> bool) -> JobInfo {
        let mut last = None;
        let deadline = Instant::now() + self.patience;
        loop {
            match self.client.job(job).await {
                Ok(info) if holds(&info) => return info,
                Ok(info) if info.ended => panic!("{job} has ended: {info:#?}\n{}", self.log_tail(30)),
                Ok(info) => last = Some(info),
                Err(error) => assert!(error.may_pass(), "{}", error.chain()),
            }
            let off = self.machine.record().borrow().off.clone();
            assert!(off.is_none() && Instant::now() < deadline, "{off:?} {last:#?}\n{}", self.log_tail(30));
            // tidy: waits for another process
            sleep(LOOK).await;
        }
    }

    /// The newest job, if there is one.
    pub(crate) async fn newest(&self) -> Result<Option<JobInfo>, ClientError> {
        Ok(self.client.jobs(&JobsQuery::default()).await?.jobs.into_iter().next())
    }

    /// Slots whose kernels were started, in order; `None` where none loaded.
    pub(crate) fn boots(&self) -> Vec<Option<Slot>> {
        self.machine.record().borrow().boots.iter().map(|boot| boot.slot).collect()
    }

    /// Waits for so many boots.
    pub(crate) async fn booted(&self, times: usize) {
        let mut record = self.machine.record();
        let enough = record.wait_for(|record| record.boots.len() >= times);
        timeout(PATIENCE, enough).await.expect("no reboot").unwrap();
    }

    /// Waits until safety lets updates through, or not.
    pub(crate) async fn safety_is(&self, allowed: bool) {
        let deadline = Instant::now() + PATIENCE;
        while self.client.safety().await.unwrap().update_allowed != allowed {
            assert!(Instant::now() < deadline, "safety does not become {allowed}");
            // tidy: waits for another process
            sleep(LOOK).await;
        }
    }

    /// Waits until every constraint holds, as each does on a device that was just made.
    async fn all_is_well(&self) {
        let deadline = Instant::now() + PATIENCE;
        let holds = async || {
            let constraints = self.client.safety().await.unwrap().constraints;
            constraints.iter().all(|constraint| constraint.status == ConstraintStatus::Ok)
        };
        while !holds().await {
            assert!(Instant::now() < deadline, "not all is well\n{}", self.log_tail(30));
            // tidy: waits for another process
            sleep(LOOK).await;
        }
    }

    /// Whether the slot begins with the bytes of the image on offer.
    pub(crate) fn holds_the_image(&self, slot: Slot) -> bool {
        let image = fs::read(&self.release.image).unwrap();
        fs::read(self.layout.slot(slot)).unwrap().starts_with(&image)
    }

    /// That the system is on `slot`, for good, and that boot loader, daemon and Debian's tool see it alike.
    pub(crate) async fn check_rests_on(&self, slot: Slot) {
        self.ready().await.unwrap();
        let status = self.client.status().await.unwrap();
        assert_eq!(status.partitions.active.unwrap().name, slot.into());
        assert!(status.degraded.is_empty(), "{:?}", status.degraded);
        let variables = self.environment().variables().unwrap();
        assert_eq!(self.environment().printed().unwrap(), variables);
        assert_eq!(variables.get("ota_trial"), None, "{variables:?}");
        let next = ota_testkit::bootloader::boot(&variables);
        assert_eq!((next.slot, next.save), (slot, None), "{variables:?}");
    }
}
