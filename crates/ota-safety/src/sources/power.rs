//! Power supplies and batteries.

use std::{path::PathBuf, time::Duration};

use jiff::fmt::serde::unsigned_duration::friendly::compact::required as duration;
use serde::{Deserialize, Serialize};

use super::{
    Opened,
    file::{FileConfig, plain},
    second,
    system::TIMEOUT,
};

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

fn default_power() -> PathBuf {
    "/sys/class/power_supply".into()
}

impl PowerConfig {
    pub(super) fn source(&self) -> Result<Opened, String> {
        let path = self.root.join(plain(&self.supply)?).join(plain(&self.property)?);
        FileConfig { path, every: self.every, timeout: TIMEOUT, stamp_by_mtime: false }.source()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{reading::Value, sources::test_feed::one_sample};

    #[tokio::test]
    async fn a_supply_is_found_by_its_path_and_its_name_leads_nowhere_else() {
        let dir = tempfile::tempdir().unwrap();
        let battery = dir.path().join("BAT0");
        fs::create_dir(&battery).unwrap();
        fs::write(battery.join("capacity"), "81\n").unwrap();
        fs::write(battery.join("status"), "Discharging\n").unwrap();
        let of = |supply: &str, property: &str| PowerConfig {
            supply: supply.into(),
            property: property.into(),
            every: second(),
            root: dir.path().into(),
        };
        assert_eq!(one_sample(|_| of("BAT0", "capacity").source()).await, Ok(Value::Number(81.0)));
        assert_eq!(
            one_sample(|_| of("BAT0", "status").source()).await,
            Ok(Value::Text("Discharging".into()))
        );
        assert!(of("../x", "capacity").source().is_err());
        assert!(of("BAT0", "../../x").source().is_err());
    }
}
