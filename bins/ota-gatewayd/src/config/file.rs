//! The shape of the configuration file.

use std::path::PathBuf;

use ota_core::{Version, policy::AutoPolicy};
use ota_http::PinRules;
use ota_safety::SafetyConfig;
use serde::Deserialize;

use super::http::HttpSection;
use super::place::{Misfit, demand, in_safety};
use super::user_data::{FactoryResetSection, SnapshotSection};

/// The whole file.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) gateway: GatewaySection,
    pub(crate) slots: SlotsSection,
    #[serde(default)]
    pub(crate) state: StateSection,
    #[serde(default)]
    pub(crate) boot: BootSection,
    #[serde(default)]
    pub(crate) http: HttpSection,
    #[serde(default)]
    pub(crate) verify: VerifySection,
    #[serde(default, rename = "source")]
    pub(crate) sources: Vec<SourceSection>,
    #[serde(default)]
    pub(crate) auto: AutoSection,
    #[serde(default)]
    pub(crate) download: DownloadSection,
    #[serde(default)]
    pub(crate) upload: UploadSection,
    #[serde(default)]
    pub(crate) unpack: UnpackSection,
    #[serde(default)]
    pub(crate) safety: SafetyConfig,
    #[serde(default)]
    pub(crate) health: HealthConfig,
    #[serde(default)]
    pub(crate) reboot: RebootSection,
    #[serde(default)]
    pub(crate) snapshot: SnapshotSection,
    #[serde(default)]
    pub(crate) factory_reset: FactoryResetSection,
    #[serde(default)]
    pub(crate) clock: ClockSection,
    #[serde(default)]
    pub(crate) log: LogConfig,
    #[serde(default)]
    pub(crate) pin: PinRules,
    #[serde(default)]
    pub(crate) retention: RetentionSection,
}

/// Who this gateway is.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(deny_unknown_fields)]
pub(crate) struct GatewaySection {
    /// What it is called, in answers and as a host name that requests may use.
    pub(crate) name: String,
    /// Releases name the models they are for; this must be one of them.
    pub(crate) model: String,
    /// Serial number; decides with which part of a staged rollout it goes.
    pub(crate) serial: String,
    /// Where the running system states its version: `IMAGE_VERSION` or `VERSION_ID` of an os-release file.
    #[serde(default = "os_release")]
    pub(crate) version_file: PathBuf,
}

fn os_release() -> PathBuf {
    "/etc/os-release".into()
}

/// The two root partitions.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(deny_unknown_fields)]
pub(crate) struct SlotsSection {
    /// Block device of slot A, `/dev/disk/by-partlabel/root-a`.
    pub(crate) a: PathBuf,
    /// Block device of slot B.
    pub(crate) b: PathBuf,
}

/// What survives an update.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(deny_unknown_fields, default)]
pub(crate) struct StateSection {
    /// Store, trusted metadata, staging. On a partition that both slots share.
    pub(crate) dir: PathBuf,
    /// Where images are staged; a folder of its own below `dir` by default.
    pub(crate) staging: Option<PathBuf>,
}

impl Default for StateSection {
    fn default() -> Self {
        Self { dir: "/var/lib/ota-gateway".into(), staging: None }
    }
}

/// The boot environment.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(deny_unknown_fields, default)]
pub(crate) struct BootSection {
    /// Where the copies of the U-Boot environment are, two lines as for `fw_printenv`.
    pub(crate) fw_env_config: PathBuf,
    /// The lock that `fw_printenv` takes too; `/var/lock/fw_printenv.lock` by default.
    pub(crate) lock: Option<PathBuf>,
    /// The kernel's command line, which says which slot runs.
    pub(crate) cmdline: PathBuf,
    /// What is another one after every boot.
    pub(crate) boot_id: PathBuf,
    /// Go on with one copy of the environment only: a power cut may then lose it.
    pub(crate) allow_single_copy: bool,
    /// Install only where the boot loader has left its mark.
    pub(crate) require_canary: bool,
    /// Go on with a U-Boot older than 2024.01.
    pub(crate) allow_old_loader: bool,
    /// Boots of a trial, 1–3.
    pub(crate) tries: u8,
}

impl Default for BootSection {
    fn default() -> Self {
        Self {
            fw_env_config: "/etc/fw_env.config".into(),
            lock: None,
            cmdline: "/proc/cmdline".into(),
            boot_id: "/proc/sys/kernel/random/boot_id".into(),
            allow_single_copy: false,
            require_canary: true,
            allow_old_loader: false,
            tries: 3,
        }
    }
}

