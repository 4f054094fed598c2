//! The gateway itself as a sensor: load, memory, free disk, trust in the clock, the state of a systemd unit, hwmon chips and
//! power supplies. What is measured through [`SystemProbe`] is the daemon's own figures.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use jiff::fmt::serde::unsigned_duration::friendly::compact::required as duration;
use ota_core::{ports::BoxFuture, safety::Resources};
use serde::{Deserialize, Serialize};

use super::{
    Env, Opened, Polled, Probe, Taken, check_period,
    command::{self, CommandConfig},
    file::{self, FileConfig},
    payload,
    rounds::Reading,
};
use crate::reading::{Fault, Value};

/// What of the gateway itself is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Figure {
    /// One-minute load average divided by the number of processors.
    Load,
    /// Available memory in bytes.
    MemoryFree,
    /// Free bytes where images are staged.
    DiskFree,
    /// Whether the wall clock has been set from a trusted source: `true` or `false`.
    ClockTrusted,
}

/// A figure of the gateway and how often it is taken.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SystemConfig {
    /// Which one.
    pub figure: Figure,
    /// Pause between two readings, default 1 s.
    #[serde(with = "duration", default = "second")]
    pub every: Duration,
}

/// The state of a systemd unit as `systemctl` says it: `active`, `inactive`, `failed`, … One that does not exist, is masked or
/// could not be loaded is a fault.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnitConfig {
    /// The unit, `crane-control.service`.
    pub unit: String,
    /// Pause between two looks, default 1 s.
    #[serde(with = "duration", default = "second")]
    pub every: Duration,
    /// The program, default `/usr/bin/systemctl`.
    #[serde(default = "default_systemctl")]
    pub systemctl: PathBuf,
}

/// A channel of a hwmon chip by the chip's name, which stays while its number changes with every boot. Two of one name are a
/// fault.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HwmonConfig {
    /// Name of the chip, `nct6775`.
    pub chip: String,
    /// Name of the channel's file, `temp1_input`. Milli-degrees and so on, as the kernel has them: see `scale`.
    pub channel: String,
    /// Pause between two readings, default 1 s.
    #[serde(with = "duration", default = "second")]
    pub every: Duration,
    /// Where the kernel shows them, default `/sys/class/hwmon`.
    #[serde(default = "default_hwmon")]
    pub root: PathBuf,
}

/// A power supply or battery.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PowerConfig {
    /// Its name, `BAT0`, `mains`.
    pub supply: String,
    /// What of it, `online`, `capacity`, `status`.
    pub property: String,
    /// Pause between two readings, default 1 s.
    #[serde(with = "duration", default = "second")]
    pub every: Duration,
    /// Where the kernel shows them, default `/sys/class/power_supply`.
    #[serde(default = "default_power")]
    pub root: PathBuf,
}

fn second() -> Duration {
    Duration::from_secs(1)
}

fn default_systemctl() -> PathBuf {
    "/usr/bin/systemctl".into()
}

fn default_hwmon() -> PathBuf {
    "/sys/class/hwmon".into()
}

fn default_power() -> PathBuf {
    "/sys/class/power_supply".into()
}

/// Longest time for one reading of the kernel's files.
pub(super) const TIMEOUT: Duration = Duration::from_secs(1);
/// Longest time for one answer of systemd.
pub(super) const SYSTEMCTL_TIMEOUT: Duration = Duration::from_secs(2);

impl SystemConfig {
    pub(super) fn source(&self, env: &Env) -> Result<Opened, String> {
        check_period(self.every, TIMEOUT)?;
        let figure = self.figure;
        if figure == Figure::ClockTrusted {
            let clock = Arc::clone(&env.clock);
            let read = move || Ok(Value::Bool(clock.wall_is_trusted()).into());
            return Ok(Opened::Blocking(Reading::new(self.every, TIMEOUT, read)));
        }
        let system = env.system.clone().ok_or("the gateway's own figures are not available here")?;
        let read = move || {
            let resources = system.resources().map_err(|error| Fault::Unreadable(error.chain()))?;
            Ok(Value::Number(number(&resources, figure)).into())
        };
        Ok(Opened::Blocking(Reading::new(self.every, TIMEOUT, read)))
    }
}

