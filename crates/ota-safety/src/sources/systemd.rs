//! The state of a systemd unit.

use std::{path::PathBuf, time::Duration};

use jiff::fmt::serde::unsigned_duration::friendly::compact::required as duration;
use ota_core::ports::BoxFuture;
use serde::{Deserialize, Serialize};

use super::{
    Opened, Polled, Probe, Taken, check_period,
    command::{self, CommandConfig},
    payload, second,
};
use crate::reading::Fault;

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

fn default_systemctl() -> PathBuf {
    "/usr/bin/systemctl".into()
}

/// Longest time for one answer of systemd.
pub(super) const TIMEOUT: Duration = Duration::from_secs(2);

impl UnitConfig {
    pub(super) fn source(&self) -> Result<Opened, String> {
        let fine = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
        if self.unit.is_empty() || self.unit.starts_with('-') || !self.unit.chars().all(fine) {
            return Err(format!("{:?} is not the name of a systemd unit", self.unit));
        }
        if !self.systemctl.is_absolute() {
            return Err("systemctl must be an absolute path".into());
        }
        check_period(self.every, TIMEOUT)?;
        let args = ["show", "--property=LoadState,ActiveState", self.unit.as_str()];
        let command = CommandConfig {
            program: self.systemctl.clone(),
            args: args.map(str::to_owned).into(),
            json: None,
            every: self.every,
            timeout: TIMEOUT,
        };
        let probe = UnitProbe { unit: self.unit.clone(), command };
        Ok(Polled { probe, every: self.every, timeout: TIMEOUT, back_off: false }.into())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{reading::Value, sources::test_feed::one_sample};

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
}