/// What an image must carry.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(deny_unknown_fields, default)]
pub(crate) struct VerifySection {
    /// Folder of trusted certificates and `OpenPGP` keys.
    pub(crate) keys: PathBuf,
    /// Signed list of retired keys, its signatures beside it; see docs/security.md. None by default.
    pub(crate) key_list: Option<PathBuf>,
    /// Let images through that no trusted key signed. Shown in `system/status`.
    pub(crate) allow_unsigned: bool,
    /// How many distinct keys must sign.
    pub(crate) threshold: u32,
    /// Whether keys in the folder `development` count.
    pub(crate) development_keys: bool,
    /// What a signer's certificate must say about its purpose.
    pub(crate) extended_key_usage: Purpose,
    /// Whether every CA of a chain must have a revocation list that has not run out.
    pub(crate) require_crl: bool,
    /// Whether the running slot is compared with its record before a trial is confirmed.
    pub(crate) slot_digest: bool,
    /// Whether a confirmed version becomes the lowest that may be installed.
    pub(crate) floor_follows: bool,
    /// Lowest version that may be installed, or gone back to. Belongs into the image: it never keeps the boot loader from the fallback
    /// of that image's trial, and stays once the image has been confirmed. None by default.
    pub(crate) floor: Option<Version>,
}

/// `verify.extended_key_usage`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Purpose {
    /// `codeSigning` must be there.
    #[default]
    CodeSigning,
    /// `codeSigning` must be there where the certificate names any purpose.
    CodeSigningIfPresent,
    /// Not looked at.
    Any,
}

impl Default for VerifySection {
    fn default() -> Self {
        Self {
            keys: "/usr/share/ota-gateway/keys".into(),
            key_list: None,
            allow_unsigned: false,
            threshold: 1,
            development_keys: false,
            extended_key_usage: Purpose::default(),
            require_crl: false,
            slot_digest: true,
            floor_follows: false,
            floor: None,
        }
    }
}

/// A TUF update source.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(deny_unknown_fields)]
pub(crate) struct SourceSection {
    /// Its name, in the audit and in answers.
    pub(crate) name: String,
    /// Where the TUF metadata is, with a slash at the end.
    pub(crate) metadata_url: String,
    /// Where manifests and images are, with a slash at the end.
    pub(crate) targets_url: String,
    /// The root metadata that the firmware was shipped with.
    pub(crate) initial_root: PathBuf,
    /// Which channel of the model is followed.
    #[serde(default = "stable")]
    pub(crate) channel: String,
    /// The only CAs that are trusted for this server, PEM.
    #[serde(default)]
    pub(crate) ca: Option<PathBuf>,
    /// Private key and certificate for mutual TLS, PEM in one file.
    #[serde(default)]
    pub(crate) client_cert: Option<PathBuf>,
    /// A file of `Name: value` lines, sent to this server only.
    #[serde(default)]
    pub(crate) headers_file: Option<PathBuf>,
    /// `system` (default), `direct`, or the address of a proxy.
    #[serde(default)]
    pub(crate) proxy: Option<String>,
    /// How far the gateway goes by itself with what this source offers.
    #[serde(default)]
    pub(crate) policy: AutoPolicy,
}

fn stable() -> String {
    "stable".into()
}

/// What the gateway does by itself.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(deny_unknown_fields, default)]
pub(crate) struct AutoSection {
    /// Seconds between two checks of the sources; 0 switches them off.
    pub(crate) interval_seconds: u32,
    /// Shortest time in seconds between two questions to the sources, whoever asks.
    pub(crate) demand_seconds: u32,
}

impl Default for AutoSection {
    fn default() -> Self {
        Self { interval_seconds: 3600, demand_seconds: 10 }
    }
}

/// Downloads of all sources.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(deny_unknown_fields, default)]
pub(crate) struct DownloadSection {
    /// Speed limit; none by default.
    pub(crate) bytes_per_second: Option<u64>,
    /// Below this the transfer counts as stalled; see `update-sources.md` section 3.
    pub(crate) min_bytes_per_second: Option<u64>,
}

/// Images that people upload.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(deny_unknown_fields, default)]
pub(crate) struct UploadSection {
    /// Longest file; what fits into a slot by default.
    pub(crate) max_bytes: Option<u64>,
    /// Most that all uploads together may take; what the medium has by default.
    pub(crate) quota_bytes: Option<u64>,
}

/// Archives that are made into a fresh file system.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(deny_unknown_fields, default)]
pub(crate) struct UnpackSection {
    /// Begins the label of the file system; the slot's letter follows it. At most 14 bytes.
    pub(crate) label: String,
    /// Whether device nodes in an archive are made; else an archive with one is refused.
    pub(crate) device_nodes: bool,
}

impl Default for UnpackSection {
    fn default() -> Self {
        Self { label: "rootfs".into(), device_nodes: false }
    }
}

/// The health checks of a trial boot.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(deny_unknown_fields, default)]
pub(crate) struct HealthConfig {
    /// Each must pass before a trial boot is confirmed.
    pub(crate) check: Vec<HealthCheck>,
}

