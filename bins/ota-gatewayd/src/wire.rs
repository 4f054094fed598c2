//! Makes the adapters from the configuration and puts them into the engine's ports.

use std::{
    fs,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use ota_boot::{BlockSlotWriter, BootConfig, UbootBootControl};
use ota_core::{
    ByteCount, Slot, Timestamp, Version,
    ports::{BootControl as _, Clock, Settings, SlotWriter, SystemProbe, UpdateSource},
};
use ota_engine::{EngineConfig, GatewayIdentity, Ports, SecurityFloor};
use ota_fetch::{SpeedLimit, StagedUploads, Staging, TufConfig, TufSource};
use ota_http::PinOperation;
use ota_image::{ArchivePolicy, PackedInspector, UnpackingWriter};
use ota_safety::SafetyEngine;
use ota_store::{Condition, SqliteStore};
use ota_verify::{HeadInspector, Keyring};

use crate::{
    access::Access,
    bandwidth::StoredBandwidth,
    clock::SystemClock,
    config::{AtKey as _, Config, SourceSection, in_safety},
    floor::Floored,
    health::ConfiguredChecks,
    keys,
    probe::KernelProbe,
    reboot::CommandRebooter,
    tokens, user_data,
};

/// When this program was built, seconds since the epoch: no clock reading before it is believed.
const BUILT: Option<&str> = match option_env!("OTA_BUILT") {
    Some(at) => Some(at),
    // As distributions say it.
    None => option_env!("SOURCE_DATE_EPOCH"),
};

/// Where the newest time that signed metadata was good at is kept, in milliseconds.
const CLOCK_FLOOR: &str = "clock.floor";

/// The adapters that more than one part of the daemon looks at.
pub(crate) struct Wired {
    pub(crate) ports: Ports,
    pub(crate) engine: EngineConfig,
    pub(crate) store: Arc<SqliteStore>,
    pub(crate) safety: Arc<SafetyEngine>,
    pub(crate) clock: Arc<dyn Clock>,
    /// Held for as long as this daemon works on the state folder.
    pub(crate) lock: fs::File,
    pub(crate) uploads: StagedUploads,
    pub(crate) bandwidth: StoredBandwidth,
    pub(crate) boot: Arc<UbootBootControl>,
}

/// Opens everything. Blocking.
pub(crate) fn wire(config: &Config) -> anyhow::Result<Wired> {
    let clock: Arc<dyn Clock> =
        Arc::new(SystemClock::new(config.clock.trust, config.clock.synchronized_file.clone()));
    let lock = lock_state(&config.state.dir)?;
    let store = Arc::new(open_store(config, clock.wall())?);
    let boot = Arc::new(open_boot(config)?);
    let slots = open_slots(config, boot.booted());
    let staging = Staging::open(config.staging())?;
    let uploads = StagedUploads::open(staging.clone(), config.upload.quota_bytes.map(ByteCount))?;
    let settings: Arc<dyn Settings> = Arc::clone(&store) as _;
    let verifier = keys::open_verifier(config, &clock, &settings)?;
    let speed = SpeedLimit::new(config.download.bytes_per_second);
    let sources = config
        .sources
        .iter()
        .enumerate()
        .map(|(index, section)| {
            let access = Access::of(section, index)?;
            let source = open_source(config, section, access, &staging, &speed, &clock)?;
            let (store, settings) = (metadata_of(config, section), Arc::clone(&settings));
            Ok(Arc::new(Floored { source, store, settings }) as Arc<dyn UpdateSource>)
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    let bandwidth = StoredBandwidth::open(speed, Arc::clone(&store) as _);
    let probe: Arc<dyn SystemProbe> = Arc::new(KernelProbe::new(config.staging()));
    let safety = SafetyEngine::with_probe(config.safety.clone(), Arc::clone(&clock), Arc::clone(&probe))
        .map_err(|error| in_safety(&config.safety, error))?;
    let ports = Ports {
        boot: Arc::clone(&boot) as _,
        inspector: Arc::new(open_inspector(config, &*slots)),
        slots,
        images: Arc::new(staging),
        verifier: Arc::new(verifier),
        sources,
        journal: Arc::clone(&store) as _,
        facts: Arc::clone(&store) as _,
        audit: Arc::clone(&store) as _,
        settings: Arc::clone(&store) as _,
        safety: Arc::clone(&safety) as _,
        health: Arc::new(ConfiguredChecks::new(&config.health)?),
        rebooter: Arc::new(CommandRebooter::new(config.reboot.command.clone())),
        probe,
        clock: Arc::clone(&clock),
        safety_changes: safety.changes(),
        user_data: user_data::ports(config)?,
    };
    Ok(Wired { ports, engine: engine_config(config), store, safety, clock, uploads, bandwidth, lock, boot })
}

/// Checks what can be checked without touching the state of the device; gives what is allowed but surprising.
pub(crate) fn dry_run(config: &Config) -> anyhow::Result<Vec<String>> {
    let clock: Arc<dyn Clock> =
        Arc::new(SystemClock::new(config.clock.trust, config.clock.synchronized_file.clone()));
    crate::logs::check(&config.log)?;
    crate::tls::check(config)?;
    let keyring = Keyring::load(&config.verify.keys).at_key("verify.keys")?;
    let probe: Arc<dyn SystemProbe> = Arc::new(KernelProbe::new(config.staging()));
    let safety = SafetyEngine::with_probe(config.safety.clone(), clock, probe)
        .map_err(|error| in_safety(&config.safety, error))?;
    for (index, section) in config.sources.iter().enumerate() {
        Access::of(section, index)?.check(index)?;
    }
    let mut warnings = safety.warnings();
    warnings.extend(unfinished(config, &keyring));
    for operation in PinOperation::DEFAULT {
        if !config.pin.require_for.contains(&operation) {
            warnings.push(format!("pin.require_for leaves out {operation:?}: it goes without the PIN"));
        }
    }
    for section in config.sources.iter().filter(|section| config.policy_of(section) != section.policy) {
        let name = &section.name;
        warnings
            .push(format!("source {name}: installs need the PIN, so the gateway only downloads by itself"));
    }
    Ok(warnings)
}

/// What does not keep the daemon from starting and yet keeps updates away.
fn unfinished(config: &Config, keyring: &Keyring) -> Vec<String> {
    let mut warnings = Vec::new();
    if config.gateway.model == "unset" {
        warnings.push("gateway.model is not set: no release is for this gateway".into());
    }
    let environment = &config.boot.fw_env_config;
    if !environment.exists() {
        let what = environment.display();
        warnings.push(format!(
            "boot.fw_env_config: {what} is not there: without a boot environment nothing is installed"
        ));
    }
    for (key, device) in [("slots.a", &config.slots.a), ("slots.b", &config.slots.b)] {
        if !device.exists() {
            warnings.push(format!("{key}: {} does not exist", device.display()));
        }
    }
    if keyring.is_empty() && !config.verify.allow_unsigned {
        let keys = config.verify.keys.display();
        warnings.push(format!("verify.keys: {keys} holds no key, so that no image is accepted"));
    }
    warnings
}

/// A second daemon on the same state would recover, and write, what the first is at work on.
fn lock_state(folder: &Path) -> anyhow::Result<fs::File> {
    let folder = ota_store::own_folder(folder)?;
    let path = folder.join("daemon.lock");
    let file = match fs::OpenOptions::new().create(true).append(true).mode(0o600).open(&path) {
        // What is open for reading is locked just as well; without the file, the folder is.
        Err(error) if ota_store::takes_nothing(&error) => {
            fs::File::open(&path).or_else(|_| fs::File::open(&folder))
        }
        file => file,
    };
    let file = file.with_context(|| format!("opening {}", path.display()))?;
    file.try_lock().with_context(|| format!("another ota-gatewayd works in {}", folder.display()))?;
    Ok(file)
}

pub(crate) fn open_store(config: &Config, now: Timestamp) -> anyhow::Result<SqliteStore> {
    let folder = &config.state.dir;
    let opened = SqliteStore::open(folder, now)
        .with_context(|| format!("opening the store in {}", folder.display()))?;
    match &opened.condition {
        Condition::Fresh => tracing::info!("a fresh store was made"),
        Condition::Normal => {}
        Condition::Migrated { from } => tracing::info!(from, "the store was brought up to date"),
        Condition::Damaged { aside, why } => {
            tracing::error!(aside = %aside.display(), why, "the store was damaged; it is kept under another name");
        }
        Condition::NewerSchema { found } => {
            tracing::error!(found, "the store was written by newer software: nothing will be written to it");
        }
        Condition::Unwritable { why } => {
            tracing::error!(why, "the store takes no writes: what is in it is shown, and nothing is changed");
        }
    }
    if let Some(seq) = opened.audit_broken_at {
        tracing::error!(seq, "the audit log does not fit its anchor from this record on");
    }
    if !opened.store.is_read_only() {
        begin(config, &opened.store);
    }
    Ok(opened.store)
}

/// What a store has to have before anything else is written. Where that fails the gateway answers all the same, and changes
/// nothing: what a reset must not set back may be missing.
fn begin(config: &Config, store: &SqliteStore) {
    let first = || {
        user_data::take_note(config, store)?;
        tokens::first(store, &config.state.dir)
    };
    if let Err(error) = first() {
        tracing::error!(
            error = format!("{error:#}"),
            "the start could not be recorded: nothing will be written"
        );
        store.withhold(format!(
            "the start could not be recorded ({error:#}); mend that and restart ota-gatewayd"
        ));
    }
}

fn open_boot(config: &Config) -> anyhow::Result<UbootBootControl> {
    let mut boot = BootConfig::new(&config.slots.a, &config.slots.b);
    boot.fw_env_config.clone_from(&config.boot.fw_env_config);
    boot.cmdline.clone_from(&config.boot.cmdline);
    boot.boot_id.clone_from(&config.boot.boot_id);
    boot.allow_single_copy = config.boot.allow_single_copy;
    boot.require_canary = config.boot.require_canary;
    boot.allow_old_loader = config.boot.allow_old_loader;
    boot.tries = config.boot.tries;
    if let Some(lock) = &config.boot.lock {
        boot.lock.clone_from(lock);
    }
    UbootBootControl::open(boot).context("opening the boot environment")
}

fn open_slots(config: &Config, booted: Option<Slot>) -> Arc<dyn SlotWriter> {
    let slots = Arc::new(BlockSlotWriter::new(&config.slots.a, &config.slots.b, booted));
    let work = config.state.dir.join("unpack");
    let label = config.unpack.label.as_str();
    Arc::new(UnpackingWriter::new(slots, work, label).with_device_nodes(config.unpack.device_nodes))
}

/// A packed image is looked into as far as the larger slot holds; whether it fits the one it goes to is asked later.
fn open_inspector(config: &Config, slots: &dyn SlotWriter) -> PackedInspector {
    let capacity =
        Slot::ALL.into_iter().filter_map(|slot| slots.capacity(slot).ok()).max().unwrap_or_default();
    let policy = ArchivePolicy { device_nodes: config.unpack.device_nodes, capacity };
    PackedInspector::new(Arc::new(HeadInspector), policy)
}

pub(crate) fn stored_floor(settings: &dyn Settings) -> Option<Timestamp> {
    read_floor(settings).ok().flatten()
}

fn read_floor(settings: &dyn Settings) -> Result<Option<Timestamp>, ota_core::error::PortError> {
    let text = settings.value(CLOCK_FLOOR)?;
    Ok(text.and_then(|text| text.parse().ok()).map(Timestamp::from_millis))
}

/// The time was at least `seen`: the date of a signed list, or what the clock said at a good check.
pub(crate) fn raise_clock_floor(settings: &dyn Settings, seen: Timestamp) -> anyhow::Result<()> {
    if read_floor(settings)?.is_none_or(|floor| floor < seen) {
        settings.set_value(CLOCK_FLOOR, Some(&seen.as_millis().to_string()))?;
    }
    Ok(())
}

/// Where the trusted metadata of a source is kept.
fn metadata_of(config: &Config, section: &SourceSection) -> PathBuf {
    config.state.dir.join("sources").join(&section.name)
}

fn open_source(
    config: &Config,
    section: &SourceSection,
    access: Access,
    staging: &Staging,
    speed: &SpeedLimit,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<Arc<dyn UpdateSource>> {
    let name = &section.name;
    let mut tuf = TufConfig::new(
        access.metadata_url,
        access.targets_url,
        access.root,
        &config.gateway.model,
        metadata_of(config, section),
        staging.clone(),
    );
    tuf.name.clone_from(name);
    tuf.channel.clone_from(&section.channel);
    tuf.device_id.clone_from(&config.gateway.serial);
    tuf.built = built();
    tuf.speed = speed.clone();
    tuf.ca = access.ca;
    tuf.client_cert = access.client_cert;
    tuf.proxy = access.proxy;
    tuf.headers = access.headers;
    if let Some(speed) = config.download.min_bytes_per_second {
        tuf.stall.min_speed = speed;
    }
    let source = TufSource::new(tuf, Arc::clone(clock)).with_context(|| format!("source {name}"))?;
    Ok(Arc::new(source))
}

fn engine_config(config: &Config) -> EngineConfig {
    EngineConfig {
        identity: GatewayIdentity {
            name: config.gateway.name.clone(),
            model: config.gateway.model.clone(),
            serial: config.gateway.serial.clone(),
        },
        running_version: running_version(&config.gateway.version_file),
        tries: config.boot.tries,
        allow_unsigned: config.verify.allow_unsigned,
        reboot_countdown: config.reboot.countdown_seconds,
        security_floor: if config.verify.floor_follows {
            SecurityFloor::FollowConfirmed
        } else {
            SecurityFloor::Fixed
        },
        lowest_version: config.verify.floor.clone(),
        verify_slot_digest: config.verify.slot_digest,
        check_pause: Duration::from_secs(config.auto.demand_seconds.into()),
    }
}

/// `IMAGE_VERSION`, else `VERSION_ID`, of an os-release file; shown with a leading v, as releases are.
fn running_version(path: &Path) -> Option<Version> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "the version of the running system is not known");
            return None;
        }
    };
    let value = |key: &str| {
        text.lines().find_map(|line| {
            let value = line.strip_prefix(key)?.strip_prefix('=')?;
            Some(value.trim().trim_matches(['"', '\'']).to_owned())
        })
    };
    let stated = value("IMAGE_VERSION").or_else(|| value("VERSION_ID"))?;
    let version = if stated.starts_with('v') { stated } else { format!("v{stated}") };
    version
        .parse()
        .inspect_err(|error| tracing::warn!(%error, "the running system states no usable version"))
        .ok()
}