#[expect(clippy::cast_precision_loss, reason = "a byte more or less in petabytes decides nothing")]
fn number(resources: &Resources, figure: Figure) -> f64 {
    match figure {
        Figure::Load | Figure::ClockTrusted => resources.cpu_load,
        Figure::MemoryFree => resources.memory_free.get() as f64,
        Figure::DiskFree => resources.disk_free.get() as f64,
    }
}

impl UnitConfig {
    pub(super) fn source(&self) -> Result<Opened, String> {
        let fine = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
        if self.unit.is_empty() || self.unit.starts_with('-') || !self.unit.chars().all(fine) {
            return Err(format!("{:?} is not the name of a systemd unit", self.unit));
        }
        if !self.systemctl.is_absolute() {
            return Err("systemctl must be an absolute path".into());
        }
        check_period(self.every, SYSTEMCTL_TIMEOUT)?;
        let args = ["show", "--property=LoadState,ActiveState", self.unit.as_str()];
        let command = CommandConfig {
            program: self.systemctl.clone(),
            args: args.map(str::to_owned).into(),
            json: None,
            every: self.every,
            timeout: SYSTEMCTL_TIMEOUT,
        };
        let probe = UnitProbe { unit: self.unit.clone(), command };
        Ok(Polled { probe, every: self.every, timeout: SYSTEMCTL_TIMEOUT, back_off: false }.into())
    }
}

struct UnitProbe {
    unit: String,
    command: CommandConfig,
}

impl Probe for UnitProbe {
    fn read(&mut self) -> BoxFuture<'_, Result<Taken, Fault>> {
        Box::pin(async { unit_state(&self.unit, &command::run(&self.command).await?) })
    }
}

/// systemd calls a unit that does not exist `inactive`, too: only one that is loaded has a state.
fn unit_state(unit: &str, said: &[u8]) -> Result<Taken, Fault> {
    let malformed = || Fault::Malformed(format!("systemctl said {:?}", String::from_utf8_lossy(said)));
    let text = std::str::from_utf8(said).map_err(|_| malformed())?;
    let property = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    match (property("LoadState"), property("ActiveState")) {
        (Some("loaded"), Some(state)) => payload::text(state.as_bytes()).map(Taken::from),
        (Some(load), Some(_)) => Err(Fault::Absent(format!("unit {unit} is {load}"))),
        _ => Err(malformed()),
    }
}

impl PowerConfig {
    pub(super) fn source(&self) -> Result<Opened, String> {
        let path = self.root.join(plain(&self.supply)?).join(plain(&self.property)?);
        FileConfig { path, every: self.every, timeout: TIMEOUT, stamp_by_mtime: false }.source()
    }
}

impl HwmonConfig {
    pub(super) fn source(&self) -> Result<Opened, String> {
        check_period(self.every, TIMEOUT)?;
        plain(&self.channel)?;
        let Self { chip, channel, root, .. } = self.clone();
        let read = move || file::read(&chip_dir(&root, &chip)?.join(&channel), false);
        Ok(Opened::Blocking(Reading::new(self.every, TIMEOUT, read)))
    }
}

/// Of two chips of one name nobody can tell which is meant, and their order changes with every boot.
fn chip_dir(root: &Path, chip: &str) -> Result<PathBuf, Fault> {
    let absent = || Fault::Absent(format!("no chip {chip:?} in {}", root.display()));
    let entries = fs::read_dir(root).map_err(|_| absent())?;
    let named = |dir: &PathBuf| fs::read_to_string(dir.join("name")).is_ok_and(|name| name.trim() == chip);
    let mut found = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(named);
    match (found.next(), found.next()) {
        (None, _) => Err(absent()),
        (Some(only), None) => Ok(only),
        (Some(one), Some(other)) => Err(Fault::Unreadable(format!(
            "{} and {} are both {chip:?}: read one as a file below its device",
            one.display(),
            other.display()
        ))),
    }
}