/// One check: exactly one of `unit`, `http`, `command`.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(deny_unknown_fields)]
pub(crate) struct HealthCheck {
    /// Its name, in the verdict of a trial.
    pub(crate) name: String,
    /// A systemd unit that must be active.
    #[serde(default)]
    pub(crate) unit: Option<String>,
    /// An address that must answer with 2xx.
    #[serde(default)]
    pub(crate) http: Option<String>,
    /// A program that must end with 0.
    #[serde(default)]
    pub(crate) command: Option<Vec<String>>,
    /// Time within which it must have passed once; it is tried again until then.
    #[serde(default = "minute")]
    pub(crate) timeout_seconds: u32,
}

const fn minute() -> u32 {
    60
}

impl HealthCheck {
    fn check(&self, key: &str) -> Result<(), Misfit> {
        let kinds = [self.unit.is_some(), self.http.is_some(), self.command.is_some()];
        demand(kinds.into_iter().filter(|set| *set).count() == 1, key, || {
            format!("{:?} needs exactly one of unit, http, command", self.name)
        })?;
        let program = self.command.as_ref().is_none_or(|command| !command.is_empty());
        demand(program, format!("{key}.command"), || "must name a program")?;
        demand(
            self.timeout_seconds > 0,
            format!("{key}.timeout_seconds"),
            || "must be at least 1: no check would ever pass",
        )
    }
}

/// How the gateway restarts.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RebootSection {
    /// Program and arguments that ask for the restart.
    pub(crate) command: Vec<String>,
    /// Seconds between the announcement and the restart.
    pub(crate) countdown_seconds: u32,
}

impl Default for RebootSection {
    fn default() -> Self {
        Self {
            command: vec!["systemctl".into(), "--no-block".into(), "reboot".into()],
            countdown_seconds: 10,
        }
    }
}

/// How long records are kept. What is active, and the newest thousand audit records, always stay.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RetentionSection {
    /// Ended jobs.
    pub(crate) jobs: u32,
    /// Audit records.
    pub(crate) audit_records: u32,
    /// Days after which audit records go, while the clock is trusted; without it age does not matter.
    pub(crate) audit_days: Option<u32>,
}

impl Default for RetentionSection {
    fn default() -> Self {
        Self { jobs: 1000, audit_records: 200_000, audit_days: None }
    }
}

/// When the wall clock is believed.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ClockSection {
    /// When.
    pub(crate) trust: ClockTrust,
    /// Exists once the time has been synchronised.
    pub(crate) synchronized_file: PathBuf,
}

impl Default for ClockSection {
    fn default() -> Self {
        Self {
            trust: ClockTrust::Synchronized,
            synchronized_file: "/run/systemd/timesync/synchronized".into(),
        }
    }
}

/// When the wall clock is believed.
#[derive(Clone, Copy, Debug, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(rename_all = "lowercase")]
pub(crate) enum ClockTrust {
    /// Always: a battery-backed clock that is known to be right.
    Always,
    /// Once it has been synchronised.
    Synchronized,
}

/// The log.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LogConfig {
    /// Shape of the log.
    pub(crate) format: LogFormat,
    /// `info`, `debug`, or directives like `info,ota_fetch=debug`.
    pub(crate) level: String,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { format: LogFormat::Human, level: "info".into() }
    }
}

/// Shape of the log.
#[derive(Clone, Copy, Debug, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// For people, on standard error.
    Human,
    /// JSON lines on standard error.
    Json,
    /// The journal, with fields.
    Journald,
}

impl Config {
    /// What types cannot say.
    pub(crate) fn check(&self) -> Result<(), Misfit> {
        demand(self.slots.a != self.slots.b, "slots.b", || {
            format!("{} is slots.a, too", self.slots.b.display())
        })?;
        let tries = self.boot.tries;
        demand((1..=3).contains(&tries), "boot.tries", || format!("must be 1, 2 or 3, not {tries}"))?;
        demand(!self.reboot.command.is_empty(), "reboot.command", || "must name a program")?;
        demand(self.verify.threshold > 0, "verify.threshold", || "must be at least 1")?;
        let label = self.unpack.label.as_bytes();
        demand(
            (1..=14).contains(&label.len()) && label.iter().all(u8::is_ascii_graphic),
            "unpack.label",
            || "must have 1 to 14 letters, digits or signs",
        )?;
        self.http.check()?;
        for (index, source) in self.sources.iter().enumerate() {
            let first = self.sources.iter().position(|other| other.name == source.name) == Some(index);
            demand(first, format!("source[{index}].name"), || {
                format!("another source is named {:?}, too", source.name)
            })?;
        }
        for (index, check) in self.health.check.iter().enumerate() {
            check.check(&format!("health.check[{index}]"))?;
        }
        self.check_user_data()?;
        self.safety.rules().map_err(|error| in_safety(&self.safety, error))?;
        Ok(())
    }

    /// Where images are staged.
    pub(crate) fn staging(&self) -> PathBuf {
        self.state.staging.clone().unwrap_or_else(|| self.state.dir.join("staging"))
    }
}