pub(crate) fn built() -> Timestamp {
    Timestamp::from_secs(BUILT.and_then(|text| text.parse().ok()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_daemon_on_the_same_state_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let first = lock_state(folder.path()).unwrap();
        assert!(lock_state(folder.path()).unwrap_err().to_string().contains("another ota-gatewayd"));
        drop(first);
        lock_state(folder.path()).unwrap();
    }

    /// What `check-config` says of a file with this text behind the least that it needs.
    fn checked(folder: &Path, more: &str) -> Result<Vec<String>, String> {
        let path = folder.join("c.toml");
        let text = format!(
            "[gateway]\nname='g'\nmodel='M'\nserial='S'\n[slots]\na='/dev/a'\nb='/dev/b'\n[verify]\nkeys='{}'\n{more}",
            folder.display()
        );
        fs::write(&path, text).unwrap();
        let checked = Config::load(&path)
            .and_then(|config| dry_run(&config).map_err(|error| crate::config::located(&path, error)));
        checked.map_err(|error| format!("{error:#}").replace(&path.display().to_string(), "c.toml"))
    }

    #[test]
    fn what_would_keep_the_daemon_from_starting_or_from_its_server_is_named_before() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            fs::write(&path, bytes).unwrap();
            path.display().to_string()
        };
        let made = ota_http::self_signed(&["gw".into()]).unwrap();
        let (chain, key) = (file("chain", &made.chain), file("key", &made.key));
        let (none, empty, words) = ("/nope.pem", file("empty", b""), file("words", b"no colon\n"));
        let other = file("other", &ota_http::self_signed(&["gw".into()]).unwrap().key);
        let no_root = file("root.json", b"{}");
        let root = "../../crates/ota-fetch/vectors/tuf-on-ci-0.11/initial_root.json";
        let root = fs::canonicalize(root).unwrap().display().to_string();
        let tls = |chain: &str, key: &str, more: &str| {
            format!("[http]\nlisten='0.0.0.0:1'\ncertificate='{chain}'\nkey='{key}'\n{more}")
        };
        let source = |more: &str| {
            format!(
                "[[source]]\nname='s'\nmetadata_url='https://x/'\ntargets_url='https://x/'\ninitial_root='{root}'\n{more}"
            )
        };
        for (text, place) in [
            ("[log]\nlevel='info,ota=loud'\n".to_owned(), "c.toml:11: log.level: "),
            (tls(none, &key, ""), "c.toml:12: http.certificate: reading /nope.pem"),
            (tls(&empty, &key, ""), "c.toml:12: http.certificate: "),
            (tls(&chain, none, ""), "c.toml:13: http.key: "),
            (tls(&chain, &other, ""), "c.toml:13: http.key: "),
            (tls(&chain, &key, &format!("client_ca='{empty}'\n")), "c.toml:14: http.client_ca: "),
            (source("").replace("https://x/", "x"), "c.toml:12: source[0].metadata_url: "),
            (source("").replace(&root, none), "c.toml:14: source[0].initial_root: reading /nope.pem"),
            (source("").replace(&root, &no_root), "c.toml:14: source[0].initial_root: "),
            (source(&format!("ca='{none}'\n")), "c.toml:15: source[0].ca: reading /nope.pem"),
            (source(&format!("ca='{empty}'\n")), "c.toml:15: source[0].ca: "),
            (source(&format!("client_cert='{none}'\n")), "c.toml:15: source[0].client_cert: reading"),
            (source(&format!("client_cert='{words}'\n")), "c.toml:15: source[0].client_cert: "),
            (source(&format!("headers_file='{words}'\n")), "c.toml:15: source[0].headers_file: "),
            (source("proxy='::::'\n"), "c.toml:15: source[0].proxy: "),
        ] {
            let said = checked(folder.path(), &text).unwrap_err();
            assert!(said.starts_with(place), "{place}: {said}");
        }
        let good = tls(&chain, &key, &format!("client_ca='{chain}'\n")) + &source(&format!("ca='{chain}'\n"));
        checked(folder.path(), &good).unwrap();
    }

    #[test]
    fn the_running_version_is_read_from_an_os_release_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "ID=gw\nVERSION_ID=\"5.0.3\"\nIMAGE_VERSION=5.0.4\n").unwrap();
        assert_eq!(running_version(file.path()).unwrap().to_string(), "v5.0.4");
        fs::write(file.path(), "VERSION_ID=\"12\"\n").unwrap();
        assert_eq!(running_version(file.path()), None);
    }
}