/// A single name, so that a configuration cannot point outside by accident.
fn plain(name: &str) -> Result<&str, String> {
    if name.is_empty() || name.contains('/') || name.starts_with('.') {
        return Err(format!("{name:?} is not a plain name"));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::test_feed::{env, one_sample};

    #[tokio::test]
    async fn the_gateways_own_figures_are_values() {
        let take = async |figure| {
            let config = SystemConfig { figure, every: second() };
            one_sample(|env| config.source(env)).await
        };
        assert_eq!(take(Figure::ClockTrusted).await, Ok(Value::Bool(true)));
        assert!(matches!(take(Figure::DiskFree).await, Ok(Value::Number(free)) if free >= 0.0));
        assert!(matches!(take(Figure::Load).await, Ok(Value::Number(_))));
    }

    #[test]
    fn without_a_probe_the_figures_are_refused_at_once() {
        let without = Env { system: None, ..env() };
        assert!(SystemConfig { figure: Figure::Load, every: second() }.source(&without).is_err());
    }

    #[tokio::test]
    async fn a_unit_is_what_systemctl_says() {
        let dir = tempfile::tempdir().unwrap();
        let systemctl = dir.path().join("systemctl");
        // As systemd 252 answers; a unit that it does not know makes it neither fail nor complain.
        let script = r#"#!/bin/sh
[ "$1 $2" = "show --property=LoadState,ActiveState" ] || exit 1
case $3 in
crane.service) printf 'LoadState=loaded\nActiveState=active\n' ;;
stopped.service) printf 'ActiveState=inactive\nLoadState=loaded\n' ;;
masked.service) printf 'LoadState=masked\nActiveState=inactive\n' ;;
odd.service) echo active ;;
*) printf 'LoadState=not-found\nActiveState=inactive\n' ;;
esac
"#;
        // A process of its own writes it: what we have open for writing while another test starts a program cannot be run.
        #[expect(clippy::disallowed_methods, reason = "the owner of this script")]
        let written = std::process::Command::new("/bin/sh")
            .args(["-c", r#"printf %s "$1" >"$0" && chmod 755 "$0""#])
            .arg(&systemctl)
            .arg(script)
            .status();
        assert!(written.unwrap().success());
        let config =
            |unit: &str| UnitConfig { unit: unit.into(), every: second(), systemctl: systemctl.clone() };
        let says = async |unit: &str| one_sample(|_| config(unit).source()).await;
        assert_eq!(says("crane.service").await, Ok(Value::Text("active".into())));
        assert_eq!(says("stopped.service").await, Ok(Value::Text("inactive".into())));
        for (unit, load) in [("gone.service", "not-found"), ("masked.service", "masked")] {
            assert_eq!(says(unit).await, Err(Fault::Absent(format!("unit {unit} is {load}"))));
        }
        assert!(matches!(says("odd.service").await, Err(Fault::Malformed(_))));
        assert!(config("--user").source().is_err());
    }

    #[tokio::test]
    async fn a_chip_is_found_by_its_name_and_a_supply_by_its_path() {
        let dir = tempfile::tempdir().unwrap();
        for (number, name, value) in [(0, "other", "1"), (1, "nct6775", "48500\n")] {
            let chip = dir.path().join(format!("hwmon{number}"));
            fs::create_dir(&chip).unwrap();
            fs::write(chip.join("name"), format!("{name}\n")).unwrap();
            fs::write(chip.join("temp1_input"), value).unwrap();
        }
        let root = dir.path().to_path_buf();
        let hwmon = |chip: &str| HwmonConfig {
            chip: chip.into(),
            channel: "temp1_input".into(),
            every: second(),
            root: root.clone(),
        };
        assert_eq!(one_sample(|_| hwmon("nct6775").source()).await, Ok(Value::Number(48500.0)));
        assert!(matches!(one_sample(|_| hwmon("gone").source()).await, Err(Fault::Absent(_))));
        fs::write(dir.path().join("hwmon0/name"), "nct6775\n").unwrap();
        let twins = one_sample(|_| hwmon("nct6775").source()).await;
        assert!(matches!(&twins, Err(Fault::Unreadable(why)) if why.contains("hwmon0")), "{twins:?}");
        let power = PowerConfig {
            supply: "hwmon1".into(),
            property: "name".into(),
            every: second(),
            root: root.clone(),
        };
        assert_eq!(one_sample(|_| power.source()).await, Ok(Value::Text("nct6775".into())));
        assert!(PowerConfig { supply: "../x".into(), ..power }.source().is_err());
    }
}
