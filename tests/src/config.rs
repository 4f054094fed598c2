//! The daemon's configuration on a simulated device.

use std::path::{Path, PathBuf};

use crate::{Layout, release::MODEL};

/// What differs between the demo and tests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Port of the API.
    pub port: u16,
    /// Port of the update server.
    pub server_port: u16,
    /// Seconds between the announcement of a reboot and the reboot.
    pub countdown_seconds: u32,
    /// Seconds within which the health check must have passed.
    pub health_seconds: u32,
    /// How long a constraint must hold before it counts, `1s`.
    pub debounce: &'static str,
    /// Speed limit of downloads.
    pub bytes_per_second: Option<u64>,
    /// Seconds between the checks that the daemon makes by itself; 0: none.
    pub check_seconds: u32,
    /// `info`, `debug`.
    pub log_level: &'static str,
    /// Lines of the section `verify` beside its own; `{keys}` in it is the folder of keys.
    pub verify: &'static str,
    /// Tables that the device has beside its own, as TOML.
    pub more: &'static str,
    /// Where the crane's state comes from: a kind of source; a file that tests write by default.
    pub crane: Option<String>,
    /// What that says while the crane is at rest.
    pub crane_at_rest: &'static str,
    /// Lines of the section `safety` itself, and more of its tables: windows, constraints.
    pub safety: String,
    /// Whether each install begins with a snapshot.
    pub snapshot_before_install: bool,
    /// The partition that [`Layout::state`] is mounted from, where it has one of its own.
    pub data_partition: Option<PathBuf>,
    /// Whether it reboots by itself for a factory reset.
    pub reboot_for_reset: bool,
}

impl Settings {
    /// As the demo runs.
    #[must_use]
    pub const fn new(port: u16, server_port: u16) -> Self {
        Self {
            port,
            server_port,
            countdown_seconds: 2,
            health_seconds: 20,
            debounce: "1s",
            bytes_per_second: None,
            check_seconds: 3600,
            log_level: "info",
            verify: "",
            more: "",
            crane: None,
            crane_at_rest: "stopped",
            safety: String::new(),
            snapshot_before_install: false,
            data_partition: None,
            reboot_for_reset: true,
        }
    }
}

/// How long a sensor's file may take to be read, and how old its word may be: the machine below stands still at times, which
/// is no fault of a simulated sensor.
const PATIENT: &str = "timeout = \"30s\"";
const LASTING: &str = "max_age = \"90s\"\n";

/// The text of `gateway.toml`.
#[must_use]
pub fn gateway_toml(layout: &Layout, settings: &Settings) -> String {
    let Settings {
        port,
        server_port,
        countdown_seconds,
        health_seconds,
        debounce,
        check_seconds,
        log_level,
        verify,
        more,
        safety,
        crane_at_rest,
        snapshot_before_install,
        reboot_for_reset,
        ..
    } = settings;
    let path = |path: &Path| toml::Value::String(path.to_string_lossy().into_owned()).to_string();
    // A partition is made anew; without one, the folders are emptied.
    let erased = match &settings.data_partition {
        Some(partition) => format!("partition = {}", path(partition)),
        None => format!("paths = [{}, {}]", path(&layout.state()), path(&layout.settings())),
    };
    let verify = verify.replace("{keys}", &layout.trusted_keys().display().to_string());
    let run = |name: &str| path(&layout.run(name));
    let from_file = || {
        format!("file = {{ path = {}, every = \"20ms\", {PATIENT} }}", path(&layout.sensor("crane_motion")))
    };
    let crane = settings.crane.clone().unwrap_or_else(from_file);
    // A source that a test brings along loses its word when it should.
    let crane_age = if settings.crane.is_none() { LASTING } else { "" };
    let limit = settings.bytes_per_second.map_or_else(String::new, |n| format!("bytes_per_second = {n}\n"));
    format!(
        r#"# Written by ota-simdevice at every power-on; see docs/simulated-device.md.
[gateway]
name = "iot-gateway-01"
model = "{MODEL}"
serial = "SN123456789"
version_file = {os_release}

[slots]
a = {a}
b = {b}

[state]
dir = {state}

[boot]
fw_env_config = {fw_env_config}
lock = {lock}
cmdline = {cmdline}
boot_id = {boot_id}
tries = 3

[http]
listen = "127.0.0.1:{port}"
address_file = {address}

[verify]
keys = {keys}
{verify}

[[source]]
name = "local"
metadata_url = "http://127.0.0.1:{server_port}/metadata/"
targets_url = "http://127.0.0.1:{server_port}/targets/"
initial_root = {root}
channel = "stable"
proxy = "direct"

[auto]
interval_seconds = {check_seconds}
# Its update server is its own.
demand_seconds = 0

[download]
{limit}
[safety]
{safety}

[[safety.sources]]
name = "crane"
{crane}

[[safety.sources]]
name = "cabinet"
file = {{ path = {temperature}, every = "50ms", {PATIENT} }}

[[safety.constraints]]
name = "crane_motion"
source = "crane"
condition = {{ equals = "{crane_at_rest}" }}
{crane_age}debounce = "{debounce}"
message_ok = "Crane stopped"
message_violated = "Crane movement detected"
resolution = "Wait for crane to stop or use force override with PIN"

[[safety.constraints]]
name = "high_temperature"
source = "cabinet"
condition = {{ max = 70.0, hysteresis = 2.0 }}
plausible = {{ min = -40.0, max = 150.0 }}
{LASTING}debounce = "{debounce}"
unit = "°C"
message_ok = "Temperature within limits"
message_violated = "Temperature too high"
resolution = "Wait until the cabinet has cooled down"

[[health.check]]
name = "system"
command = ["grep", "-q", "^ok", {health}]
timeout_seconds = {health_seconds}

[reboot]
command = ["touch", {reboot}]
countdown_seconds = {countdown_seconds}

[snapshot]
paths = [{saved}]
before_install = {snapshot_before_install}

[factory_reset]
enabled = true
dir = {keep}
{erased}
reboot = {reboot_for_reset}

[clock]
trust = "always"

[log]
format = "human"
level = "{log_level}"

{more}"#,
        os_release = run("os-release"),
        a = path(&layout.slot(ota_core::Slot::A)),
        b = path(&layout.slot(ota_core::Slot::B)),
        state = path(&layout.state()),
        saved = path(&layout.settings()),
        keep = path(&layout.keep()),
        fw_env_config = path(&layout.fw_env_config()),
        lock = run("fw_printenv.lock"),
        cmdline = run("cmdline"),
        boot_id = run("boot_id"),
        address = run("address"),
        keys = path(&layout.trusted_keys()),
        root = path(&layout.initial_root()),
        temperature = path(&layout.sensor("temperature")),
        health = run("health"),
        reboot = run("reboot"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_is_toml_and_says_all_that_differs_from_a_real_device() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path()).unwrap();
        let text = gateway_toml(&layout, &Settings::new(8080, 8081));
        let table: toml::Table = text.parse().unwrap();
        let keys: Vec<&str> = table.keys().map(String::as_str).collect();
        insta::assert_snapshot!(
            keys.join(" "),
            @"auto boot clock download factory_reset gateway health http log reboot safety slots snapshot source state verify"
        );
    }
}
